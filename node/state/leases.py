"""LeaseTasks, SettleTasks and RecordProgress: tasks go to workers and come back.

An attempt is counted when it begins, so that a worker that dies of a task uses it up; one that gives a task back has not
begun it, and the attempt is taken back.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from node import limits
from node.state import tasks
from node.state.results import Code, Done, Granted, Refused, Result, Settlement
from node.state.schema import body_place
from node.state.tables import Position, Tables
from node.state.task_rows import DEAD_LETTERED, DELAYED, FAILED, LEASED, QUEUED, SUCCEEDED, Leased, TaskRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2, worker_pb2

PLACE_BITS: Final = 12
ORDINAL_BITS: Final = 12

_REASONS: Final = {
    worker_pb2.REVOKE_REASON_SLICE_END: "SLICE_END",
    worker_pb2.REVOKE_REASON_PREEMPTED: "PREEMPTED",
}
"""Why a task was given back that had begun; all others were handed back."""

_TOLD_APART: Final = frozenset({"TIMEOUT", "RESULT_TOO_LARGE"})
"""Errors that are the reason of an event; all others are its message."""


def lease(tables: Tables, at: Position, command: command_pb2.LeaseTasks) -> Result:
    """Tasks are at a worker."""
    assert at.ordinal < 1 << ORDINAL_BITS
    assert len(command.numbers) <= 1 << PLACE_BITS
    first_id = (at.log_index << ORDINAL_BITS | at.ordinal) << PLACE_BITS
    numbers = [*command.numbers] or _made_here(tables, at, command.names)
    lane_ids = [*command.lane_ids] or [0] * len(numbers)
    rows = tables.tasks.many(numbers)
    worker_id, instance_id = command.worker_id, command.instance_id
    leases, skipped = [], []
    for place, (number, lane_id) in enumerate(zip(numbers, lane_ids, strict=True)):
        row = rows.get(number)
        if row is None or row.state != QUEUED or lane_id not in (0, row.lane_id):
            skipped.append(number)
            continue
        row.state, row.lease_id = LEASED, first_id | place
        row.attempt += 1
        row.worker_id, row.instance_id = worker_id, instance_id
        row.start_ms, row.due_ms = at.time_ms, 0
        if row.progress and not row.has_checkpoint:
            row.progress = b""
        tasks.event(row, at, LEASED, "LEASED", worker_id=worker_id)
        tables.tasks.put_course(row)
        if not tables.silent:
            leases.append(leased(row))
    if leases:
        tables.events.append(("tasks_leased", leases))
    return Granted(tuple(skipped))


def _made_here(tables: Tables, at: Position, names: Sequence[str]) -> list[int]:
    """The numbers of those of these tasks that this entry has made QUEUED."""
    assert len(names) <= 1 << PLACE_BITS
    if not names:
        return []
    rows = tables.tasks.by_names(names)
    return [row.number for row in rows.values() if body_place(row.stamp)[0] == at.log_index]


def leased(row: TaskRow) -> Leased:
    """What is told of a LEASED task."""
    return Leased(
        row.number,
        row.lease_id,
        row.queue_id,
        row.lane_id,
        row.attempt,
        row.lease_ms,
        row.timeout_ms,
        row.size_ms,
        row.priority,
        row.start_ms,
        row.worker_id,
        row.instance_id,
        bool(row.has_checkpoint),
        bool(row.has_parents),
        row.bytes,
        row.ready_ms,
    )


def check(tables: Tables, at: Position, command: command_pb2.SettleTasks) -> Result:
    """Refused unless all these leases are current."""
    rows = tables.tasks.many([settled.number for settled in command.leases])
    lost = [
        settled.lease_id
        for settled in command.leases
        if (row := rows.get(settled.number)) is None or row.lease_id != settled.lease_id
    ]
    return not_current(lost) if lost else Done()


def not_current(lease_ids: Sequence[int]) -> Refused:
    """The refusal of what only the holder of a lease may do."""
    message = "the task is not leased by that lease any more"
    return Refused(Code.ABORTED, "LEASE_LOST", message, {"lease_id": str(lease_ids[0])})


def settle(tables: Tables, at: Position, command: command_pb2.SettleTasks) -> Result:
    """Leases have ended."""
    leases = [*command.leases]
    rows = tables.tasks.many([settled.number for settled in leases])
    runs: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    refused = []
    for settled in leases:
        row = rows.get(settled.number)
        if row is None or row.lease_id != settled.lease_id:
            refused.append(settled.lease_id)
            continue
        match settled.WhichOneof("kind"):
            case "result":
                _succeed(tables, at, row, settled.result, runs)
            case "failure":
                _fail(tables, at, row, settled.failure)
            case "yield":
                _give_back(tables, at, row, getattr(settled, "yield"))
            case "lost":
                _lose(tables, at, row, settled.lost.reason)
            case _:
                refused.append(settled.lease_id)
    for (queue_id, kind), runs_ms in runs.items():
        tables.tasks.sizes.learn(queue_id, kind, runs_ms, at.time_ms)
    return Settlement(tuple(refused))


def _succeed(
    tables: Tables,
    at: Position,
    row: TaskRow,
    result: task_pb2.TaskResult,
    runs: defaultdict[tuple[int, str], list[int]],
) -> None:
    """The task has done it; how long it ran goes to the `runs` of its queue and type, to be learned."""
    if len(result.data) > limits.PAYLOAD_BYTES_MAX:
        error = task_pb2.TaskError(
            reason="RESULT_TOO_LARGE",
            message=f"the result has {len(result.data)} bytes, at most {limits.PAYLOAD_BYTES_MAX} are kept",
        )
        _fail(tables, at, row, worker_pb2.TaskFailure(error=error, permanent=True))
        return
    tables.tasks.contents.put_result(row, result.SerializeToString())
    lane = tables.tasks.lanes.find(row.lane_id)
    assert lane is not None, "a task is leased, and its lane is gone"
    runs[row.queue_id, lane.type].append(row.ran_ms + at.time_ms - row.start_ms)
    tasks.end(tables, at, row, SUCCEEDED, "SUCCEEDED", error=b"", worker_id=row.worker_id)


def _fail(tables: Tables, at: Position, row: TaskRow, failure: worker_pb2.TaskFailure) -> None:
    reason = failure.error.reason
    message = f"{reason}: {failure.error.message}" if reason and failure.error.message else reason
    said = (reason, failure.error.message) if reason in _TOLD_APART else ("FAILED", message)
    error = tasks.error_of(failure.error)
    if failure.permanent or row.attempt >= row.max_attempts:
        state = FAILED if failure.permanent else DEAD_LETTERED
        tasks.end(tables, at, row, state, *said, error=error, worker_id=row.worker_id)
        return
    rules = tables.rules(row.queue_id)
    if failure.HasField("delay"):
        pause_ms = min(max(0, failure.delay.ToMilliseconds()), limits.BACKOFF_LONGEST_MS_MAX)
    else:
        pause_ms = tasks.pause_ms(rules, row)
    row.error = error
    _note_run(row, tasks.leave(tables, at, row, DELAYED if pause_ms else QUEUED, said[0]))
    if pause_ms:
        tasks.delay(tables, at, row, at.time_ms + pause_ms, *said, worker_id=row.worker_id)
    else:
        tasks.make_ready(tables, at, row, *said, worker_id=row.worker_id)


def _give_back(tables: Tables, at: Position, row: TaskRow, given: worker_pb2.TaskYield) -> None:
    """The attempt is not counted; at the end of its slice the task goes to the back of its queue."""
    reason = _REASONS.get(given.reason, "HANDED_BACK")
    if given.checkpoint:
        tables.tasks.contents.put_checkpoint(row, given.checkpoint)
    run_ms = tasks.leave(tables, at, row, QUEUED, reason)
    row.attempt -= 1
    _note_run(row, run_ms)
    if row.attempt == 0 and reason == "HANDED_BACK" and not row.has_checkpoint:
        row.start_ms = 0  # it has not begun, so its deadline still counts
    order_ms = None if reason == "SLICE_END" else row.order_ms
    tasks.make_ready(tables, at, row, reason, order_ms=order_ms, worker_id=row.worker_id)


def _lose(tables: Tables, at: Position, row: TaskRow, reason: str) -> None:
    """The attempt counts; the task returns to its old place."""
    error = task_pb2.TaskError(reason=reason, message=f"worker {row.worker_id} was lost")
    if row.attempt >= row.max_attempts:
        tasks.end(
            tables, at, row, DEAD_LETTERED, reason, error=tasks.error_of(error), worker_id=row.worker_id
        )
        return
    row.error = tasks.error_of(error)
    _note_run(row, tasks.leave(tables, at, row, QUEUED, reason))
    tasks.make_ready(tables, at, row, reason, order_ms=row.order_ms, worker_id=row.worker_id)


def _note_run(row: TaskRow, run_ms: int) -> None:
    """What a task has run counts for its size if the next lease goes on from there."""
    row.ran_ms = row.ran_ms + run_ms if row.has_checkpoint else 0


def record_progress(tables: Tables, at: Position, command: command_pb2.RecordProgress) -> Result:
    """Leased tasks have come so far."""
    rows = tables.tasks.many([said.number for said in command.tasks])
    refused = []
    for said in command.tasks:
        row = rows.get(said.number)
        if row is None or row.lease_id != said.lease_id:
            refused.append(said.lease_id)
            continue
        if said.HasField("progress"):
            said.progress.message = said.progress.message[: limits.REASON_CHARS_MAX]
            row.progress = said.progress.SerializeToString()
        if said.checkpoint:
            tables.tasks.contents.put_checkpoint(row, said.checkpoint)
        tables.tasks.put_course(row)
    return Settlement(tuple(refused))
