"""Spawned processes for code that computes: no interpreter lock is shared, and a crash takes one attempt of one task.

Each process has one task at a time, on a socket pair of its own in the session's loop, so that nothing here ever waits
for a process. One that dies is replaced; if none can be made ready, the worker cannot work.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import multiprocessing
import signal
import socket
import time
from collections import deque
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any, cast

from taskraft.v1 import worker_pb2
from taskraft.worker import child, frames, outcomes
from taskraft.worker.job import REASON_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from taskraft.worker.executors import Finished
    from taskraft.worker.job import Job

PROCESS_DIED = "WORKER_PROCESS_DIED"
STARTS_MAX = 3  # that fail one after the other, in one place
RESTART_S = 0.2  # before another start that may fail as the last one did
END_S = 2.0  # how long a process that was told to end may take

_log = logging.getLogger("taskraft.worker")
_alive: set[SpawnProcess] = set()


@atexit.register
def _kill_all() -> None:
    """End what is left when the interpreter does: multiprocessing would wait for it, and it does not heed SIGTERM."""
    for process in _alive:
        process.kill()


class Place(asyncio.Protocol):
    """One process, or the next one in its place. `job` is what it has."""

    def __init__(self, owner: Processes, number: int) -> None:
        self.job: Job | None = None
        self.ready = False
        self._owner = owner
        self._number = number
        self._process: SpawnProcess | None = None
        self._transport: asyncio.Transport | None = None
        self._incoming = frames.Frames()
        self.failed_starts = 0

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        context = multiprocessing.get_context("spawn")
        self._incoming = frames.Frames()
        with theirs:
            process = context.Process(
                target=child.main,
                args=(theirs, self._owner.spec, self._owner.addresses),
                name=f"taskraft-task-process-{self._number}",
                daemon=True,
            )
            process.start()
        self._process = process
        _alive.add(process)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only

    def run(self, job: Job) -> None:
        assert self.job is None
        self.job = job
        job.begin()
        self._send(frames.RUN, job.assignment.SerializeToString())

    def tell(self, job: Job) -> None:
        """Let the process know that its task was revoked."""
        assert job.revoked is not None
        self._send(frames.REVOKED, frames.LEASE_AND_REASON.pack(job.lease_id, REASON_NUMBERS[job.revoked]))

    def kill(self) -> None:
        self.ready = False
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Let the process end when it has nothing to do, or at once."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, what: bytes, *parts: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames.frame(what, *parts))

    def data_received(self, data: bytes) -> None:
        for what, content in self._incoming.feed(data):
            if what == frames.READY:
                self.ready, self.failed_starts = True, 0
            elif self.job is not None and what == frames.PROGRESS:
                self._owner.progressed(self.job, worker_pb2.LeaseProgress.FromString(content))
            elif self.job is not None and what == frames.OUTCOME:
                job, self.job = self.job, None
                (job.ran_s,) = frames.SECONDS.unpack_from(content)
                outcome = worker_pb2.Outcome.FromString(content[frames.SECONDS.size :])
                self._owner.finished(job, outcome)
        self._owner.feed()

    def connection_lost(self, error: Exception | None) -> None:
        was_ready, self.ready, self._transport = self.ready, False, None
        self._owner.lost(self, was_ready=was_ready)

    async def bury(self) -> str:
        """Wait for the end of the process, which closed its socket; returns how it ended."""
        process, self._process = self._process, None
        assert process is not None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, process.join, END_S)
        if process.exitcode is None:
            process.kill()
            await loop.run_in_executor(None, process.join)
        _alive.discard(process)
        code = process.exitcode or 0
        process.close()
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"


class Processes:
    """Blocking functions and generators in `slots` processes, which load the app by `spec` (see `load_app`).

    `note` is called with a job whose progress or checkpoint changed, `broken` with why no process can be had.
    """

    def __init__(
        self,
        slots: int,
        finished: Finished,
        note: Callable[[Job], None],
        broken: Callable[[str], None],
        *,
        spec: str,
        addresses: tuple[str, ...],
    ) -> None:
        self.slots = slots
        self.spec = spec
        self.addresses = addresses
        self.waiting: dict[int, Job] = {}
        self.finished = finished
        self._note = note
        self._broken = broken
        self._queue: deque[Job] = deque()
        self._places = [Place(self, number) for number in range(1, slots + 1)]
        self._keepers: set[asyncio.Task[None]] = set()
        self._closing = False

    def start(self) -> None:
        for place in self._places:
            self._keep(place.start())

    def put(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.waiting[job.lease_id] = job
            self._queue.append(job)
        self.feed()

    def stop(self, job: Job) -> bool:
        for place in self._places:
            if place.job is job:
                place.kill()
        return True

    def tell(self, job: Job) -> None:
        for place in self._places:
            if place.job is job:
                place.tell(job)

    async def close(self) -> None:
        self._closing = True
        self.waiting.clear()
        self._queue.clear()
        for place in self._places:
            if place.job is not None or not place.ready:
                place.kill()
            place.close()
        while self._keepers:
            await asyncio.wait(self._keepers)

    # What the places call ----------------------------------------------------------------------------------------

    def feed(self) -> None:
        """Give work to processes that have none."""
        for place in self._places if self._queue else ():
            while self._queue and place.ready and place.job is None:
                job = self._queue.popleft()
                if self.waiting.pop(job.lease_id, None) is not None:
                    place.run(job)

    def progressed(self, job: Job, progress: worker_pb2.LeaseProgress) -> None:
        job.fraction, job.message = progress.fraction, progress.message
        job.checkpoint = progress.checkpoint or job.checkpoint
        if not job.noted:
            job.noted = True
            self._note(job)

    def lost(self, place: Place, *, was_ready: bool) -> None:
        self._keep(self._replace(place, was_ready=was_ready))

    async def _replace(self, place: Place, *, was_ready: bool) -> None:
        how = await place.bury()
        job, place.job = place.job, None
        if job is not None and not self._closing:
            job.ran_s = time.monotonic() - job.began_s
            self.finished(job, self._end_of(job, how))
        if self._closing:
            return
        if job is None or job.revoked is None:
            _log.error(
                "process_died",
                extra={"fields": {"how": how, "task": job.assignment.task.name if job else ""}},
            )
        if not was_ready:
            place.failed_starts += 1
            if place.failed_starts >= STARTS_MAX:
                self._broken(f"the processes for tasks end before they are ready: {how}")
                return
            await asyncio.sleep(RESTART_S)
        if not self._closing:
            await place.start()

    def _end_of(self, job: Job, how: str) -> worker_pb2.Outcome:
        if job.revoked is not None:
            return outcomes.yielded(job.lease_id, job.revoked, job.checkpoint)
        return outcomes.failed(job.lease_id, PROCESS_DIED, f"the process that ran it ended: {how}")

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keepers.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keepers.discard(task)
        if not task.cancelled() and (error := task.exception()):  # the machine gives us no more processes
            self._broken(f"a process for tasks could not be started: {error}")
