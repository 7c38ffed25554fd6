"""A disk in memory that does what real ones do: it forgets, reorders, tears, rots, fills up and fails.

It keeps the same contract as `raft.disk.OsDisk` (tests/raft/test_disk.py). Contents are remembered twice: as they
are read, and as a power cut would leave them at worst. What lies between is a list of changes, of which any subset
may survive.
"""

import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

PAGE_BYTES = 4096  # a power cut decides about each page of a write by itself


class PowerCut(Exception):
    """The process stops in the middle of a write: `SimDisk.cut_after` changes have been made."""


@dataclass(slots=True)
class Write:
    """Bytes written at an offset."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data

    def pages(self) -> "list[Write]":
        """Split where the pages of the file end."""
        cuts = range(PAGE_BYTES - self.offset % PAGE_BYTES, len(self.data), PAGE_BYTES)
        ends = [*cuts, len(self.data)]
        return [Write(self.offset + a, self.data[a:b]) for a, b in zip([0, *cuts], ends, strict=True)]


@dataclass(slots=True)
class Resize:
    """The file is cut or filled up with zeros. `grow` alone never cuts."""

    size: int
    grow: bool

    def apply(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.size - len(content))))
        if not self.grow:
            del content[self.size :]


@dataclass(slots=True)
class File:
    """What is read, what is durable, and the changes in between."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    changes: list[Write | Resize] = field(default_factory=list)

    def change(self, change: Write | Resize) -> None:
        change.apply(self.content)
        self.changes.append(change)

    def sync(self) -> None:
        """All changes have reached the disk."""
        for change in self.changes:
            change.apply(self.durable)
        self.changes = []

    def lose_all_but(self, changes: list[Write | Resize]) -> None:
        """Only these changes have reached the disk."""
        self.changes = changes
        self.sync()
        self.content = bytearray(self.durable)


