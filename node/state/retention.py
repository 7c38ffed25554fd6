"""How long ended tasks are remembered: for a time, and as long as there are not too many of them.

Tasks of a workflow are remembered until it has ended and the retention of all of them is over. A task with a child that
has not ended is kept in any case.
"""

import heapq
from typing import Final

from node import limits
from node.state.expiries import Expiries
from node.state.graves import Gone, forget, gone_of
from node.state.scheduling import Rules, retain_ms
from node.state.tables import Position, Tables
from node.state.task_rows import ENDED, TaskQueueRow
from node.state.task_tables import FORGETTABLE

_OF_WORKFLOW: Final = "workflow_id = ? AND workflow_id > 0 AND children = 0 ORDER BY number LIMIT ?"
_POSTPONED_MS: Final = 60_000
"""When a workflow is looked at again that is held by tasks outside of it."""


def next_due_ms(tables: Tables) -> int | None:
    """When there is something to forget; only between batches. What is too much waits a little for more of its kind."""
    known = refresh(tables)
    workflow_ms = tables.store.execute("SELECT min(keep_ms) FROM workflows WHERE end_ms > 0").fetchone()[0]
    over_ms = min(known.over.values()) + limits.FORGET_PAUSE_MS if known.over else None
    moments = [known.first_ms(), workflow_ms, over_ms]
    return min((moment for moment in moments if moment is not None), default=None)


def refresh(tables: Tables) -> Expiries:
    """Bring up to date what is known of all queues."""
    known, queues = tables.expiries, tables.tasks.queues
    stale, queues.stale = queues.stale, set()
    stale.update(row.queue_id for row in queues.changed())
    if not known.complete:
        stale.update(queues.all_ids())
        known.complete = True
    for queue_id in stale:
        queue = queues.find(queue_id)
        rules = None if queue is None else tables.rules(queue_id)
        if queue is not None and queue.over_ms:
            known.over[queue_id] = queue.over_ms
        else:
            known.over.pop(queue_id, None)
        known.set(queue_id, None if queue is None or rules is None else _first_ms(tables, queue, rules))
    return known


def _first_ms(tables: Tables, queue: TaskQueueRow, rules: Rules) -> int | None:
    """When the retention of a task of this queue is over next, at the earliest."""
    moments = []
    for state in ENDED:
        if queue.counts[state]:
            end_ms = tables.tasks.first_ended_ms(queue.queue_id, state)
            if end_ms is not None:
                moments.append(end_ms + retain_ms(rules, state))
    return min(moments, default=None)


def forget_tasks(tables: Tables, at: Position, limit: int) -> int:
    """Forget so many tasks at most, queue by queue; how many."""
    done, known = 0, refresh(tables)
    for queue_id in known.due(at.time_ms):
        if done >= limit:
            break
        queue, rules = tables.tasks.queue(queue_id), tables.rules(queue_id)
        assert queue is not None
        gone = _over_age(tables, queue_id, rules, at.time_ms, limit - done)
        surplus = queue.forgettable - len(gone) - rules.max_ended
        if surplus > 0 and len(gone) < limit - done:
            older = set(gone)
            oldest = _oldest(tables, queue_id, min(surplus, limit - done - len(gone)) + len(gone))
            more = [task for task in oldest if task not in older]
            gone += more[: min(surplus, limit - done - len(gone))]
        forget(tables, gone)
        done += len(gone)
        if queue_id in known.over:  # those that are too many may all be needed: look again after a pause
            known.over[queue_id] = at.time_ms
    return done


def _over_age(tables: Tables, queue_id: int, rules: Rules, now_ms: int, limit: int) -> list[Gone]:
    """Tasks of the queue whose retention is over."""
    gone: list[Gone] = []
    for state in ENDED:
        found = tables.store.execute(
            f"SELECT number FROM tasks WHERE {FORGETTABLE} AND end_ms <= ? ORDER BY end_ms, number LIMIT ?",
            (queue_id, state, now_ms - retain_ms(rules, state), limit - len(gone)),
        )
        gone += [Gone(number, queue_id, state) for (number,) in found]
    return gone


def _oldest(tables: Tables, queue_id: int, limit: int) -> list[Gone]:
    """The tasks of the queue that ended first."""
    by_state = [
        tables.store.execute(
            f"SELECT end_ms, number, state FROM tasks WHERE {FORGETTABLE} ORDER BY end_ms, number LIMIT ?",
            (queue_id, state, limit),
        ).fetchall()
        for state in ENDED
    ]
    merged = list(heapq.merge(*by_state))
    return [Gone(number, queue_id, state) for _, number, state in merged[:limit]]


def forget_workflows(tables: Tables, at: Position, limit: int) -> int:
    """Forget so many tasks of workflows at most, one workflow after the other; how many."""
    done = 0
    while done < limit:
        tables.events.extend(("workflow_changed", each) for each in tables.workflows.write_back())
        due = tables.store.execute(
            "SELECT id FROM workflows WHERE end_ms > 0 AND keep_ms <= ? ORDER BY keep_ms, id LIMIT 1",
            (at.time_ms,),
        ).fetchone()
        if due is None:
            break
        rows = tables.tasks.select(_OF_WORKFLOW, (due[0], limit - done))
        if not rows:
            tables.store.execute(
                "UPDATE workflows SET keep_ms = ? WHERE id = ?", (at.time_ms + _POSTPONED_MS, due[0])
            )
            done += 1
        forget(tables, [gone_of(row) for row in rows])
        done += len(rows)
    return done
