"""PySyncObj as our Raft engine: the only file that knows its private parts.

What PySyncObj does here: roles and terms, whom to vote for, counting matches to move the commit index, stepping
down without a majority, cutting a conflicting suffix. What is overridden, because as it comes it is not safe or
not fast (the numbers are the rows of the table in `tests/sim/test_stock_defects.py`):

- standing for election asks `Host.may_stand` first (pre-vote, learners, blank disks);
- sending entries and answering them is `raft/core.py`'s: one Append in flight per follower, answers capped at
  what is verified and durable here, heartbeats that never wait for a disk;
- applying stops at the last durable entry, takes bounded bites and never unpickles;
- proposals, members and snapshots do not pass through PySyncObj at all.

PySyncObj is driven by `tick()` and `feed_*`, in one thread, with our clock and our dice.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import pysyncobj.syncobj as stock
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raft.journal import LogJournal
from raft.records import Entry

_PRIVATE = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__connectedToAnyone",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__onMessageReceived",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__sendNextNodeIdx",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
    "_SyncObj__tryLogCompaction",
)
for _name in _PRIVATE:
    assert hasattr(SyncObj, _name), f"this PySyncObj has no {_name}: raft/engine.py must be looked at again"

_ROLES = stock._RAFT_STATE  # noqa: SLF001
FOLLOWER, CANDIDATE, LEADER = _ROLES.FOLLOWER, _ROLES.CANDIDATE, _ROLES.LEADER

_create_journal = stock.createJournal


def _our_journal_or_theirs(journal_file: object = None) -> Journal:
    """PySyncObj makes its journal from a setting; ours arrives through that same setting."""
    return journal_file if isinstance(journal_file, Journal) else _create_journal(journal_file)


stock.createJournal = _our_journal_or_theirs


def use_clock(clock: Callable[[], float]) -> None:
    """Let every engine of this process read `clock` (seconds); a simulation has one clock for all nodes."""
    stock.monotonicTime = clock


use_clock(time.monotonic)


class Host(Protocol):
    """What the engine asks of `raft/core.py`."""

    def may_stand(self) -> bool: ...
    def send_engine_message(self, peer_id: str, message: dict[str, Any]) -> None: ...
    def broadcast(self) -> None: ...
    def apply_committed(self, commit: int) -> int: ...
    def take_proposals(self) -> None: ...
    def role_changed(self, old: int, new: int) -> None: ...


class _Seam(Transport):  # type: ignore[misc]
    """PySyncObj's transport: what it sends goes to the core, which knows when it may leave."""

    ready = True

    def __init__(self, host: Host) -> None:
        super().__init__(None, None, None)
        self._host = host

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._host.send_engine_message(node.id, message)
        return True

    def addNode(self, node: Node) -> None:  # noqa: N802 (PySyncObj's name)
        """The core connects to the members."""

    def dropNode(self, node: Node) -> None:  # noqa: N802
        """The core disconnects from former members."""

    def destroy(self) -> None:
        """The core owns the connections."""


class _Peer(Node):  # type: ignore[misc]
    """A node whose hash is the same in every process: PySyncObj keeps nodes in sets and sends in their order, and a
    simulated run must be the same run every time.
    """

    def __hash__(self) -> int:
        return zlib.crc32(self.id.encode())


class _NoPoller:
    """PySyncObj polls its sockets in each tick; it has none."""

    def poll(self, timeout: float) -> None:
        """Nothing to wait for."""


