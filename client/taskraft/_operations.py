"""What a transaction is to do, gathered call by call: one operation for all messages of a queue, all acknowledgements
of one consumer, all tasks. Each becomes the wire bytes of Operations and reads its results back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from taskraft import _limits
from taskraft._ranges import Ranges
from taskraft._task_values import OUTCOMES, Submission
from taskraft._values import Receipt
from taskraft._wire import varint
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from taskraft._message import Lease

Result = Receipt | Submission | None
"""What came of one call of a transaction."""

_OPERATIONS_KEY = bytes([queue_pb2.CommitRequest.OPERATIONS_FIELD_NUMBER << 3 | 2])


class Operation(Protocol):
    """One part of a transaction."""

    turn: ClassVar[int]
    """Preconditions come first, then what is settled: so the broker knows earlier of most refusals."""

    def wire(self) -> list[bytes]:
        """It as one or more elements of CommitRequest.operations."""
        ...


def element(kind: str, content: bytes) -> bytes:
    """An Operation of that kind with that content, as an element of CommitRequest.operations."""
    key = queue_pb2.Operation.DESCRIPTOR.fields_by_name[kind].number << 3 | 2
    inner = bytes([key]) + varint(len(content))
    return b"".join((_OPERATIONS_KEY, varint(len(inner) + len(content)), inner, content))


class Publishing:
    """Messages for one queue or topic, in order."""

    turn: ClassVar[int] = 2

    def __init__(self, target: str, *, allow_unroutable: bool) -> None:
        self._head = queue_pb2.PublishOperation(
            queue=target, allow_unroutable=allow_unroutable
        ).SerializeToString()
        self._is_topic = target.startswith("topics/")
        self._wires: list[bytes] = []
        self.count = 0

    def add(self, wire: bytes, count: int) -> int:
        """Take messages; how many there were before."""
        before = self.count
        self._wires.append(wire)
        self.count += count
        return before

    def wire(self) -> list[bytes]:
        return [element("publish", b"".join((self._head, *self._wires)))]

    def receipt(self, answer: queue_pb2.OperationResult, before: int, count: int) -> Receipt:
        """What became of `count` messages that had `before` others before them."""
        stored = answer.publish
        queues = stored.queues if self._is_topic else 1
        if count == stored.count:
            return Receipt(stored.first_sequence, count, False, stored.delayed, queues)
        first = stored.first_sequence + before if stored.first_sequence else 0
        return Receipt(first, count, queues=queues)


class Settling:
    """Messages of one lease that are done, or are to go to the dead-letter queue (`kind` "reject")."""

    turn: ClassVar[int] = 1

    def __init__(self, kind: str, lease: Lease) -> None:
        self.lease = lease
        self.ranges = Ranges()
        self.lease_id = ""
        """As it was written last."""
        self._kind = kind

    def wire(self) -> list[bytes]:
        queue, group, self.lease_id = self.lease.lease_name()
        ranges = [queue_pb2.SequenceRange(first=first, last=last) for first, last in self.ranges]
        parts = [
            queue_pb2.AcknowledgeOperation(
                queue=queue,
                group=group,
                lease_id=self.lease_id,
                ranges=ranges[start : start + _limits.RANGES_MAX],
            )
            for start in range(0, len(ranges), _limits.RANGES_MAX)
        ]
        return [element(self._kind, part.SerializeToString()) for part in parts]


class Submitting:
    """Tasks, in order."""

    turn: ClassVar[int] = 2

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._wires: list[bytes] = []

    def add(self, task_id: str, wire: bytes) -> int:
        """Take a task, as an element of SubmitTasksRequest.tasks; how many there were before."""
        self._ids.append(task_id)
        self._wires.append(wire)
        return len(self._ids) - 1

    def wire(self) -> list[bytes]:
        return [element("submit_tasks", b"".join(self._wires))]

    def submission(self, answer: queue_pb2.OperationResult, place: int) -> Submission:
        outcome = answer.submit_tasks.tasks[place].outcome
        return Submission(self._ids[place], OUTCOMES[max(0, outcome - 1)])


class Plain:
    """An operation that is written already: a precondition, or the end of a task."""

    turn: ClassVar[int] = 0

    def __init__(self, kind: str, content: bytes) -> None:
        self._element = element(kind, content)

    def wire(self) -> list[bytes]:
        return [self._element]
