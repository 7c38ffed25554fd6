"""How a node comes to lead: whom it asks, whom it votes for, and when it holds its tongue.

PySyncObj decides on votes by log and term. Around it: a node that lost its disk keeps silent, an election begins with a
round of pre-votes, nobody deserts a leader that is alive unless that leader asks for it, a vote counts once, and no vote
leaves before it is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft import limits
from raft.frames import PreVote, PreVoteReply, Vote, VoteReply
from raft.prevote import PreVoteRound, may_grant

if TYPE_CHECKING:
    from raft.core import Core


class Elections:
    """The elections in which `core`'s node takes part."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._prevote = PreVoteRound()
        self._votes: tuple[int, set[str]] = (0, set())
        self._heard_at = float("-inf")
        self._transfer_vote = False
        self.count = 0

    @property
    def may_vote(self) -> bool:
        """Whether this node may vote for others. Whose votes count is for the candidate's list to say, which may be
        newer than the one here: a learner that kept silent could keep the only node from leading that gave it its vote.
        A node that joined may vote as soon as it holds all that was committed then, the end of its old vote included:
        from there on it refuses whoever lacks that, as any voter does.
        """
        core = self._core
        return not core.blank and core.log.last[0] >= core.ballot.join_floor

    def heard_leader(self) -> None:
        """A leader of the current term has spoken."""
        self._heard_at = self._core.clock()
        self._prevote.end()

    def leader_lost(self, leader_id: str) -> None:
        """The connection to the leader broke: ask for an election at once, the survivors one by one."""
        core = self._core
        if core.voter:
            others = sorted(v for v in core.membership.voters if v != leader_id)
            wait_ms = others.index(core.me) * limits.STAGGER_MS + core.dice.uniform(0, limits.STAGGER_MS / 3)
            core.engine.stand_at(core.clock() + wait_ms / 1000)

    def send(self, peer_id: str, message: dict[str, Any]) -> None:
        """What the engine says in an election, when the disk backs it."""
        kind = message["type"]
        if kind == "request_vote":
            index, term = message["last_log_index"], message["last_log_term"]
            self._core.promises.hold(peer_id, Vote(message["term"], index, term, self._transfer_vote))
        else:
            assert kind == "response_vote", kind
            self._core.promises.hold(peer_id, VoteReply(message["term"]))

    def on_prevote_granted(self, peer_id: str, round_: int) -> None:
        self._prevote.grant(peer_id, round_)

    def leader_alive(self) -> bool:
        """Whether this node leads, or hears from who does."""
        if self._core.leading is not None:
            return True
        recent = self._core.clock() - self._heard_at < self._core.config.election_ms / 1000
        return recent and self._core.engine.leader_id in self._core.links

    def leader_heard(self) -> bool:
        """Whether this node leads, or is connected to who does and heard it within the longest election timeout."""
        if self._core.leading is not None:
            return True
        recent = self._core.clock() - self._heard_at < 2 * self._core.config.election_ms / 1000
        return recent and self._core.engine.leader_id in self._core.links

    def may_stand(self) -> bool:
        """Asked by the engine when its election timeout is over."""
        if not self._core.voter:
            return False
        self._transfer_vote = self._core.engine.transfer_pending
        next_term, voters, now = self._core.engine.term + 1, self._core.membership.voters, self._core.clock()
        if self._transfer_vote or voters == (self._core.me,) or self._prevote.won(voters, next_term):
            self._prevote.end()
            self.count += 1
            return True
        if now - self._prevote.asked_at >= limits.PREVOTE_RETRY_MS / 1000 * self._core.dice.uniform(0.7, 1.3):
            patience_s = self._core.config.election_ms / 1000
            self._prevote.ask(me=self._core.me, next_term=next_term, now=now, patience_s=patience_s)
            index, term = self._core.log.last
            question = PreVote(self._core.engine.term, self._prevote.number, next_term, index, term)
            for voter in voters:
                if voter != self._core.me:
                    self._core.host.send(voter, question)
        return False

    def on_prevote(self, peer_id: str, message: PreVote) -> None:
        granted = may_grant(
            message,
            own_term=self._core.engine.term,
            last=self._core.log.last,
            voter=self.may_vote,
            leads=self._core.leading is not None,
            leader_alive=self.leader_alive(),
        )
        self._core.host.send(peer_id, PreVoteReply(self._core.engine.term, message.round, granted))

    def on_vote(self, peer_id: str, message: Vote) -> None:
        if self.may_vote and (message.transfer or not self.leader_alive()):
            self._core.engine.feed_vote_request(peer_id, message.term, message.last_index, message.last_term)

    def on_vote_reply(self, peer_id: str, message: VoteReply) -> None:
        term, voters = self._votes
        if term != self._core.engine.term:
            voters = set()
        if (
            message.term == self._core.engine.term
            and peer_id in self._core.membership.voters
            and peer_id not in voters
        ):
            self._votes = (self._core.engine.term, voters | {peer_id})
            self._core.engine.feed_vote(peer_id, message.term)
