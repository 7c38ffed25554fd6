"""The unary methods of TaskService, on the leader: bytes in, bytes out, ApiError or an error of the log raised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

from node import commands, limits
from node.api import task_filter, task_input, task_lists, validate
from node.api.pages import Page, page_token, read_number, read_page_token
from node.api.task_views import Views
from node.broker import Broker
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import DiskLow, InvalidField, Refusal, TaskNotFound, WorkflowNotFound
from node.policies import Policy
from node.replication import Replicated
from node.state.results import Cancelled, Refused, Result, Retried, Submitted
from node.state.task_rows import TaskRow
from node.state.workflows import WorkflowRow
from node.wire import length_prefix, varint
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2

WORKFLOW_STATES: Final = frozenset(
    {
        task_pb2.TASK_STATE_RUNNING,
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
    }
)

assert task_pb2.SubmitTasksRequest.TASKS_FIELD_NUMBER == command_pb2.SubmitTasks.TASKS_FIELD_NUMBER
assert task_pb2.SubmitTasksRequest.WORKFLOW_FIELD_NUMBER == command_pb2.SubmitTasks.WORKFLOW_FIELD_NUMBER


class State(task_lists.State, Protocol):
    """The part of the state machine that answers reads."""

    def task(self, name: str) -> TaskRow | None:
        """The task of the full name."""
        ...

    def tasks_named(self, names: Sequence[str]) -> dict[str, TaskRow]:
        """Those of these tasks that exist, by their full names."""
        ...

    def workflows(self, before_id: int = 0, limit: int = -1) -> list[WorkflowRow]:
        """Workflows, newest first, those with lower ids than `before_id` (0: all)."""
        ...

    def outlook(self, command: command_pb2.SubmitTasks) -> Result:
        """What a submit would do now."""
        ...


class Chooser(Protocol):
    """The part of the scheduler that answers what only the leader knows."""

    def policy(self, queue_id: int) -> Policy | None:
        """The policy of a queue as it is used, with what tenants have used."""
        ...

    def check_feasible(self, tasks: Sequence[task_pb2.Task]) -> None:
        """Raises DeadlineInfeasible for tasks that their queues refuse."""
        ...

    def foresee(self, tasks: Sequence[task_pb2.Task]) -> list[tuple[Command, Answer]]:
        """Leases that may stand in the very entry that makes these tasks."""
        ...

    def explain(self, row: TaskRow) -> task_pb2.ExplainTaskResponse:
        """Why a task does not run, and when it is expected to; without the task itself."""
        ...


class Tasks:
    """TaskService's unary methods by name."""

    def __init__(
        self,
        *,
        state: State,
        views: Views,
        chooser: Chooser,
        broker: Broker,
        replica: Replicated,
        disk_low: Callable[[], bool],
    ) -> None:
        self._state, self._views, self._chooser = state, views, chooser
        self._broker, self._replica = broker, replica
        self._disk_low = disk_low

    # Changes ------------------------------------------------------------------------------------------------------

    async def SubmitTasks(self, data: bytes) -> bytes:
        request = task_pb2.SubmitTasksRequest.FromString(data)
        request_id, validate_only = request.request_id, request.validate_only
        queues = task_input.submission(request, len(data))
        request.ClearField("request_id")
        request.ClearField("validate_only")
        await self.admit(request.tasks, queues)
        encoded = request.SerializeToString()
        if validate_only:
            await self._replica.read_barrier()
            result: Result = self._state.outlook(command_pb2.SubmitTasks.FromString(encoded))
            if isinstance(result, Refused):
                raise Refusal(result.code, result.reason, result.message, result.metadata)
        else:
            self._check_disk()
            idle = self._broker.idle
            submitting = self._broker.submit(commands.submit_tasks(encoded, request_id))
            if idle:
                self._broker.follow_up(self._chooser.foresee(request.tasks))
            result = await submitting
        assert isinstance(result, Submitted)
        return submitted(result.outcomes)

    async def CancelTasks(self, data: bytes) -> bytes:
        request = task_pb2.CancelTasksRequest.FromString(data)
        meant = which(request.names, request.workflow, request.queue)
        cancel = command_pb2.CancelTasks(
            names=request.names,
            workflow=request.workflow,
            queue=request.queue,
            reason=validate.text(request.reason, "reason", limits.REASON_CHARS_MAX),
            limit=meant,
        )
        command = command_pb2.Command(request_id=validate.request_id(request.request_id), cancel_tasks=cancel)
        result = await self._broker.submit(commands.plain(command))
        assert isinstance(result, Cancelled)
        return task_pb2.CancelTasksResponse(cancelled_tasks=result.count).SerializeToString()

    async def RetryTasks(self, data: bytes) -> bytes:
        request = task_pb2.RetryTasksRequest.FromString(data)
        meant = which(request.names, request.workflow, request.queue)
        if request.all and not request.workflow:
            raise InvalidField("all", "false without workflow")
        retry = command_pb2.RetryTasks(
            names=request.names,
            workflow=request.workflow,
            queue=request.queue,
            all=request.all,
            limit=meant,
        )
        command = command_pb2.Command(request_id=validate.request_id(request.request_id), retry_tasks=retry)
        result = await self._broker.submit(commands.plain(command))
        assert isinstance(result, Retried)
        return task_pb2.RetryTasksResponse(retried_tasks=result.count).SerializeToString()

    # Reads --------------------------------------------------------------------------------------------------------

    async def GetTask(self, data: bytes) -> bytes:
        request = task_pb2.GetTaskRequest.FromString(data)
        name, view = validate.task_name(request.name), task_filter.view(request.view)
        row = await self._row(name)
        return task_pb2.GetTaskResponse(task=self._views.one(row, view)).SerializeToString()

    async def ListTasks(self, data: bytes) -> bytes:
        request = task_pb2.ListTasksRequest.FromString(data)
        task_filter.check(request.filter)
        view, size = task_filter.view(request.view), validate.page_size(request.page_size)
        order, position = request.order, read_page_token(request.page_token)
        if order not in task_pb2.TaskOrder.values():
            raise InvalidField("order", "a known order")
        in_order = order == task_pb2.TASK_ORDER_SCHEDULE
        if in_order and not request.filter.queue:
            raise InvalidField("filter.queue", "set for TASK_ORDER_SCHEDULE")
        await self._replica.read_barrier()
        wanted = task_filter.wanted(request.filter, self._state)
        if in_order:
            queue = task_filter.task_queue(self._state.queue(request.filter.queue), request.filter.queue)
            live = self._chooser.policy(queue.id)
            found = task_lists.scheduled(self._state, queue, live, position, task_lists.at_once(size))
        else:
            found = task_lists.newest(self._state, wanted, position, task_lists.at_once(size))
        page = await task_lists.page(found, self._views, wanted, view, size)
        token = "" if page.position is None else page_token(page.position)
        return task_pb2.ListTasksResponse(tasks=page.tasks, next_page_token=token).SerializeToString()

    async def ExplainTask(self, data: bytes) -> bytes:
        request = task_pb2.ExplainTaskRequest.FromString(data)
        row = await self._row(validate.task_name(request.name))
        response = self._chooser.explain(row)
        response.task.CopyFrom(self._views.one(row, task_pb2.TASK_VIEW_BASIC))
        return response.SerializeToString()

    async def GetWorkflow(self, data: bytes) -> bytes:
        request = task_pb2.GetWorkflowRequest.FromString(data)
        name = validate.workflow_name(request.name)
        await self._replica.read_barrier()
        row = self._state.workflow(name)
        if row is None:
            raise WorkflowNotFound(f"there is no workflow {name}", workflow=name)
        return task_pb2.GetWorkflowResponse(workflow=row.to_proto()).SerializeToString()

    async def ListWorkflows(self, data: bytes) -> bytes:
        request = task_pb2.ListWorkflowsRequest.FromString(data)
        size = validate.page_size(request.page_size)
        states = frozenset(request.states)
        if not states <= WORKFLOW_STATES:
            raise InvalidField("states", "RUNNING, SUCCEEDED, FAILED or CANCELLED")
        before = read_number(read_page_token(request.page_token))
        await self._replica.read_barrier()
        rows = self._state.workflows(before, limits.PAGE_SIZE_MAX)
        meant = [row for row in rows if not states or row.state() in states]
        page = Page(row.to_proto() for row in meant[:size])
        response = task_pb2.ListWorkflowsResponse(workflows=page.items)
        if page.count < len(meant):
            response.next_page_token = page_token(str(meant[page.count - 1].id))
        elif len(rows) == limits.PAGE_SIZE_MAX:
            response.next_page_token = page_token(str(rows[-1].id))
        return response.SerializeToString()

    # Shared -------------------------------------------------------------------------------------------------------

    async def _row(self, name: str) -> TaskRow:
        """The task as of now. Raises TaskNotFound."""
        await self._replica.read_barrier()
        row = self._state.task(name)
        if row is None:
            raise TaskNotFound(f"there is no task {name}", task=name)
        return row

    async def admit(self, tasks: Sequence[task_pb2.Task], queues: Collection[str]) -> None:
        """Raises QueueNotFound, WrongQueueKind, DeadlineInfeasible for tasks of these queues."""
        await self._check_queues(queues)
        self._check_deadlines(tasks, queues)

    async def _check_queues(self, names: Iterable[str]) -> None:
        """Raises QueueNotFound, WrongQueueKind; that there is no such queue is believed only from a leader that is one."""
        if any(self._state.queue(name) is None for name in names):
            await self._replica.read_barrier()
        for name in names:
            task_filter.task_queue(self._state.queue(name), name)

    def _check_deadlines(self, tasks: Sequence[task_pb2.Task], queues: Iterable[str]) -> None:
        """Raises DeadlineInfeasible. Tasks that exist are not judged again: a repeated submit is answered as it was."""
        rows = [row for name in queues if (row := self._state.queue(name))]
        strict = {row.name for row in rows if row.config.scheduling.refuse_infeasible}
        if not strict:
            return
        bound = [task for task in tasks if task.queue in strict and task.HasField("deadline")]
        known = self._state.tasks_named([task.name for task in bound])
        self._chooser.check_feasible([task for task in bound if task.name not in known])

    def _check_disk(self) -> None:
        if self._disk_low():
            raise DiskLow


