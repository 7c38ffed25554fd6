"""A replicated log: PySyncObj made safe, with nothing of PySyncObj showing.

You owe a `Replica`: a `StateMachine` that is total and deterministic and says up to where it survives a power loss by
itself; one event loop; `release` when bodies in old segments are not needed any more; an end of the process when
`failed` is set.

It owes you: a command whose future has a result is on the disks of a majority and will be applied, in the same order,
by every node; at most one leader per term; after `on_leader` the state has all that was ever acknowledged; a read
after `read_barrier` sees all that was acknowledged before it; a node whose disk is empty or damaged has no vote until
it has caught up. It survives a crash of any minority, power loss of all, a lost, doubled, late or reordered message.
It does not survive a disk that lies about fsync, or a majority of disks lost.

Read `core.py` (what every node does), then `leading.py`, `guard.py` and `prevote.py` (rules), `engine.py` (what is
left to PySyncObj), `promises.py` and `segments.py` (the disk), `transport.py` (the network), `replica.py` (the loop).
"""

from raft.errors import (
    CatchUpTimeout,
    ChangeInProgress,
    CommitUnknown,
    MemberExists,
    MemberNotFound,
    NoQuorum,
    NotLeader,
    Overwritten,
    RaftError,
    Stopped,
    TransferFailed,
)
from raft.records import Damaged, SegmentInfo
from raft.replica import Replica
from raft.storage import WrongDirectory
from raft.types import Member, MemberStatus, ReplicaConfig, SnapshotMeta, StateMachine, Status

__all__ = [
    "CatchUpTimeout",
    "ChangeInProgress",
    "CommitUnknown",
    "Damaged",
    "Member",
    "MemberExists",
    "MemberNotFound",
    "MemberStatus",
    "NoQuorum",
    "NotLeader",
    "Overwritten",
    "RaftError",
    "Replica",
    "ReplicaConfig",
    "SegmentInfo",
    "SnapshotMeta",
    "StateMachine",
    "Status",
    "Stopped",
    "TransferFailed",
    "WrongDirectory",
]
