"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from taskraft import errors
from taskraft._consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from taskraft._message import Batch, Message

_T = TypeVar("_T")


class Bridge:
    """Runs coroutines for other threads. Any number of threads may use it at once.

    A KeyboardInterrupt in a waiting thread cancels what it waited for, and nothing else.
    """

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="taskraft", daemon=True)
        self._thread.start()
        self._acks: deque[tuple[Consumer, int, int]] = deque()
        self._draining = False

    @property
    def stopped(self) -> bool:
        return self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which runs in the loop."""
        return self.result(self.start(work))

    def start(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Run `work` in the loop, without waiting for it."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise errors.ClientClosed from None

    def result(self, future: concurrent.futures.Future[_T]) -> _T:
        """The result of what was started; it is cancelled if this thread is interrupted."""
        assert threading.current_thread() is not self._thread, "the loop would wait for itself"
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise errors.ClientClosed from None
        finally:
            future.cancel()

    async def arun(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which runs in the loop, for a coroutine of whatever loop."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        try:
            return await asyncio.wrap_future(self.start(work))
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise errors.ClientClosed from None

    def call(self, do: Callable[[], _T]) -> _T:
        """The result of `do`, which is called in the loop."""

        async def work() -> _T:
            return do()

        return self.run(work())

    def iterate(self, some: AsyncIterator[_T]) -> Iterator[_T]:
        """What an async iterator yields, fetched one by one; it is closed at the end."""

        async def following() -> tuple[_T] | None:
            async for one in some:
                return (one,)
            return None

        async def end() -> None:
            close = getattr(some, "aclose", None)
            if close is not None:
                await close()

        try:
            while (one := self.run(following())) is not None:
                yield one[0]
        finally:
            if not self.stopped:
                self.run(end())

    def messages(self, consumer: Consumer, fetched: deque[Message]) -> Iterator[Message]:
        """What a consumer receives, a batch at a time through `fetched`, which all threads share."""
        own = not consumer.entered
        try:
            if own:
                self.run(consumer.start())
            while True:
                try:
                    message = fetched.popleft()
                except IndexError:  # another thread may have been faster: asking first would not help
                    message = None
                if message is not None:
                    yield message
                    continue
                batch = self.run(consumer.next_batch())
                if batch is None:
                    return
                fetched.extend(batch.messages)
        finally:
            if own and not self.stopped:
                self.run(consumer.close())

    def note_ack(self, one: Message | Batch, first: int, last: int) -> bool:
        """Hand an acknowledgement to the loop without waiting, many in one go; False if that takes a call."""
        consumer = one.lease
        if not isinstance(consumer, Consumer):
            return False
        if self.stopped or consumer.closed:
            raise errors.ClientClosed("the consumer is closed")
        self._acks.append((consumer, first, last))
        if not self._draining:
            self._draining = True
            self._loop.call_soon_threadsafe(self._drain)
        return True

    def _drain(self) -> None:
        self._draining = False  # first: what is appended from now on schedules another drain
        while self._acks:
            consumer, first, last = self._acks.popleft()
            if not consumer.closed:
                consumer.note_ack(first, last)

    def stop(self) -> None:
        """End the loop and its thread; what ran in it must have been closed."""
        if self.stopped:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(_cancel_all())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
