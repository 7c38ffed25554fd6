"""What a queue's messages look like to its dispatcher: live runs of chunks, and their bytes.

Holds a page of chunk rows and the message positions of a few chunks, whatever the backlog. `published` and
`removed` keep the page true; a message that is gone is never offered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

from node import limits, wire
from node.state.rows import ChunkRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class Chunks(Protocol):
    """The part of the state machine that delivery reads."""

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> Sequence[ChunkRow]:
        """Chunks of a priority with a live message at or above `from_sequence`, ascending, at most `limit`."""
        ...

    def priorities(self, queue_id: int) -> Mapping[int, int]:
        """For each priority above 0 that there are or were messages of: all up to this sequence were delivered."""
        ...

    def attempts(self, queue_id: int, first: int, last: int) -> Mapping[int, int]:
        """Deliveries of the messages of a range that were delivered more than once."""
        ...

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        """The encoded messages of a chunk, whole."""
        ...


class Run(NamedTuple):
    """Live messages `first` to `last`, all of the chunk of `row`."""

    first: int
    last: int
    row: ChunkRow


class Shelf:
    """The chunks of one queue and priority."""

    def __init__(self, store: Chunks, queue_id: int, priority: int = 0) -> None:
        self._store = store
        self._queue_id, self._priority = queue_id, priority
        self._rows: list[ChunkRow] = []
        self._lasts: list[int] = []
        self._from = 1
        self._to = 0
        self._ends: OrderedDict[tuple[int, int], list[int]] = OrderedDict()
        self._keys: OrderedDict[tuple[int, int], list[str]] = OrderedDict()

    def run(self, first: int, last: int) -> Run | None:
        """The first live messages at or above `first`, up to the end of their chunk, or `last`; None if all are gone."""
        while first <= last:
            if not self._from <= first <= self._to:
                self._load(first)
            at = bisect_left(self._lasts, first)
            if at == len(self._rows):
                first = self._to + 1
                continue
            row = self._rows[at]
            if row.first_sequence > last:
                return None
            found = row.live_run(max(first, row.first_sequence), min(last, row.last_sequence))
            if found:
                return Run(*found, row)
            first = row.last_sequence + 1
        return None

    def _load(self, first: int) -> None:
        rows = self._store.chunks(self._queue_id, first, limits.SHELF_ROWS, self._priority)
        self._rows = list(rows)
        self._lasts = [row.last_sequence for row in rows]
        self._from = first
        self._to = rows[-1].last_sequence if len(rows) == limits.SHELF_ROWS else limits.SEQUENCE_MAX

    def published(self) -> None:
        """There are new messages: the last page does not know them."""
        if self._to == limits.SEQUENCE_MAX:
            self._to = self._lasts[-1] if self._lasts else 0

    def removed(self, ranges: Iterable[tuple[int, int]]) -> None:
        """These messages are gone."""
        for first, last in ranges:
            low = bisect_left(self._lasts, first)
            high = bisect_right(self._rows, last, key=attrgetter("first_sequence"))
            left = [row for row in (row.without(first, last) for row in self._rows[low:high]) if row.live]
            self._rows[low:high] = left
            self._lasts[low:high] = [row.last_sequence for row in left]

    def size_of(self, run: Run, count: int) -> int:
        """Bytes of the first `count` messages of a run."""
        if count == run.row.count and not run.row.estimated:
            return run.row.bytes
        ends = self._positions(run.row)
        place = _place(run)
        return ends[place + count - 1] - (ends[place - 1] if place else 0)

    def count_within(self, run: Run, bytes_max: int) -> int:
        """How many messages of a run, from its first on, have `bytes_max` together."""
        if run.row.bytes <= bytes_max and not run.row.estimated:
            return run.last - run.first + 1
        ends = self._positions(run.row)
        place = _place(run)
        base = ends[place - 1] if place else 0
        at = bisect_left(ends, base + bytes_max + 1, place)
        return min(at - place, run.last - run.first + 1)

    def cut(self, run: Run, count: int) -> bytes | memoryview:
        """The encoded first `count` messages of a run."""
        row = run.row
        chunk = self._store.chunk(row.log_index, row.ordinal)
        if count == row.count and row.bytes == len(chunk) and not row.estimated:
            return chunk
        ends = self._positions(row)
        place = _place(run)
        return memoryview(chunk)[ends[place - 1] if place else 0 : ends[place + count - 1]]

    def keys(self, run: Run) -> list[str]:
        """The keys of a run's messages; empty for a message without one."""
        chunk = (run.row.log_index, run.row.ordinal)
        keys = self._keys.pop(chunk, None)
        if keys is None:
            parsed = command_pb2.Chunk.FromString(self._store.chunk(*chunk))
            keys = [message.key for message in parsed.messages]
        self._keys[chunk] = keys
        if len(self._keys) > limits.CUTS_KEPT:
            self._keys.popitem(last=False)
        place = _place(run)
        return keys[place : place + run.last - run.first + 1]

    def live(self, first: int) -> int:
        """How many messages there are at or above `first`, as far as is known without a look at the store."""
        low = bisect_left(self._lasts, first)
        return sum(min(row.live, row.last_sequence - first + 1) for row in self._rows[low:])

    def attempts(self, first: int, last: int) -> Mapping[int, int]:
        return self._store.attempts(self._queue_id, first, last)

    def _positions(self, row: ChunkRow) -> list[int]:
        key = (row.log_index, row.ordinal)
        ends = self._ends.pop(key, None)
        if ends is None:
            ends = wire.message_ends(self._store.chunk(*key))
        assert len(ends) >= row.offset + row.count
        self._ends[key] = ends
        if len(self._ends) > limits.CUTS_KEPT:
            self._ends.popitem(last=False)
        return ends


def _place(run: Run) -> int:
    """The place of a run's first message in the chunk that it came with."""
    return run.row.offset + run.first - run.row.first_sequence


def dead_letter(run: Run) -> queue_pb2.DeadLetter | None:
    """Where the first message of a run comes from, if it is a dead letter; those of its row that follow came after it."""
    if not run.row.dead_letter:
        return None
    letter = queue_pb2.DeadLetter.FromString(run.row.dead_letter)
    letter.source_sequence += run.first - run.row.first_sequence
    return letter
