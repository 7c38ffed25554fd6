"""What must hold in every run, told in terms of promises and not of the implementation."""

from dataclasses import dataclass, field

from raft.records import Entry


class Violation(Exception):
    """A promise was broken."""


@dataclass(slots=True)
class Promises:
    """Everything that was promised to anyone so far, and to whom."""

    leaders: dict[int, str] = field(default_factory=dict)
    entries: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    fingerprints: dict[int, tuple[str, str]] = field(default_factory=dict)
    positions: dict[bytes, int] = field(default_factory=dict)
    votes: dict[tuple[str, int], str] = field(default_factory=dict)
    acknowledged_max: int = 0
    proposed: int = 0
    reads: int = 0

    def leads(self, term: int, node_id: str) -> None:
        """One leader per term."""
        other = self.leaders.setdefault(term, node_id)
        if other != node_id:
            raise Violation(f"term {term} has two leaders, {other} and {node_id}")

    def votes_for(
        self, candidate: str, term: int, voter: str, on_disk: tuple[int, str | None] | None
    ) -> None:
        """One vote per term, and it leaves when it is on disk."""
        if on_disk != (term, candidate):
            raise Violation(f"{voter} votes for {candidate} in term {term}, on its disk is {on_disk}")
        other = self.votes.setdefault((voter, term), candidate)
        if other != candidate:
            raise Violation(f"{voter} votes for {candidate} in term {term}, and has voted for {other}")

    def forgets(self, voter: str) -> None:
        """The disk of `voter` is gone: what it promised is for the others to keep."""
        self.votes = {key: candidate for key, candidate in self.votes.items() if key[0] != voter}

    def remembers(self, node_id: str, durable: tuple[int, int | None], term: int | None) -> None:
        """What was durable when a node died is there when it starts: the entry `durable`, and `term` is its term now."""
        if durable[1] != term:
            raise Violation(f"{node_id} starts and has forgotten entry {durable}, there is {term}")

    def commits(self, entry: Entry, holders: int, needed: int) -> None:
        """A leader calls an entry committed that nobody has applied before: it is on the disks of a majority."""
        if entry.index not in self.entries and holders < needed:
            raise Violation(f"entry {entry.index} is called committed: {needed} must hold it, {holders} do")

    def applies(self, node_id: str, entry: Entry) -> None:
        """What is committed at an index never changes."""
        mine = (entry.term, entry.kind, entry.payload)
        first = self.entries.setdefault(entry.index, mine)
        if first != mine:
            raise Violation(f"{node_id} applies {mine} at {entry.index}, where {first} was committed")

    def state(self, node_id: str, index: int, fingerprint: str) -> None:
        """The same state at the same index, on every node."""
        first = self.fingerprints.setdefault(index, (node_id, fingerprint))
        if first[1] != fingerprint:
            raise Violation(f"{node_id} and {first[0]} differ at applied index {index}")

    def acknowledges(self, payload: bytes, position: int) -> None:
        """A command was answered; each was proposed once, so it must stand in one place."""
        if payload in self.positions:
            raise Violation(f"{payload!r} was acknowledged twice")
        self.positions[payload] = position
        self.acknowledged_max = max(self.acknowledged_max, position)

    def read_began(self) -> int:
        """The least that a read which begins now must see."""
        return max(self.acknowledged_max, self.reads)

    def read_ended(self, floor: int, seen: int) -> None:
        """Linearizable: a read sees all that was acknowledged or read before it began, and nothing from the future."""
        if seen < floor:
            raise Violation(f"a read saw {seen} commands, though {floor} were there before it began")
        if seen > self.proposed:
            raise Violation(f"a read saw {seen} commands, and only {self.proposed} were ever proposed")
        self.reads = max(self.reads, seen)

    def final(self, node_id: str, commands: list[bytes]) -> None:
        """Nothing acknowledged is lost, nothing is there twice or from nowhere."""
        if len(set(commands)) != len(commands):
            raise Violation(f"{node_id} has a command twice")
        for payload, position in self.positions.items():
            if position > len(commands) or commands[position - 1] != payload:
                raise Violation(f"{node_id} lost {payload!r}, acknowledged at position {position}")
