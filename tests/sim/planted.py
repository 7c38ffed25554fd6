"""Parts of a node with one bug each, and the weather in which it shows.

Each bug is one that a careful change could bring back: the part it breaks is named in the class that it overrides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from raft.core import Core
from raft.elections import Elections
from raft.following import Following
from raft.frames import Append, AppendReply, Message, SnapshotPiece, VoteReply
from raft.guard import Accepted, LogView, Malformed, Rejected, check_append
from raft.leading import Leading
from raft.progress import Progress
from raft.promises import Promises
from raft.segments import Log
from raft.snapshots import Incoming
from raft.types import COMMAND
from tests.sim.disk import SimDisk
from tests.sim.faults import Faults, Rates, simulate
from tests.sim.network import Weather
from tests.sim.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A world with one broken part, what provokes the bug, and how it shows."""

    shows_as: str
    """A regular expression: the violated promise, or the assertion that stands in front of it."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Arguments of World."""
    patches: dict[str, object] = field(default_factory=dict)
    """What has no seam, by its dotted name."""
    nodes: int = 3
    weather: Weather = field(default_factory=Weather)
    rates: Rates
    faults: type[Faults] = Faults
    seconds: float = 8.0

    def run(self, seed: int, *, broken: bool) -> None:
        """One run; raises what the checkers, or assertions of the node, have to say."""
        world = World(seed, nodes=self.nodes, weather=self.weather, **(self.parts if broken else {}))
        try:
            simulate(world, self.seconds, self.rates, self.faults)
        finally:
            world.close()


class Deposals(Faults):
    """Leaders are cut off in the middle of their work, and come back with what nobody else has."""

    def __init__(self, world: World, rates: Rates | None = None) -> None:
        super().__init__(world, rates)
        self._deposed: str | None = None

    def step(self) -> None:
        self._clients()
        self._members()
        network, leader = self.world.network, self.world.leader()
        if leader is None:
            return
        if not network.cut and self._chance(self.rates.partition):
            others = [n for n in self.world.nodes if n != leader.id]
            network.cut = {(n, leader.id) for n in others} | {(leader.id, n) for n in others}
            self._deposed = leader.id
        elif network.cut and leader.id != self._deposed and self._chance(self.rates.heal):
            network.heal()


# The disk.


class ForgetfulDisk(SimDisk):
    """fsync says yes and does nothing."""

    def sync(self, name: str) -> None:
        self.size(name)


class AlwaysRight(int):
    """A checksum that equals whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


class Unchecked:
    """The checksums of somebody who forgot to compare them."""

    @staticmethod
    def value(data: bytes) -> int:
        return AlwaysRight()


def takes_for_torn(*args: object) -> None:
    """All damage at the end of the log is called a torn tail, whatever later records say."""


# What leaves before it is durable.


class AnswersAtOnce(Promises):
    """A follower acknowledges what is not on its disk yet."""

    def hold(self, peer_id: str, message: Message) -> None:
        if isinstance(message, AppendReply):
            self._send(peer_id, message)
        else:
            super().hold(peer_id, message)


class VotesAtOnce(Promises):
    """A vote leaves before it is on disk, and may be given again after a power cut."""

    def hold(self, peer_id: str, message: Message) -> None:
        if isinstance(message, VoteReply):
            self._send(peer_id, message)
        else:
            super().hold(peer_id, message)


class DurableByItself:
    """A log that calls everything durable that it holds."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return self._log.last[0] if name == "durable" else getattr(self._log, name)


class CountsItselfEarly(Leading):
    """The leader's own copy counts before it is on its disk."""

    def feed_match(self, peer_id: str, progress: Progress) -> None:
        core = self._core
        log, core.log = core.log, DurableByItself(core.log)  # type: ignore[assignment]
        super().feed_match(peer_id, progress)
        core.log = log


class AppliesEarly(Core):
    """Applies what is committed, durable here or not; and counts itself early, or nobody could commit that."""

    leading_class = CountsItselfEarly

    def apply_committed(self, commit: int) -> int:
        log, self.log = self.log, DurableByItself(self.log)  # type: ignore[assignment]
        try:
            return super().apply_committed(commit)
        finally:
            self.log = log


# The guard.


