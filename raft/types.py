"""What `raft` and its user exchange: plain values, no I/O and nothing of the engine."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from raft import limits

NOOP, COMMAND, MEMBERS = 0, 1, 2
"""Kinds of log entries."""

Role = Literal["leader", "follower", "candidate", "learner", "blank"]
"""What a node is: `learner` follows without a vote, `blank` has an empty disk and knows no cluster yet."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster: its id, the host:port of its peer port, and whether it votes.

    A member without a vote (a learner) is being caught up; it becomes a voter by itself once it has.
    """

    id: str
    address: str
    voter: bool = True


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot file stands for: all effects up to `index`, and the members as of then."""

    index: int
    term: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """A member as this node sees it; `match` is known by the leader only."""

    id: str
    address: str
    announce: Mapping[str, str]
    voter: bool
    connected: bool
    match: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One node's view of the log and the cluster at one moment."""

    node_id: str
    role: Role
    term: int
    leader_id: str | None
    commit: int
    applied: int
    first: int
    last: int
    log_bytes: int
    members: tuple[MemberStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """How a replica runs; see `deploy/taskraft.toml` for what the times mean to an operator."""

    node_id: str
    cluster: str
    data_dir: Path
    listen: str
    """host:port that the peer port binds."""
    advertise: str
    """host:port under which the other members reach it."""
    members: tuple[Member, ...] = ()
    """The founding members, this node included; only read while the disk is empty."""
    join: bool = False
    """True: this node never founds a cluster, it waits to be added to one."""
    announce: Mapping[str, str] = field(default_factory=dict)
    """Told to the peers as it is; they find it in MemberStatus.announce."""
    heartbeat_ms: int = 50
    election_ms: int = 500
    """A follower that heard nothing for 1 to 2 times this stands for election; a leader steps down after it."""
    idle_ms: int = 3000
    """A connection that is silent for so long is given up."""
    segment_bytes: int = limits.SEGMENT_BYTES
    cache_bytes: int = limits.CACHE_BYTES
    piece_bytes: int = limits.SNAPSHOT_PIECE_BYTES
    outbox_bytes_max: int = limits.OUTBOX_BYTES_MAX
    ssl_server: ssl.SSLContext | None = None
    ssl_client: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        assert self.heartbeat_ms > 0
        assert self.idle_ms >= self.election_ms
        assert self.election_ms >= limits.HEARTBEATS_PER_ELECTION * self.heartbeat_ms


class StateMachine(Protocol):
    """What the log drives. Total and deterministic: an exception out of it ends the node."""

    @property
    def applied(self) -> int:
        """Index of the last entry whose effect is in the state; restored from its own store when opened."""
        ...

    @property
    def applied_term(self) -> int:
        """The term of that entry."""
        ...

    @property
    def members(self) -> tuple[Member, ...] | None:
        """The members as of `applied`; None in a new store."""
        ...

    def apply(self, index: int, term: int, payload: bytes) -> object:
        """Apply one command; the result goes to whoever proposed it."""
        ...

    def record(self, index: int, term: int, members: tuple[Member, ...] | None) -> None:
        """A no-op (None) or a change of members was committed."""
        ...

    def flush(self) -> None:
        """A burst of applies has ended."""
        ...

    def checkpointed(self) -> int:
        """Index up to which the state survives a power loss by itself; the log above it is kept."""
        ...

    def snapshot(self, path: Path) -> SnapshotMeta:
        """Write the whole state, complete and synced, to `path`. Runs in a thread while applies go on."""
        ...

    def install(self, path: Path, meta: SnapshotMeta) -> None:
        """Replace the whole state by the file at `path`, which may be moved away."""
        ...

    def fingerprint(self) -> str:
        """A hash of the logical state, equal on all nodes at the same applied index."""
        ...
