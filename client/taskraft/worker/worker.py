"""The worker as its users see it; its inner life is in `life.py`."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from taskraft import errors
from taskraft.v1 import worker_pb2
from taskraft.worker.life import Life
from taskraft.worker.loading import load_app, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType

    from taskraft import App
    from taskraft._task import TaskFunction

THREADS = 4
COROUTINES = 100
PREFETCH_MAX = 1_000
GRACE_S = 30.0
PROTOCOL_VERSION = 1
_OUTSIDE_ID = re.compile(r"[^A-Za-z0-9._:@/-]")


class Worker:
    """Runs the tasks of an app: takes them from `queues` and says what they came to.

    `app` is an App, or its name as `load_app` takes it. `queues` are all queues of its tasks if they are not given.
    Blocking functions and generators run in `threads`, coroutine functions and async generators in one loop, up to
    `coroutines` at once, and functions marked `cpu_bound` (without threads: all blocking ones) in `processes` spawned
    processes, for which the app must be a variable at the top of a module. User code never runs in the loop that talks
    to the broker.

    `prefetch` bounds the tasks that wait here; how many do depends on how long tasks take, and for long ones there are
    none. `labels` and `capacity` are what tasks may ask of their worker. `worker_id` names it, best the same after each
    restart; without one it is made of the host's name and a random part.

    A worker is run once: with `run()`, which blocks, or with `start()` and then `drain()` or `stop()`.
    """

    worker_id: str
    queues: tuple[str, ...]

    def __init__(
        self,
        app: App | str,
        *,
        queues: Iterable[str] = (),
        threads: int = THREADS,
        processes: int = 0,
        coroutines: int = COROUTINES,
        prefetch: int = PREFETCH_MAX,
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, float] | None = None,
        worker_id: str = "",
        grace: float = GRACE_S,
    ) -> None:
        self._spec = app if isinstance(app, str) else ""
        self._app = load_app(app) if isinstance(app, str) else app
        for name, count in {"threads": threads, "processes": processes, "coroutines": coroutines}.items():
            if not 0 <= count <= 10_000:
                raise errors.InvalidArgument(f"{name} must be 0 to 10000", metadata={"field": name})
        if not 0 <= prefetch <= 100_000:
            raise errors.InvalidArgument("prefetch must be 0 to 100000", metadata={"field": "prefetch"})
        self._places = {"thread": threads, "process": processes, "async": coroutines}
        self._prefetch_max = prefetch
        self._grace_s = grace
        names = tuple(queues) or tuple(sorted({task.queue for task in self._app.tasks.values()}))
        self.queues = tuple(name.removeprefix("queues/") for name in names)
        self.worker_id = worker_id or _OUTSIDE_ID.sub(
            "-", f"{socket.gethostname()[:48]}-{uuid.uuid4().hex[:8]}"
        )
        self._slots = self._needed()
        if self._slots.get("process") and not self._spec:
            self._spec = spec_of(self._app)
        self._hello = worker_pb2.Hello(
            worker_id=self.worker_id,
            instance_id=uuid.uuid4().hex,
            queues=[f"queues/{name}" for name in self.queues],
            types=sorted(self._app.tasks),
            labels=labels or {},
            capacity=capacity or {},
            protocol_version=PROTOCOL_VERSION,
            slots=sum(self._slots.values()),
        )
        self._thread: threading.Thread | None = None
        self._life: Life | None = None
        self._begun: Future[None] = Future()
        self._ended: Future[None] = Future()

    def _needed(self) -> dict[str, int]:
        """The slots of each kind that this app has tasks for."""
        if not self._app.tasks:
            raise errors.InvalidArgument("the app has no tasks", metadata={"field": "app"})
        slots: dict[str, int] = {}
        for task in self._app.tasks.values():
            kind = self._kind_of(task)
            slots[kind] = self._places[kind]
            if not slots[kind]:
                where = {"async": "coroutines", "thread": "threads or processes"}[kind]
                raise errors.InvalidArgument(f"task {task.name} needs {where}", metadata={"field": "threads"})
        return slots

    def _kind_of(self, task: TaskFunction[..., Any, Any]) -> str:
        if task.kind in ("async", "async_generator"):
            return "async"
        to_process = self._places["process"] and (task.cpu_bound or not self._places["thread"])
        return "process" if to_process else "thread"

    # Its life ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (or DrainWorker) asks for an end; a second signal does not wait for anything.

        At the first one nothing more is taken, what has not begun is handed back, and what runs has `grace` seconds.
        Raises what makes working impossible, such as QueueNotFound. In another thread than the main one it does not
        listen to signals: another thread calls `ask_to_drain`.
        """
        self.launch()
        assert self._thread is not None
        if threading.current_thread() is not threading.main_thread():
            self._ended.result()
            return
        before = {
            number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._thread.join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._ended.result()

    async def start(self) -> Self:
        """Begin to work, in threads of its own; returns when the broker knows the worker."""
        self.launch()
        await asyncio.shield(asyncio.wrap_future(self._begun))
        return self

    async def drain(self) -> None:
        """Take nothing more, finish what runs within `grace` seconds, hand the rest back; returns when that is stored."""
        self.ask_to_drain()
        await self.wait()

    async def stop(self) -> None:
        """Leave at once: what runs is given up, and given to others when its lease has ended."""
        self.ask_to_stop()
        await self.wait()

    async def wait(self) -> None:
        """Return when the worker has ended; raises what ended it."""
        await asyncio.shield(asyncio.wrap_future(self._ended))

    # For callers without a loop ----------------------------------------------------------------------------------

    def launch(self) -> None:
        """Begin to work, and wait for nothing."""
        if self._thread is not None:
            raise RuntimeError("a worker is run once")
        self._life = Life(
            self._app,
            self._hello,
            self._slots,
            self._kind_of,
            spec=self._spec,
            prefetch_max=self._prefetch_max,
            grace_s=self._grace_s,
            begun=self._begun,
            ended=self._ended,
        )
        self._thread = threading.Thread(target=self._life.run, name="taskraft-worker", daemon=True)
        self._thread.start()

    def wait_until_begun(self, timeout: float | None = None) -> None:
        """Return when the broker knows the worker; raises what makes that impossible, and TimeoutError."""
        self._begun.result(timeout)

    def wait_until_ended(self, timeout: float | None = None) -> None:
        """Return when the worker has ended; raises what ended it, and TimeoutError."""
        self._ended.result(timeout)

    @property
    def is_asked_to_end(self) -> bool:
        """Somebody wants it to drain or to stop."""
        return self._life is not None and self._life.asked

    def ask_to_drain(self) -> None:
        """See `drain`; any thread, also in a signal handler."""
        if self._life is not None:
            self._life.drain()

    def ask_to_stop(self) -> None:
        """See `stop`; any thread, also in a signal handler."""
        if self._life is not None:
            self._life.stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked_to_end:
            self.ask_to_stop()
        else:
            self.ask_to_drain()
