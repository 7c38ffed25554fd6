"""A follower as its leader sees it, and the quorum arithmetic over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """What the leader knows of one follower. Invariant: acked < next.

    One Append with entries is in flight at a time, carrying all that has gathered since the one before: that is
    the group commit. Heartbeats do not count, so a slow disk never looks like a dead node.
    """

    next: int
    """The first entry to send next."""
    acked: int = 0
    """The last entry that the follower is known to have on disk."""
    inflight: int | None = None
    """The round of the Append that is not answered yet."""
    inflight_since: float = 0.0
    round_seen: int = 0
    """The newest round that it answered in this term."""
    blank: bool = False
    """Its disk is empty while the log says it votes: nothing is sent until its vote is taken away."""
    wants_snapshot: bool = False
    """It needs entries that are not in the log any more."""

    def sent(self, round_: int, now: float) -> None:
        assert self.inflight is None
        self.inflight, self.inflight_since = round_, now

    def answered(self, round_: int) -> None:
        """Heartbeats overtake an Append that waits for the disk, so a newer answer does not mean that it was lost."""
        self.round_seen = max(self.round_seen, round_)
        if round_ == self.inflight:
            self.inflight = None

    def matched(self, index: int) -> None:
        self.acked = max(self.acked, index)
        self.next = max(self.next, self.acked + 1)

    def rejected(self, retry_from: int) -> None:
        """The follower has not got what was built on: go back, never forward."""
        self.inflight = None
        self.next = max(1, min(self.next - 1, retry_from + 1))
        self.acked = min(self.acked, self.next - 1)

    def reconnected(self, last: int) -> None:
        """What was in flight is lost; ask again from where both surely agree, or from the end."""
        self.inflight = None
        self.next = self.acked + 1 if self.acked else last + 1


def majority(count: int) -> int:
    """The least number of voters that any two majorities of `count` share one of."""
    return count // 2 + 1


def quorum_round(me: str, voters: Iterable[str], progress: Mapping[str, Progress], own_round: int) -> int:
    """The newest round that a majority of the voters has answered, this node counting as having answered all."""
    rounds = sorted(
        (own_round if v == me else progress[v].round_seen if v in progress else 0 for v in voters),
        reverse=True,
    )
    return rounds[majority(len(rounds)) - 1] if rounds else 0
