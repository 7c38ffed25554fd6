"""Parts of a node with one bug each, such as a careless change could bring back.

What a part breaks is named in the class that it overrides; what provokes and betrays it stands in `bugs.py`.
"""

from collections.abc import Callable
from dataclasses import replace
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


class StandsAtOnce(Elections):
    """A node stands for election when its timeout is over, asked for or not."""

    def may_stand(self) -> bool:
        return self._core.voter


class Deserts(Elections):
    """A node votes for whoever comes, whether it hears from a leader or not."""

    def leader_alive(self) -> bool:
        return False


class HearsThePast(Core):
    """An acknowledgement counts whatever term it was given in."""

    def receive(self, peer_id: str, message: Message) -> None:
        if isinstance(message, AppendReply) and message.term < self.engine.term:
            message = replace(message, term=self.engine.term)
        super().receive(peer_id, message)


class VotesBlank(Elections):
    """A node votes whatever its disk holds."""

    @property
    def may_vote(self) -> bool:
        return True


class VotesWithoutPast(Core):
    """A node whose disk is gone votes and stands as if nothing had happened."""

    elections_class = VotesBlank

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
