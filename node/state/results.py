"""What applying a command did: one frozen value per command, the same on every node.

A `Refused` changed nothing. All others did what was asked, now or, for a repeated request, the first time. The
bytes of `encode` are kept with a request_id, so their format is part of the store.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

from taskraft.v1 import queue_pb2


class Code(IntEnum):
    """The google.rpc.Code of a refusal."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
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
    """Messages `first_sequence` to `first_sequence + count - 1` were stored.

    `duplicate` says that this happened at an earlier call; both numbers are 0 if that was too long ago to know.
    `dropped` older messages made room.
    """

    first_sequence: int
    count: int
    duplicate: bool = False
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Acked:
    """`count` messages were removed; fewer than asked for if some were gone already."""

    count: int


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


Success: TypeAlias = QueueResult | Purged | Published | Acked | Done
Result: TypeAlias = Success | Refused

_QUEUE: Final = b"Q"
_PURGED: Final = b"U"
_PUBLISHED: Final = b"P"
_ACKED: Final = b"A"
_DONE: Final = b"D"
_COUNT: Final = struct.Struct("<Q")
_PUBLICATION: Final = struct.Struct("<QIQ")


def encode(result: Success) -> bytes:
    """The bytes of a result, for `decode`."""
    match result:
        case QueueResult(queue):
            return _QUEUE + queue.SerializeToString(deterministic=True)
        case Purged(count):
            return _PURGED + _COUNT.pack(count)
        case Published(first_sequence, count, _, dropped):
            return _PUBLISHED + _PUBLICATION.pack(first_sequence, count, dropped)
        case Acked(count):
            return _ACKED + _COUNT.pack(count)
        case Done():
            return _DONE


def decode(encoded: bytes) -> Success:
    """The result of a repeated request; a `Published` says that it is a duplicate."""
    kind, content = encoded[:1], encoded[1:]
    if kind == _PUBLISHED:
        first_sequence, count, dropped = _PUBLICATION.unpack(content)
        return Published(first_sequence, count, duplicate=True, dropped=dropped)
    if kind == _ACKED:
        return Acked(*_COUNT.unpack(content))
    if kind == _PURGED:
        return Purged(*_COUNT.unpack(content))
    if kind == _QUEUE:
        return QueueResult(queue_pb2.Queue.FromString(content))
    assert kind == _DONE
    return Done()


def queue_not_found(name: str) -> Refused:
    """There is no such queue, or not the one that was meant."""
    return Refused(Code.NOT_FOUND, "QUEUE_NOT_FOUND", f"there is no queue {name}", {"queue": name})
