"""The log on disk: append-only segment files that know what was promised.

You owe it: all methods but `write` from one thread (`entry` and `slice` from any, as long as nobody truncates,
resets or releases what they read); at most one batch between `take` and `written`; the end of the process after
`write` raised, because a failed write or sync is never retried.

It owes you: what `durable` says survives a power cut. After any crash the log is a prefix of what was appended; a
`reset` under way has happened or not, a `truncate` may have dropped a part of what it was to drop, a `release` a part
of its segments, the oldest first. Whatever else is on the disk raises `Damaged` instead of being believed.

Nothing but `open`, `entry`, `slice` and `write` touches the disk. Read `records.py` (formats), `batches.py` (what
`write` does, in which order) and `recovery.py` (opening) next.
"""

import secrets
from bisect import bisect_right
from typing import Self

import google_crc32c

from raft.batches import Batch, Create, Cut, Remove, Step, Write
from raft.disk import Disk
from raft.records import (
    CRC,
    CRC_MASK,
    HEADER_BYTES,
    KIND_MARKER,
    POSITION_BITS,
    RECORD,
    RECORD_BYTES,
    RECORD_REST,
    Damaged,
    Entry,
    Runs,
    Segment,
    SegmentInfo,
)
from raft.recovery import recover

__all__ = ["Batch", "Log"]

BASE_INDEX, BASE_TERM = 1, 0  # of a new log: its first entry has index 2
JOIN_BYTES_MAX = (
    4096  # a payload up to this size is copied behind its header; a larger one is a part of its own
)
ENTRY_OVERHEAD_BYTES = 256  # what a cached entry costs besides its payload