def which(names: Sequence[str], workflow: str, queue: str) -> int:
    """How many tasks a request is about at most that says which in one of three ways; 0: all. Raises InvalidField."""
    if [bool(names), bool(workflow), bool(queue)].count(True) != 1:
        raise InvalidField("names", "set, or else workflow or queue, and only one of them")
    if workflow:
        validate.workflow_name(workflow, "workflow")
        return 0
    if queue:
        validate.queue_name(queue, "queue")
        return limits.TASKS_SWEPT_MAX
    if len(names) > limits.TASKS_NAMED_MAX:
        raise InvalidField("names", f"at most {limits.TASKS_NAMED_MAX} names")
    for place, name in enumerate(names):
        validate.task_name(name, f"names[{place}]")
    return len(names)


def submitted(outcomes: Sequence[tuple[str, int]]) -> bytes:
    """An encoded SubmitTasksResponse. Written by hand: ten thousand messages take far longer to make than to say."""
    parts: list[bytes] = []
    for name, outcome in outcomes:
        encoded = name.encode()
        parts += (HEADS[len(encoded)], encoded, TAILS[outcome])
    return b"".join(parts)


def _head(name_bytes: int) -> bytes:
    """What stands before a name of so many bytes."""
    name = length_prefix(task_pb2.SubmittedTask.NAME_FIELD_NUMBER, name_bytes)
    size = len(name) + name_bytes + len(TAILS[task_pb2.SUBMIT_OUTCOME_CREATED])
    return length_prefix(task_pb2.SubmitTasksResponse.TASKS_FIELD_NUMBER, size) + name


TAILS: Final = tuple(
    varint(task_pb2.SubmittedTask.OUTCOME_FIELD_NUMBER << 3) + varint(outcome)
    for outcome in sorted(task_pb2.SubmitOutcome.values())
)
HEADS: Final = tuple(_head(size) for size in range(len(validate.TASKS) + limits.TASK_ID_CHARS_MAX + 1))
