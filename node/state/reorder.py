"""ReorderTasks: waiting tasks get their places by a policy that has changed, some at a time.

A task that becomes ready meanwhile gets its new place at once; so those with low numbers are in order first, and
`reordered` says how far that is.
"""

from node.state import tasks
from node.state.results import Advanced, Result, queue_not_found
from node.state.rows import QueueRow
from node.state.scheduling import rules_of
from node.state.tables import Position, Tables
from node.state.task_rows import QUEUED
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


def begin(tables: Tables, row: QueueRow, config: queue_pb2.Queue) -> None:
    """A queue is about to get these settings: its tasks have to be put in order if that changes their keys."""
    queue = tables.tasks.queue(row.id)
    assert queue is not None
    if rules_of(config).policy.ordering != rules_of(row.config).policy.ordering:
        queue.reordered = 0
        queue.reorder_until = tables.store.meta.next_task - 1 if queue.counts[QUEUED] else 0
        tables.tasks.queues.put(queue)


def reorder(tables: Tables, at: Position, command: command_pb2.ReorderTasks) -> Result:
    """Take one step; how many tasks were looked at."""
    row = tables.queue(command.queue)
    if row is None or command.queue_uid not in ("", row.uid):
        return queue_not_found(command.queue)
    queue = tables.tasks.queue(row.id)
    if queue is None or not queue.reorder_until:
        return Advanced(0)
    limit = max(1, command.limit)
    looked_at = tables.tasks.select(
        "queue_id = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?",
        (row.id, queue.reordered, queue.reorder_until, limit),
    )
    rules = tables.rules(row.id)
    for task in looked_at:
        if task.state == QUEUED and not tables.tasks.is_dead(task):
            key = tasks.key(rules, task)
            if key != task.key:
                task.key = key
                tables.tasks.put(task)
    if len(looked_at) < limit:
        queue.reordered = queue.reorder_until = 0
        tables.events.append(("queue_changed", row.id))
    else:
        queue.reordered = looked_at[-1].number
    tables.tasks.queues.put(queue)
    return Advanced(len(looked_at))
