"""Opening a log: find its files, verify every byte that may have been promised, cut off a torn tail.

The newest generation wins; older ones are what a reset has not finished removing. Each segment but the last must
be whole up to the base of the next one. In the last segment the first record that does not fit ends the log: a torn
tail, never promised, is cut off. It is damage instead if a whole record behind it claims that its entry was durable.
What remains was read from the page cache perhaps, so it is synced before anyone calls it durable.
"""

from collections.abc import Iterator
from itertools import zip_longest

import google_crc32c

from raft.batches import NEW
from raft.disk import Disk
from raft.records import (
    CRC,
    HEADER_BYTES,
    KIND_MARKER,
    POSITION_BITS,
    RECORD,
    RECORD_BYTES,
    STAMP_OFFSET,
    Damaged,
    Runs,
    Segment,
    generation_of,
)

__all__ = ["recover"]

BLOCK_BYTES = 4 << 20


def recover(disk: Disk, segment_bytes: int) -> tuple[list[Segment], Runs] | None:
    """Return the segments of the log on `disk`, oldest first, and its terms; None if there is no log.

    Raises Damaged. Afterwards all that is returned is durable, and nothing but zeros is behind it.
    """
    disk.sync_dir()
    generations = {name: g for name in disk.names() if (g := generation_of(name)) is not None}
    finished = {g for name, g in generations.items() if not name.endswith(NEW)}
    newest = max(finished, default=0)
    current = [name for name, g in sorted(generations.items()) if g == newest and not name.endswith(NEW)]
    found = None
    if current:
        segments = [Segment.parse(name, disk.pread(name, 0, HEADER_BYTES)) for name in current]
        runs = Runs(segments[0].first - 1, segments[0].base_term)
        for segment, following in zip_longest(segments, segments[1:]):
            _load(disk, segment, following, runs)
        _prepare(disk, segments[-1], segment_bytes)
        found = (segments, runs)
    for name in sorted(generations.keys() - set(current)):
        disk.unlink(name)
    disk.sync_dir()
    return found


def _load(disk: Disk, segment: Segment, following: Segment | None, runs: Runs) -> None:
    """Verify a segment and remember its positions and terms, up to the base of the one that follows."""
    if following is None:
        bad = _scan(disk, segment, None, runs)
        assert bad is not None
        _refuse_lost_promises(disk, segment, bad)
        return
    bad = _scan(disk, segment, following.first - 1, runs)
    if bad is not None:
        raise Damaged(segment.name, segment.tail, segment.last + 1, bad)
    if (following.base_term, following.base_chain) != (runs.last, segment.chain):
        raise Damaged(following.name, 0, following.first - 1, f"it does not continue {segment.name}")


def _scan(disk: Disk, segment: Segment, until: int | None, runs: Runs) -> str | None:
    """Read records from the segment's tail on, up to entry `until` or the first record that does not fit.

    Returns what is wrong with that record, which starts at the segment's tail.
    """
    name, stamp, chain = segment.name, segment.stamp, segment.chain
    remember, unpack, checksum = segment.positions.append, RECORD.unpack_from, google_crc32c.value
    size = disk.size(name)
    last, last_term = segment.last, runs.last
    block, at, start, room = (
        b"",
        0,
        segment.tail,
        0,
    )  # the record at hand: block[at:], which is start + at in the file
    try:
        while last != until:
            if at + RECORD_BYTES > room:
                start, at = start + at, 0
                block = disk.pread(name, start, BLOCK_BYTES)
                room = len(block)
                if room < RECORD_BYTES:
                    return "the file ends"
            crc, length, index, term, _, previous, mark, kind = unpack(block, at)
            end = at + RECORD_BYTES + length
            if mark != stamp:
                return "there is no record of this segment"
            if start + end > size:
                return "a record is longer than the file"
            if end > room:
                start, at, end = start + at, 0, end - at
                block = disk.pread(name, start, max(BLOCK_BYTES, end))
                room = len(block)
            if checksum(block[at + CRC.size : end]) != crc:
                return "a record's checksum does not match"
            if previous != chain:
                return "a record does not continue the chain"
            if kind == KIND_MARKER:
                at = end
                continue
            if index != last + 1 or term < last_term:
                return f"a record has index {index} and term {term} after {last} and {last_term}"
            if term != last_term:
                runs.add(index, term)
                last_term = term
            remember((start + at) << POSITION_BITS | crc)
            last, chain, at = index, crc, end
    finally:
        segment.tail = start + at
    return None


def _refuse_lost_promises(disk: Disk, segment: Segment, bad: str) -> None:
    """Raise Damaged if a whole record behind the end of the log claims that the next entry was durable."""
    size = disk.size(segment.name)
    lost = segment.last + 1
    for offset in _stamps(disk, segment, size):
        crc, length, _, _, claim, _, _, _ = RECORD.unpack(disk.pread(segment.name, offset, RECORD_BYTES))
        if claim < lost or offset + RECORD_BYTES + length > size:
            continue
        rest = disk.pread(segment.name, offset + CRC.size, RECORD_BYTES - CRC.size + length)
        if google_crc32c.value(rest) == crc:
            what = f"{bad}, yet a later record (at byte {offset}) says that {claim} was durable"
            raise Damaged(segment.name, segment.tail, lost, what)


def _stamps(disk: Disk, segment: Segment, size: int) -> Iterator[int]:
    """Where behind the tail a record of this segment may start: wherever its stamp stands."""
    stamp = CRC.pack(segment.stamp)
    start = segment.tail
    while start < size:
        block = disk.pread(segment.name, start, BLOCK_BYTES)
        at = block.find(stamp)
        while at >= 0:
            offset = start + at - STAMP_OFFSET
            if segment.tail <= offset <= size - RECORD_BYTES:
                yield offset
            at = block.find(stamp, at + 1)
        start += max(len(block) - CRC.size + 1, 1)


def _prepare(disk: Disk, segment: Segment, segment_bytes: int) -> None:
    """Make the last segment durable and ready for more: zeros behind its tail."""
    size = disk.size(segment.name)
    if not _only_zeros(disk, segment, size):
        disk.truncate(segment.name, segment.tail)
        size = segment.tail
    if size < segment_bytes:
        disk.allocate(segment.name, segment_bytes)
    disk.sync(segment.name)


def _only_zeros(disk: Disk, segment: Segment, size: int) -> bool:
    blocks = (disk.pread(segment.name, at, BLOCK_BYTES) for at in range(segment.tail, size, BLOCK_BYTES))
    return all(block == bytes(len(block)) for block in blocks)
