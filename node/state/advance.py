"""AdvanceTasks: what time brings, in bounded steps.

Delayed tasks become ready, those that have not begun before their deadline expire, ended ones are forgotten when their
retention is over or there are too many of them, dead ones are buried, empty lanes go. Which tasks a step takes is decided by the state alone;
`next_due_ms` only tells the leader when a step is worth its entry.
"""

from typing import Final

from node import limits
from node.state import graves, retention, tasks
from node.state.conclude import consequences
from node.state.results import Advanced, Result
from node.state.tables import Position, Tables
from node.state.task_rows import DELAYED, EXPIRED
from taskraft.internal.v1 import command_pb2

_LEAST: Final = 8  # in a step, so that there is something for each kind
_FOR_REST: Final = (
    4  # this part of a step is left to what is not due tasks, so that neither waits for the other
)


def advance(tables: Tables, at: Position, command: command_pb2.AdvanceTasks) -> Result:
    """Take one step; how many tasks and lanes were looked at."""
    limit = max(command.limit, _LEAST)
    done = _wake(tables, at, limit - limit // _FOR_REST)
    tables.tasks.write_ended()
    done += retention.forget_tasks(tables, at, limit - done)
    done += retention.forget_workflows(tables, at, limit - done)
    done += graves.bury(tables, at, limit - done)
    done += _drop_lanes(tables, at, limit - done)
    return Advanced(done)


def next_due_ms(tables: Tables) -> int | None:
    """When there is something to do at the earliest, between batches; a time that has passed: now. None: nothing is ahead."""
    if graves.are_open(tables):
        return tables.store.meta.time_ms
    due_ms = tables.tasks.first_due_ms()
    idle_ms = tables.tasks.lanes.next_idle_ms()
    moments = [due_ms, retention.next_due_ms(tables)]
    moments.append(None if idle_ms is None else idle_ms + limits.LANE_IDLE_MS)
    return min((moment for moment in moments if moment is not None), default=None)


def _wake(tables: Tables, at: Position, limit: int) -> int:
    """Tasks whose time has come, or is over."""
    first_ms = tables.tasks.first_due_ms()
    if first_ms is None or first_ms > at.time_ms:
        return 0  # and all that waits need not be written to find that out
    rows = tables.tasks.select(
        "due_ms > 0 AND due_ms <= ? ORDER BY due_ms, number LIMIT ?", (at.time_ms, limit)
    )
    for row in rows:
        if tables.tasks.is_dead(row):
            row.due_ms = 0
            tables.tasks.put(row)
        elif row.deadline_ms and row.deadline_ms <= at.time_ms and not row.start_ms:
            tasks.end(tables, at, row, EXPIRED, "EXPIRED")
        else:
            assert row.state == DELAYED
            tasks.make_ready(tables, at, row, "READY", order_ms=row.order_ms)
    consequences(tables, at)
    if rows:
        tables.tasks.flush()  # or they would look due until the next commit
    return len(rows)


def _drop_lanes(tables: Tables, at: Position, limit: int) -> int:
    tables.tasks.lanes.write_back()
    idle = tables.tasks.lanes.idle_since(at.time_ms - limits.LANE_IDLE_MS, limit)
    tables.tasks.lanes.delete(lane_id for lane_id, _ in idle)
    tables.events.extend(("lane_gone", queue_id, lane_id) for lane_id, queue_id in idle)
    return len(idle)
