"""What applying a command did: one frozen value per command, the same on every node.

A `Refused` changed nothing. All others did what was asked, now or, for a repeated request, the first time. The
bytes of `encode` are kept with a request_id, so their format is part of the store.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

from taskraft.v1 import queue_pb2, schedule_pb2


class Code(IntEnum):
    """The google.rpc.Code of a refusal."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    INTERNAL = 13


@dataclass(frozen=True, slots=True)
class QueueResult:
    """A queue was created, changed, or was there already with these settings. `queue` is never changed."""

    queue: queue_pb2.Queue


@dataclass(frozen=True, slots=True)
class Purged:
    """A queue was emptied of `count` messages."""

    count: int


@dataclass(frozen=True, slots=True)
class Published:
    """`count` messages were stored, `delayed` of which wait for their time; the others begin with `first_sequence`.

    `first_sequence` is 0 if there are no others, and for a topic. `duplicate` says that this happened at an earlier call;
    all numbers are 0 if that was too long ago to know. `dropped` older messages made room. `queues` got them.
    """

    first_sequence: int
    count: int
    duplicate: bool = False
    dropped: int = 0
    delayed: int = 0
    queues: int = 1


@dataclass(frozen=True, slots=True)
class Acked:
    """`count` messages were removed; fewer than asked for if some were gone already."""

    count: int


@dataclass(frozen=True, slots=True)
class Moved:
    """`count` messages were moved to another queue, or removed for want of one; a Redrive goes on with `next_sequence`."""

    count: int
    next_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was done with each task of a submit: its full name and a SubmitOutcome, in their order."""

    outcomes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Granted:
    """Tasks were leased, but these, by number, which were not QUEUED any more."""

    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """Leases were ended, or heard of, but these, by id, which were not current any more."""

    refused: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many tasks, or runs of messages, were looked at; there may be more to do now if that is the limit that was given."""

    count: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """So many tasks were cancelled."""

    count: int


@dataclass(frozen=True, slots=True)
class Retried:
    """So many tasks have new attempts."""

    count: int


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """A schedule was created, changed, or was there already with these settings. `schedule` is never changed."""

    schedule: schedule_pb2.Schedule


@dataclass(frozen=True, slots=True)
class GroupResult:
    """A consumer group was created or moved, or is there already. `group` is never changed."""

    group: queue_pb2.ConsumerGroup


@dataclass(frozen=True, slots=True)
class Triggered:
    """A schedule's task was submitted under that full name."""

    task: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lock was asked for, by the claim of that number: it was granted, or waits."""

    number: int


@dataclass(frozen=True, slots=True)
class Committed:
    """All commands of a transaction were carried out, now or, if it is a `duplicate`, at an earlier call."""

    results: "tuple[Success, ...]"
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A command without an answer was carried out."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The command changed nothing. `reason` and `metadata` are those of the ErrorInfo that the caller gets."""

    code: Code
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)


Success: TypeAlias = (
    QueueResult
    | Purged
    | Published
    | Acked
    | Moved
    | Done
    | Submitted
    | Granted
    | Settlement
    | Advanced
    | Cancelled
    | Retried
    | ScheduleResult
    | GroupResult
    | Triggered
    | Claimed
    | Committed
)
Result: TypeAlias = Success | Refused

_COUNT: Final = struct.Struct("<Q")
_PUBLICATION: Final = struct.Struct("<QIQ")
_WIDE_PUBLICATION: Final = struct.Struct("<QIQII")
_LENGTH: Final = struct.Struct("<I")

_PLAIN: Final[dict[bytes, type[Purged | Acked | Advanced | Cancelled | Retried]]] = {
    b"U": Purged,
    b"A": Acked,
    b"V": Advanced,
    b"C": Cancelled,
    b"R": Retried,
}
"""Results that are one number."""


def encode(result: Success) -> bytes:
    """The bytes of a result, for `decode`."""
    match result:
        case QueueResult(queue):
            return b"Q" + queue.SerializeToString(deterministic=True)
        case Published(first_sequence, count, _, dropped, 0, 1):
            return b"P" + _PUBLICATION.pack(first_sequence, count, dropped)
        case Published(first_sequence, count, _, dropped, delayed, queues):
            return b"W" + _WIDE_PUBLICATION.pack(first_sequence, count, dropped, delayed, queues)
        case Submitted(outcomes):
            return b"S" + _pack_outcomes(outcomes)
        case Granted(numbers):
            return b"G" + b"".join(map(_COUNT.pack, numbers))
        case Settlement(lease_ids):
            return b"L" + b"".join(map(_COUNT.pack, lease_ids))
        case ScheduleResult(schedule):
            return b"H" + schedule.SerializeToString(deterministic=True)
        case GroupResult(group):
            return b"O" + group.SerializeToString(deterministic=True)
        case Triggered(task):
            return b"T" + task.encode()
        case Claimed(number):
            return b"K" + _COUNT.pack(number)
        case Committed(results):
            parts = [encode(one) for one in results]
            return b"X" + b"".join(_LENGTH.pack(len(part)) + part for part in parts)
        case Moved(count, next_sequence):
            return b"M" + _COUNT.pack(count) + _COUNT.pack(next_sequence)
        case Done():
            return b"D"
    (kind,) = (kind for kind, made in _PLAIN.items() if made is type(result))
    return kind + _COUNT.pack(result.count)


