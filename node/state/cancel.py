"""CancelTasks: tasks that have not ended end, wherever they are."""

from collections.abc import Iterable
from typing import Final

from node import limits
from node.state import tasks
from node.state.results import Cancelled, Result, queue_not_found, task_not_found, workflow_not_found
from node.state.tables import Position, Tables
from node.state.task_rows import CANCELLED, SUCCEEDED, TaskRow
from taskraft.internal.v1 import command_pb2

REASON: Final = "CANCELLED"


def cancel(tables: Tables, at: Position, command: command_pb2.CancelTasks) -> Result:
    """Cancel named tasks, those of a workflow, or those of a queue that wait; at most `limit` of them.

    A name that is not known is passed over, because it may be that of a task that has ended and is forgotten; if none
    is known the command is refused. What depends on them is told by whoever called this handler.
    """
    if command.workflow:
        workflow = tables.workflows.by_name(command.workflow)
        if workflow is None:
            return workflow_not_found(command.workflow)
        found = of_workflow(tables, workflow.id)
        count = end_all(tables, at, found, command.reason, command.limit)
        if count:
            tables.workflows.cancelled(workflow.id)
        return Cancelled(count)
    if command.queue:
        queue = tables.queue(command.queue)
        if queue is None:
            return queue_not_found(command.queue)
        limit = command.limit or limits.TASKS_SWEPT_MAX
        return Cancelled(end_all(tables, at, waiting(tables, queue.id, limit), command.reason))
    names = list(dict.fromkeys(command.names))
    known = tables.tasks.by_names(names)
    if not known:
        return task_not_found(names[0] if names else "")
    named = [known[name] for name in names if name in known]
    return Cancelled(end_all(tables, at, named, command.reason, command.limit))


def end_all(tables: Tables, at: Position, rows: Iterable[TaskRow], why: str, limit: int = 0) -> int:
    """Cancel those of these tasks that have not ended, at most `limit` of them (0: all); how many that were."""
    count = 0
    for row in rows:
        if row.state >= SUCCEEDED:
            continue
        tasks.end(tables, at, row, CANCELLED, REASON, why, worker_id=row.worker_id if row.lease_id else "")
        count += 1
        if count == limit:
            break
    return count


def of_workflow(tables: Tables, workflow_id: int) -> list[TaskRow]:
    """The tasks of a workflow, in the order in which they were submitted."""
    rows = tables.tasks.select("workflow_id = ? AND workflow_id > 0 ORDER BY number", (workflow_id,))
    return [row for row in rows if not tables.tasks.is_dead(row)]


def waiting(tables: Tables, queue_id: int, limit: int) -> list[TaskRow]:
    """Up to `limit` tasks of a queue that wait: those that are QUEUED first, lane by lane, then the others by number."""
    queue = tables.tasks.queue(queue_id)
    if queue is None:
        return []
    tables.tasks.flush()
    found: list[TaskRow] = []
    for lane in tables.tasks.lanes.waited_in(queue):
        if len(found) == limit:
            return found
        found += tables.tasks.select(
            "state = 1 AND lane_id = ? ORDER BY key, number LIMIT ?", (lane.id, limit - len(found))
        )
    return found + tables.tasks.select(
        "state IN (2, 3) AND queue_id = ? AND stamp > ? ORDER BY number LIMIT ?",
        (queue_id, queue.purged, limit - len(found)),
    )