class Log:
    """A log held in segment files. Invariant: base index <= last, durable <= last, entries base+1..last are held."""

    def __init__(
        self, disk: Disk, segments: list[Segment], runs: Runs, *, segment_bytes: int, cache_bytes: int
    ) -> None:
        self._disk = disk
        self._segments = segments
        self._runs = runs
        self._segment_bytes = segment_bytes
        self._cache_bytes = cache_bytes
        self._last = segments[-1].last
        self._durable = self._last  # opening has synced it
        self._claimed = 0  # the newest claim behind the last entry
        self._cache: dict[int, Entry] = {}  # exactly the entries _cache_first.._last
        self._cache_first = self._last + 1
        self._cached_bytes = 0
        self._steps: list[Step] = []
        self._writing: Write | None = None  # the last of the steps, if records can still be added to it
        self._taken: Batch | None = None
        self._promise = 0  # what is durable once the taken batch is written
        self._dead = False

    @classmethod
    def open(cls, disk: Disk, *, segment_bytes: int = 64 << 20, cache_bytes: int = 16 << 20) -> Self:
        """Open the log on `disk`, or start one. Raises Damaged, and OSError (a new log needs room for a segment)."""
        assert HEADER_BYTES + 2 * RECORD_BYTES <= segment_bytes <= 1 << 31
        found = recover(disk, segment_bytes)
        if found is not None:
            return cls(disk, *found, segment_bytes=segment_bytes, cache_bytes=cache_bytes)
        salt = secrets.randbits(32)  # no two logs have the same chain, nor the same stamps
        segment = Segment.blank(1, BASE_INDEX, BASE_TERM, salt)
        Batch([Create(segment.name, segment.header, segment_bytes, None)], BASE_INDEX).perform(disk)
        runs = Runs(BASE_INDEX, BASE_TERM)
        return cls(disk, [segment], runs, segment_bytes=segment_bytes, cache_bytes=cache_bytes)

    @property
    def base(self) -> tuple[int, int]:
        """Index and term of the entry before the first one held."""
        segment = self._segments[0]
        return segment.first - 1, segment.base_term

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry, or the base if there is none."""
        return self._last, self._runs.last

    @property
    def durable(self) -> int:
        """Everything up to this index survives a power cut. 0 after `reset`, until that is written."""
        return self._durable

    @property
    def size_bytes(self) -> int:
        """Bytes in use in all segments, what is not yet written included and preallocated room not."""
        return sum(segment.tail for segment in self._segments)

    @property
    def dirty(self) -> bool:
        """Whether there is something to take."""
        return bool(self._steps)

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry or of the base, None for an index that is not held."""
        if self._segments[0].first - 1 <= index <= self._last:
            return self._runs.at(index)
        return None

    def segments(self) -> list[SegmentInfo]:
        """Describe the files, oldest first; all but the last are sealed."""
        active = self._segments[-1]
        return [SegmentInfo(s.first, s.last, s.tail, s is not active) for s in self._segments]

    # Changes: memory and steps for the writer, no I/O

    def append(self, index: int, term: int, kind: int, payload: bytes) -> None:
        """Add the next entry. It is durable once a batch taken after this is written."""
        assert index == self._last + 1
        assert 0 <= kind < KIND_MARKER
        segment = self._segments[-1]
        size = RECORD_BYTES + len(payload)
        if (
            segment.tail + size + RECORD_BYTES > self._segment_bytes and segment.positions
        ):  # room for a marker
            segment = self._rotate(segment)
        if term != self._runs.last:
            self._runs.add(index, term)  # asserts that terms rise
        offset = segment.tail
        crc = self._record(segment, index, term, kind, payload)
        segment.positions.append(offset << POSITION_BITS | crc)
        self._last = index
        self._cache[index] = Entry(index, term, kind, payload)
        self._cached_bytes += len(payload) + ENTRY_OVERHEAD_BYTES
        if self._cached_bytes > self._cache_bytes:
            self._evict()

    def mark(self) -> None:
        """Write down that `durable` is durable, if no record says so yet; worth doing whenever the log falls idle.

        Without it, damage to the last entries synced is taken for a torn tail.
        """
        segment = self._segments[-1]
        if self._durable > self._claimed and segment.tail + RECORD_BYTES <= self._segment_bytes:
            self._record(segment, self._last, self._runs.last, KIND_MARKER, b"")

    def truncate(self, index: int) -> None:
        """Drop the entries from `index` on. Nothing may be promised about them, or about what replaces them, yet."""
        assert index > self.base[0]
        if index > self._last:
            return
        dropped = [segment for segment in self._segments if segment.first > index]
        if dropped:
            self._segments = self._segments[: -len(dropped)]
            self._step(Remove([segment.name for segment in reversed(dropped)]))
        segment = self._segments[-1]
        segment.cut(index)
        self._step(Cut(segment.name, segment.tail, self._segment_bytes))
        for gone in range(max(index, self._cache_first), self._last + 1):
            self._cached_bytes -= len(self._cache.pop(gone).payload) + ENTRY_OVERHEAD_BYTES
        self._cache_first = min(self._cache_first, index)
        self._runs.cut(index)
        self._last = index - 1
        self._durable = min(self._durable, index - 1)
        self._promise = min(self._promise, index - 1)
        self._claimed = 0

    def reset(self, index: int, term: int) -> None:
        """Forget everything and go on after (index, term), which a snapshot holds.

        After a crash there is either the old log or the new base.
        """
        old = self._segments
        segment = Segment.blank(old[-1].generation + 1, index, term, old[-1].chain)
        self._segments = [segment]
        self._step(Create(segment.name, segment.header, self._segment_bytes, None))
        self._step(Remove([gone.name for gone in old]))
        self._runs = Runs(index, term)
        self._last = index
        self._cache.clear()
        self._cache_first = index + 1
        self._cached_bytes = self._durable = self._promise = self._claimed = 0

    def release(self, index: int) -> None:
        """Let go of the segments that end at or below `index`; the one that is written to stays."""
        released = [segment for segment in self._segments[:-1] if segment.last <= min(index, self._durable)]
        if not released:
            return
        self._segments = self._segments[len(released) :]
        self._runs.release(self._segments[0].first - 1)
        self._step(Remove([segment.name for segment in released]))
        while self._cache_first < self._segments[0].first:
            self._evict_one()

    # Reading

    def entry(self, index: int) -> Entry:
        """Return an entry; KeyError if it is not held, Damaged if its bytes are not what was written."""
        if entry := self._cache.get(index):
            return entry
        if not self._segments[0].first <= index <= self._last:
            raise KeyError(index)
        return self._load(index, index + 1)[0]

    def slice(self, first: int, max_bytes: int) -> list[Entry]:
        """Return entries from `first` on, at least one if there is one, that take up to `max_bytes` in the log."""
        assert first > self.base[0]
        if first > self._last:
            return []
        stop = self._reach(first, max_bytes)
        entries: list[Entry] = []
        while (index := first + len(entries)) < min(stop, self._cache_first):
            entries += self._load(index, min(stop, self._cache_first))
        entries += [self._cache[index] for index in range(index, stop)]
        return entries

    def _reach(self, first: int, max_bytes: int) -> int:
        """Return the index behind the last entry that fits."""
        number = self._number(first)
        stop, limit = first, max_bytes
        for segment in self._segments[number:]:
            start = segment.offset(stop) if segment.positions else segment.tail
            if segment.tail - start > limit:
                reached = bisect_right(segment.positions, (start + limit) << POSITION_BITS | CRC_MASK)
                return max(segment.first + reached - 1, first + 1)
            stop = segment.last + 1
            limit -= segment.tail - start
        return stop

    def _number(self, index: int) -> int:
        """Which segment holds the entry."""
        return bisect_right(self._segments, index, key=lambda segment: segment.first) - 1

    def _load(self, index: int, stop: int) -> list[Entry]:
        """Read entries index..stop-1 in one go, or as many of them as the first one's segment holds."""
        segment = self._segments[self._number(index)]
        last = min(stop - 1, segment.last)
        start = segment.offset(index)
        block = self._disk.pread(segment.name, start, segment.end(last) - start)
        return [self._verified(segment, block, start, i) for i in range(index, last + 1)]

    def _verified(self, segment: Segment, block: bytes, start: int, index: int) -> Entry:
        """Cut an entry out of a block that was read at `start`."""
        at = segment.offset(index) - start
        if at + RECORD_BYTES <= len(block):
            crc, length, found, term, _, _, _, kind = RECORD.unpack_from(block, at)
            payload = block[at + RECORD_BYTES : at + RECORD_BYTES + length]
            rest = google_crc32c.value(block[at + CRC.size : at + RECORD_BYTES])
            right = crc == segment.positions[index - segment.first] & CRC_MASK
            if right and found == index and google_crc32c.extend(rest, payload) == crc:
                return Entry(index, term, kind, payload)
        raise Damaged(segment.name, start + at, index, "the entry read is not the one written")

    # Writing

    def take(self) -> Batch | None:
        """Return what is to be written next, None if there is nothing. Hand it to `write`, then to `written`."""
        assert not self._dead
        assert self._taken is None
        if not self._steps:
            return None
        self._taken = Batch(self._steps, self._last)
        self._promise = self._last
        self._steps, self._writing = [], None
        return self._taken

    def write(self, batch: Batch) -> None:
        """Write and sync a batch; this blocks, so it runs in the writer thread. OSError leaves the log dead."""
        assert batch is self._taken
        assert not self._dead
        try:
            batch.perform(self._disk)
        except BaseException:
            self._dead = True
            raise

    def written(self, batch: Batch) -> None:
        """Take note that `write` has returned: `durable` moves up, but not over what was truncated meanwhile."""
        assert batch is self._taken
        assert not self._dead
        self._taken = None
        self._durable = max(self._durable, self._promise)
        self._evict()

    def _record(self, segment: Segment, index: int, term: int, kind: int, payload: bytes) -> int:
        """Have a record written at the segment's tail, and return its CRC."""
        writing = self._writing
        if writing is None:
            writing = Write(segment.name, segment.tail)
            self._step(writing)
            self._writing = writing
        size = len(payload)
        rest = RECORD_REST.pack(size, index, term, self._durable, segment.chain, segment.stamp, kind)
        crc: int = google_crc32c.extend(google_crc32c.value(rest), payload)
        if size <= JOIN_BYTES_MAX:
            writing.parts.append(CRC.pack(crc) + rest + payload)
        else:
            writing.parts += (CRC.pack(crc) + rest, payload)
        writing.promised = writing.promised or kind != KIND_MARKER
        segment.tail += RECORD_BYTES + size
        self._claimed = self._durable
        return crc

    def _rotate(self, full: Segment) -> Segment:
        """Seal the active segment and start the next one."""
        segment = Segment.blank(full.generation, self._last, self._runs.last, full.chain)
        self._segments = [*self._segments, segment]
        self._step(Create(segment.name, segment.header, self._segment_bytes, full.name))
        return segment

    def _step(self, step: Step) -> None:
        assert not self._dead
        self._steps.append(step)
        self._writing = None

    def _evict(self) -> None:
        """Keep the cache within its bytes; what is not yet durable stays whatever its size."""
        while self._cached_bytes > self._cache_bytes and self._cache_first <= self._durable:
            self._evict_one()

    def _evict_one(self) -> None:
        self._cached_bytes -= len(self._cache.pop(self._cache_first).payload) + ENTRY_OVERHEAD_BYTES
        self._cache_first += 1
