"""Which tasks a request means: its filter, resolved against the state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from node import limits
from node.api import validate
from node.errors import InvalidField, QueueNotFound, WorkflowNotFound, WrongQueueKind
from node.state.rows import QueueRow
from node.state.task_rows import LEASED
from node.state.workflows import WorkflowRow
from node.tasks.watch import Wanted
from taskraft.v1 import queue_pb2, task_pb2

STATES: Final = frozenset(task_pb2.TaskState.values()) - {task_pb2.TASK_STATE_UNSPECIFIED}


class Named(Protocol):
    """The part of the state machine that knows what a filter names."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def workflow(self, name: str) -> WorkflowRow | None:
        """The workflow of the full name."""
        ...


def view(given: int) -> int:
    """Raises InvalidField."""
    if given not in task_pb2.TaskView.values():
        raise InvalidField("view", "a known view")
    return given or task_pb2.TASK_VIEW_BASIC


def check(given: task_pb2.TaskFilter) -> None:
    """Raises InvalidField for what no state could make right."""
    if given.queue:
        validate.queue_name(given.queue, "filter.queue")
    if given.workflow:
        validate.workflow_name(given.workflow, "filter.workflow")
    states(given.states, "filter.states")
    validate.text(given.type, "filter.type", limits.TASK_TYPE_CHARS_MAX)
    validate.labels(given.labels, "filter.labels")
    for name in ("created_from", "created_before"):
        if given.HasField(name):
            validate.timestamp_ms(getattr(given, name), f"filter.{name}")
    if given.worker_id:
        validate.worker_id(given.worker_id, "filter.worker_id")


def states(given: Iterable[int], field: str) -> frozenset[int]:
    """The states as rows say them, which know no RUNNING. Raises InvalidField."""
    found = frozenset(given)
    if not found <= STATES:
        raise InvalidField(field, "known states")
    if task_pb2.TASK_STATE_RUNNING in found:
        return found - {task_pb2.TASK_STATE_RUNNING} | {LEASED}
    return found


def wanted(given: task_pb2.TaskFilter, state: Named) -> Wanted:
    """What a checked filter means now. Raises QueueNotFound, WrongQueueKind, WorkflowNotFound."""
    queue_id = workflow_id = None
    if given.queue:
        queue_id = task_queue(state.queue(given.queue), given.queue).id
    if given.workflow:
        workflow = state.workflow(given.workflow)
        if workflow is None:
            raise WorkflowNotFound(f"there is no workflow {given.workflow}", workflow=given.workflow)
        workflow_id = workflow.id
    return Wanted(
        queue_id=queue_id,
        workflow_id=workflow_id,
        states=states(given.states, "filter.states"),
        worker_id=given.worker_id,
        from_ms=given.created_from.ToMilliseconds() if given.HasField("created_from") else None,
        before_ms=given.created_before.ToMilliseconds() if given.HasField("created_before") else None,
        type=given.type,
        labels=dict(given.labels),
    )


def task_queue(row: QueueRow | None, name: str) -> QueueRow:
    """The row of a queue of tasks. Raises QueueNotFound, WrongQueueKind."""
    if row is None:
        raise QueueNotFound(f"there is no queue {name}", queue=name)
    if row.config.kind != queue_pb2.QUEUE_KIND_TASK:
        raise WrongQueueKind(f"{name} is not a queue of tasks", queue=name)
    return row