class SimDisk:
    """See the module. Knobs: `full_after` (bytes in all files), `fail_sync`, `cut_after` (changes until PowerCut)."""

    def __init__(self, rng: random.Random) -> None:
        self.full_after: int | None = None
        self.fail_sync = False
        self.cut_after: int | None = None
        self.syncs = 0  # how often sync was called
        self._rng = rng
        self._files: dict[str, File] = {}
        self._durable_files: dict[str, File] = {}
        self._renames: list[tuple[str | None, str | None, File]] = []  # (name gone, name new, whose)

    # The contract

    def read(self, name: str) -> bytes:
        return bytes(self._file(name).content)

    def pread(self, name: str, offset: int, size: int) -> bytes:
        return bytes(memoryview(self._file(name).content)[offset : offset + size])

    def size(self, name: str) -> int:
        return len(self._file(name).content)

    def names(self) -> list[str]:
        return sorted(self._files)

    def exists(self, name: str) -> bool:
        return name in self._files

    def write(self, name: str, offset: int, parts: Sequence[bytes | memoryview]) -> None:
        data = b"".join(parts)
        file = self._file(name, create=True)
        fits = self._room(file, offset + len(data)) - offset
        if self._power_fails():
            file.change(Write(offset, data[: self._rng.randint(0, max(0, min(fits, len(data))))]))
            raise PowerCut
        file.change(Write(offset, data[: max(0, fits)]))
        if fits < len(data):
            raise OSError(errno.ENOSPC, "the simulated disk is full")

    def allocate(self, name: str, size: int) -> None:
        file = self._file(name, create=True)
        if self._power_fails():
            raise PowerCut
        if self._room(file, size) < size:
            raise OSError(errno.ENOSPC, "the simulated disk is full")
        file.change(Resize(size, grow=True))

    def truncate(self, name: str, size: int) -> None:
        file = self._file(name)
        if self._power_fails():
            raise PowerCut
        file.change(Resize(size, grow=False))

    def rename(self, name: str, new_name: str) -> None:
        file = self._file(name)
        if self._power_fails():
            raise PowerCut
        self._rename(name, new_name, file)

    def unlink(self, name: str) -> None:
        file = self._file(name)
        if self._power_fails():
            raise PowerCut
        self._rename(name, None, file)

    def sync(self, name: str) -> None:
        file = self._file(name)
        self.syncs += 1
        self._sync_or_fail()
        file.sync()

    def sync_dir(self) -> None:
        self._sync_or_fail()
        self._durable_files = dict(self._files)
        self._renames = []

    def close(self) -> None:
        """Nothing is held open."""

    # What the world does

    def crash(self, *, power_loss: bool, torn: bool) -> None:
        """The process dies, and with `power_loss` the page cache too.

        Un-synced changes survive or not, page by page; un-synced names likewise. `torn`: the last page to survive
        ends at any byte, and any other may. Without power loss all survives (and stays un-synced), but the last un-synced write may be
        torn, as it was under way.
        """
        self.cut_after = None
        self.fail_sync = False
        if not power_loss:
            if torn:
                self._tear_last_write()
            return
        for file in {id(f): f for f in chain(self._files.values(), self._durable_files.values())}.values():
            file.lose_all_but(self._survivors(file, torn))
        chance = self._rng.choice((0.0, 0.5, 1.0))
        for gone, new, file in self._renames:
            if self._rng.random() < chance:
                _rename(self._durable_files, gone, new, file)
        self._files = dict(self._durable_files)
        self._renames = []

    def at_worst(self) -> "SimDisk":
        """A disk as a power cut would leave this one if nothing survived that was not synced."""
        copy = SimDisk(random.Random(0))
        copy._files = {
            name: File(bytearray(f.durable), bytearray(f.durable)) for name, f in self._durable_files.items()
        }
        copy._durable_files = dict(copy._files)
        return copy

    def flip(self, name: str, bit: int) -> None:
        """One bit of the file rots, on the disk too."""
        file = self._file(name)
        for content in (file.content, file.durable):
            if bit // 8 < len(content):
                content[bit // 8] ^= 1 << bit % 8

    @property
    def used_bytes(self) -> int:
        return sum(len(file.content) for file in self._files.values())

    def _file(self, name: str, *, create: bool = False) -> File:
        if name not in self._files:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such simulated file", name)
            self._rename(None, name, File())
        return self._files[name]

    def _rename(self, gone: str | None, new: str | None, file: File) -> None:
        _rename(self._files, gone, new, file)
        self._renames.append((gone, new, file))

    def _room(self, file: File, size: int) -> int:
        """How long the file may become on the way to `size`."""
        if self.full_after is None:
            return size
        return min(size, max(len(file.content), len(file.content) + self.full_after - self.used_bytes))

    def _power_fails(self) -> bool:
        if self.cut_after is not None:
            self.cut_after -= 1
            return self.cut_after < 0
        return False

    def _sync_or_fail(self) -> None:
        if self._power_fails():
            raise PowerCut
        if self.fail_sync:
            raise OSError(errno.EIO, "the simulated disk cannot write back")

    def _survivors(self, file: File, torn: bool) -> list[Write | Resize]:
        """Choose what of the un-synced changes reached the disk."""
        chance = self._rng.choice((0.0, 0.3, 0.8, 1.0))
        pieces = [p for c in file.changes for p in (c.pages() if isinstance(c, Write) else [c])]
        survivors = [piece for piece in pieces if self._rng.random() < chance]
        if torn and survivors:
            last = len(survivors) - 1
            return [
                self._torn(p) if n == last or self._rng.random() < 0.3 else p for n, p in enumerate(survivors)
            ]
        return survivors

    def _torn(self, change: Write | Resize) -> Write | Resize:
        if isinstance(change, Write):
            return Write(change.offset, change.data[: self._rng.randint(0, len(change.data))])
        return change

    def _tear_last_write(self) -> None:
        """Tear the last change of one file, if it is a write that was not synced."""
        files = [file for file in self._files.values() if file.changes]
        if files:
            file = self._rng.choice(files)
            file.changes[-1] = self._torn(file.changes[-1])
            file.content = bytearray(file.durable)
            for change in file.changes:
                change.apply(file.content)


def _rename(files: dict[str, File], gone: str | None, new: str | None, file: File) -> None:
    if gone is not None:
        files.pop(gone, None)
    if new is not None:
        files[new] = file
