"""Tasks as the API shows them, and pages of them."""

from collections.abc import Sequence

from node.state import task_history
from node.state.dependencies import waits_for
from node.state.rows import timestamp
from node.state.scheduling import retain_ms
from node.state.tables import Tables
from node.state.task_rows import SUCCEEDED, TaskRow
from node.state.task_tables import TaskTables
from taskraft.v1 import task_pb2


def shown(
    tables: Tables, rows: Sequence[TaskRow], view: int, *, with_results: bool = False
) -> list[task_pb2.Task]:
    """These tasks in that TaskView, in their order; results always where they are asked for. Reads in bulk."""
    full = view == task_pb2.TASK_VIEW_FULL
    contents = tables.tasks.contents
    specs = contents.specs([row.number for row in rows])
    with_result = [row.number for row in rows if row.has_result] if full or with_results else []
    results = contents.results(with_result) if with_result else {}
    with_checkpoint = [row.number for row in rows if row.has_checkpoint] if full else []
    checkpoints = contents.checkpoints(with_checkpoint) if with_checkpoint else {}
    tasks = []
    for row in rows:
        task = to_proto(row, specs.get(row.number, b""), full=full)
        if (full or with_results) and row.state == SUCCEEDED:
            task.result.MergeFromString(row.result or results.get(row.number, b""))
        if full:
            task.checkpoint = checkpoints.get(row.number, b"")
        if row.has_ended and not row.workflow_id and tables.queue_by_id(row.queue_id):
            rules = tables.rules(row.queue_id)
            task.expire_time.CopyFrom(timestamp(row.end_ms + retain_ms(rules, row.state)))
        tasks.append(task)
    return tasks


def to_proto(row: TaskRow, spec: bytes, *, full: bool) -> task_pb2.Task:
    """What a row and its spec (empty: it is gone already) say; without result, checkpoint and expire_time."""
    task = task_pb2.Task.FromString(spec)
    if not full:
        task.ClearField("payload")
        task.ClearField("dependencies")
    if not spec:
        task.name, task.priority = row.name, row.priority
    task.state = row.state  # type: ignore[assignment]
    task.attempt, task.worker_id, task.lease_id = row.attempt, row.worker_id, row.lease_id
    task.max_attempts = row.max_attempts
    task.create_time.CopyFrom(timestamp(row.create_ms))
    if row.start_ms:
        task.start_time.CopyFrom(timestamp(row.start_ms))
    if row.end_ms:
        task.end_time.CopyFrom(timestamp(row.end_ms))
    if row.progress:
        task.progress.MergeFromString(row.progress)
    if row.error:
        task.error.MergeFromString(row.error)
    task.dependencies_open = waits_for(row.open)
    if full:
        task.events.extend(task_history.to_proto(row.events))
    return task


def page(
    tasks: TaskTables,
    *,
    before: int,
    queue_id: int,
    workflow_id: int,
    states: Sequence[int],
    worker_id: str,
    created_from_ms: int,
    created_before_ms: int,
    looked_at: int,
) -> tuple[list[TaskRow], int]:
    """The next rows that are meant, newest first, and the number to go on before: see `TaskQueries.tasks_list`."""
    conditions, values = ["number < ?"], [before or (1 << 63) - 1]
    if workflow_id:
        conditions += ["workflow_id = ?", "workflow_id > 0"]
        values.append(workflow_id)
    elif queue_id:
        conditions.append("queue_id = ?")
        values.append(queue_id)
    rows = tasks.select(f"{' AND '.join(conditions)} ORDER BY number DESC LIMIT ?", (*values, looked_at))
    more = rows[-1].number if len(rows) == looked_at else 0
    meant = []
    for row in rows:
        if created_from_ms and row.create_ms < created_from_ms:
            more = 0  # and so are all older ones
            break
        if (
            (not queue_id or row.queue_id == queue_id)
            and (not states or row.state in states)
            and (not worker_id or row.worker_id == worker_id)
            and (not created_before_ms or row.create_ms < created_before_ms)
            and not tasks.is_dead(row)
        ):
            meant.append(row)
    return meant, more