def decode(encoded: bytes) -> Success:
    """The result of a repeated request; a `Published` says that it is a duplicate."""
    kind, content = encoded[:1], encoded[1:]
    if plain := _PLAIN.get(kind):
        return plain(*_COUNT.unpack(content))
    match kind:
        case b"P":
            first_sequence, count, dropped = _PUBLICATION.unpack(content)
            return Published(first_sequence, count, duplicate=True, dropped=dropped)
        case b"W":
            first_sequence, count, dropped, delayed, queues = _WIDE_PUBLICATION.unpack(content)
            return Published(first_sequence, count, True, dropped, delayed, queues)
        case b"M":
            return Moved(*(number for (number,) in _COUNT.iter_unpack(content)))
        case b"Q":
            return QueueResult(queue_pb2.Queue.FromString(content))
        case b"S":
            return Submitted(_unpack_outcomes(content))
        case b"G":
            return Granted(tuple(number for (number,) in _COUNT.iter_unpack(content)))
        case b"L":
            return Settlement(tuple(lease_id for (lease_id,) in _COUNT.iter_unpack(content)))
        case b"H":
            return ScheduleResult(schedule_pb2.Schedule.FromString(content))
        case b"O":
            return GroupResult(queue_pb2.ConsumerGroup.FromString(content))
        case b"T":
            return Triggered(content.decode())
        case b"K":
            return Claimed(*_COUNT.unpack(content))
        case b"X":
            return Committed(tuple(_unpack_results(content)), duplicate=True)
    assert kind == b"D"
    return Done()


def _unpack_results(packed: bytes) -> Iterator[Success]:
    at = 0
    while at < len(packed):
        (size,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size + size
        yield decode(packed[at - size : at])


def _pack_outcomes(outcomes: tuple[tuple[str, int], ...]) -> bytes:
    """One byte per outcome, then the names, whose common beginning is written once: ours differ in their ends."""
    names = [name for name, _ in outcomes]
    common = os.path.commonprefix(names)  # noqa: RUF071 - character by character is what is meant
    rest = "\n".join([common, *(name[len(common) :] for name in names)])
    return _LENGTH.pack(len(outcomes)) + bytes(outcome for _, outcome in outcomes) + rest.encode()


def _unpack_outcomes(packed: bytes) -> tuple[tuple[str, int], ...]:
    (count,) = _LENGTH.unpack_from(packed)
    after = _LENGTH.size + count
    common, *rest = packed[after:].decode().split("\n")
    return tuple(
        (common + end, outcome) for end, outcome in zip(rest, packed[_LENGTH.size : after], strict=True)
    )


def queue_not_found(name: str) -> Refused:
    """There is no such queue, or not the one that was meant."""
    return Refused(Code.NOT_FOUND, "QUEUE_NOT_FOUND", f"there is no queue {name}", {"queue": name})


def task_not_found(name: str) -> Refused:
    """There is no such task, or it is forgotten."""
    return Refused(Code.NOT_FOUND, "TASK_NOT_FOUND", f"there is no task {name}", {"task": name})


def workflow_not_found(name: str) -> Refused:
    """There is no such workflow, or it is forgotten."""
    return Refused(Code.NOT_FOUND, "WORKFLOW_NOT_FOUND", f"there is no workflow {name}", {"workflow": name})


def schedule_not_found(name: str) -> Refused:
    """There is no such schedule."""
    return Refused(Code.NOT_FOUND, "SCHEDULE_NOT_FOUND", f"there is no schedule {name}", {"schedule": name})


def wrong_queue_kind(name: str, kind: str) -> Refused:
    """The queue does not hold what the command is about."""
    return Refused(
        Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND", f"{name} is not a queue of {kind}", {"queue": name}
    )


def lease_lost(name: str) -> Refused:
    """Messages are done already that should not be."""
    message = f"some of these messages of {name} are gone"
    return Refused(Code.ABORTED, "LEASE_LOST", message, {"queue": name})
