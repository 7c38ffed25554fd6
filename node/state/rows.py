"""The rows of the store as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Self, TypeAlias

from google.protobuf import duration_pb2, timestamp_pb2

from taskraft.v1 import queue_pb2

Encoded: TypeAlias = bytes
"""An encoded protobuf message."""


def timestamp(time_ms: int) -> timestamp_pb2.Timestamp:
    """A time in milliseconds since 1970 as the API says it."""
    return timestamp_pb2.Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)


def duration(length_ms: int) -> duration_pb2.Duration:
    """A length of time in milliseconds as the API says it."""
    return duration_pb2.Duration(seconds=length_ms // 1000, nanos=length_ms % 1000 * 1_000_000)


class Line(NamedTuple):
    """The messages of one priority above 0 of a queue: what `backlog` and `watermark` of a QueueRow are for priority 0."""

    backlog: int
    watermark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What a queue has that not all its messages treats alike, or to which time brings something."""

    lines: Mapping[int, Line] = field(default_factory=dict)  # by priority
    delay_backlog: int = 0  # names the chunks whose time has not come; 0: there never was one
    next_delayed: int = 1  # number of the next delayed message
    delayed_messages: int = 0
    delayed_bytes: int = 0
    age_ms: int = 0  # nobody looks for messages that are older than max_age before this time


PLAIN: Final = Extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue as of the last applied entry.

    Invariants: 0 <= watermark < next_sequence; messages is the number of live messages of all priorities, bytes the sum of
    the live bytes of their chunks. `config` holds the settings with all defaults filled in and is never changed.
    """

    id: int  # never given to another queue
    name: str  # `queues/{queue}`
    uid: str
    etag: str
    config: queue_pb2.Queue
    create_ms: int
    update_ms: int
    backlog: int  # names the queue's chunks of priority 0; a purge gives the queue a new one
    next_sequence: int = 1  # of the next message that comes into the queue
    watermark: int = 0  # all of priority 0 up to this sequence were delivered at least once
    messages: int = 0
    bytes: int = 0
    extra: Extra = PLAIN

    def backlogs(self) -> list[int]:
        """The backlogs of what can be delivered, lowest priority first."""
        lines = self.extra.lines
        return [self.backlog, *(lines[priority].backlog for priority in sorted(lines))]

    def line(self, priority: int) -> Line | None:
        """The messages of a priority; None if there never was one above 0."""
        return self.extra.lines.get(priority) if priority else Line(self.backlog, self.watermark)

    def holding(self, messages: int, size: int, next_sequence: int | None = None) -> Self:
        """This queue with so many live messages and bytes. Spelled out: it runs for every publish and every ack."""
        return type(self)(
            id=self.id,
            name=self.name,
            uid=self.uid,
            etag=self.etag,
            config=self.config,
            create_ms=self.create_ms,
            update_ms=self.update_ms,
            backlog=self.backlog,
            next_sequence=next_sequence or self.next_sequence,
            watermark=self.watermark,
            messages=messages,
            bytes=size,
            extra=self.extra,
        )

    def to_proto(self) -> queue_pb2.Queue:
        """The queue as the API shows it, with the statistics that the state knows."""
        queue = queue_pb2.Queue()
        queue.CopyFrom(self.config)
        queue.name, queue.uid, queue.etag = self.name, self.uid, self.etag
        queue.create_time.CopyFrom(timestamp(self.create_ms))
        queue.update_time.CopyFrom(timestamp(self.update_ms))
        queue.stats.messages, queue.stats.bytes = self.messages, self.bytes
        queue.stats.published_messages = self.next_sequence - 1
        queue.stats.delayed_messages = self.extra.delayed_messages
        queue.stats.delayed_bytes = self.extra.delayed_bytes
        return queue


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """Successive messages of one publish that are not all acknowledged.

    The messages have the sequences `first_sequence` to `last_sequence`; bit i of `acked` is set if message
    `first_sequence + i` is gone. `Machine.chunk(log_index, ordinal)` gives the encoded Chunk that they came with, always
    whole: the first of these is the message number `offset` (0 = the first) of it. Several rows may be parts of one Chunk,
    or the same part. Invariant: 1 <= live <= count, and live is the number of clear bits.
    """

    first_sequence: int
    count: int
    live: int
    log_index: int
    ordinal: int
    bytes: int  # of these messages encoded, gone ones included
    time_ms: int  # when they came into the queue
    acked: int
    offset: int = 0
    dead_letter: Encoded = b""  # taskraft.v1.DeadLetter of the first; source_sequence of the others goes on
    estimated: bool = False  # True if `bytes` is the share of a part cut out of a longer row

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.count - 1

    def without(self, first: int, last: int) -> Self:
        """This chunk when first..last are gone; it may overlap them in part."""
        first, last = max(first, self.first_sequence), min(last, self.last_sequence)
        gone = self.acked | ((1 << last - first + 1) - 1) << first - self.first_sequence
        return replace(self, acked=gone, live=self.count - gone.bit_count())

    def live_run(self, first: int, last: int) -> tuple[int, int] | None:
        """The first run of live messages within first..last, which lies within the chunk."""
        if not self.acked:
            return first, last
        gone = self.acked >> (first - self.first_sequence)
        skipped = (~gone & (gone + 1)).bit_length() - 1
        first += skipped
        if first > last:
            return None
        gone >>= skipped
        if gone:
            last = min(last, first + (gone & -gone).bit_length() - 2)
        return first, last


@dataclass(frozen=True, slots=True)
class ProducerRow:
    """What is remembered of a producer: the last batch stored, and the packed results of the latest ones."""

    id: str
    last_sequence: int
    time_ms: int
    results: bytes
