"""Messages as they are received: made when they are looked at, out of the batch that brought them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from taskraft._queue_values import dead_letter
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskraft._queue_values import DeadLetter
    from taskraft._ranges import Range


class Lease(Protocol):
    """Who delivered a message and takes what became of it."""

    def note_ack(self, first: int, last: int) -> bool:
        """Take an acknowledgement without waiting; False if that takes a call."""
        ...

    async def settle_ack(self, first: int, last: int) -> None: ...
    async def settle_nack(self, first: int, last: int, *, delay: float) -> None: ...
    async def settle_reject(self, first: int, last: int) -> None: ...

    def lease_name(self) -> tuple[str, str, str]:
        """What a transaction calls the lease now: full name of the queue, consumer group, lease id."""
        ...

    def enlist(self, ranges: Iterable[Range]) -> None:
        """A transaction that settles these messages is on its way."""
        ...

    def delist(self, ranges: Iterable[Range], *, done: bool) -> None:
        """It is `done`, or has failed: then they are held as before."""
        ...

    async def renewed(self, lease_id: str, ranges: Iterable[Range], timeout_s: float) -> bool:
        """True if these messages, which that lease does not have any more, are held by another one of this consumer."""
        ...


class Message:
    """A message that is leased to this consumer until it is acknowledged, given back or lost."""

    __slots__ = ("_batch", "_content", "sequence")

    sequence: int

    def __init__(self, batch: Batch, content: queue_pb2.Message, sequence: int) -> None:
        self._batch = batch
        self._content = content
        self.sequence = sequence  # in the queue: ascending, never used twice

    @property
    def lease(self) -> Lease:
        return self._batch.lease

    @property
    def span(self) -> Range:
        return self.sequence, self.sequence

    @property
    def body(self) -> bytes:
        return self._content.body

    @property
    def headers(self) -> Mapping[str, str]:
        return self._content.headers

    @property
    def key(self) -> str:
        """What it is about; empty if it does not say."""
        return self._content.key

    @property
    def priority(self) -> int:
        """0 to 9."""
        return self._content.priority

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where it comes from, and why, if it is a dead letter."""
        return self._batch.dead_letter

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included, as far as is known."""
        return self._batch.attempt

    @property
    def publish_time(self) -> datetime:
        return self._batch.publish_time

    async def ack(self, *, confirm: bool = False) -> None:
        """The message is done.

        Returns at once; acknowledgements travel together. With `confirm` it returns when this one is stored on a
        majority of the nodes, or raises LeaseLost or CommitUnknown if the message may be delivered again.
        """
        lease, sequence = self._batch.lease, self.sequence
        if confirm or not lease.note_ack(sequence, sequence):
            await lease.settle_ack(sequence, sequence)

    async def nack(self, delay: float = 0.0) -> None:
        """Deliver the message again, after `delay` seconds."""
        await self._batch.lease.settle_nack(self.sequence, self.sequence, delay=delay)

    async def reject(self) -> None:
        """Deliver the message never again: it goes to the dead-letter queue, or is gone if there is none."""
        await self._batch.lease.settle_reject(self.sequence, self.sequence)

    def __repr__(self) -> str:
        return f"Message(sequence={self.sequence}, attempt={self.attempt}, body={self.body[:40]!r})"


class Batch:
    """Messages with successive sequences that were published and delivered together."""

    __slots__ = ("_delivery", "_messages", "attempt", "first_sequence", "lease", "wire_bytes")

    first_sequence: int
    attempt: int

    def __init__(self, lease: Lease, delivery: queue_pb2.Delivery) -> None:
        self.lease = lease
        self.first_sequence = delivery.first_sequence
        self.attempt = delivery.attempt
        self.wire_bytes = delivery.ByteSize()  # what the broker counts against credit
        self._delivery = delivery
        self._messages: list[Message] | None = None

    def __len__(self) -> int:
        return len(self._delivery.messages)

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + len(self) - 1

    @property
    def span(self) -> Range:
        return self.first_sequence, self.last_sequence

    @property
    def publish_time(self) -> datetime:
        return self._delivery.publish_time.ToDatetime(UTC)

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where the messages come from, and why, if they are dead letters."""
        delivery = self._delivery
        return dead_letter(delivery.dead_letter) if delivery.HasField("dead_letter") else None

    @property
    def messages(self) -> list[Message]:
        """The messages, in order. A caller that needs no more than the bodies is faster with `bodies`."""
        if self._messages is None:
            contents = self._delivery.messages
            sequences = range(self.first_sequence, self.first_sequence + len(contents))
            self._messages = [
                Message(self, content, sequence)
                for content, sequence in zip(contents, sequences, strict=True)
            ]
        return self._messages

    def bodies(self) -> list[bytes]:
        return [content.body for content in self._delivery.messages]

    async def ack(self, *, confirm: bool = False) -> None:
        """All messages of the batch are done; as `Message.ack`."""
        if confirm or not self.lease.note_ack(self.first_sequence, self.last_sequence):
            await self.lease.settle_ack(self.first_sequence, self.last_sequence)

    async def nack(self, delay: float = 0.0) -> None:
        """Deliver all messages of the batch again, after `delay` seconds."""
        await self.lease.settle_nack(self.first_sequence, self.last_sequence, delay=delay)

    async def reject(self) -> None:
        """Deliver none of the messages again; as `Message.reject`."""
        await self.lease.settle_reject(self.first_sequence, self.last_sequence)

    def cut(self, first: int, last: int) -> Batch:
        """The part of this batch from `first` to `last`, as a batch."""
        start, end = first - self.first_sequence, last - self.first_sequence + 1
        part = _head(self._delivery)
        part.first_sequence = first
        part.messages.extend(self._delivery.messages[start:end])
        return Batch(self.lease, part)

    def __repr__(self) -> str:
        return f"Batch({len(self)} messages from {self.first_sequence}, attempt={self.attempt})"


def _head(delivery: queue_pb2.Delivery) -> queue_pb2.Delivery:
    """A delivery without its messages."""
    head = queue_pb2.Delivery(
        first_sequence=delivery.first_sequence,
        attempt=delivery.attempt,
        publish_time=delivery.publish_time,
        lease_expire_time=delivery.lease_expire_time,
    )
    if delivery.HasField("dead_letter"):
        head.dead_letter.CopyFrom(delivery.dead_letter)
    return head


def kept(batch: Batch, lost: list[Range]) -> list[Batch]:
    """What of a batch is left without the ranges that are lost."""
    parts, start, end = [], batch.first_sequence, batch.last_sequence
    for first, last in lost:
        if last < start or first > end:
            continue
        if first > start:
            parts.append(batch.cut(start, first - 1))
        start = last + 1
    if start == batch.first_sequence:
        return [batch]
    return [*parts, batch.cut(start, end)] if start <= end else parts
