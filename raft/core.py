"""One node of the replicated log, without I/O: events in, messages and writes out.

Whoever drives it (`raft/replica.py` with asyncio, `tests/sim` with a simulated world) owes it, from one thread:
`receive`, `connected` and `disconnected` as the network has it; `tick` soon after each `Host.kick` and at least every
half heartbeat; each `Write` of `take_write` carried out and reported to `written`, one at a time; a failed write ends
the node. It owes them: nothing is sent that the disk does not yet back; what is applied is committed, durable here and
the same on every node; every proposal is answered once.

`core.py` is what every node does at any time, `following.py` and `leading.py` what it does in these roles, `elections.py`
how it comes from one to the other. PySyncObj is asked through `engine.py`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from raft import limits
from raft.ballot import Ballot
from raft.elections import Elections
from raft.engine import CANDIDATE, LEADER, Engine
from raft.errors import CommitUnknown, NotLeader, Overwritten
from raft.following import Following
from raft.frames import (
    Append,
    AppendReply,
    Hello,
    Message,
    PreVote,
    PreVoteReply,
    SnapshotPiece,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from raft.journal import LogJournal
from raft.leading import Leading
from raft.members import Membership, decode_members
from raft.promises import Promises, Write
from raft.segments import BASE_INDEX, Log
from raft.snapshots import Incoming
from raft.types import COMMAND, MEMBERS, NOOP, Member, ReplicaConfig, Role, StateMachine

Done = Callable[[object, Exception | None], None]
"""Called once with the result of a proposal, or with why there is none."""


class Host(Protocol):
    """What the core asks of its driver."""

    def send(self, peer_id: str, message: Message) -> bool:
        """Send if there is room and a connection; False if not. Never waits."""
        ...

    def link(self, members: tuple[Member, ...]) -> None:
        """Keep connections to these members (this node left out) and to no others."""
        ...

    def kick(self) -> None:
        """Call `tick` soon."""
        ...

    def hello_changed(self) -> None:
        """Tell the peers again what `hello` says."""
        ...

    def make_snapshot(self) -> None:
        """Write a snapshot of the state and give it to `leading.snapshots.made`."""
        ...

    def changed(self) -> None:
        """Leader, term, role or members changed."""
        ...

    def lead(self, term: int) -> None:
        """This node leads, and its state has all that was ever committed."""
        ...

    def follow(self) -> None:
        """This node does not lead any more."""
        ...


class Core:
    """See the module. All public methods must be called from one thread."""

    # Parts that the simulation replaces by broken ones, to see that it notices.
    promises_class = Promises
    elections_class = Elections
    following_class = Following
    leading_class = Leading

    def __init__(
        self,
        config: ReplicaConfig,
        log: Log,
        ballot: Ballot,
        state: StateMachine,
        host: Host,
        *,
        dice: random.Random,
        clock: Callable[[], float],
        snapshot_in: Incoming,
    ) -> None:
        self.me = config.node_id
        self.config, self.log, self.ballot, self.state, self.host = config, log, ballot, state, host
        self.dice, self.clock = dice, clock
        self.links: set[str] = set()
        self.hellos: dict[str, Hello] = {}
        self.waiting: dict[int, tuple[int, Done]] = {}
        self.queue: deque[tuple[int, bytes, Done]] = deque()
        self.leading: Leading | None = None
        self._events: deque[Callable[[], None]] = deque()
        self._shown: object = None
        self.promises = self.promises_class(log, ballot, host.send)
        self.elections = self.elections_class(self)
        self.following = self.following_class(self, snapshot_in)
        self._align_log()
        self.membership = self.open_membership()
        self.engine = Engine(
            node_id=self.me,
            voters=[v for v in self.membership.voters if v != self.me],
            journal=LogJournal(log, ballot, self.applied),
            host=self,
            dice=dice,
            heartbeat_ms=config.heartbeat_ms,
            election_ms=config.election_ms,
            applied=self.applied,
        )
        self._link()
        self._found_if_all_are_blank()

    # Opening.

    def _align_log(self) -> None:
        """A crash between installing a snapshot and cutting the log leaves the log behind the state."""
        applied, term = self.applied, self.state.applied_term
        assert applied >= self.log.base[0], "the state is older than the log's base: wipe this node"
        if applied > self.log.last[0] or self.log.term_at(applied) != term:
            self.log.reset(applied, term)

    def open_membership(self) -> Membership:
        """The newest list of members: from the log, else from the state, else the founders'."""
        if self.state.members is not None:
            membership = Membership(self.applied, self.state.members)
        elif self.ballot.founded or (self.blank and not self.config.join):
            membership = Membership(self.log.base[0], self.config.members)
        else:
            membership = Membership(self.log.base[0], ())
        for index in range(self.applied + 1, self.log.last[0] + 1):
            entry = self.log.entry(index)
            if entry.kind == MEMBERS:
                membership.appended(index, decode_members(entry.payload))
        return membership

    # What this node is.

    @property
    def blank(self) -> bool:
        """The disk is empty: this node knows no cluster, and has no vote to give."""
        return not self.ballot.exists

    @property
    def voter(self) -> bool:
        """Whether this node has a vote as far as it knows, and may stand. A node that joined must have been given it
        after it joined: an older list that names it speaks of a disk that is gone.
        """
        if self.blank or self.me not in self.membership.voters:
            return False
        return self.ballot.join_floor == 0 or self.membership.index > self.ballot.join_floor

    @property
    def role(self) -> Role:
        if self.blank:
            return "blank"
        if self.engine.role == LEADER:
            return "leader"
        if not self.voter:
            return "learner"
        return "candidate" if self.engine.role == CANDIDATE else "follower"

    @property
    def applied(self) -> int:
        """Last index applied. A new state says 0; the log begins at its base."""
        return max(self.state.applied, BASE_INDEX)

    @property
    def commit(self) -> int:
        """Last index known to be committed and durable here."""
        return min(self.engine.commit, self.log.durable)

    @property
    def leader_id(self) -> str | None:
        """Who leads; None once that is gone, or was silent for the longest election timeout."""
        return self.engine.leader_id if self.elections.leader_heard() else None

    def hello(self) -> Hello:
        """What a peer is told first."""
        untouched = self.engine.term == 0 and self.log.last[0] == 1
        return Hello(
            cluster=self.config.cluster,
            node_id=self.me,
            address=self.config.advertise,
            announce=dict(self.config.announce),
            state="blank" if self.blank else "founding" if untouched else "member",
            term=self.engine.term,
            last_index=self.log.last[0],
        )

    # Events.

    def tick(self) -> None:
        """Do whatever is due."""
        self.engine.tick()
        if self.leading is not None:
            self.leading.tick()
        self._settle()

    def propose(self, payload: bytes, done: Done) -> None:
        """Put a command into the log; `done` gets the result of applying it here."""
        if self.leading is None:
            done(None, NotLeader(self.leader_id))
            return
        self.queue.append((COMMAND, payload, done))
        self.host.kick()

    def take_write(self) -> Write | None:
        return self.promises.take()

    def written(self, write: Write) -> None:
        self.promises.written(write, self.engine.term)
        if self.leading is not None:
            self.leading.feed_matches()
        self.host.kick()
        self._settle()

    def connected(self, peer_id: str) -> None:
        self.links.add(peer_id)
        if self.leading is not None:
            self.leading.connected(peer_id)
        self.host.kick()
        self._settle()

    def disconnected(self, peer_id: str) -> None:
        """A broken connection. If it was the leader's, ask for an election at once, the survivors one by one."""
        self.links.discard(peer_id)
        if self.leading is not None:
            self.leading.disconnected(peer_id)
        elif peer_id == self.engine.leader_id:
            self.elections.leader_lost(peer_id)
        self._settle()

    def greeted(self, peer_id: str, hello: Hello) -> None:
        """A peer told who it is."""
        self.hellos[peer_id] = hello
        self._found_if_all_are_blank()
        if self.leading is not None:
            self.leading.greeted(peer_id)
        self._settle(force=True)

    def receive(self, peer_id: str, message: Message) -> None:
        """A message from a peer, in the order in which its connection carried it."""
        match message:
            case Append():
                self.following.on_append(peer_id, message)
            case AppendReply() | SnapshotReply() if not self._outdates(message.term):
                if self.leading is not None and message.term == self.engine.term:
                    self.leading.on_reply(peer_id, message)
            case Vote():
                self.elections.on_vote(peer_id, message)
            case VoteReply() if not self._outdates(message.term):
                self.elections.on_vote_reply(peer_id, message)
            case PreVote():
                self.elections.on_prevote(peer_id, message)
            case PreVoteReply() if not self._outdates(message.term) and message.granted:
                self.elections.on_prevote_granted(peer_id, message.round)
            case TimeoutNow() if message.term == self.engine.term and self.voter:
                self.engine.feed_timeout_now(peer_id, message.term)
            case SnapshotPiece():
                self.following.on_snapshot_piece(peer_id, message)
        self.host.kick()
        self._settle()

    # Founding and joining.

    def _found_if_all_are_blank(self) -> None:
        """A new cluster begins when every founder has said that it has no history; one that has means that this
        disk was lost, and this node must be let in without a vote.
        """
        if not self.blank or self.config.join or self.membership.find(self.me) is None:
            return
        others = [m.id for m in self.membership.current if m.id != self.me]
        if all(o in self.hellos and self.hellos[o].state in ("blank", "founding") for o in others):
            self.ballot.found(self.me, self.config.cluster)
            self.host.hello_changed()
            self.host.kick()

    def _outdates(self, term: int) -> bool:
        """True if `term` is newer than ours, which is then followed."""
        if term <= self.engine.term:
            return False
        self.engine.observe_term(term)
        return True

    # What the engine asks.

    def may_stand(self) -> bool:
        return self.elections.may_stand()

    def send_engine_message(self, peer_id: str, message: dict[str, Any]) -> None:
        self.elections.send(peer_id, message)

    def broadcast(self) -> None:
        if self.leading is not None:
            self.leading.heartbeat()

    def take_proposals(self) -> None:
        if self.leading is not None:
            self.leading.take_proposals()

    def role_changed(self, old: int, new: int) -> None:
        if new == LEADER:
            self.leading = self.leading_class(self)
        elif old == LEADER and self.leading is not None:
            leading, self.leading = self.leading, None
            leading.close()
            self.fail_proposals()
            if leading.announced:
                self._events.append(self.host.follow)

    def fail_proposals(self) -> None:
        """Answer every proposal that will not be answered by being applied under this leadership."""
        queue, self.queue = self.queue, deque()
        waiting, self.waiting = self.waiting, {}
        for _, _, done in queue:
            done(None, NotLeader(None))
        for _, done in waiting.values():
            done(None, CommitUnknown())

    def stop(self) -> None:
        """Nothing is done here any more: everyone who waits is told."""
        leading, self.leading = self.leading, None
        if leading is not None:
            leading.abandon()
        self.fail_proposals()

    def later(self, event: Callable[[], None]) -> None:
        """Run `event` when this step is over and everything is consistent again."""
        self._events.append(event)

    def apply_committed(self, commit: int) -> int:
        """Apply what is committed and durable here, a bounded bite; returns the last index applied."""
        index, end = self.applied, min(commit, self.log.durable)
        stop = min(end, index + limits.APPLY_ENTRIES_MAX)
        if index >= stop:
            return index
        if self.leading is not None:
            self.leading.announce(index + 1)
        while index < stop:
            index += 1
            entry = self.log.entry(index)
            result: object = None
            if entry.kind == COMMAND:
                result = self.state.apply(index, entry.term, entry.payload)
            else:
                assert entry.kind in (NOOP, MEMBERS), f"entry {index} has unknown kind {entry.kind}"
                members = decode_members(entry.payload) if entry.kind == MEMBERS else None
                self.state.record(index, entry.term, members)
            assert self.state.applied == index
            if (waiter := self.waiting.pop(index, None)) is not None:
                term, done = waiter
                done(result, None if term == entry.term else Overwritten())
        self.state.flush()
        self.membership.committed(index)
        if stop < end:
            self.host.kick()
        return index

    def members_changed(self) -> None:
        """The newest list of members is another one, committed or not."""
        self.engine.set_voters(v for v in self.membership.voters if v != self.me)
        self._link()
        if self.leading is not None:
            self.leading.members_changed()

    def _link(self) -> None:
        self.host.link(tuple(m for m in self.membership.current if m.id != self.me))

    def _settle(self, *, force: bool = False) -> None:
        while self._events:
            self._events.popleft()()
        engine, links = self.engine, len(self.links)
        shown = (engine.role, engine.term, self.leader_id, self.membership.index, links, self.blank)
        if force or shown != self._shown:
            self._shown = shown
            self.host.changed()
