"""A worker from its first hello to its last acknowledgement, in one loop in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvloop

from taskraft import _limits, errors
from taskraft.worker import queues
from taskraft.worker.executors import Coroutines, Executor, Threads
from taskraft.worker.outbox import Outbox
from taskraft.worker.pace import Pace
from taskraft.worker.parents import Fetcher
from taskraft.worker.processes import Processes
from taskraft.worker.runner import Runner
from taskraft.worker.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future

    from taskraft import App, Client
    from taskraft._task import TaskFunction
    from taskraft.v1 import worker_pb2

ABANDON_S = 2.0  # how long what was stopped may take to end

_log = logging.getLogger("taskraft.worker")


class WorkerBroken(errors.TaskraftError):
    """The worker cannot run tasks; what it held went back."""

    default_reason = "WORKER_BROKEN"


class Life:
    """Everything that a worker is while it runs. `run` is its thread; `drain` and `stop` may be called from any.

    `begun` is done when the broker has welcomed the worker, `ended` when everything is over; both fail with what made
    working impossible.
    """

    def __init__(
        self,
        app: App,
        hello: worker_pb2.Hello,
        slots: Mapping[str, int],
        kind_of: Callable[[TaskFunction[..., Any, Any]], str],
        *,
        spec: str,
        prefetch_max: int,
        grace_s: float,
        begun: Future[None],
        ended: Future[None],
    ) -> None:
        self.asked = False  # to end
        self._app = app
        self._hello = hello
        self._slots = slots
        self._kind_of = kind_of
        self._spec = spec
        self._prefetch_max = prefetch_max
        self._grace_s = grace_s
        self._begun = begun
        self._ended = ended
        self._loop = uvloop.new_event_loop()
        self._failure: WorkerBroken | None = None
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()

    def drain(self) -> None:
        """Take nothing more, finish what can be finished within the grace, and end."""
        self._ask(self._draining)

    def stop(self) -> None:
        """End now."""
        self._ask(self._stopping)

    def _ask(self, event: asyncio.Event) -> None:
        self.asked = True
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(event.set)

    def run(self) -> None:
        failure: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits for the end
            failure = error
        for future in (self._begun, self._ended):
            if not future.done():
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)

    async def _live(self) -> None:
        client = self._app.connect()
        outbox, pace = Outbox(), Pace(self._slots, self._prefetch_max)
        runner = Runner(self._app, outbox, pace, self._kind_of, self._requested)
        pool = client._connection.pool  # noqa: SLF001  ours
        session = Session(pool, self._hello, outbox, runner)
        fetcher = Fetcher(pool, client.timeout, runner.prepared, runner.finished)
        executors = {kind: self._executor(kind, slots, runner) for kind, slots in self._slots.items()}
        runner.use(session, fetcher, executors)
        try:
            for executor in executors.values():
                executor.start()
            await self._work(client, session, runner, outbox)
            if self._failure is not None:
                raise self._failure
        finally:
            await asyncio.gather(fetcher.close(), *(executor.close() for executor in executors.values()))
            await client.close()

    def _executor(self, kind: str, slots: int, runner: Runner) -> Executor:
        if kind == "thread":
            return Threads(slots, runner.finished)
        if kind == "async":
            return Coroutines(slots, runner.finished)
        return Processes(
            slots,
            runner.finished,
            runner.noted,
            self._broken,
            spec=self._spec,
            addresses=self._app.addresses,
        )

    def _broken(self, why: str) -> None:
        """Tasks cannot be run here: hand them back and end."""
        self._failure = self._failure or WorkerBroken(why)
        self.drain()

    def _requested(self, reason: str) -> None:
        _log.info("drain_requested", extra={"fields": {"reason": reason}})
        self.drain()

    async def _work(self, client: Client, session: Session, runner: Runner, outbox: Outbox) -> None:
        streams = asyncio.create_task(self._stream(client, session, runner))
        others = [asyncio.create_task(runner.tick()), asyncio.create_task(self._compare(client, runner))]
        try:
            await self._until(streams, runner.begun.wait(), self._draining.wait())
            if runner.begun.is_set():
                self._begun.set_result(None)
            await self._until(streams, self._draining.wait())
            outbox.drain_within_s = self._grace_s
            runner.drain()
            await self._until(streams, runner.empty.wait(), timeout_s=self._grace_s)
            if not (runner.empty.is_set() or self._stopping.is_set()):
                runner.abandon()
                await self._until(streams, runner.empty.wait(), timeout_s=ABANDON_S)
            session.closing = True
            session.wake()
            if session.connected or outbox.owes:
                await self._until(streams, timeout_s=_limits.CLOSE_S)
        finally:
            for task in (streams, *others):
                task.cancel()
            await asyncio.wait([streams, *others])

    async def _stream(self, client: Client, session: Session, runner: Runner) -> None:
        """Run the session; queues that the app describes and that do not exist are created once."""
        try:
            await session.run()
        except errors.QueueNotFound as error:
            wanted = self._queues()
            if runner.begun.is_set() or not set(wanted) & self._app.queues.keys():
                raise queues.unknown(error, self._app, wanted) from None
            await self._app.create_queues(client)
            try:
                await session.run()
            except errors.QueueNotFound as second:
                raise queues.unknown(second, self._app, wanted) from None

    async def _compare(self, client: Client, runner: Runner) -> None:
        """Once, when the worker is known: look at its queues, and say which are not as the app describes them."""
        await runner.begun.wait()
        async for name, scheduling in queues.look_up(client, self._queues()):
            runner.attempts[f"queues/{name}"] = scheduling.get("max_attempts", 0)
            queues.compare(name, scheduling, self._app.queues.get(name, {}))

    def _queues(self) -> list[str]:
        return [queue.removeprefix("queues/") for queue in self._hello.queues]

    async def _until(
        self, streams: asyncio.Task[None], *events: Coroutine[Any, Any, Any], timeout_s: float | None = None
    ) -> None:
        """Wait for one of the events, for the end of the streams, or until the worker is to stop.

        Raises what made the streams impossible.
        """
        waits = [asyncio.ensure_future(event) for event in (*events, self._stopping.wait())]
        try:
            await asyncio.wait([streams, *waits], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
        if streams.done():
            streams.result()
