"""SubmitTasks: new tasks, all or none, and what becomes of those whose names are known.

Everything that can refuse is decided first; then rows are written. Work per task is a few microseconds: no statement is
run for one task alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from node.policies.order import TIME_MS_LIMIT
from node.state import dependencies, propagation, tasks
from node.state.results import Code, Refused, Result, Submitted, queue_not_found, wrong_queue_kind
from node.state.rows import QueueRow
from node.state.scheduling import Rules
from node.state.tables import Position, Tables
from node.state.task_rows import BLOCKED, DELAYED, LEASED, QUEUED, TaskQueueRow, TaskRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2

CREATED: Final = task_pb2.SUBMIT_OUTCOME_CREATED
REPLACED: Final = task_pb2.SUBMIT_OUTCOME_REPLACED
ALREADY_SCHEDULED: Final = task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED


@dataclass(slots=True)
class _Plan:
    """What is to be done with the tasks of a submit."""

    queues: dict[str, QueueRow] = field(default_factory=dict)
    created: list[tuple[task_pb2.Task, str, bytes]] = field(default_factory=list)
    """With the names of their queues, and encoded."""
    replaced: list[task_pb2.Task] = field(default_factory=list)
    outcomes: list[tuple[str, int]] = field(default_factory=list)
    freed: list[TaskRow] = field(default_factory=list)
    """Dead tasks of the names of new ones."""
    added: dict[str, list[int]] = field(default_factory=dict)
    """How many tasks and bytes more each queue will hold."""


def submit(
    tables: Tables,
    at: Position,
    command: command_pb2.SubmitTasks,
    *,
    schedule_id: int = 0,
    leaving: Sequence[TaskRow] = (),
) -> Result:
    """Store tasks. Those of a schedule carry its id. A workflow that exists stays as it is.

    `leaving` have not ended, and will have when the command is done: they take no room in their queues.
    """
    workflow = command.workflow if command.HasField("workflow") else None
    if workflow is not None and tables.workflows.by_name(workflow.name) is not None:
        return Submitted(tuple((task.name, ALREADY_SCHEDULED) for task in command.tasks))
    planned = _plan(tables, command)
    if isinstance(planned, Refused):
        return planned
    if refused := _full(tables, planned, leaving):
        return refused
    rows = _rows(tables, at, planned, schedule_id)
    hopeless = dependencies.link(tables, command.tasks, rows)
    if isinstance(hopeless, Refused):
        return hopeless
    tables.store.new_tasks(len(rows))
    if planned.freed:
        tables.tasks.free_names(planned.freed)
    if workflow is not None and rows:
        workflow_id = tables.workflows.add(at.time_ms, workflow)
        for row in rows.values():
            row.workflow_id = workflow_id
    _insert(tables, at, planned, rows)
    for row in hopeless:
        propagation.fail(tables, at, row, None)
    for task in planned.replaced:
        _replace(tables, at, task)
    return Submitted(tuple(planned.outcomes))


def _plan(tables: Tables, command: command_pb2.SubmitTasks) -> _Plan | Refused:
    """Decide about each task by its name."""
    plan = _Plan()
    workflow = command.workflow.name if command.HasField("workflow") else ""
    holders = tables.tasks.holders({task.name for task in command.tasks})
    standing: dict[str, int] = {}  # priorities of the tasks that this submit creates or replaces
    for task in command.tasks:
        name, queue = task.name, task.queue
        if queue not in plan.queues and (refused := _look_up(tables, plan, queue)):
            return refused
        row = holders.get(name)
        if row is not None and tables.tasks.is_dead(row):
            plan.freed.append(row)
            row = None
            del holders[name]
        priority = standing.get(name)
        if row is None and priority is None:
            if workflow:
                task.workflow = workflow
            spec = task.SerializeToString(deterministic=True)
            plan.created.append((task, queue, spec))
            _more(plan, queue, 1, len(spec))
            standing[name] = task.priority
            plan.outcomes.append((name, CREATED))
            continue
        if row is not None and priority is None:
            same_queue = row.queue_id == plan.queues[queue].id
            priority = row.priority if row.state < LEASED and same_queue else None
        if priority is None or task.priority <= priority:
            plan.outcomes.append((name, ALREADY_SCHEDULED))
            continue
        plan.replaced.append(task)
        _more(plan, queue, 0, task.ByteSize() - (row.bytes if row else 0))
        standing[name] = task.priority
        plan.outcomes.append((name, REPLACED))
    return plan


def _look_up(tables: Tables, plan: _Plan, name: str) -> Refused | None:
    row = tables.queue(name)
    if row is None:
        return queue_not_found(name)
    if row.config.kind != queue_pb2.QUEUE_KIND_TASK:
        return wrong_queue_kind(name, "tasks")
    plan.queues[name] = row
    plan.added[name] = [0, 0]
    return None


def _more(plan: _Plan, queue: str, count: int, size: int) -> None:
    added = plan.added[queue]
    added[0] += count
    added[1] += size


def _full(tables: Tables, plan: _Plan, leaving: Sequence[TaskRow]) -> Refused | None:
    """The refusal of a submit that is over the limits of a queue, when those that are leaving have left."""
    for name, (count, size) in plan.added.items():
        row = plan.queues[name]
        held = tables.tasks.queue(row.id)
        assert held is not None
        most, most_bytes = row.config.max_messages, row.config.max_bytes
        left = [task.bytes for task in leaving if task.queue_id == row.id]
        unended, held_bytes = held.unended - len(left), held.bytes - sum(left)
        over = (count > 0 and most and unended + count > most) or (
            size > 0 and most_bytes and held_bytes + size > most_bytes
        )
        if over:
            metadata = {
                "queue": name,
                "messages": str(unended),
                "max_messages": str(most),
                "bytes": str(held_bytes),
                "max_bytes": str(most_bytes),
            }
            return Refused(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", f"{name} is full", metadata)
    return None


def _rows(tables: Tables, at: Position, plan: _Plan, schedule_id: int) -> dict[str, TaskRow]:
    """The rows of new tasks, numbered, in no lane yet; their numbers are not taken yet."""
    number = tables.store.meta.next_task
    rows: dict[str, TaskRow] = {}
    now_ms, stamp = at.time_ms, at.stamp
    terms = {name: (row.id, tables.rules(row.id)) for name, row in plan.queues.items()}
    for task, queue, spec in plan.created:
        queue_id, rules = terms[queue]
        row = TaskRow(number, task.name, queue_id, 0, QUEUED)
        row.create_ms, row.bytes, row.schedule_id, row.stamp = now_ms, len(spec), schedule_id, stamp
        _apply(row, task, rules)
        rows[row.name] = row
        number += 1
    return rows


def _apply(row: TaskRow, task: task_pb2.Task, rules: Rules) -> None:
    """Take over the settings of a task, with its queue's for those that it does not say.

    The leader has validated them; the bounds here keep any number from being too large to be stored.
    """
    row.priority = max(-limits.PRIORITY_MAX, min(task.priority, limits.PRIORITY_MAX))
    row.max_attempts = min(task.max_attempts, limits.ATTEMPTS_MAX) or rules.max_attempts
    row.size_ms = _length_ms(task.size) if task.HasField("size") else 0
    row.lease_ms = _length_ms(task.lease) if task.HasField("lease") else rules.lease_ms
    row.backoff_ms = _length_ms(task.backoff) if task.HasField("backoff") else rules.backoff_ms
    row.timeout_ms = _length_ms(task.timeout) if task.HasField("timeout") else 0
    row.not_before_ms = _time_ms(task.not_before) if task.HasField("not_before") else 0
    row.deadline_ms = _time_ms(task.deadline) if task.HasField("deadline") else 0


def _length_ms(length: Duration) -> int:
    return max(0, min(length.seconds * 1000 + length.nanos // 1_000_000, limits.SIZE_MS_MAX))


def _time_ms(time: Timestamp) -> int:
    return max(0, min(time.seconds * 1000 + time.nanos // 1_000_000, TIME_MS_LIMIT - 1))


def _insert(tables: Tables, at: Position, plan: _Plan, rows: dict[str, TaskRow]) -> None:
    """Put new tasks into their lanes, or let them wait for their time or for others, and store them."""
    held: dict[str, tuple[TaskQueueRow, Rules]] = {}
    for name, queue_row in plan.queues.items():
        queue = tables.tasks.queue(queue_row.id)
        assert queue is not None
        held[name] = queue, tables.rules(queue_row.id)
    now_ms, of_task, insert = at.time_ms, tables.tasks.lanes.of_task, tables.tasks.insert
    begun: dict[int, bytes] = {}  # by state: the history of those that are new in it
    for (task, name, spec), row in zip(plan.created, rows.values(), strict=True):
        queue, rules = held[name]
        lane = of_task(queue, task)
        row.lane_id, row.order_ms = lane.id, now_ms
        if row.state != BLOCKED:
            _start_waiting(tables, at, row, lane.type, rules)
        row.due_ms = tasks.due_ms(row)
        history = begun.get(row.state)
        if history is None:
            tasks.event(row, at, row.state, "SUBMITTED")
            begun[row.state] = row.events
        else:
            row.events = history
        insert(row, spec)


def _start_waiting(tables: Tables, at: Position, row: TaskRow, kind: str, rules: Rules) -> None:
    """The task waits for a worker, or for its `not_before`."""
    if row.not_before_ms > at.time_ms:
        row.state, row.order_ms = DELAYED, row.not_before_ms
        return
    if not row.size_ms:
        row.size_ms = tables.tasks.sizes.expected_ms(row.queue_id, kind)
    row.state, row.ready_ms = QUEUED, at.time_ms
    row.key = tasks.key(rules, row)


def _replace(tables: Tables, at: Position, task: task_pb2.Task) -> None:
    """A task that waits becomes another one: its number, its place, its dependencies and its history stay."""
    row = tables.tasks.by_name(task.name)
    assert row is not None
    if row.state >= LEASED:
        return  # it failed, for its dependencies, as soon as it was created
    queue, rules = tables.tasks.queue(row.queue_id), tables.rules(row.queue_id)
    assert queue is not None
    task.ClearField("dependencies")
    known = task_pb2.Task.FromString(tables.tasks.contents.specs([row.number])[row.number])
    task.dependencies.extend(known.dependencies)
    task.workflow = known.workflow
    spec = task.SerializeToString(deterministic=True)
    _apply(row, task, rules)
    row.lane_id, row.bytes = tables.tasks.lanes.of_task(queue, task).id, len(spec)
    row.attempt, row.error, row.progress, row.ran_ms, row.start_ms = 0, b"", b"", 0, 0
    row.worker_id = row.instance_id = ""
    tables.tasks.contents.drop_outcome(row)
    tables.tasks.contents.put_spec(row.number, spec)
    if row.state != BLOCKED:
        row.order_ms = min(row.order_ms, at.time_ms)  # where it waits it stands where it stood
        _start_waiting(tables, at, row, task.type, rules)
    row.due_ms = tasks.due_ms(row)
    tasks.event(row, at, row.state, "REPLACED")
    tables.tasks.put(row)
