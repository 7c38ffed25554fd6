"""A state machine to simulate with: a list of all commands, with a store that forgets like a real one.

Its store behaves as `node/state/store.py` does: `flush` commits now and then, a killed process falls back to the last
commit, a power cut to the last checkpoint, and only what lies below a checkpoint may leave the log.
"""

import hashlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from raft.types import Member, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Saved:
    """The state at one index."""

    applied: int = 1
    applied_term: int = 0
    members: tuple[Member, ...] | None = None
    commands: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Disk:
    """What survives of the state: a kill, and a power cut."""

    committed: Saved = field(default_factory=Saved)
    durable: Saved = field(default_factory=Saved)

    def crash(self, *, power_loss: bool) -> None:
        if power_loss:
            self.committed = self.durable


class ListState:
    """Commands in the order in which they were applied; the answer to each is its position."""

    def __init__(self, disk: Disk, dice: random.Random) -> None:
        self._disk = disk
        self._dice = dice
        saved = disk.committed
        self.applied, self.applied_term, self.members = saved.applied, saved.applied_term, saved.members
        self.commands = list(saved.commands)

    def apply(self, index: int, term: int, payload: bytes) -> object:
        assert index == self.applied + 1
        self.applied, self.applied_term = index, term
        self.commands.append(payload)
        return len(self.commands)

    def record(self, index: int, term: int, members: tuple[Member, ...] | None) -> None:
        assert index == self.applied + 1
        self.applied, self.applied_term = index, term
        if members is not None:
            self.members = members

    def flush(self) -> None:
        if self._dice.random() < 0.2:
            self._disk.committed = self._saved()

    def checkpoint(self) -> None:
        """Make what is committed durable."""
        self._disk.durable = self._disk.committed

    def checkpointed(self) -> int:
        return self._disk.durable.applied

    def snapshot(self, path: Path) -> SnapshotMeta:
        members = [[m.id, m.address, m.voter] for m in self.members or ()]
        commands = [c.decode() for c in self.commands]
        path.write_text(json.dumps([self.applied, self.applied_term, members, commands]))
        return SnapshotMeta(self.applied, self.applied_term, self.members or ())

    def install(self, path: Path, meta: SnapshotMeta) -> None:
        applied, term, members, commands = json.loads(path.read_text())
        assert (applied, term) == (meta.index, meta.term)
        self.applied, self.applied_term = applied, term
        self.members = tuple(Member(*m) for m in members)
        self.commands = [c.encode() for c in commands]
        self._disk.committed = self._disk.durable = self._saved()

    def fingerprint(self) -> str:
        return hashlib.sha256(b"\n".join(self.commands)).hexdigest()

    def _saved(self) -> Saved:
        return Saved(self.applied, self.applied_term, self.members, tuple(self.commands))
