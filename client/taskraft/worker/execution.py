"""Calling a task's function: arguments in, outcome out. Raises nothing: whatever happens is an outcome.

Generators are in `generators.py`. All of this runs in the thread, the loop or the process that user code runs in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from taskraft import errors
from taskraft._context import running
from taskraft.v1 import task_pb2
from taskraft.worker import generators, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskraft._payload import Payloads
    from taskraft.v1 import worker_pb2
    from taskraft.worker.job import Job

BAD_PAYLOAD = "BAD_PAYLOAD"
BAD_CHECKPOINT = "BAD_CHECKPOINT"


class Parents(Mapping[str, Any]):
    """The results of the tasks that a task depends on, by id; each is read when it is asked for."""

    def __init__(self, results: Sequence[worker_pb2.ParentResult], payloads: Payloads) -> None:
        self._results = {
            one.task.removeprefix("tasks/"): one.result
            for one in results
            if one.state == task_pb2.TASK_STATE_SUCCEEDED
        }
        self._payloads = payloads

    def __getitem__(self, task_id: str) -> Any:
        result = self._results[task_id]
        return self._payloads.decode_result(result.data, result.content_type)

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def _arguments(job: Job) -> tuple[list[Any], dict[str, Any]]:
    task = job.assignment.task
    payload = task.payload
    if not payload:
        return [], {}
    parents = job.assignment.parents
    results = Parents(parents, job.payloads) if parents else {}
    return job.payloads.decode_call(payload, task.content_type, results)


def _prepare(job: Job) -> tuple[list[Any], dict[str, Any]] | worker_pb2.Outcome:
    """The arguments of the task, which is the current one from now on; or why it cannot be called."""
    running.set(job.context)
    if job.assignment.checkpoint:
        try:
            job.context()
        except errors.NotDecodable as error:
            return outcomes.failed(job.lease_id, BAD_CHECKPOINT, error.message, permanent=True)
    try:
        return _arguments(job)
    except errors.NotDecodable as error:
        return outcomes.failed(job.lease_id, BAD_PAYLOAD, error.message, permanent=True)


def execute(job: Job) -> worker_pb2.Outcome:
    """Run a blocking function or generator to its end, here and now."""
    try:
        return copy_context().run(_execute, job)
    except BaseException as error:  # noqa: BLE001  a codec of the app, say
        return outcomes.raised(job, error)


def _execute(job: Job) -> worker_pb2.Outcome:
    prepared = _prepare(job)
    if not isinstance(prepared, tuple):
        return prepared
    args, kwargs = prepared
    try:
        value = job.task.function(*args, **kwargs)
        if job.task.kind == "generator":
            value = generators.drive(job, value)
    except BaseException as error:  # noqa: BLE001  whatever user code raises is an outcome
        return _failure(job, error)
    return outcomes.succeeded(job, value)


async def execute_async(job: Job) -> worker_pb2.Outcome:
    """The same for coroutine functions and async generators. Run it as a task of its own: it sets a contextvar."""
    try:
        return await _execute_async(job)
    except BaseException as error:  # noqa: BLE001  a codec of the app, say
        return outcomes.raised(job, error)


async def _execute_async(job: Job) -> worker_pb2.Outcome:
    prepared = _prepare(job)
    if not isinstance(prepared, tuple):
        return prepared
    args, kwargs = prepared
    try:
        if job.task.kind == "async":
            value = await job.task.function(*args, **kwargs)
        else:
            value = await generators.drive_async(job, job.task.function(*args, **kwargs))
    except asyncio.CancelledError as error:
        if job.revoked is not None:
            return outcomes.yielded(job.lease_id, job.revoked, job.checkpoint)
        return outcomes.raised(job, error)
    except BaseException as error:  # noqa: BLE001  whatever user code raises is an outcome
        return _failure(job, error)
    return outcomes.succeeded(job, value)


def _failure(job: Job, error: BaseException) -> worker_pb2.Outcome:
    if isinstance(error, generators.Stopped):
        return outcomes.yielded(job.lease_id, error.reason, job.checkpoint)
    if isinstance(error, generators.BadCheckpoint):
        return outcomes.failed(job.lease_id, error.reason, str(error), permanent=True)
    if isinstance(error, TypeError) and outcomes.misfit(error):
        return outcomes.failed(job.lease_id, BAD_PAYLOAD, f"{job.task.name}: {error}", permanent=True)
    return outcomes.raised(job, error)
