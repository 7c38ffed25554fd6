"""Waiting for tasks to end: many callers, few streams.

A WaitTask stream has its names from the beginning. Names that come later go on a stream of their own; when that is not
smaller than an open one, it takes over its names and the open one is closed, as in a binary counter: with n names
waiting there are about log2(n) streams, and a name is sent about log2(n) times at most. What ends while streams are
exchanged is answered again by the next one. A stream that breaks is opened again at the leader with the names left.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from taskraft import _failures, _limits, errors
from taskraft._retry import Backoff, Deadline, is_transient
from taskraft._streams import answers
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskraft._pool import Pool

    Ended = asyncio.Future[task_pb2.Task]


class _Stream:
    """Names that travel together, and the task that keeps their stream."""

    __slots__ = ("names", "task")

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.task: asyncio.Task[None] | None = None


class Waiter:
    """Waits for tasks on behalf of a client; used in one event loop.

    Invariant: a name with a future in `_futures` is in `_fresh` or on exactly one stream.
    """

    def __init__(self, pool: Pool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._futures: dict[str, set[Ended]] = {}
        self._fresh: set[str] = set()
        self._streams: set[_Stream] = set()
        self._closed = False

    def wait(self, names: Iterable[str]) -> list[Ended]:
        """For each `tasks/{task}` a future of the ended task with its result; cancel those not wanted any more.

        They fail with TaskNotFound, or with Unavailable if no leader was found for as long as the client's timeout.
        """
        if self._closed:
            raise errors.ClientClosed
        futures = []
        for name in names:
            future: Ended = self._loop.create_future()
            if name not in self._futures:
                if not self._fresh:
                    self._loop.call_soon(self._open)
                self._fresh.add(name)
            self._futures.setdefault(name, set()).add(future)
            future.add_done_callback(partial(self._leave, name))
            futures.append(future)
        return futures

    async def close(self) -> None:
        self._closed = True
        tasks = [stream.task for stream in self._streams if stream.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._fail(list(self._futures), errors.ClientClosed())

    def _leave(self, name: str, future: Ended) -> None:
        """A future is done, perhaps because its caller gave up: nobody may be left who waits for the task."""
        waiting = self._futures.get(name)
        if waiting is None or future not in waiting:
            return
        waiting.discard(future)
        if waiting:
            return
        del self._futures[name]
        self._fresh.discard(name)
        for stream in self._streams:
            if name in stream.names:
                stream.names.discard(name)
                if not stream.names and stream.task is not None:
                    stream.task.cancel()
                return

    def _open(self) -> None:
        """Put the fresh names on a stream, with those of the streams that are not larger."""
        names, self._fresh = self._fresh, set()
        if self._closed or not names:
            return
        for stream in sorted(self._streams, key=lambda one: len(one.names)):
            if not 0 < len(stream.names) <= len(names) <= _limits.WAIT_TASKS_MAX - len(stream.names):
                continue
            names |= stream.names
            stream.names = set()
            if stream.task is not None:
                stream.task.cancel()
        self._start(names)

    def _start(self, names: set[str]) -> None:
        ordered = sorted(names)
        for start in range(0, len(ordered), _limits.WAIT_TASKS_MAX):
            stream = _Stream(set(ordered[start : start + _limits.WAIT_TASKS_MAX]))
            stream.task = asyncio.create_task(self._keep(stream), name="taskraft-wait")
            self._streams.add(stream)

    async def _keep(self, stream: _Stream) -> None:
        try:
            await self._follow(stream, Backoff())
        except errors.TaskraftError as error:
            self._fail(stream.names, error)
        except Exception as error:
            self._fail(stream.names, errors.InternalError(f"waiting for tasks failed: {error!r}"))
            raise
        finally:
            self._streams.discard(stream)

    async def _follow(self, stream: _Stream, backoff: Backoff) -> None:
        while stream.names:
            address = await self._pool.find(Deadline(self._timeout_s))
            failure: errors.TaskraftError = errors.Unavailable("the broker closed the stream")
            try:
                await self._listen(stream, address, backoff)
            except errors.TaskNotFound as error:
                self._missing(stream, error)
                continue
            except errors.TaskraftError as error:
                if not is_transient(error):
                    raise
                failure = error
            if not stream.names:
                return
            self._pool.heed(failure, address)
            if self._pool.leader in (None, address):
                await asyncio.sleep(backoff.next_s())

    async def _listen(self, stream: _Stream, address: str, backoff: Backoff) -> None:
        request = task_pb2.WaitTaskRequest(names=stream.names)
        parse = task_pb2.WaitTaskResponse.FromString
        async with aclosing(
            answers(self._pool, address, "TaskService/WaitTask", request, parse)
        ) as responses:
            async for response in responses:
                backoff.reset()
                for task in response.tasks:
                    self._ended(stream, task)

    def _ended(self, stream: _Stream, task: task_pb2.Task) -> None:
        stream.names.discard(task.name)
        for future in self._futures.pop(task.name, ()):
            if not future.done():
                future.set_result(task)

    def _missing(self, stream: _Stream, error: errors.TaskNotFound) -> None:
        """One of the names does not exist: if the error does not say which one, ask for each half."""
        named = {
            value if value.startswith("tasks/") else f"tasks/{value}" for value in error.metadata.values()
        }
        guilty = named & stream.names or (stream.names if len(stream.names) == 1 else set())
        if guilty:
            stream.names -= guilty
            self._fail(guilty, error)
            return
        half = set(sorted(stream.names)[::2])
        stream.names -= half
        self._start(half)

    def _fail(self, names: Iterable[str], error: errors.TaskraftError) -> None:
        for name in names:
            for future in self._futures.pop(name, ()):
                if not future.done():
                    future.set_exception(_failures.copy(error))
