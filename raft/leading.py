"""What only a leader does: replicate, confirm reads, hand over, change the members, send snapshots.

An object of this class lives for one term of leadership; what it knows of the followers dies with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from raft import limits
from raft.errors import (
    ChangeInProgress,
    MemberExists,
    MemberNotFound,
    NotLeader,
    TransferFailed,
)
from raft.frames import Append, AppendReply, SnapshotReply, TimeoutNow
from raft.members import MEMBERS_MAX, encode_members, with_voter
from raft.progress import Progress, quorum_round
from raft.records import Entry
from raft.sending import SnapshotSender
from raft.types import MEMBERS, Member

if TYPE_CHECKING:
    from raft.core import Core, Done

_log = logging.getLogger(__name__)

CAUGHT_UP_ENTRIES = 64  # a learner this close gets its vote; the rest reaches it like any follower


class Leading:
    """One term of leadership of `core`'s node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.term = core.engine.term
        self.announced = False
        self._noop = core.log.last[0] + 1  # PySyncObj appends it right after this
        self._round = 0
        self.progress: dict[str, Progress] = {}
        self._reads: list[tuple[int, int, Callable[[int | None], None]]] = []
        self._handover: tuple[str, float, Done] | None = None
        self._timeout_sent = False
        self.snapshots = SnapshotSender(core, self)
        self.members_changed()

    def close(self) -> None:
        """Leadership is over."""
        for _, _, done in self._reads:
            done(None)
        self._reads = []
        if self._handover is not None:
            self._end_handover(None)
        self.snapshots.close()

    def abandon(self) -> None:
        """The node ends: a hand-over under way will not be seen to its end."""
        if self._handover is not None:
            _, _, done = self._handover
            self._handover = None
            done(None, TransferFailed("This node stops."))
        self.close()

    # Replication.

    def take_proposals(self) -> None:
        """Append what was proposed, one entry each, and let it travel."""
        core = self._core
        if self._handover is not None:
            return
        while core.queue:
            kind, payload, done = core.queue.popleft()
            index = core.log.last[0] + 1
            core.log.append(index, self.term, kind, payload)
            core.waiting[index] = (self.term, done)
        self.replicate()

    def replicate(self) -> None:
        """Send to each follower what it lacks, if nothing is in flight to it."""
        last = self._core.log.last[0]
        for peer_id, progress in self.progress.items():
            if progress.inflight is None and progress.next <= last:
                self._send_entries(peer_id, progress)

    def heartbeat(self) -> None:
        """Tell everyone that this node leads, whatever is in flight."""
        if self._may_forget_term():
            return
        now = self._core.clock()
        for peer_id, progress in self.progress.items():
            if progress.blank or peer_id not in self._core.links:
                continue
            lost = progress.inflight is not None and (
                now - progress.inflight_since > self._core.config.election_ms / 1000
            )
            if lost:
                progress.reconnected(self._core.log.last[0])
            due = progress.inflight is None and progress.next <= self._core.log.last[0]
            if due:
                self._send_entries(peer_id, progress)
            if not due or progress.inflight is None:  # it cannot take them now: it waits for a snapshot
                self._send_heartbeat(peer_id, progress)
        self.snapshots.send_due()

    def announce(self, index: int) -> None:
        """What is committed will be applied here, from `index` on: if that takes a while, followers begin meanwhile."""
        core = self._core
        if len(core.log.entry(index).payload) < limits.ANNOUNCE_BYTES or self._may_forget_term():
            return
        for peer_id, progress in self.progress.items():
            if progress.acked >= index and peer_id in core.links:
                self._send_heartbeat(peer_id, progress)

    def _may_forget_term(self) -> bool:
        """True while this term is not on disk. A sole voter leads before it is; if it then spoke and lost power, it
        would lead the same term again, with other entries.
        """
        return self._core.promises.ballot_pending

    def _send_entries(self, peer_id: str, progress: Progress) -> None:
        log = self._core.log
        if progress.blank or progress.wants_snapshot or peer_id not in self._core.links:
            return
        if self._may_forget_term():
            return
        prev_term = log.term_at(progress.next - 1)
        if prev_term is None:
            progress.wants_snapshot = True
            self.snapshots.want()
            return
        entries = tuple(log.slice(progress.next, limits.APPEND_BYTES))
        message = self._append(progress.next - 1, prev_term, entries)
        if self._core.host.send(peer_id, message):
            progress.sent(message.round, self._core.clock())

    def _send_heartbeat(self, peer_id: str, progress: Progress) -> None:
        log = self._core.log
        prev = progress.acked or progress.next - 1
        prev = max(min(prev, log.last[0]), log.base[0])
        prev_term = log.term_at(prev)
        assert prev_term is not None
        self._core.host.send(peer_id, self._append(prev, prev_term, ()))

    def _append(self, prev: int, prev_term: int, entries: tuple[Entry, ...]) -> Append:
        self._round += 1
        return Append(self.term, self._round, prev, prev_term, self._core.commit, entries)

    def on_reply(self, peer_id: str, message: AppendReply | SnapshotReply) -> None:
        """A follower answered in this term."""
        progress = self.progress.get(peer_id)
        if progress is None:
            return
        if peer_id in self._core.membership.voters:
            self._core.engine.feed_alive(peer_id)
        if isinstance(message, SnapshotReply):
            self.snapshots.on_reply(peer_id, progress, message)
        else:
            self._on_append_reply(peer_id, progress, message)
        self._confirm_reads()
        if progress.inflight is None and progress.next <= self._core.log.last[0]:
            self._send_entries(peer_id, progress)

    def _on_append_reply(self, peer_id: str, progress: Progress, message: AppendReply) -> None:
        if message.success and message.index > self._core.log.last[0]:
            why = f"it acknowledges {message.index}, and {self._core.log.last[0]} is the last there is"
            _log.critical("reply_refused", extra={"fields": {"peer": peer_id, "why": why}})
            return
        probing = progress.inflight is None or message.round >= progress.inflight
        progress.answered(message.round)
        if message.success:
            progress.matched(message.index)
            self.feed_match(peer_id, progress)
        elif probing and not progress.wants_snapshot:
            progress.rejected(message.index)

    def feed_matches(self) -> None:
        """This node's own disk has caught up: acknowledgements that waited for it may count."""
        for peer_id, progress in self.progress.items():
            self.feed_match(peer_id, progress)

    def feed_match(self, peer_id: str, progress: Progress) -> None:
        core = self._core
        index = min(progress.acked, core.log.durable)
        if peer_id in core.membership.voters and index > core.engine.match(peer_id):
            core.engine.feed_match(peer_id, index)

    # Time.

    def tick(self) -> None:
        core = self._core
        if not self.announced and core.applied >= self._noop:
            self.announced = True
            core.later(lambda: core.host.lead(self.term))
            if core.membership.index <= 1:
                self._append_members(core.membership.current, _ignore)
        self._ask_for_reads()
        self._confirm_reads()
        self._drive_handover()
        self._drive_members()

    # Linearizable reads.

    def read(self, done: Callable[[int | None], None]) -> None:
        """`done(index)` when a majority has confirmed, after this call, that this node leads, and `index`, all that
        was committed before it, is applied; `done(None)` if leadership is lost first.
        """
        self._reads.append((self._round + 1, max(self._core.commit, self._noop), done))
        self._core.host.kick()

    def _ask_for_reads(self) -> None:
        """One round of heartbeats for all reads that came since the last one."""
        if self._reads and self._reads[-1][0] > self._round:
            self.heartbeat()
            self._round = max(self._round, self._reads[-1][0])

    def _confirm_reads(self) -> None:
        if not self._reads:
            return
        core = self._core
        confirmed = quorum_round(core.me, core.membership.voters, self.progress, self._round)
        still: list[tuple[int, int, Callable[[int | None], None]]] = []
        for round_, index, done in self._reads:
            if round_ <= confirmed and core.applied >= index:
                core.later(lambda done=done, index=index: done(index))  # type: ignore[misc]
            else:
                still.append((round_, index, done))
        self._reads = still

    # Handing over.

    def hand_over(self, target: str | None, timeout_s: float, done: Done) -> None:
        """Stop taking proposals, bring `target` up to date, tell it to stand; `done(target)` when this node
        does not lead any more.
        """
        core = self._core
        able = [v for v in core.membership.voters if v != core.me and v in core.links]
        if target is None and able:
            target = max(able, key=lambda v: (self.progress[v].acked, v))
        if target not in able or self._handover is not None:
            done(
                None,
                TransferFailed(
                    "No connected member can take it." if target not in able else "One is under way."
                ),
            )
            return
        assert target is not None
        self._handover = (target, core.clock() + timeout_s, done)
        self._timeout_sent = False
        core.host.kick()

    def _drive_handover(self) -> None:
        if self._handover is None:
            return
        core = self._core
        target, deadline, _ = self._handover
        if target not in core.links:
            self._end_handover(TransferFailed(f"{target} went away."))
        elif core.clock() > deadline:
            self._end_handover(TransferFailed(f"{target} did not take it in time."))
        elif not self._timeout_sent and self.progress[target].acked == core.log.last[0]:
            self._timeout_sent = core.host.send(target, TimeoutNow(self.term))

    def _end_handover(self, error: Exception | None) -> None:
        assert self._handover is not None
        target, _, done = self._handover
        self._handover = None
        self._core.later(lambda: done(None if error else target, error))
        self._core.host.kick()

    # Members.

    def members_changed(self) -> None:
        core = self._core
        wanted = {m.id for m in core.membership.current if m.id != core.me}
        for peer_id in sorted(self.progress.keys() - wanted):
            del self.progress[peer_id]
        for peer_id in sorted(wanted - self.progress.keys()):
            self.progress[peer_id] = Progress(next=core.log.last[0] + 1)
            self.greeted(peer_id)

    def add(self, member: Member, done: Done) -> None:
        """Put a learner into the list; it gets its vote when it has caught up."""
        core = self._core
        known = core.membership.find(member.id)
        if known is not None and known.address == member.address:
            done(None, None if not known.voter else MemberExists(member.id))
        elif known is not None or len(core.membership.current) >= MEMBERS_MAX:
            done(
                None,
                MemberExists(member.id)
                if known
                else ChangeInProgress(f"{MEMBERS_MAX} members are the most."),
            )
        else:
            learner = Member(member.id, member.address, voter=False)
            self._change((*core.membership.current, learner), done)

    def remove(self, member_id: str, done: Done) -> None:
        """Take a member out of the list; the leader itself must hand over first."""
        current = self._core.membership.current
        if self._core.membership.find(member_id) is None:
            done(None, MemberNotFound(member_id))
        elif member_id == self._core.me:
            done(None, NotLeader(None))
        else:
            self._change(tuple(m for m in current if m.id != member_id), done)

    def _change(self, members: tuple[Member, ...], done: Done) -> None:
        if self._settled():
            self._append_members(members, done)
        else:
            done(None, ChangeInProgress())

    def _settled(self) -> bool:
        """A change may begin: an entry of this term and the change before are committed (Raft, section 6; the
        first condition is the erratum of 2015).
        """
        core = self._core
        applied = core.applied
        return self.announced and core.membership.index <= applied and self._handover is None

    def _append_members(self, members: tuple[Member, ...], done: Done) -> None:
        core = self._core
        index = core.log.last[0] + 1
        core.log.append(index, self.term, MEMBERS, encode_members(members))
        core.waiting[index] = (self.term, done)
        core.membership.appended(index, members)
        core.members_changed()
        core.host.kick()

    def _drive_members(self) -> None:
        """Take the vote of a member whose disk is gone, give it to a learner that has caught up."""
        core = self._core
        if not self._settled():
            return
        for member in core.membership.current:
            progress = self.progress.get(member.id)
            if progress is None or member.id not in core.links:
                continue
            if member.voter and progress.blank:
                self._append_members(with_voter(core.membership.current, member.id, voter=False), _ignore)
                return
            if not member.voter and progress.blank:
                progress.blank = False  # its vote is gone for good: it may be caught up
                progress.reconnected(core.log.last[0])
            caught_up = progress.acked > 0 and progress.acked + CAUGHT_UP_ENTRIES >= core.log.last[0]
            if not member.voter and caught_up:
                self._append_members(with_voter(core.membership.current, member.id, voter=True), _ignore)
                return

    # Connections.

    def connected(self, peer_id: str) -> None:
        progress = self.progress.get(peer_id)
        if progress is not None:
            progress.reconnected(self._core.log.last[0])
            self.snapshots.reconnected(peer_id)

    def disconnected(self, peer_id: str) -> None:
        progress = self.progress.get(peer_id)
        if progress is not None:
            progress.inflight = None

    def greeted(self, peer_id: str) -> None:
        """A peer's hello: with an empty disk it starts anew, and keeps silent until its vote is settled."""
        hello, progress = self._core.hellos.get(peer_id), self.progress.get(peer_id)
        if progress is None or hello is None or hello.state != "blank" or progress.blank:
            return
        next_ = progress.next
        self.progress[peer_id] = Progress(next=next_, blank=True)


def _ignore(result: object, error: Exception | None) -> None:
    """Nobody waits for this change; if it is lost the next tick or the next leader makes it again."""
