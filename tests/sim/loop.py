"""An event loop in simulated time, one for each simulated process that is written with coroutines.

The world gives it its turns: nothing happens in it unless an event of its process has come. Invariant: what is ready is
run before the event's time is over, so that a process is never seen half-way.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, cast

from tests.sim.checks import Violation

TURNS_MAX = 20_000  # at one moment; more means that it goes round in circles

Later = Callable[[float, Callable[[], None]], None]


class SimLoop:
    """The part of an event loop that our node and our clients need.

    `later` gives the process another event after so many seconds: not after its death, and not while it is paused.
    """

    def __init__(self, owner: object, clock: Callable[[], float], later: Later) -> None:
        self.owner = owner
        self._self = cast("asyncio.AbstractEventLoop", self)
        self.failure: BaseException | None = None
        """The first mistake that nobody caught."""
        self._clock, self._later = clock, later
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._ended = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within this, it is the running event loop of this thread."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self._self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    @property
    def busy(self) -> bool:
        return bool(self._ready)

    def run_ready(self) -> None:
        """Run what is ready, and what becomes ready by that."""
        self._run()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        with self.running():
            for _ in range(TURNS_MAX):
                if not self._ready:
                    break
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
            else:
                raise Violation("a process goes round in circles")

    def end(self) -> None:
        """The process is gone: its coroutines are ended, and what they do about it reaches nobody."""
        self._ended = True
        for task in list(self._tasks):
            task.cancel()
        self._run()

    # What asyncio asks of an event loop -------------------------------------------------------------------------------

    def time(self) -> float:
        return self._clock()

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.time() + delay, callback, args, self._self, context)
        if not self._ended:
            self._later(max(0.0, delay), lambda: self._due(timer))
        return timer

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _due(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled():
            self._ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left out when its time comes."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self._self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self._self, context=context)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback has failed, or somebody else's task has and nobody asked; the latter is for its owner to judge."""
        if "handle" in context and not self._ended:
            self.failure = self.failure or context.get("exception")
