"""Messages that were asked for once, without a stream: their lease ends unless it is extended."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from taskraft import _limits
from taskraft._calls import call
from taskraft._message import Batch, Message
from taskraft._times import duration
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from taskraft._pool import Pool
    from taskraft._ranges import Range


class Pulled:
    """What one `pull` delivered, leased together until acknowledged, given back, or the queue's ack deadline.

    Each method is one call to the broker. LeaseLost: some of the messages are not leased to this pull any more; the
    others were settled all the same.
    """

    lease_id: str
    batches: list[Batch]

    def __init__(
        self, pool: Pool, queue: str, group: str, response: queue_pb2.PullResponse, timeout_s: float
    ) -> None:
        self._pool = pool
        self._queue, self._group = f"queues/{queue}", group
        self._timeout_s = timeout_s
        self.lease_id = response.lease_id
        self.batches = [Batch(self, delivery) for delivery in response.deliveries]

    @property
    def messages(self) -> list[Message]:
        """The messages, oldest first; empty if there was none in time."""
        return [message for batch in self.batches for message in batch.messages]

    def bodies(self) -> list[bytes]:
        return [body for batch in self.batches for body in batch.bodies()]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    async def ack(self) -> None:
        """All messages are done: returns when that is stored on a majority of the nodes."""
        await self._acknowledge(self._ranges())

    async def nack(self, delay: float = 0.0) -> None:
        """Deliver all messages again, after `delay` seconds."""
        await self._reject(self._ranges(), delay)

    async def reject(self) -> None:
        """Deliver none of the messages again: they go to the dead-letter queue, or are gone if there is none."""
        await self._reject(self._ranges(), dead_letter=True)

    async def extend(self, seconds: float) -> None:
        """The lease of all messages ends in `seconds` from now."""
        for ranges in _parts(self._ranges()):
            request = queue_pb2.ModifyAckDeadlineRequest(
                queue=self._queue,
                group=self._group,
                lease_id=self.lease_id,
                ranges=ranges,
                ack_deadline=duration(seconds),
            )
            answer = queue_pb2.ModifyAckDeadlineResponse.FromString
            await call(
                self._pool, "QueueService/ModifyAckDeadline", request, answer, timeout_s=self._timeout_s
            )

    def note_ack(self, first: int, last: int) -> bool:
        """See Message.ack; here each one is a call that returns when it is stored."""
        return False

    async def settle_ack(self, first: int, last: int) -> None:
        """See Message.ack."""
        await self._acknowledge([queue_pb2.SequenceRange(first=first, last=last)])

    async def settle_nack(self, first: int, last: int, *, delay: float) -> None:
        """See Message.nack."""
        await self._reject([queue_pb2.SequenceRange(first=first, last=last)], delay)

    def lease_name(self) -> tuple[str, str, str]:
        """See Lease."""
        return self._queue, self._group, self.lease_id

    def enlist(self, ranges: Iterable[Range]) -> None:
        """See Lease; the broker alone knows what this holds."""

    def delist(self, ranges: Iterable[Range], *, done: bool) -> None:
        """See Lease."""

    async def renewed(self, lease_id: str, ranges: Iterable[Range], timeout_s: float) -> bool:
        """See Lease; a pull has one lease id for good."""
        return False

    async def settle_reject(self, first: int, last: int) -> None:
        """See Message.reject."""
        await self._reject([queue_pb2.SequenceRange(first=first, last=last)], dead_letter=True)

    def _ranges(self) -> list[queue_pb2.SequenceRange]:
        return [
            queue_pb2.SequenceRange(first=batch.first_sequence, last=batch.last_sequence)
            for batch in self.batches
        ]

    async def _acknowledge(self, ranges: Sequence[queue_pb2.SequenceRange]) -> None:
        for part in _parts(ranges):
            request = queue_pb2.AcknowledgeRequest(
                queue=self._queue,
                group=self._group,
                lease_id=self.lease_id,
                ranges=part,
                request_id=uuid.uuid4().hex,
            )
            answer = queue_pb2.AcknowledgeResponse.FromString
            await call(self._pool, "QueueService/Acknowledge", request, answer, timeout_s=self._timeout_s)

    async def _reject(
        self, ranges: Sequence[queue_pb2.SequenceRange], delay: float = 0.0, *, dead_letter: bool = False
    ) -> None:
        for part in _parts(ranges):
            request = queue_pb2.RejectRequest(
                queue=self._queue,
                group=self._group,
                lease_id=self.lease_id,
                ranges=part,
                delay=duration(delay),
                dead_letter=dead_letter,
            )
            await call(
                self._pool,
                "QueueService/Reject",
                request,
                queue_pb2.RejectResponse.FromString,
                timeout_s=self._timeout_s,
            )


def _parts(ranges: Sequence[queue_pb2.SequenceRange]) -> Iterator[Sequence[queue_pb2.SequenceRange]]:
    for start in range(0, len(ranges), _limits.RANGES_MAX):
        yield ranges[start : start + _limits.RANGES_MAX]
