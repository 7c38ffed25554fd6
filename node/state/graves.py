"""Dead tasks: those of queues that were deleted, and those that waited in queues that were purged.

They are dead at once and for everyone, whatever their number, because `TaskTables.is_dead` says so. AdvanceTasks then
buries some at a time: each that had not ended is cancelled, so that tasks that depend on it and workflows go on, and
all are forgotten.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from node.state import dependencies, tasks
from node.state.conclude import consequences
from node.state.tables import Position, Tables
from node.state.task_rows import CANCELLED, LEASED, QUEUED, SUCCEEDED, TaskRow


def dig(tables: Tables, queue_id: int) -> None:
    """Some of the tasks that the queue has now are dead."""
    tables.store.execute(
        "INSERT OR REPLACE INTO graves VALUES (?, 0, ?)", (queue_id, tables.store.meta.next_task - 1)
    )


def purge(tables: Tables, at: Position, queue_id: int) -> int:
    """All tasks of a queue that wait are dead; how many."""
    queue = tables.tasks.queue(queue_id)
    assert queue is not None
    waiting = sum(queue.counts[QUEUED:LEASED])
    if waiting:
        queue.counts[QUEUED:LEASED] = [0] * (LEASED - QUEUED)
        queue.waiting_bytes = 0
        queue.purged, queue.retired_lane = at.stamp, tables.store.meta.next_id - 1
        tables.tasks.queues.put(queue)
        dig(tables, queue_id)
        tables.events.append(("tasks_purged", queue_id))
    return waiting


def are_open(tables: Tables) -> bool:
    """True if there is something to bury."""
    return tables.store.execute("SELECT 1 FROM graves LIMIT 1").fetchone() is not None


def bury(tables: Tables, at: Position, limit: int) -> int:
    """Look at so many tasks at most, and forget those that are dead; how many were looked at."""
    seen = 0
    while seen < limit:
        grave = tables.store.execute(
            "SELECT queue_id, swept, until FROM graves ORDER BY queue_id LIMIT 1"
        ).fetchone()
        if grave is None:
            break
        queue_id, swept, until = grave
        rows = tables.tasks.select(
            "queue_id = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?",
            (queue_id, swept, until, limit - seen),
        )
        dead = [row for row in rows if tables.tasks.is_dead(row)]
        cancelled = _cancel(tables, at, [row for row in dead if row.state < SUCCEEDED])
        forget(tables, [gone_of(row) for row in dead])
        tables.tasks.gone.extend(cancelled)
        if len(rows) < limit - seen:
            tables.store.execute("DELETE FROM graves WHERE queue_id = ?", (queue_id,))
        else:
            tables.store.execute(
                "UPDATE graves SET swept = ? WHERE queue_id = ?", (rows[-1].number, queue_id)
            )
        seen += len(rows)
    return seen


def _cancel(tables: Tables, at: Position, dead: list[TaskRow]) -> list[TaskRow]:
    """End dead tasks. Nobody is told of their leases: those went with the queue."""
    for row in dead:
        reason = "QUEUE_DELETED" if tables.tasks.queue(row.queue_id) is None else "PURGED"
        row.state, row.lease_id, row.open, row.due_ms = CANCELLED, 0, 0, 0
        row.end_ms = at.time_ms
        tasks.event(row, at, CANCELLED, reason)
        tables.tasks.put(row)
    consequences(tables, at)
    return dead


class Gone(NamedTuple):
    """What has to be known of an ended task to forget it."""

    number: int
    queue_id: int
    state: int
    workflow_id: int = 0


def gone_of(row: TaskRow) -> Gone:
    return Gone(row.number, row.queue_id, row.state, row.workflow_id)


def forget(tables: Tables, gone: Collection[Gone]) -> None:
    """Ended tasks are gone, with all that belongs to them. Their changes must have been concluded."""
    if not gone:
        return
    numbers = [task.number for task in gone]
    tables.tasks.delete(numbers)
    dependencies.drop(tables, numbers)
    tables.workflows.forgotten(task.workflow_id for task in gone if task.workflow_id)
    alike = Counter((task.queue_id, task.state, task.workflow_id > 0) for task in gone)
    for (queue_id, state, in_workflow), count in alike.items():
        queue = tables.tasks.queue(queue_id)
        if queue is None:
            continue
        queue.counts[state] -= count
        assert queue.counts[state] >= 0
        if not in_workflow:
            queue.forgettable -= count
            queue.note_surplus(tables.rules(queue_id).max_ended, queue.over_ms)
        tables.tasks.queues.put(queue)
