"""A queue on one leader, played again from the history: which messages were there, and in whose hands, at each take."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.sim.message_book import Book, Copy
from tests.sim.message_history import History, Left, Said, Take

SLACK_S = 0.01
"""A leader counts in milliseconds."""


@dataclass(slots=True)
class Hands:
    """What a leader knows of a queue's messages, by sequence."""

    live: dict[int, Copy] = field(default_factory=dict)
    held: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Holder, and when its lease ends; 0: with the holder."""
    delayed: dict[int, float] = field(default_factory=dict)
    """Given back, until then."""
    settling: set[int] = field(default_factory=set)
    """Their end was asked for, and may be on its way."""
    ending: set[int] = field(default_factory=set)
    """It is on its way for sure: nobody else may have them before it has come."""
    taken: dict[int, int] = field(default_factory=dict)
    """The attempt that was the last."""

    def in_flight(self, sequence: int, now_s: float) -> bool:
        """True if somebody has it for sure, or had until its end was asked for."""
        if sequence in self.ending:
            return sequence in self.live
        holder, ends_s = self.held.get(sequence, ("", 0.0))
        return bool(holder) and sequence in self.live and (not ends_s or ends_s - SLACK_S > now_s)

    def available(self, sequence: int, now_s: float, attempts_max: int) -> bool:
        """True if it could be delivered for sure."""
        holder, ends_s = self.held.get(sequence, ("", 0.0))
        if holder and (not ends_s or ends_s + SLACK_S > now_s):
            return False
        if sequence in self.settling or self.delayed.get(sequence, 0.0) + SLACK_S > now_s:
            return False
        return not attempts_max or self.taken.get(sequence, 0) < attempts_max

    def take(self, take: Take, sequence: int) -> None:
        ends_s = take.at_s + take.lease_ms / 1000 if take.lease_ms else 0.0
        self.held[sequence] = take.holder, ends_s
        self.delayed.pop(sequence, None)
        self.ending.discard(sequence)
        self.settling.discard(sequence)
        self.taken[sequence] = max(take.attempt, self.taken.get(sequence, 0))

    def hear(self, said: Said) -> None:
        """A holder has spoken; of what it does not have, nothing comes."""
        for first, last in said.ranges:
            for sequence in range(first, last + 1):
                holder, ends_s = self.held.get(sequence, ("", 0.0))
                if not holder or holder != said.holder or (ends_s and said.at_s > ends_s - SLACK_S):
                    if said.what in ("ack", "commit", "reject", "commit reject"):
                        self.settling.add(sequence)  # an earlier leader's lease may have come to life again
                elif said.what == "extend":
                    self.held[sequence] = said.holder, said.at_s + said.ms / 1000
                elif said.what == "nack":
                    del self.held[sequence]
                    self.delayed[sequence] = said.at_s + said.ms / 1000
                else:
                    del self.held[sequence]
                    self.settling.add(sequence)
                    if said.what in ("ack", "reject"):
                        self.ending.add(sequence)

    def leave(self, holder: str) -> None:
        for sequence in [s for s, (who, _) in self.held.items() if who == holder]:
            del self.held[sequence]


def replay(book: Book, history: History, queue_id: int, group: str = "") -> Iterator[tuple[Take, int, Hands]]:
    """Each message of each take, and how things stood just before, leader by leader."""
    name = book.configs[queue_id].name
    copies = list(book.copies.get(queue_id, {}).values())
    for term in history.led:
        takes = [t for t in history.takes if (t.term, t.queue_id, t.group) == (term, queue_id, group)]
        if not takes:
            continue
        said = [s for s in history.said if (s.term, s.queue, s.group) == (term, name, group)]
        left = [one for one in history.left if one.term == term]
        steps: list[Take | Said | Left] = [*takes, *said, *left]
        steps.sort(key=lambda step: step.number)
        yield from _play(steps, copies)


def _play(steps: list[Take | Said | Left], copies: list[Copy]) -> Iterator[tuple[Take, int, Hands]]:
    hands = Hands()
    coming = sorted(copies, key=lambda copy: -copy.index)
    going = sorted((copy for copy in copies if copy.end), key=lambda copy: -copy.end)
    for step in steps:
        while coming and coming[-1].index <= step.applied:
            copy = coming.pop()
            hands.live[copy.sequence] = copy
        while going and going[-1].end <= step.applied:
            copy = going.pop()
            hands.live.pop(copy.sequence, None)
            hands.held.pop(copy.sequence, None)
            hands.settling.discard(copy.sequence)
            hands.ending.discard(copy.sequence)
        match step:
            case Take():
                for sequence in range(step.first, step.last + 1):
                    yield step, sequence, hands
                    hands.take(step, sequence)
            case Said():
                hands.hear(step)
            case Left():
                hands.leave(step.holder)
