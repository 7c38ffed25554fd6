"""Results of parents that were too large for an assignment: fetched before the task may run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskraft import _calls, errors
from taskraft.v1 import task_pb2
from taskraft.worker import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskraft._pool import Pool
    from taskraft.v1 import worker_pb2
    from taskraft.worker.executors import Finished
    from taskraft.worker.job import Job

PARENT_RESULT_MISSING = "PARENT_RESULT_MISSING"
CALLS_MAX = 16  # at once


def is_incomplete(assignment: worker_pb2.Assignment) -> bool:
    """True if results that belong to it must be fetched."""
    return any(parent.omitted for parent in assignment.parents)


class Fetcher:
    """Jobs whose parents' results are on their way. A job is `waiting` here as it is in an executor."""

    def __init__(
        self, pool: Pool, timeout_s: float, ready: Callable[[Job], None], finished: Finished
    ) -> None:
        self.waiting: dict[int, Job] = {}
        self._pool = pool
        self._timeout_s = timeout_s
        self._ready = ready
        self._finished = finished
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, job: Job) -> None:
        self.waiting[job.lease_id] = job
        task = asyncio.get_running_loop().create_task(self._complete(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _complete(self, job: Job) -> None:
        omitted = [parent for parent in job.assignment.parents if parent.omitted]
        try:
            async with asyncio.TaskGroup() as group:
                for parent in omitted:
                    group.create_task(self._fetch(parent))
        except* errors.TaskraftError as failures:
            if self.waiting.pop(job.lease_id, None) is not None:
                text = (
                    f"the result of a task that it depends on could not be fetched: {failures.exceptions[0]}"
                )
                self._finished(job, outcomes.failed(job.lease_id, PARENT_RESULT_MISSING, text))
        else:
            if self.waiting.pop(job.lease_id, None) is not None:
                self._ready(job)

    async def _fetch(self, parent: worker_pb2.ParentResult) -> None:
        request = task_pb2.GetTaskRequest(name=parent.task, view=task_pb2.TASK_VIEW_FULL)
        async with self._calls:
            response = await _calls.call(
                self._pool,
                "TaskService/GetTask",
                request,
                task_pb2.GetTaskResponse.FromString,
                timeout_s=self._timeout_s,
            )
        parent.result.CopyFrom(response.task.result)
        parent.omitted = False
