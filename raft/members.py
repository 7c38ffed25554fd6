"""Who belongs to the cluster, as the log tells it.

Every change of members is one entry that holds the whole new list, and takes effect where it stands in the log,
committed or not (Raft, section 6): one change at a time, each differing by one voter at most, so that any two
majorities of successive lists share a node. An entry that is cut from the log takes its change with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from raft.types import Member

MEMBERS_MAX = 15
NAME_BYTES_MAX = 256


def encode_members(members: Iterable[Member]) -> bytes:
    """The payload of an entry of kind MEMBERS."""
    return json.dumps([[m.id, m.address, m.voter] for m in members], separators=(",", ":")).encode()


def decode_members(payload: bytes) -> tuple[Member, ...]:
    """What `encode_members` made; anything else is a ValueError, so a hostile entry is refused, not believed."""
    rows = json.loads(payload)
    if not isinstance(rows, list) or not 0 < len(rows) <= MEMBERS_MAX:
        raise ValueError("not a list of members")
    members = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 3:
            raise ValueError("not a member")
        name, address, voter = row
        if not (isinstance(name, str) and isinstance(address, str) and isinstance(voter, bool)):
            raise ValueError("not a member")  # noqa: TRY004  it is about the bytes
        if not 0 < len(name) <= NAME_BYTES_MAX or len(address) > NAME_BYTES_MAX:
            raise ValueError("a member's name or address is too long or empty")
        members.append(Member(name, address, voter))
    if len({m.id for m in members}) != len(members):
        raise ValueError("a member twice")
    return tuple(members)


class Membership:
    """The lists that stand in the log, newest last. Invariant: indexes rise; the first one cannot be cut."""

    def __init__(self, index: int, members: tuple[Member, ...]) -> None:
        self._lists: list[tuple[int, tuple[Member, ...]]] = [(index, members)]

    @property
    def current(self) -> tuple[Member, ...]:
        return self._lists[-1][1]

    @property
    def index(self) -> int:
        """Where the current list stands in the log."""
        return self._lists[-1][0]

    @property
    def voters(self) -> tuple[str, ...]:
        return tuple(m.id for m in self.current if m.voter)

    def find(self, member_id: str) -> Member | None:
        return next((m for m in self.current if m.id == member_id), None)

    def appended(self, index: int, members: tuple[Member, ...]) -> None:
        assert index > self.index
        self._lists.append((index, members))

    def truncated(self, index: int) -> bool:
        """Entries from `index` on are gone; True if that changed the current list."""
        before = len(self._lists)
        while len(self._lists) > 1 and self._lists[-1][0] >= index:
            self._lists.pop()
        return len(self._lists) != before

    def committed(self, index: int) -> None:
        """Entries up to `index` will never be cut: forget what came before the newest of them."""
        while len(self._lists) > 1 and self._lists[1][0] <= index:
            self._lists.pop(0)


def with_voter(members: Iterable[Member], member_id: str, *, voter: bool) -> tuple[Member, ...]:
    """The same list with one member's vote given or taken."""
    return tuple(Member(m.id, m.address, voter) if m.id == member_id else m for m in members)
