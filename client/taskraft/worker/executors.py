"""Where tasks run: threads for blocking functions, a loop of its own for coroutines. Processes are in `processes.py`.

None of them is the session's loop, so that user code that blocks delays no heartbeat. (Code that holds the interpreter
lock for long does: a C extension that never releases it stops every thread of the process. Such code belongs into
processes.)

A job that was put is `waiting` until somebody takes it out of that dict, which Python does atomically: the executor to
run it, or the session's loop to hand it back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import uvloop

from taskraft.worker.execution import execute, execute_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskraft.v1 import worker_pb2
    from taskraft.worker.job import Job

    Finished = Callable[[Job, worker_pb2.Outcome], None]

JOIN_S = 0.2  # how long closing waits for user code that does not end


class Executor(Protocol):
    """Runs the jobs of one kind, at most `slots` at once, in the order in which they are put.

    All methods are called in the session's loop; `finished` is called, from any thread, with what a job came to.
    """

    slots: int
    waiting: dict[int, Job]

    def start(self) -> None:
        """Get ready."""

    def put(self, jobs: Iterable[Job]) -> None:
        """Run these after all that was put before."""

    def stop(self, job: Job) -> bool:
        """Stop `job`, which runs and was revoked, wherever it is. False if all one can do is wait for its end."""

    def tell(self, job: Job) -> None:
        """`job`, which runs, was revoked and may stop when it likes: let it know."""

    async def close(self) -> None:
        """Stop everything that can be stopped; what cannot is left behind."""


class Threads:
    """Blocking functions and generators. Threads cannot be stopped: their tasks may look at `current_task()`."""

    def __init__(self, slots: int, finished: Finished) -> None:
        self.slots = slots
        self.waiting: dict[int, Job] = {}
        self._finished = finished
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"taskraft-task-{number}", daemon=True)
            for number in range(1, slots + 1)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.waiting[job.lease_id] = job
            self._queue.put(job)

    def stop(self, job: Job) -> bool:
        return False

    def tell(self, job: Job) -> None:
        """It sees `job.revoked` itself."""

    async def close(self) -> None:
        self.waiting.clear()
        for _ in self._threads:
            self._queue.put(None)
        await asyncio.to_thread(_join, self._threads)

    def _run(self) -> None:
        get, waiting, finished, clock = self._queue.get, self.waiting, self._finished, time.monotonic
        while (job := get()) is not None:
            if waiting.pop(job.lease_id, None) is None:
                continue
            job.begin()
            outcome = execute(job)
            job.ran_s = clock() - job.began_s
            finished(job, outcome)


class Coroutines:
    """Coroutine functions and async generators, all in one loop in a thread of its own."""

    def __init__(self, slots: int, finished: Finished) -> None:
        self.slots = slots
        self.waiting: dict[int, Job] = {}
        self._finished = finished
        self._queue: deque[Job] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="taskraft-async-tasks", daemon=True)
        self._called = False

    def start(self) -> None:
        self._thread.start()

    def put(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.waiting[job.lease_id] = job
            self._queue.append(job)
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._called_in)

    def stop(self, job: Job) -> bool:
        self._loop.call_soon_threadsafe(self._cancel, job)
        return True

    def tell(self, job: Job) -> None:
        """It sees `job.revoked` itself."""

    async def close(self) -> None:
        self.waiting.clear()
        self._loop.call_soon_threadsafe(self._end)
        await asyncio.to_thread(_join, [self._thread])

    # In the loop of the tasks ------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _end(self) -> None:
        self._queue.clear()
        self._loop.stop()

    def _called_in(self) -> None:
        self._called = False  # first: what is put from now on calls again
        self._take()

    def _take(self) -> None:
        tasks, queue, create = self._tasks, self._queue, self._loop.create_task
        while queue and len(tasks) < self.slots:
            job = queue.popleft()
            if self.waiting.pop(job.lease_id, None) is not None:
                tasks[job.lease_id] = create(self._one(job))

    async def _one(self, job: Job) -> None:
        job.begin()
        try:
            outcome = await execute_async(job)
        finally:
            del self._tasks[job.lease_id]
        job.ran_s = time.monotonic() - job.began_s
        self._finished(job, outcome)
        if self._queue:
            self._take()

    def _cancel(self, job: Job) -> None:
        task = self._tasks.get(job.lease_id)
        if task is None:
            return
        if job.began_s:
            task.cancel()
        else:  # a coroutine that has not begun cannot clean up after itself
            self._loop.call_soon(self._cancel, job)


def _join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that were told to end; those that do not in time are left."""
    deadline_s = time.monotonic() + JOIN_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
