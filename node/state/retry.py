"""RetryTasks: tasks that have ended get new attempts."""

from collections.abc import Sequence
from typing import Final

from node import limits
from node.state import tasks
from node.state.cancel import of_workflow
from node.state.dependencies import from_parents, recount, to_children
from node.state.propagation import UNBLOCKED, fail, propagate
from node.state.results import Result, Retried, queue_not_found, task_not_found, workflow_not_found
from node.state.tables import Position, Tables
from node.state.task_rows import BLOCKED, DEAD_LETTERED, SUCCEEDED, TaskRow
from taskraft.internal.v1 import command_pb2

REASON: Final = "RETRIED"


def retry(tables: Tables, at: Position, command: command_pb2.RetryTasks) -> Result:
    """Give new attempts to named tasks, to those of a workflow (with `all`: also to those that succeeded), or to the dead
    letters of a queue; at most `limit` of them.

    Names are looked up as CancelTasks does. Tasks that have not ended are passed over.
    """
    least = SUCCEEDED if command.all and command.workflow else SUCCEEDED + 1
    if command.workflow:
        workflow = tables.workflows.by_name(command.workflow)
        if workflow is None:
            return workflow_not_found(command.workflow)
        found = of_workflow(tables, workflow.id)
    elif command.queue:
        queue = tables.queue(command.queue)
        if queue is None:
            return queue_not_found(command.queue)
        found = dead_letters(tables, queue.id, command.limit or limits.TASKS_SWEPT_MAX)
    else:
        names = list(dict.fromkeys(command.names))
        known = tables.tasks.by_names(names)
        if not known:
            return task_not_found(names[0] if names else "")
        found = [known[name] for name in names if name in known]
    ended = [row for row in found if row.state >= least]
    revived = ended[: command.limit or None]
    if revived:
        _revive(tables, at, revived)
    return Retried(len(revived))


def dead_letters(tables: Tables, queue_id: int, limit: int) -> list[TaskRow]:
    """Up to `limit` dead letters of a queue, in the order in which they were submitted."""
    return tables.tasks.select(
        f"state = {DEAD_LETTERED} AND queue_id = ? ORDER BY number LIMIT ?", (queue_id, limit)
    )


def _revive(tables: Tables, at: Position, rows: Sequence[TaskRow]) -> None:
    """These ended tasks begin anew, as soon as their dependencies allow it; what was blocked by them waits for them again.

    One whose dependencies can never be fulfilled, because their tasks have failed and are not retried, fails again.
    """
    for row in rows:
        if row.workflow_id:
            tables.workflows.retried(row.workflow_id)
        _reset(tables, at, row)
    waiting = {row.number: row for row in rows}
    for row in _blocked_by(tables, rows):
        waiting.setdefault(row.number, row)
    _join_parents(tables, rows)
    counts = recount(tables, list(waiting.values()))
    hopeless: list[TaskRow] = []
    for place, (number, row) in enumerate(waiting.items()):
        count, revived = counts[number], place < len(rows)
        if count is None:
            tasks.event(row, at, BLOCKED, REASON)
            fail(tables, at, row, None)
            hopeless.append(row)
        elif count == 0:
            tasks.make_ready(tables, at, row, REASON if revived else UNBLOCKED)
        elif revived:
            tasks.block(tables, at, row, count, REASON)
        else:
            row.open = count
            tables.tasks.put(row)
    propagate(tables, at, hopeless)


def _reset(tables: Tables, at: Position, row: TaskRow) -> None:
    """Forget what a task came to. What a checkpoint left stays, so that its next attempt goes on from there."""
    if row.state == SUCCEEDED:
        tables.tasks.contents.drop_outcome(row)
        row.progress, row.ran_ms = b"", 0
    if row.deadline_ms <= at.time_ms:
        row.deadline_ms = 0  # or it would expire at once
    row.state, row.attempt, row.error = BLOCKED, 0, b""


def _blocked_by(tables: Tables, parents: Sequence[TaskRow]) -> list[TaskRow]:
    """The tasks that are blocked and depend on one of these."""
    edges = from_parents(tables.store.execute, [row.number for row in parents if row.children])
    children = tables.tasks.many(dict.fromkeys(edge.child for edge in edges))
    return [row for row in children.values() if row.state == BLOCKED]


def _join_parents(tables: Tables, children: Sequence[TaskRow]) -> None:
    """The parents of these tasks have children again that have not ended."""
    edges = to_children(tables.store.execute, [row.number for row in children if row.has_parents])
    parents = tables.tasks.many(dict.fromkeys(edge.parent for edge in edges))
    for edge in edges:
        if edge.parent in parents:
            parents[edge.parent].children += 1
    for parent in parents.values():
        tables.tasks.put(parent)
