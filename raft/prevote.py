"""Who may stand for election: a round of questions that changes nothing (Raft thesis, section 9.6).

Stock PySyncObj raises its term whenever its timeout is over, so a node that comes back from a partition throws out
a healthy leader (defect 9). Here a node stands only after a majority of the voters said that they would vote for it:
its log is as new as theirs, and none of them hears from a leader.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raft.frames import PreVote
from raft.progress import majority


@dataclass(slots=True)
class PreVoteRound:
    """The round this node is asking in. A majority is counted over voters by name, so an answer counts once."""

    number: int = 0
    next_term: int = 0
    began_at: float = float("-inf")
    asked_at: float = float("-inf")
    granted: set[str] = field(default_factory=set)

    def ask(self, *, me: str, next_term: int, now: float, patience_s: float) -> None:
        """Ask for `next_term`, once more in the same round if that began less than `patience_s` ago: an answer may
        take longer than the time between two questions.
        """
        if not self.granted or next_term != self.next_term or now - self.began_at > patience_s:
            self.number += 1
            self.next_term = next_term
            self.began_at = now
            self.granted = {me}
        self.asked_at = now

    def grant(self, voter: str, number: int) -> None:
        if number == self.number and self.granted:
            self.granted.add(voter)

    def won(self, voters: tuple[str, ...], next_term: int) -> bool:
        """True if a majority of today's voters granted, for the term that would come next today."""
        granted = self.granted.intersection(voters)
        return next_term == self.next_term and len(granted) >= majority(len(voters))

    def end(self) -> None:
        """The election that the round allowed has begun, or a leader was heard: the next one asks again."""
        self.granted = set()


def up_to_date(last: tuple[int, int], candidate_index: int, candidate_term: int) -> bool:
    """Whether a candidate's log is at least as new as ours, whose last entry is `last` (Raft, section 5.4.1)."""
    index, term = last
    return (candidate_term, candidate_index) >= (term, index)


def may_grant(
    message: PreVote, *, own_term: int, last: tuple[int, int], voter: bool, leads: bool, leader_alive: bool
) -> bool:
    """Whether this node would vote for the sender of `message` now."""
    if not voter or leads or leader_alive:
        return False
    return message.next_term > own_term and up_to_date(last, message.last_index, message.last_term)
