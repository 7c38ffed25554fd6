"""Term and vote on disk: what a node must never forget, or it could vote twice in one term.

The file has two slots with the same contents. Each write puts the new contents into the first slot, syncs, then into the
second, syncs, and only then counts as written. So at any moment one slot is whole and holds everything that was ever
promised, and a torn or rotten slot costs nothing; opening repairs it from the other. Both slots bad is damage.
"""

import struct
from dataclasses import dataclass, replace
from typing import Self

import google_crc32c

from raft.disk import Disk
from raft.records import CRC, Damaged

__all__ = ["Ballot", "Batch"]

NAME = "ballot"
NEW = NAME + ".new"
MAGIC = b"ballot 1"
SLOT_BYTES = 4096  # a page each: no write touches both
FIELDS = struct.Struct("<8sQQQBBBB")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a slot says. Invariant: sequence rises with every write; names are at most 255 bytes of UTF-8."""

    sequence: int = 0
    term: int = 0
    vote: str | None = None
    founded: bool = False
    join_floor: int = 0
    node_id: str = ""
    cluster: str = ""

    def pack(self) -> bytes:
        assert self.vote != ""
        texts = [text.encode() for text in (self.vote or "", self.node_id, self.cluster)]
        assert max(map(len, texts)) <= 255
        lengths = map(len, texts)
        fields = FIELDS.pack(MAGIC, self.sequence, self.term, self.join_floor, self.founded, *lengths)
        rest = b"".join([fields, *texts]).ljust(SLOT_BYTES - CRC.size, b"\0")
        return CRC.pack(google_crc32c.value(rest)) + rest

    @classmethod
    def parse(cls, slot: bytes) -> Self | None:
        """Read a slot; None if it is not whole."""
        rest = slot[CRC.size :]
        if len(slot) != SLOT_BYTES or CRC.unpack_from(slot)[0] != google_crc32c.value(rest):
            return None
        magic, sequence, term, join_floor, founded, *lengths = FIELDS.unpack_from(rest)
        if magic != MAGIC:
            return None
        texts, at = [], FIELDS.size
        for length in lengths:
            texts.append(rest[at : at + length].decode())
            at += length
        vote, node_id, cluster = texts
        return cls(sequence, term, vote or None, bool(founded), join_floor, node_id, cluster)


@dataclass(frozen=True, slots=True)
class Batch:
    """One write of the ballot; `create` if there is no file yet."""

    slot: bytes
    create: bool


class Ballot:
    """Term and vote of this node, and how it came into its cluster.

    All methods but `write` belong to one thread. What was put is seen at once, but promised to nobody before
    `written`. After `write` raised, the process must end.
    """

    def __init__(self, disk: Disk, contents: Contents) -> None:
        self._disk = disk
        self._contents = contents
        self._create = contents.sequence == 0
        self._dirty = False
        self._taken: Batch | None = None
        self._dead = False

    @classmethod
    def open(cls, disk: Disk) -> Self:
        """Read the ballot, or find that there is none. Raises Damaged if neither slot is whole, and OSError."""
        disk.sync_dir()
        if disk.exists(NEW):
            disk.unlink(NEW)
        if not disk.exists(NAME):
            return cls(disk, Contents())
        disk.sync(NAME)  # what a killed process has written may be in the page cache only
        slots = [disk.pread(NAME, offset, SLOT_BYTES) for offset in (0, SLOT_BYTES)]
        whole = [contents for slot in slots if (contents := Contents.parse(slot)) is not None]
        if not whole:
            raise Damaged(NAME, 0, None, "neither of its two slots is whole")
        newest = max(whole, key=lambda contents: contents.sequence)
        for number, slot in enumerate(slots):
            if slot != newest.pack():
                disk.write(NAME, number * SLOT_BYTES, [newest.pack()])
                disk.sync(NAME)
        return cls(disk, newest)

    @property
    def exists(self) -> bool:
        """Whether this node belongs to a cluster; False on a blank disk."""
        return self._contents.node_id != ""

    @property
    def term(self) -> int:
        """The newest term this node has seen; 0 on a blank disk."""
        return self._contents.term

    @property
    def vote(self) -> str | None:
        """Whom this node has voted for in this term."""
        return self._contents.vote

    @property
    def founded(self) -> bool:
        """Whether this node is a founder of its cluster; one that joined later is not."""
        return self._contents.founded

    @property
    def join_floor(self) -> int:
        """The commit index when this node joined, 0 for a founder: a vote given it at or before that is void."""
        return self._contents.join_floor

    @property
    def node_id(self) -> str:
        """Whose disk this is; empty on a blank one. That it is ours is the caller's to check, as for `cluster`."""
        return self._contents.node_id

    @property
    def cluster(self) -> str:
        """The name of the cluster; empty on a blank disk."""
        return self._contents.cluster

    @property
    def dirty(self) -> bool:
        """Whether there is something to take."""
        return self._dirty

    def put(self, term: int, vote: str | None) -> None:
        """Change term and vote. A term never goes back, and a vote is never taken back in its term."""
        assert term >= self.term
        assert term > self.term or self.vote in (None, vote)
        self._change(replace(self._contents, term=term, vote=vote))

    def found(self, node_id: str, cluster: str) -> None:
        """This node is a founder of a new cluster."""
        assert not self.exists
        assert node_id
        self._change(replace(self._contents, founded=True, node_id=node_id, cluster=cluster))

    def join(self, node_id: str, cluster: str, *, floor: int) -> None:
        """This node was blank and is let into a cluster that had committed index `floor`."""
        assert not self.exists
        assert node_id
        assert floor > 0
        self._change(replace(self._contents, join_floor=floor, node_id=node_id, cluster=cluster))

    def take(self) -> Batch | None:
        """Return what is to be written next, None if there is nothing. Hand it to `write`, then to `written`."""
        assert not self._dead
        assert self._taken is None
        if not self._dirty:
            return None
        self._contents = replace(self._contents, sequence=self._contents.sequence + 1)
        self._taken = Batch(self._contents.pack(), self._create)
        self._create = self._dirty = False
        return self._taken

    def write(self, batch: Batch) -> None:
        """Write and sync; this blocks, so it runs in the writer thread. OSError leaves the ballot dead."""
        assert batch is self._taken
        assert not self._dead
        try:
            self._perform(batch)
        except BaseException:
            self._dead = True
            raise

    def _perform(self, batch: Batch) -> None:
        if batch.create:
            self._disk.write(NEW, 0, [batch.slot, batch.slot])
            self._disk.sync(NEW)
            self._disk.rename(NEW, NAME)
            self._disk.sync_dir()
            return
        for offset in (0, SLOT_BYTES):
            self._disk.write(NAME, offset, [batch.slot])
            self._disk.sync(NAME)

    def written(self, batch: Batch) -> None:
        """Take note that `write` has returned: what the batch says may be promised."""
        assert batch is self._taken
        assert not self._dead
        self._taken = None

    def _change(self, contents: Contents) -> None:
        assert not self._dead
        if contents != self._contents:
            self._contents = contents
            self._dirty = True
