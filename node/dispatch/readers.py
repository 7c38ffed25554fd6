"""Who reads a stream from a position on: no leases, no acknowledgements, only credit and what comes next.

A reader costs a page of chunk rows and one parcel, however far behind it is. What many readers of a long backlog ask for is
gathered in rounds, so that the event loop serves others between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from node import limits
from node.clock import Clock
from node.dispatch.ledger import Range
from node.dispatch.meter import Meter
from node.dispatch.shelf import Chunks, Run, Shelf
from node.dispatch.takers import Consumer, Parcel
from node.errors import ApiError, InvalidField, QueueNotFound
from node.state.rows import QueueRow, timestamp
from taskraft.v1 import queue_pb2


@dataclass(slots=True, eq=False, kw_only=True)
class Reader(Consumer):
    """One Consume stream without a group. `at` is the sequence that it gets next, if that is still there."""

    at: int
    shelf: Shelf
    caught_up: bool = False
    """It was told once that it has had everything."""


class Readers:
    """All readers of one stream. Lives on the leader only, from the first of them on.

    `touch` is called with self whenever `pump` has something to do.
    """

    def __init__(
        self,
        row: QueueRow,
        store: Chunks,
        *,
        clock: Clock,
        meter: Meter,
        touch: Callable[[Readers], None],
    ) -> None:
        self.row = row
        self.id = row.id
        self.next_sequence = row.next_sequence
        self.consumers: dict[str, Reader] = {}
        self._store, self._clock, self._meter = store, clock, meter
        self._touch = partial(touch, self)
        self._turns: dict[str, Reader] = {}  # for whom there may be something, in the order of their turns

    # Streams ------------------------------------------------------------------------------------------------------

    def join(self, holder: str, name: str, at: int) -> Reader:
        """A stream begins to read at `at`."""
        reader = Reader(holder, name, at=at, shelf=Shelf(self._store, self.row.id))
        self.consumers[holder] = reader
        return reader

    def leave(self, reader: Consumer) -> None:
        """A stream has ended."""
        self.consumers.pop(reader.holder, None)
        self._turns.pop(reader.holder, None)

    def credit(self, reader: Consumer, messages: int, size: int) -> None:
        """More may be delivered; a stream that never gives bytes is not limited by them."""
        reader.add_credit(messages, size)
        self._turn(reader)

    def sent(self, reader: Consumer) -> None:
        """The parcel that waited was written."""
        reader.sent()
        self._turn(reader)

    def ack(self, reader: Consumer, ranges: Iterable[Range]) -> None:
        raise InvalidField("ack", "sent in a group only: a reader leases nothing and acknowledges nothing")

    def nack(self, reader: Consumer, ranges: Iterable[Range], delay_ms: int) -> None:
        raise InvalidField("nack", "sent in a group only: a reader leases nothing and gives nothing back")

    def refuse(self, reader: Consumer, ranges: Iterable[Range]) -> None:
        self.nack(reader, ranges, 0)

    def _turn(self, reader: Consumer) -> None:
        if reader.holder in self.consumers:
            self._turns[reader.holder] = self.consumers[reader.holder]
            self._touch()

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, first: int, last: int, priority: int) -> None:
        self.next_sequence = last + 1
        for reader in self.consumers.values():
            reader.shelf.published()
        self._turns.update(self.consumers)
        self._touch()

    def removed(self, ranges: Iterable[Range]) -> None:
        ranges = list(ranges)
        for reader in self.consumers.values():
            reader.shelf.removed(ranges)

    def changed(self, row: QueueRow) -> None:
        self.row = row
        self._turns.update(self.consumers)
        self._touch()

    def deleted(self) -> None:
        self.abandon(QueueNotFound(f"{self.row.name} was deleted", queue=self.row.name))

    def abandon(self, error: ApiError) -> None:
        """The stream is read here no longer."""
        self.end(error)

    def end(self, error: ApiError) -> None:
        """Nothing more is delivered."""
        for reader in self.consumers.values():
            reader.close(error)

    # Delivering ---------------------------------------------------------------------------------------------------

    def pump(self) -> int | None:
        """Deliver what can be delivered now, up to the bytes of a round; returns when there is more to do, or None."""
        if self.row.config.paused:
            return None
        size = 0
        while self._turns:
            if size >= limits.READ_ROUND_BYTES:
                return self._clock.now_ms()
            holder = next(iter(self._turns))
            reader = self._turns.pop(holder)
            if reader.hungry and (parcel := self._gather(reader)):
                reader.take(parcel)
                self._meter.sent(parcel.count)
                size += parcel.size
        return None

    def _gather(self, reader: Reader) -> Parcel | None:
        """The next messages that came together, up to the reader's credit and a parcel's size."""
        messages_max, bytes_max = reader.messages_max, reader.bytes_max
        parts: list[bytes | memoryview] = []
        head: Run | None = None
        count = size = 0
        while count < messages_max and len(parts) < limits.PARCEL_CHUNKS_MAX:
            run = reader.shelf.run(reader.at, self.next_sequence - 1)
            if run is None or (head and not _goes_with(head, count, run)):
                break
            fits = reader.shelf.count_within(run, bytes_max - size)
            if not fits and parts:
                break
            taken = min(max(fits, 1), messages_max - count)
            head = head or run
            parts.append(reader.shelf.cut(run, taken))
            size += reader.shelf.size_of(run, taken)
            count += taken
            reader.at = run.first + taken
        if head is None:
            return self._all_read(reader)
        encoded = _head(head).SerializeToString()
        return Parcel(head.first, count, 1, (encoded, *parts), len(encoded) + size)

    def _all_read(self, reader: Reader) -> Parcel | None:
        """What says, once, that the reader has had everything: a delivery without messages."""
        if reader.caught_up:
            return None
        reader.caught_up = True
        reader.at = self.next_sequence
        encoded = queue_pb2.Delivery(first_sequence=reader.at).SerializeToString()
        return Parcel(reader.at, 0, 0, (encoded,), len(encoded))


def _goes_with(head: Run, count: int, run: Run) -> bool:
    """True if a run follows `count` messages of one delivery without a gap, and came soon after them."""
    follows = run.first == head.first + count
    soon = run.row.time_ms <= head.row.time_ms + limits.PARCEL_SPAN_MS
    return follows and soon and not (run.row.dead_letter or head.row.dead_letter)


def _head(run: Run) -> queue_pb2.Delivery:
    """A delivery that begins with a run, without its messages."""
    row = run.row
    head = queue_pb2.Delivery(first_sequence=run.first, attempt=1, publish_time=timestamp(row.time_ms))
    if row.dead_letter:
        head.dead_letter.ParseFromString(row.dead_letter)
        head.dead_letter.source_sequence += run.first - row.first_sequence
    return head
