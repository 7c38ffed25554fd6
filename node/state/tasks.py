"""The transitions that all commands share: a task becomes ready, leaves its worker, ends.

Each changes a row and puts it. Counting and telling follow from that: see `conclude.py`.
"""

import hashlib
from typing import Final

from node.policies import Facts
from node.state import task_history
from node.state.scheduling import Rules
from node.state.tables import Position, Tables
from node.state.task_rows import BLOCKED, DELAYED, LEASED, QUEUED, SUCCEEDED, Settled, TaskRow
from taskraft.v1 import task_pb2

_JITTER_LEAST: Final = 0.75
_JITTER_RANGE: Final = 0.5
_DOUBLINGS_MAX: Final = 40
_ERROR_REASON_CHARS: Final = 256
_ERROR_MESSAGE_CHARS: Final = 1_024
_ERROR_DETAIL_CHARS: Final = 8_192


def event(
    row: TaskRow, at: Position, state: int, reason: str, message: str = "", *, worker_id: str = ""
) -> None:
    """Note in its history that something led the task to that state."""
    row.events = task_history.append(row.events, at.time_ms, state, row.attempt, worker_id, reason, message)


def due_ms(row: TaskRow) -> int:
    """When AdvanceTasks has to look at a task: when its delay ends, or its deadline passes before it ever began."""
    if row.state >= LEASED:
        return 0
    wake_ms = row.order_ms if row.state == DELAYED else 0
    if row.start_ms or not row.deadline_ms:
        return wake_ms
    return min(wake_ms, row.deadline_ms) if wake_ms else row.deadline_ms


def make_ready(
    tables: Tables,
    at: Position,
    row: TaskRow,
    reason: str,
    message: str = "",
    *,
    order_ms: int | None = None,
    worker_id: str = "",
) -> None:
    """The task waits for a worker from now on, or for its `not_before` if that is still ahead.

    `order_ms` is since when it counts as waiting: now, if not given. It must not be LEASED: see `leave`.
    """
    assert row.state != LEASED
    if row.not_before_ms > at.time_ms:
        delay(tables, at, row, row.not_before_ms, reason, message, worker_id=worker_id)
        return
    row.order_ms = at.time_ms if order_ms is None else order_ms
    place(tables, at, row)
    event(row, at, QUEUED, reason, message, worker_id=worker_id)
    tables.tasks.put(row)


def delay(
    tables: Tables,
    at: Position,
    row: TaskRow,
    until_ms: int,
    reason: str,
    message: str = "",
    *,
    worker_id: str = "",
) -> None:
    """The task waits for a time."""
    row.state, row.order_ms, row.open, row.end_ms, row.stamp = DELAYED, until_ms, 0, 0, at.stamp
    row.due_ms = due_ms(row)
    settle_lane(tables, row)
    event(row, at, DELAYED, reason, message, worker_id=worker_id)
    tables.tasks.put(row)


def block(tables: Tables, at: Position, row: TaskRow, open_: int, reason: str, message: str = "") -> None:
    """The task waits for others; `open_` is what `dependencies.missing` says."""
    row.state, row.open, row.end_ms, row.stamp = BLOCKED, open_, 0, at.stamp
    row.due_ms = due_ms(row)
    settle_lane(tables, row)
    event(row, at, BLOCKED, reason, message)
    tables.tasks.put(row)


def place(tables: Tables, at: Position, row: TaskRow) -> None:
    """Give a task its place in its lane, as QUEUED."""
    kind = settle_lane(tables, row)
    if not row.size_ms:
        row.size_ms = tables.tasks.sizes.expected_ms(row.queue_id, kind)
    row.state, row.open, row.end_ms, row.ready_ms, row.stamp = QUEUED, 0, 0, at.time_ms, at.stamp
    row.key = key(tables.rules(row.queue_id), row)
    row.due_ms = due_ms(row)


def key(rules: Rules, row: TaskRow) -> int:
    """The place of a task in its lane."""
    return rules.policy.key(Facts(row.number, row.order_ms, row.priority, row.size_ms, row.deadline_ms))


def settle_lane(tables: Tables, row: TaskRow) -> str:
    """Make sure that the lane of a task that waits is one that takes tasks; its type."""
    tasks = tables.tasks
    lane, queue = tasks.lanes.find(row.lane_id), tasks.queue(row.queue_id)
    assert queue is not None, "a task that is dead waits"
    if lane is None or lane.id <= queue.retired_lane:
        spec = tasks.contents.specs([row.number])[row.number]
        lane = tasks.lanes.of_task(queue, task_pb2.Task.FromString(spec))
        row.lane_id = lane.id
    return lane.type


def leave(tables: Tables, at: Position, row: TaskRow, state: int, reason: str) -> int:
    """The lease of a task ends and leads it to that state; how long it ran, in milliseconds. The caller puts it."""
    assert row.state == LEASED
    run_ms = at.time_ms - row.start_ms
    if not tables.silent:
        settled = Settled(
            row.number,
            row.lease_id,
            row.lane_id,
            state,
            row.worker_id,
            run_ms,
            reason,
            row.start_ms - row.ready_ms,
            at.time_ms - row.create_ms if state >= SUCCEEDED else 0,
        )
        tables.settled.setdefault(row.queue_id, []).append(settled)
    row.lease_id, row.state = 0, state
    return run_ms


def end(
    tables: Tables,
    at: Position,
    row: TaskRow,
    state: int,
    reason: str,
    message: str = "",
    *,
    error: bytes | None = None,
    worker_id: str = "",
) -> None:
    """The task ends; its lease with it, if it has one. `error` replaces the one that there is."""
    assert state >= SUCCEEDED
    assert row.state < SUCCEEDED
    if row.state == LEASED:
        leave(tables, at, row, state, reason)
        tables.tasks.put_course(row)
    else:
        tables.tasks.put(row)
    row.state, row.end_ms, row.due_ms, row.open = state, at.time_ms, 0, 0
    if error is not None:
        row.error = error
    if state == SUCCEEDED:
        tables.tasks.contents.drop_checkpoint(row)
    event(row, at, state, reason, message, worker_id=worker_id)


def error_of(error: task_pb2.TaskError) -> bytes:
    """An encoded error within its limits."""
    return task_pb2.TaskError(
        reason=error.reason[:_ERROR_REASON_CHARS],
        message=error.message[:_ERROR_MESSAGE_CHARS],
        detail=error.detail[:_ERROR_DETAIL_CHARS],
    ).SerializeToString()


def pause_ms(rules: Rules, row: TaskRow) -> int:
    """The pause after a failed attempt: it doubles with each one, up to a limit, and differs from task to task.

    The jitter is a quarter up or down and comes from a hash of the task and its attempt, so that every node finds the same.
    """
    doubled_ms = row.backoff_ms << min(max(0, row.attempt - 1), _DOUBLINGS_MAX)
    digest = hashlib.blake2b(b"%d.%d" % (row.number, row.attempt), digest_size=4).digest()
    share = int.from_bytes(digest, "little") / (1 << 32)
    return round(min(rules.backoff_max_ms, doubled_ms) * (_JITTER_LEAST + _JITTER_RANGE * share))