class CutsAlways(Following):
    """Believes every Append from its first entry on, as stock PySyncObj does."""

    @staticmethod
    def check(log: LogView, message: Append, committed: int) -> Accepted | Rejected | Malformed:
        prev, last = (message.prev_index, message.prev_term), message.prev_index + len(message.entries)
        if log.term_at(message.prev_index) != message.prev_term:
            return check_append(log, message, committed)
        return Accepted(prev, message.entries, last, min(message.commit, last))


class BelievesCommit(Following):
    """Takes the leader's commit index for its own log, verified or not."""

    @staticmethod
    def check(log: LogView, message: Append, committed: int) -> Accepted | Rejected | Malformed:
        verdict = check_append(log, message, committed)
        return replace(verdict, commit=message.commit) if isinstance(verdict, Accepted) else verdict


class AcknowledgesItsEnd(Following):
    """Acknowledges what its log ends with, not what the message vouches for (stock: an empty next_node_idx)."""

    @staticmethod
    def check(log: LogView, message: Append, committed: int) -> Accepted | Rejected | Malformed:
        verdict = check_append(log, message, committed)
        if isinstance(verdict, Accepted) and not verdict.entries:
            return replace(verdict, verified=log.last[0])
        return verdict


class TakesAnyPiece(Incoming):
    """Writes what arrives behind what is there, whichever piece it is."""

    def take(self, piece: SnapshotPiece) -> int:
        return super().take(replace(piece, offset=self._received))


# Who counts.


class CountsTwice(Elections):
    """Votes are counted, not attributed."""

    def on_vote_reply(self, peer_id: str, message: VoteReply) -> None:
        if message.term == self._core.engine.term:
            self._core.engine.feed_vote(peer_id, message.term)


class HearsThePast(Core):
    """An acknowledgement counts whatever term it was given in."""

    def receive(self, peer_id: str, message: Message) -> None:
        if isinstance(message, AppendReply) and message.term < self.engine.term:
            message = replace(message, term=self.engine.term)
        super().receive(peer_id, message)


class VotesWithoutPast(Core):
    """A node whose disk is gone votes as if nothing had happened."""

    @property
    def voter(self) -> bool:
        return self.me in self.membership.voters


class ChangesInHaste(Leading):
    """A change of members begins before the one before it is committed."""

    def _settled(self) -> bool:
        return self.announced


# What clients are told.


class AnswersAtAppend(Leading):
    """A command is answered when it is in the leader's log."""

    def take_proposals(self) -> None:
        core = self._core
        queued = list(core.queue)
        core.queue.clear()
        for kind, payload, done in queued:
            ahead = (core.log.entry(i).kind == COMMAND for i in range(core.applied + 1, core.log.last[0] + 1))
            position = len(core.state.commands) + sum(ahead) + 1  # type: ignore[attr-defined]
            core.queue.append((kind, payload, _nobody))
            super().take_proposals()
            done(position, None)


def _nobody(result: object, error: Exception | None) -> None:
    """The answer was given before."""


class ReadsAlone(Leading):
    """A leader answers reads without asking whether it still is one."""

    def read(self, done: Callable[[int | None], None]) -> None:
        done(self._core.applied)


def core_with(**parts: type) -> dict[str, Any]:
    """The core with one part replaced."""
    return {"core_class": type("BrokenCore", (Core,), parts)}


STORM = Weather(loss=0.05, double=0.05, late=0.3, late_s=1.0)
LOSSY = Weather(loss=0.3, late=0)
TWICE = Weather(loss=0.1, double=1.0, late=0, delay_s=(0.005, 0.04))
ECHOES = Weather(loss=0, double=1.0, late=0.1, late_s=3.0)

CALM = Rates(
    crash=0,
    all_at_once=0,
    partition=0,
    pause=0,
    slow_disk=0,
    torn=0,
    full=0,
    fsync=0,
    wipe=0,
    flip=0,
    change=0,
    hand_over=0,
)
POWER_CUTS = replace(CALM, crash=0.03, power_loss=1.0, all_at_once=0.01, start=0.1, slow_disk=0.1)
FIRST_ELECTIONS = replace(CALM, all_at_once=0.015, power_loss=0, start=0.5, propose=0.01)
LOST_DISKS = replace(CALM, wipe=0.03, partition=0.02, heal=0.03, crash=0.005)
ROT = replace(CALM, flip=0.03, crash=0.02, start=0.1)
DEPOSED = replace(CALM, partition=0.05, heal=0.1)
SHRINKING = replace(CALM, partition=0.06, heal=0.1, change=0.5, propose=0.2)
GAPS = replace(CALM, crash=0.02, power_loss=0, start=0.02, propose=0.9)

