"""Tasks of a cluster: submit, look at, wait for, cancel, retry."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from taskraft import _limits, errors
from taskraft._new_task import IDS, NewTask
from taskraft._retry import Backoff, Deadline, is_transient
from taskraft._streams import answers
from taskraft._submitter import pieces_of, submit
from taskraft._task_values import (
    STATES,
    Explanation,
    Submission,
    TaskInfo,
    TaskState,
    explanation,
    task_info,
    why_late,
)
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from taskraft._connection import Connection
    from taskraft._submitter import Outcomes

TaskOrder = Literal["newest", "schedule"]

_PIECES_IN_FLIGHT = 2  # of one call of submit_many: one is stored while the next one waits


class TaskFilter(TypedDict, total=False):
    """Which tasks are meant; what is not given excludes nothing. leased and running are the same here."""

    queue: str
    states: Iterable[TaskState]
    type: str
    labels: Mapping[str, str]
    workflow: str
    created_from: datetime
    created_before: datetime
    worker_id: str


class Tasks:
    """The tasks of a cluster, as `client.tasks`. Ids are taken with or without `tasks/` before them.

    Every method raises TaskraftError; TaskNotFound for an id that does not exist or was forgotten.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(self, task: NewTask, *, timeout: float | None = None) -> Submission:
        """Store one task; returns when a majority of the nodes has it on disk.

        Tasks of concurrent calls travel together. Whatever fails on the way, the task is stored once. UnknownDependency,
        WrongQueueKind, QueueNotFound, QueueFull, DeadlineInfeasible, or InvalidArgument naming the field.
        """
        [submission] = await self.submit_many([task], timeout=timeout)
        return submission

    async def submit_many(
        self,
        tasks: Iterable[NewTask],
        *,
        workflow: str = "",
        workflow_labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> tuple[Submission, ...]:
        """Store tasks, in order. With `workflow` they become it, all or none, up to 10,000 and 3 MiB; Cycle.

        Without, they are stored in parts of up to 2,000 tasks and about 1 MiB, each wholly or not at all; a task may
        depend on one before it. If a part fails, the error's `submitted` are the ids of those that were stored.
        """
        new = list(tasks)
        made = iter(IDS.take(len(new)))
        ids = [one.id.removeprefix("tasks/") or next(made) for one in new]
        elements = [one.wire(task_id) for one, task_id in zip(new, ids, strict=True)]
        if workflow:
            outcomes = await self.submit_workflow(elements, workflow, workflow_labels or {}, timeout=timeout)
        else:
            outcomes = await self.submit_elements(ids, elements, timeout=timeout)
        return tuple(Submission(*one) for one in zip(ids, outcomes, strict=True))

    async def check(self, tasks: Iterable[NewTask], *, workflow: str = "") -> None:
        """Check everything that a submit of these tasks together would check, and store nothing."""
        elements = [one.wire(one.id.removeprefix("tasks/") or IDS.one()) for one in tasks]
        await self.submit_workflow(elements, workflow, {}, validate_only=True)

    async def submit_elements(
        self, ids: Sequence[str], elements: Sequence[bytes], *, timeout: float | None = None
    ) -> Outcomes:
        """Store tasks that are written already (see _new_task.element), together with those of other callers."""
        submitter = self._connection.submitter
        deadline_s = asyncio.get_running_loop().time() + (timeout or self._connection.timeout_s)
        waiting: deque[asyncio.Task[Outcomes]] = deque()
        outcomes: Outcomes = []
        try:
            for wire, count in pieces_of(elements):
                if count == len(elements):  # one piece, the usual case, needs no task of its own
                    return await submitter.put(wire, count, deadline_s)
                if len(waiting) == _PIECES_IN_FLIGHT:
                    outcomes += await waiting.popleft()
                waiting.append(asyncio.ensure_future(submitter.put(wire, count, deadline_s)))
            while waiting:
                outcomes += await waiting.popleft()
        except errors.TaskraftError as error:
            await asyncio.gather(*waiting, return_exceptions=True)
            error.submitted = tuple(ids[: len(outcomes)])
            raise
        finally:
            for one in waiting:
                one.cancel()
        return outcomes

    async def submit_workflow(
        self,
        elements: Sequence[bytes],
        workflow: str,
        labels: Mapping[str, str],
        *,
        timeout: float | None = None,
        validate_only: bool = False,
        request_id: str = "",
    ) -> Outcomes:
        """Store tasks that are written already, in one commit, as a workflow if it has a name."""
        wire = b"".join(elements)
        for what, count, limit in (
            ("tasks", len(elements), _limits.SUBMIT_TASKS_MAX),
            ("bytes", len(wire), _limits.SUBMIT_BYTES_MAX - _limits.SUBMIT_HEAD_BYTES),
        ):
            if count > limit:
                raise errors.InvalidArgument(
                    f"a commit of {count} {what}; it holds {limit}",
                    metadata={"field": "tasks", "limit": str(limit)},
                )
        return await submit(
            self._connection.pool,
            wire,
            timeout_s=timeout or self._connection.timeout_s,
            workflow=task_pb2.Workflow(name=f"workflows/{workflow}", labels=labels) if workflow else None,
            validate_only=validate_only,
            request_id=request_id,
        )

    async def get(self, task_id: str, *, full: bool = False) -> TaskInfo:
        """The task; `full`: with payload, result, checkpoint, events and dependencies."""
        request = task_pb2.GetTaskRequest(name=_name(task_id), view=_view(full))
        response = await self._connection.call(
            "TaskService/GetTask", request, task_pb2.GetTaskResponse.FromString
        )
        return task_info(response.task)

    async def list(
        self, *, order: TaskOrder = "newest", full: bool = False, **which: Unpack[TaskFilter]
    ) -> AsyncGenerator[TaskInfo]:
        """Tasks, newest first, fetched page by page.

        With `order="schedule"`, which needs `queue`: those that are queued in it, in the order in which its policy
        would start them if every worker could run everything.
        """
        request = task_pb2.ListTasksRequest(filter=_filter(which), view=_view(full), page_size=1_000)
        if order == "schedule":
            request.order = task_pb2.TASK_ORDER_SCHEDULE
        while True:
            response = await self._connection.call(
                "TaskService/ListTasks", request, task_pb2.ListTasksResponse.FromString
            )
            for task in response.tasks:
                yield task_info(task)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def watch(
        self, *, include_current: bool = False, full: bool = False, **which: Unpack[TaskFilter]
    ) -> AsyncGenerator[TaskInfo]:
        """Tasks as their states change, from now on, without end; `include_current`: first those that match now.

        A task that changes twice quickly may come once. After a change of leader all that match come again, so that
        nothing is missed. Unavailable if no leader was found for as long as the client's timeout.
        """
        async with aclosing(self._watch(_filter(which), include_current, full)) as responses:
            async for response in responses:
                for task in response.tasks:
                    yield task_info(task)

    async def watch_responses(
        self, *, include_current: bool, **which: Unpack[TaskFilter]
    ) -> AsyncGenerator[task_pb2.WatchTasksResponse]:
        """As `watch`, with the sign that all that matched at the beginning has come."""
        async with aclosing(self._watch(_filter(which), include_current, full=False)) as responses:
            async for response in responses:
                yield response

    async def _watch(
        self, which: task_pb2.TaskFilter, include_current: bool, full: bool
    ) -> AsyncGenerator[task_pb2.WatchTasksResponse]:
        pool, backoff = self._connection.pool, Backoff()
        request = task_pb2.WatchTasksRequest(filter=which, view=_view(full), include_current=include_current)
        parse = task_pb2.WatchTasksResponse.FromString
        while True:
            address = await pool.find(Deadline(self._connection.timeout_s))
            failure: errors.TaskraftError = errors.Unavailable("the broker closed the stream")
            try:
                async with aclosing(
                    answers(pool, address, "TaskService/WatchTasks", request, parse)
                ) as responses:
                    async for response in responses:
                        backoff.reset()
                        yield response
            except errors.TaskraftError as error:
                if not is_transient(error):
                    raise
                failure = error
            request.include_current = True  # what happened meanwhile must not be missed
            pool.heed(failure, address)
            if pool.leader in (None, address):
                await asyncio.sleep(backoff.next_s())

    async def wait(
        self, task_ids: Iterable[str], *, timeout: float | None = None
    ) -> AsyncGenerator[TaskInfo]:
        """Each of these tasks once, with its result, as they end. ResultTimeout after `timeout` seconds in all.

        All waiting of a client shares a few streams, however many tasks it is for. TaskNotFound ends it.
        """
        names = dict.fromkeys(_name(task_id) for task_id in task_ids)
        futures = self._connection.waiter.wait(names)
        done: asyncio.Queue[asyncio.Future[task_pb2.Task]] = asyncio.Queue()
        for future in futures:
            future.add_done_callback(done.put_nowait)
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout is None else loop.time() + timeout
        try:
            for left in range(len(futures), 0, -1):
                try:
                    async with asyncio.timeout_at(deadline_s):
                        future = await done.get()
                except TimeoutError:
                    late = next(
                        (name for name, one in zip(names, futures, strict=True) if not one.done()),
                        next(iter(names)),
                    )
                    who = "tasks have" if left > 1 else "task has"
                    raise await self._late(f"{left} {who}", late, timeout or 0.0) from None
                yield task_info(future.result())
        finally:
            for future in futures:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # of those that nobody asks for any more

    async def ended(self, task_id: str, timeout: float | None = None) -> TaskInfo:
        """The task, with its result, when it has ended. ResultTimeout after `timeout` seconds."""
        [future] = self._connection.waiter.wait([_name(task_id)])
        try:
            async with asyncio.timeout(timeout):
                return task_info(await future)
        except TimeoutError:
            raise await self._late(f"task {task_id} has", task_id, timeout or 0.0) from None

    async def _late(self, who: str, task_id: str, timeout_s: float) -> errors.ResultTimeout:
        """The error for who waited in vain, with what one more short call says about the task."""
        text, method = f"{who} not ended in {timeout_s:g} s", "TaskService/ExplainTask"
        request = task_pb2.ExplainTaskRequest(name=_name(task_id))
        answer = task_pb2.ExplainTaskResponse.FromString
        try:
            async with asyncio.timeout(_limits.EXPLAIN_S):
                response = await self._connection.call(method, request, answer, timeout_s=_limits.EXPLAIN_S)
        except (TimeoutError, errors.TaskraftError):
            pool = self._connection.pool
            if pool.leader is None and pool.trouble is not None:
                text = f"{text}: {pool.trouble.message}"
            return errors.ResultTimeout(text)
        why = explanation(response)
        if why.task.ended:
            return errors.ResultTimeout(text)
        which = "it" if who.startswith("task") else f"task {why.task.id}"
        return errors.ResultTimeout(f"{text}: {which} is {why_late(why)}")

    def _expect(self, task_ids: Iterable[str], on_end: Callable[[TaskInfo], None]) -> None:
        """Begin to wait for these tasks together, on one stream; `on_end` is told of each that has ended.

        For many that will be asked for one by one. What cannot be waited for is found out by who asks.
        """

        def tell(future: asyncio.Future[task_pb2.Task]) -> None:
            if not future.cancelled() and future.exception() is None:
                on_end(task_info(future.result()))

        for future in self._connection.waiter.wait(dict.fromkeys(_name(task_id) for task_id in task_ids)):
            future.add_done_callback(tell)

    async def cancel(self, *task_ids: str, workflow: str = "", queue: str = "", reason: str = "") -> int:
        """Cancel tasks that have not ended: these, those of a workflow, or all that wait in a queue; returns how many.

        Waiting ones never start, running ones are revoked at their worker. `reason` is for their history.
        """
        total = 0
        for target in _targets(task_ids, workflow, queue):
            while True:
                request = task_pb2.CancelTasksRequest(**target, reason=reason, request_id=uuid.uuid4().hex)
                response = await self._connection.call(
                    "TaskService/CancelTasks", request, task_pb2.CancelTasksResponse.FromString
                )
                total += response.cancelled_tasks
                if not queue or not response.cancelled_tasks:
                    break
        return total

    async def retry(
        self, *task_ids: str, workflow: str = "", queue: str = "", all_tasks: bool = False
    ) -> int:
        """Give tasks that ended without success new attempts; returns how many.

        These, those of a workflow from its failures on (`all_tasks`: also what succeeded), or a queue's dead letters.
        """
        total = 0
        for target in _targets(task_ids, workflow, queue):
            while True:
                request = task_pb2.RetryTasksRequest(**target, all=all_tasks, request_id=uuid.uuid4().hex)
                response = await self._connection.call(
                    "TaskService/RetryTasks", request, task_pb2.RetryTasksResponse.FromString
                )
                total += response.retried_tasks
                if not queue or not response.retried_tasks:
                    break
        return total

    async def explain(self, task_id: str) -> Explanation:
        """Why the task does not run, and when it is expected to start and to finish."""
        request = task_pb2.ExplainTaskRequest(name=_name(task_id))
        response = await self._connection.call(
            "TaskService/ExplainTask", request, task_pb2.ExplainTaskResponse.FromString
        )
        return explanation(response)


def _name(task_id: str) -> str:
    return f"tasks/{task_id.removeprefix('tasks/')}"


def _view(full: bool) -> task_pb2.TaskView:
    return task_pb2.TASK_VIEW_FULL if full else task_pb2.TASK_VIEW_BASIC


def state_numbers(states: Iterable[TaskState]) -> list[str]:
    """The states as protobuf names them. InvalidArgument for a word that is none."""
    names = []
    for state in states:
        if state not in STATES[1:]:
            raise errors.InvalidArgument(
                f"a state is one of {', '.join(STATES[1:])}, not {state!r}",
                metadata={"field": "filter.states"},
            )
        names.append(f"TASK_STATE_{state.upper()}")
    return names


def _filter(which: TaskFilter) -> task_pb2.TaskFilter:
    given: dict[str, Any] = dict(which)
    if unknown := given.keys() - TaskFilter.__annotations__.keys():
        raise TypeError(f"tasks cannot be filtered by {', '.join(sorted(unknown))}")
    if "states" in given:
        given["states"] = state_numbers(given["states"])
    for key, folder in (("queue", "queues"), ("workflow", "workflows")):
        if given.get(key):
            given[key] = f"{folder}/{given[key].removeprefix(folder + '/')}"
    times = {key: given.pop(key) for key in ("created_from", "created_before") if key in given}
    out = task_pb2.TaskFilter(**given)
    for key, moment in times.items():
        getattr(out, key).FromDatetime(moment.astimezone())
    return out


def _targets(task_ids: Sequence[str], workflow: str, queue: str) -> list[dict[str, Any]]:
    """What is meant, as fields of requests. TypeError unless it is one of the three."""
    if bool(task_ids) + bool(workflow) + bool(queue) != 1:
        raise TypeError("one of task ids, workflow and queue is to be given")
    if workflow:
        return [{"workflow": f"workflows/{workflow.removeprefix('workflows/')}"}]
    if queue:
        return [{"queue": f"queues/{queue.removeprefix('queues/')}"}]
    names, step = [_name(task_id) for task_id in task_ids], _limits.NAMES_MAX
    return [{"names": names[start : start + step]} for start in range(0, len(names), step)]