class Engine(SyncObj):  # type: ignore[misc]
    """One PySyncObj, guarded."""

    def __init__(
        self,
        *,
        node_id: str,
        voters: Iterable[str],
        journal: LogJournal,
        host: Host,
        dice: random.Random,
        heartbeat_ms: int,
        election_ms: int,
        applied: int,
    ) -> None:
        self._host = host
        self._dice = dice
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,  # without it PySyncObj opens a pipe to wake its own thread
            raftMinTimeout=election_ms / 1000,
            raftMaxTimeout=2 * election_ms / 1000,
            connectionTimeout=2 * election_ms / 1000,
            appendEntriesPeriod=heartbeat_ms / 1000,
            leaderFallbackTimeout=election_ms / 1000,
            journalFile=journal,
            onStateChanged=host.role_changed,
        )
        super().__init__(_Peer(node_id), [_Peer(v) for v in voters], conf, transport=_Seam(host))
        self._poller = _NoPoller()
        self._SyncObj__raftLastApplied = applied

    # What the core reads.

    @property
    def role(self) -> int:
        return int(self._SyncObj__raftState)

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def commit(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def leader_id(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def transfer_pending(self) -> bool:
        """True from a TimeoutNow until the election that it asked for."""
        return bool(self._SyncObj__transferInProgress)

    def match(self, peer_id: str) -> int:
        return int(self._SyncObj__raftMatchIndex.get(_Peer(peer_id), 0))

    # What the core says.

    def tick(self) -> None:
        """Commit, apply, send, take proposals, stand for election: whatever is due."""
        self._onTick(0.0)

    def stand_at(self, seconds: float) -> None:
        """Stand for election at this time of the clock unless a leader is heard before."""
        self._SyncObj__raftElectionDeadline = seconds

    def observe_term(self, term: int) -> None:
        """A higher term was seen in an answer: follow."""
        assert term > self.term
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None

    def step_down(self) -> None:
        """Stop leading in this term."""
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None

    def feed_append(
        self, leader_id: str, term: int, prev: tuple[int, int], entries: Sequence[Entry], commit: int
    ) -> None:
        """A checked Append: `prev` is held here with that term, `entries` are all new or begin a conflict."""
        self._feed(
            leader_id,
            {
                "type": "append_entries",
                "term": term,
                "prevLogIdx": prev[0],
                "prevLogTerm": prev[1],
                "entries": [(entry, entry.index, entry.term) for entry in entries],
                "commit_index": commit,
            },
        )

    def feed_vote_request(self, peer_id: str, term: int, last_index: int, last_term: int) -> None:
        message = {"type": "request_vote", "term": term}
        self._feed(peer_id, message | {"last_log_index": last_index, "last_log_term": last_term})

    def feed_vote(self, peer_id: str, term: int) -> None:
        """A vote for us; the core has seen to it that each voter counts once a term."""
        self._feed(peer_id, {"type": "response_vote", "term": term})

    def feed_timeout_now(self, peer_id: str, term: int) -> None:
        self._feed(peer_id, {"type": "timeout_now", "term": term})

    def feed_alive(self, peer_id: str) -> None:
        """A voter answered in our term; it counts for the quorum we must keep hearing of."""
        self._feed(peer_id, {"type": "next_node_idx", "next_node_idx": 1, "reset": False, "success": False})

    def feed_match(self, peer_id: str, index: int) -> None:
        """A voter and this node both have everything up to `index` on disk."""
        message = {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": True}
        self._feed(peer_id, message)

    def _feed(self, peer_id: str, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(_Peer(peer_id), message)

    def set_voters(self, others: Iterable[str]) -> None:
        """The voters besides this node, as of the newest entry about members in the log."""
        nodes = {_Peer(peer_id) for peer_id in others}
        old: set[Node] = self.otherNodes
        for node in old - nodes:
            self._SyncObj__raftMatchIndex.pop(node, None)
            self._SyncObj__raftNextIndex.pop(node, None)
        for node in nodes - old:
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = stock.monotonicTime()
        self._SyncObj__otherNodes = nodes

    def installed(self, index: int) -> None:
        """The state was replaced by a snapshot of `index`, and the log begins behind it."""
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(index, self.commit)

    # What PySyncObj would do by itself.

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        low, high = self.conf.raftMinTimeout, self.conf.raftMaxTimeout
        return float(low + (high - low) * self._dice.random())

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        """Asked when the election timeout is over; the name is PySyncObj's."""
        return self._host.may_stand()

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._SyncObj__newAppendEntriesTime = stock.monotonicTime() + self.conf.appendEntriesPeriod
        self._host.broadcast()

    def _SyncObj__sendNextNodeIdx(self, *args: object, **kwargs: object) -> None:  # noqa: N802
        """The core answers an Append itself, with what it verified."""

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        self._SyncObj__raftLastApplied = self._host.apply_committed(self.commit)
        return False

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """The node releases segments when the state has a checkpoint above them."""

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        self._host.take_proposals()
