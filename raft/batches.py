"""What a log asks of its disk: steps that the main thread decides and the writer thread performs, in order.

Each step leaves the directory in a state that opening understands, whichever un-synced part of it a power cut undoes:
a file gets its name only when its header is durable and all entries before it are; names go one by one, each
durably, so that no gap can appear; a cut is durable before anything is written in its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from raft.disk import Disk

__all__ = ["Batch"]

NEW = ".new"  # the name of a segment file while it is being made


@dataclass(slots=True)
class Write:
    """Write records; `promised` if there are entries among them (markers alone need no sync)."""

    name: str
    offset: int
    parts: list[bytes | memoryview] = field(default_factory=list)
    promised: bool = False

    def perform(self, disk: Disk, touched: set[str]) -> None:
        disk.write(self.name, self.offset, self.parts)
        if self.promised:
            touched.add(self.name)


@dataclass(frozen=True, slots=True)
class Create:
    """Make a segment file of `size` bytes; `after` is the segment before it, made durable first."""

    name: str
    header: bytes
    size: int
    after: str | None

    def perform(self, disk: Disk, touched: set[str]) -> None:
        if self.after is not None:
            disk.sync(self.after)
            touched.discard(self.after)
        disk.allocate(self.name + NEW, self.size)
        disk.write(self.name + NEW, 0, [self.header])
        disk.sync(self.name + NEW)
        disk.rename(self.name + NEW, self.name)
        disk.sync_dir()


@dataclass(frozen=True, slots=True)
class Cut:
    """Drop all records from `offset` on: zeros up to `size` take their place."""

    name: str
    offset: int
    size: int

    def perform(self, disk: Disk, touched: set[str]) -> None:
        disk.truncate(self.name, self.offset)
        disk.allocate(self.name, self.size)
        disk.sync(self.name)
        touched.discard(self.name)


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove segment files in the order given."""

    names: Sequence[str]

    def perform(self, disk: Disk, touched: set[str]) -> None:
        for name in self.names:
            disk.unlink(name)
            disk.sync_dir()
            touched.discard(name)


Step = Write | Create | Cut | Remove


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be written next. When it has been, all entries up to `last` are durable."""

    steps: Sequence[Step]
    last: int

    @property
    def bytes(self) -> int:
        """How many bytes of records it writes."""
        return sum(len(part) for step in self.steps if isinstance(step, Write) for part in step.parts)

    def perform(self, disk: Disk) -> None:
        touched: set[str] = set()
        for step in self.steps:
            step.perform(disk, touched)
        for name in sorted(touched):
            disk.sync(name)