BUGS: dict[str, Bug] = {
    "fsync does nothing": Bug(
        parts={"disk_class": ForgetfulDisk},
        rates=POWER_CUTS,
        shows_as="Violation: .*(refuses to start|on its disk is|must hold it|was committed)",
    ),
    "a follower acknowledges before its disk does": Bug(
        parts=core_with(promises_class=AnswersAtOnce),
        rates=POWER_CUTS,
        shows_as="Violation: .*must hold it",
    ),
    "a vote leaves before it is on disk": Bug(
        parts=core_with(promises_class=VotesAtOnce),
        rates=POWER_CUTS,
        shows_as="Violation: .*on its disk is",
    ),
    "a leader counts itself before its disk does": Bug(
        parts={"core_class": AppliesEarly},
        rates=POWER_CUTS,
        shows_as="Violation: .*must hold it",
    ),
    "checksums are not looked at": Bug(
        patches={"raft.recovery.google_crc32c": Unchecked},
        rates=ROT,
        shows_as="Violation: .*starts though its disk is damaged",
    ),
    "damage is taken for a torn tail": Bug(
        patches={"raft.recovery._refuse_lost_promises": takes_for_torn},
        rates=ROT,
        shows_as="Violation: .*(has forgotten|starts though its disk is damaged)",
    ),
    "the log is cut without a conflict": Bug(
        parts=core_with(following_class=CutsAlways),
        rates=CALM,
        weather=STORM,
        shows_as="Violation: .*(must hold it|was committed)|assert index > self.index",
    ),
    "the commit index is not capped": Bug(
        parts=core_with(following_class=BelievesCommit),
        rates=DEPOSED,
        faults=Deposals,
        weather=LOSSY,
        shows_as="Violation: .*was committed",
    ),
    "the log's end is acknowledged": Bug(
        parts=core_with(following_class=AcknowledgesItsEnd),
        rates=DEPOSED,
        faults=Deposals,
        weather=LOSSY,
        shows_as="an acknowledgement of what was never sent|Violation: .*must hold it",
    ),
    "snapshot pieces go where they come": Bug(
        patches={"tests.sim.node.Incoming": TakesAnyPiece},
        rates=GAPS,
        weather=STORM,
        shows_as="JSONDecodeError|AssertionError",
    ),
    "votes are counted twice": Bug(
        parts=core_with(elections_class=CountsTwice),
        nodes=5,
        rates=FIRST_ELECTIONS,
        weather=TWICE,
        shows_as="Violation: term .* has two leaders",
    ),
    "acknowledgements of old terms count": Bug(
        parts={"core_class": HearsThePast},
        rates=replace(DEPOSED, partition=0.02, hand_over=0.02, propose=0.2, read=0.8),
        faults=Deposals,
        weather=ECHOES,
        shows_as="Violation: .*(a read saw|must hold it)",
    ),
    "a node without its disk votes": Bug(
        parts={"core_class": VotesWithoutPast},
        rates=LOST_DISKS,
        shows_as="Violation: ",
    ),
    "members change in haste": Bug(
        parts=core_with(leading_class=ChangesInHaste),
        rates=SHRINKING,
        shows_as="Violation: .*(was committed|has two leaders|must hold it)",
    ),
    "commands are answered before they are committed": Bug(
        parts=core_with(leading_class=AnswersAtAppend),
        rates=DEPOSED,
        faults=Deposals,
        shows_as="Violation: .*(lost b|a read saw|acknowledged twice)",
    ),
    "reads are answered without a quorum": Bug(
        parts=core_with(leading_class=ReadsAlone),
        rates=replace(DEPOSED, read=0.8),
        faults=Deposals,
        shows_as="Violation: .*a read saw",
    ),
}
