"""The rows of the store as values."""

from dataclasses import dataclass, replace
from typing import Self

from google.protobuf import duration_pb2, timestamp_pb2

from taskraft.v1 import queue_pb2


def timestamp(time_ms: int) -> timestamp_pb2.Timestamp:
    """A time in milliseconds since 1970 as the API says it."""
    return timestamp_pb2.Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)


def duration(length_ms: int) -> duration_pb2.Duration:
    """A length of time in milliseconds as the API says it."""
    return duration_pb2.Duration(seconds=length_ms // 1000, nanos=length_ms % 1000 * 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue as of the last applied entry.

    Invariants: 0 <= watermark < next_sequence; messages is the number of live messages, bytes the sum of the live
    bytes of its chunks. `config` holds the settings with all defaults filled in and is never changed.
    """

    id: int  # never given to another queue
    name: str  # `queues/{queue}`
    uid: str
    etag: str
    config: queue_pb2.Queue
    create_ms: int
    update_ms: int
    backlog: int  # names the queue's chunks; a purge gives the queue a new one
    next_sequence: int = 1  # of the next message published
    watermark: int = 0  # all up to this sequence were delivered at least once
    messages: int = 0
    bytes: int = 0

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
        return queue


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """The messages of one publish that are not all acknowledged.

    The messages have the sequences `first_sequence` to `last_sequence`; bit i of `acked` is set if message
    `first_sequence + i` is gone. `Machine.chunk(log_index, ordinal)` gives the encoded Chunk, always whole.
    Invariant: 1 <= live <= count, and live is the number of clear bits.
    """

    first_sequence: int
    count: int
    live: int
    log_index: int
    ordinal: int
    bytes: int  # of the whole encoded chunk
    time_ms: int  # when it was published
    acked: int

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
