"""What the log's files contain: the values, their bytes, and the error for bytes that cannot be what we wrote.

A segment file is a header and then records, without gaps; behind the last record there are zeros (preallocated).

    header   magic 8 | version 4 | generation 4 | base index 8 | base term 8 | base chain 4 | CRC32C of these 4
    record   CRC32C of all that follows 4 | length of the payload 4 | index 8 | term 8 | claim 8 | previous 4 | stamp 4 |
             kind 1 | payload

Every record carries three defences besides its checksum:
- previous: the CRC of the entry before it (of the segment's base for the first one). A record left over from a cut
  log does not continue the chain, so it never comes back.
- stamp: the CRC of the header of its segment. It finds records behind a damaged one, and tells them from records of
  other segments or logs that a payload may happen to contain.
- claim: the last index that was durable when it was written. It tells a torn tail, which was never promised to
  anyone, from the loss of an entry that was.

A marker is a record of kind 255 that only carries a newer claim. It repeats the index and term of the entry before it and
is no link of the chain: previous of the next entry is still the CRC of the entry before the marker.
"""

import re
import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass

import google_crc32c

__all__ = ["Damaged", "Entry", "SegmentInfo"]

MAGIC = b"tasklog\n"
VERSION = 1
KIND_MARKER = 255

HEADER = struct.Struct("<8sIIQQI")
RECORD_REST = struct.Struct("<IQQQIIB")  # a record's header without the CRC in front
RECORD = struct.Struct("<IIQQQIIB")
CRC = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CRC.size
RECORD_BYTES = RECORD.size
STAMP_OFFSET = RECORD_BYTES - 5

POSITION_BITS = 32  # a position packs the offset of an entry in its segment (high) and its CRC (low)
CRC_MASK = (1 << POSITION_BITS) - 1


class Damaged(Exception):
    """Bytes on the disk are not what this node once wrote, in a place where it may have promised them."""

    def __init__(self, name: str, offset: int, index: int | None, what: str) -> None:
        self.name = name
        self.offset = offset
        self.index = index
        entry = "" if index is None else f" (index {index})"
        super().__init__(
            f"{name} is damaged at byte {offset}{entry}: {what}. This node refuses to start or to go on, because it "
            "may have forgotten what it promised to the others: move the data directory away and start the node "
            "again with an empty one; it rejoins without a vote and copies the log from the others."
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the replicated log. What a kind means is decided by those who append (0 <= kind < 255)."""

    index: int
    term: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """The entries first..last of one file (none yet if last < first), and its bytes in use. Sealed: nothing is added."""

    first: int
    last: int
    bytes: int
    sealed: bool


@dataclass(slots=True)
class Segment:
    """One file of the log as the process remembers it: 8 bytes of position for each entry.

    Invariant: positions[i] belongs to entry first + i; `tail` is where the next record goes.
    """

    name: str
    generation: int
    first: int
    base_term: int
    base_chain: int
    header: bytes
    stamp: int
    tail: int
    positions: "array[int]"

    @classmethod
    def blank(cls, generation: int, base_index: int, base_term: int, base_chain: int) -> "Segment":
        """Describe a segment that holds nothing yet and continues the log after (base_index, base_term)."""
        fields = HEADER.pack(MAGIC, VERSION, generation, base_index, base_term, base_chain)
        stamp = google_crc32c.value(fields)
        return cls(
            name=f"log-{generation:08x}-{base_index:016x}",
            generation=generation,
            first=base_index + 1,
            base_term=base_term,
            base_chain=base_chain,
            header=fields + CRC.pack(stamp),
            stamp=stamp or 1,  # never zero: preallocated bytes must not look like records
            tail=HEADER_BYTES,
            positions=array("Q"),
        )

    @classmethod
    def parse(cls, name: str, header: bytes) -> "Segment":
        """Read a segment's header; Damaged if it is not the one that belongs to this name."""
        if len(header) != HEADER_BYTES:
            raise Damaged(name, 0, None, "the header is cut short")
        if CRC.unpack_from(header, HEADER.size)[0] != google_crc32c.value(header[: HEADER.size]):
            raise Damaged(name, 0, None, "the header's checksum does not match")
        magic, version, generation, base_index, base_term, base_chain = HEADER.unpack_from(header)
        if magic != MAGIC or version != VERSION:
            raise Damaged(name, 0, None, f"it has format {magic!r} {version}, not {MAGIC!r} {VERSION}")
        segment = cls.blank(generation, base_index, base_term, base_chain)
        if segment.name != name:
            raise Damaged(name, 0, None, f"its header belongs to {segment.name}")
        return segment

    @property
    def last(self) -> int:
        return self.first + len(self.positions) - 1

    @property
    def chain(self) -> int:
        """The CRC that the next entry names as its previous one."""
        return self.positions[-1] & CRC_MASK if self.positions else self.base_chain

    def offset(self, index: int) -> int:
        return self.positions[index - self.first] >> POSITION_BITS

    def end(self, index: int) -> int:
        """Where the record after entry `index` starts, or would; markers in between belong to the entry."""
        return self.offset(index + 1) if index < self.last else self.tail

    def cut(self, index: int) -> None:
        """Forget the entries from `index` on; the next record takes the place of entry `index`."""
        self.tail = self.offset(index)
        del self.positions[index - self.first :]


class Runs:
    """The term of every entry, as runs of equal terms. Invariant: both lists rise, and the first run starts at the base."""

    __slots__ = ("_starts", "_terms")

    def __init__(self, index: int, term: int) -> None:
        self._starts = [index]
        self._terms = [term]

    @property
    def last(self) -> int:
        return self._terms[-1]

    def add(self, index: int, term: int) -> None:
        """A new term starts at `index`."""
        assert index > self._starts[-1]
        assert term > self._terms[-1]
        self._starts.append(index)
        self._terms.append(term)

    def at(self, index: int) -> int:
        """Return the term of an entry at or above the base."""
        return self._terms[bisect_right(self._starts, index) - 1]

    def cut(self, index: int) -> None:
        """Forget the entries from `index` on; the base stays."""
        while self._starts[-1] >= index:
            self._starts.pop()
            self._terms.pop()

    def release(self, index: int) -> None:
        """Make `index` the base."""
        keep = bisect_right(self._starts, index) - 1
        self._starts = [index, *self._starts[keep + 1 :]]
        self._terms = self._terms[keep:]


_NAME = re.compile(r"log-([0-9a-f]{8})-[0-9a-f]{16}(\.new)?")


def generation_of(name: str) -> int | None:
    """Return the generation of a segment file (finished or not), None for a file that is not ours."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None
