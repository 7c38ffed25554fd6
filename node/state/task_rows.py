"""Tasks, lanes and what is told of them, as values."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2

QUEUED: Final = task_pb2.TASK_STATE_QUEUED
BLOCKED: Final = task_pb2.TASK_STATE_BLOCKED
DELAYED: Final = task_pb2.TASK_STATE_DELAYED
LEASED: Final = task_pb2.TASK_STATE_LEASED
SUCCEEDED: Final = task_pb2.TASK_STATE_SUCCEEDED
FAILED: Final = task_pb2.TASK_STATE_FAILED
CANCELLED: Final = task_pb2.TASK_STATE_CANCELLED
EXPIRED: Final = task_pb2.TASK_STATE_EXPIRED
DEAD_LETTERED: Final = task_pb2.TASK_STATE_DEAD_LETTERED

STATES: Final = DEAD_LETTERED + 1  # length of a list that is indexed by state
ENDED: Final = (SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD_LETTERED)
"""Ended means `state >= SUCCEEDED`; waiting, `state < LEASED`."""


Encoded: TypeAlias = bytes


@dataclass(slots=True)
class TaskRow:
    """A task. Only transitions change it, and say so with `TaskTables.put`; everyone else reads it now and keeps nothing.

    Between batches it is as of the last applied entry.
    Invariants: a LEASED task has a lease_id, all others have 0; `due_ms` is what `tasks.due` says; an ended one has
    an `end_ms`, all others have 0; `open` is 0 unless it is BLOCKED; `children` counts the edges to tasks that have
    not ended.
    """

    number: int  # in the order of submission, never given to another task
    name: str  # `tasks/{task}`
    queue_id: int
    lane_id: int  # of its last stay in the queue; that lane may be gone once it has ended
    state: int
    key: int = 0  # its place in the lane while QUEUED
    end_ms: int = 0
    due_ms: int = 0  # when AdvanceTasks has to look at it; 0: never
    stamp: int = 0  # where in the log it came into its state, Position.stamp
    workflow_id: int = 0  # 0: none
    schedule_id: int = 0
    children: int = 0

    # From here on packed into two columns: nothing is looked up by these. What a lease does not change:
    priority: int = 0
    size_ms: int = 0  # expected run time; 0 until it was QUEUED once, unless declared
    order_ms: int = 0  # since when it counts as waiting; while DELAYED, when it becomes QUEUED
    deadline_ms: int = 0  # 0: none
    bytes: int = 0  # of the encoded spec
    create_ms: int = 0
    max_attempts: int = 1
    lease_ms: int = 0
    timeout_ms: int = 0  # 0: none
    ready_ms: int = 0  # when it became QUEUED the last time
    not_before_ms: int = 0
    backoff_ms: int = 0

    # What it changes:
    attempt: int = 0
    lease_id: int = 0
    start_ms: int = 0  # when it was leased the last time; 0: it has never begun
    ran_ms: int = 0  # of earlier leases whose checkpoint the next one goes on from
    open: int = 0  # what it still waits for: see `dependencies.py`
    has_checkpoint: bool = False
    has_parents: bool = False
    has_result: bool = False  # one that is stored apart
    worker_id: str = ""  # of the last lease
    instance_id: str = ""
    error: Encoded = b""  # encoded taskraft.v1.TaskError, or nothing
    progress: Encoded = b""  # encoded taskraft.v1.TaskProgress, or nothing
    result: Encoded = b""  # encoded taskraft.v1.TaskResult if it is short, or nothing
    events: Encoded = b""  # see task_history

    told_state: int = 0  # as counted and told last; these are not stored. 0: it is new
    told_lane: int = 0
    told_key: int = 0
    told_bytes: int = 0
    told_priority: int = 0

    @property
    def has_ended(self) -> bool:
        return self.state >= SUCCEEDED


_FIELDS: Final = TaskRow.__slots__
COLUMNS: Final = tuple(_FIELDS[: _FIELDS.index("priority")])
"""The fields that are columns of their own."""

_READY: Final = struct.Struct("<iqqqI")  # what a ReadyTask has of the terms, which comes first
_TERMS: Final = struct.Struct("<iqqqIqI5q")
_COURSE: Final = struct.Struct("<I4q???IIIII")  # the last five are the bytes of the texts before the events


def pack_terms(row: TaskRow) -> bytes:
    """The fields that a lease does not change and that are not columns, in their order, as one value."""
    return _TERMS.pack(
        row.priority,
        row.size_ms,
        row.order_ms,
        row.deadline_ms,
        row.bytes,
        row.create_ms,
        row.max_attempts,
        row.lease_ms,
        row.timeout_ms,
        row.ready_ms,
        row.not_before_ms,
        row.backoff_ms,
    )


def pack_course(row: TaskRow) -> bytes:
    """The other fields that are not columns, in their order, as one value."""
    worker_id, instance_id = row.worker_id.encode(), row.instance_id.encode()
    error, progress, result = row.error, row.progress, row.result
    head = _COURSE.pack(
        row.attempt,
        row.lease_id,
        row.start_ms,
        row.ran_ms,
        row.open,
        row.has_checkpoint,
        row.has_parents,
        row.has_result,
        len(worker_id),
        len(instance_id),
        len(error),
        len(progress),
        len(result),
    )
    return head + worker_id + instance_id + error + progress + result + row.events


def unpacked(columns: Sequence[Any], terms: bytes, course: bytes) -> TaskRow:
    """The row of these columns and of what was packed of the other fields; it counts as told."""
    *head, worker, instance, error, progress, result = _COURSE.unpack_from(course)
    parts, end = [], _COURSE.size
    for length in (worker, instance, error, progress, result):
        parts.append(course[end : end + length])
        end += length
    texts = (parts[0].decode(), parts[1].decode(), *parts[2:], course[end:])
    row = TaskRow(*columns, *_TERMS.unpack(terms), *head, *texts)
    row.told_state, row.told_lane, row.told_key = row.state, row.lane_id, row.key
    row.told_bytes, row.told_priority = row.bytes, row.priority
    return row


class ReadyTask(NamedTuple):
    """A QUEUED task."""

    key: int
    number: int
    size_ms: int
    priority: int
    order_ms: int
    deadline_ms: int  # 0: none
    bytes: int


def ready_task(key: int, number: int, terms: bytes) -> ReadyTask:
    """A QUEUED task, from what `pack_terms` made of its row."""
    priority, size_ms, order_ms, deadline_ms, size = _READY.unpack_from(terms)
    return ReadyTask(key, number, size_ms, priority, order_ms, deadline_ms, size)


class Leased(NamedTuple):
    """A task at a worker."""

    number: int
    lease_id: int
    queue_id: int
    lane_id: int
    attempt: int
    lease_ms: int
    timeout_ms: int  # 0: none
    size_ms: int
    priority: int
    start_ms: int
    worker_id: str
    instance_id: str
    has_checkpoint: bool
    has_parents: bool
    bytes: int
    ready_ms: int


class Settled(NamedTuple):
    """The end of a lease: an outcome, a loss or a cancellation."""

    number: int
    lease_id: int
    lane_id: int
    state: int  # it led to
    worker_id: str
    run_ms: int
    reason: str
    wait_ms: int  # from QUEUED to leased
    total_ms: int  # from submitted to now if the task has ended, else 0


@dataclass(frozen=True, slots=True)
class Size:
    """What was learned of run times: exponentially weighted mean and mean absolute deviation."""

    count: int
    mean_ms: float
    deviation_ms: float


class Counts(NamedTuple):
    """The tasks of a queue, by state, and the bytes of those that have not ended."""

    queued: int = 0
    blocked: int = 0
    delayed: int = 0
    leased: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    dead_lettered: int = 0
    bytes: int = 0
    submitted: int = 0  # ever

    def to_proto(self) -> task_pb2.TaskCounts:
        """As the API shows it."""
        return task_pb2.TaskCounts(
            queued=self.queued,
            blocked=self.blocked,
            delayed=self.delayed,
            leased=self.leased,
            succeeded=self.succeeded,
            failed=self.failed,
            cancelled=self.cancelled,
            expired=self.expired,
            dead_lettered=self.dead_lettered,
        )


@dataclass(slots=True)
class LaneRow:
    """The tasks of one queue that are alike for placement and limits. `demand` is never changed."""

    id: int  # never given to another lane
    queue_id: int
    demand: command_pb2.Demand
    tasks: int = 0  # that have not ended
    idle_ms: int = 0  # since when there are none; 0 while there are some
    type: str = field(init=False)

    def __post_init__(self) -> None:
        self.type = self.demand.type


@dataclass(slots=True)
class TaskQueueRow:
    """What a queue of kind TASK holds. Invariant: `counts` are of the tasks that are not dead."""

    queue_id: int
    counts: list[int] = field(default_factory=lambda: [0] * STATES)  # by state
    waiting_bytes: int = 0
    leased_bytes: int = 0
    submitted: int = 0  # ever
    forgettable: int = 0  # ended, and of no workflow
    over_ms: int = 0  # since when these are more than are to be remembered; 0: they are not
    purged: int = 0  # tasks that wait since this stamp or longer are dead
    retired_lane: int = 0  # lanes up to this one take no more tasks
    reordered: int = 0  # up to this number waiting tasks are in the order of the policy
    reorder_until: int = 0  # 0: all are

    @property
    def unended(self) -> int:
        return sum(self.counts[QUEUED:SUCCEEDED])

    @property
    def bytes(self) -> int:
        """Of the tasks that have not ended."""
        return self.waiting_bytes + self.leased_bytes

    def note_surplus(self, max_ended: int, time_ms: int) -> None:
        """`forgettable` has changed, or how many are to be remembered."""
        self.over_ms = 0 if self.forgettable <= max_ended else self.over_ms or time_ms

    def shown(self) -> Counts:
        """The counts under their names."""
        by_state = (*self.counts[QUEUED : LEASED + 1], *self.counts[SUCCEEDED:])
        return Counts._make((*by_state, self.bytes, self.submitted))
