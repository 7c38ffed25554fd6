"""Locks as the batch in hand has left them. Rows that it changes are written once, at its end."""

from dataclasses import dataclass, field
from typing import Final

from node.state import lock_rows
from node.state.lock_rows import ClaimRow, LockRow
from node.state.store import Store

CLAIMS_CACHED: Final = 20_000
"""Claims, and locks without one, that are remembered beyond the batch that asked for them."""


@dataclass(slots=True)
class LockTables:
    """What transitions of locks read and write."""

    store: Store
    _locks: dict[str, LockRow] = field(default_factory=dict)
    _size: int = 0  # claims and locks that were put into `_locks`
    _changed: dict[tuple[str, int], ClaimRow | None] = field(default_factory=dict)

    def lock(self, name: str) -> LockRow:
        """The lock of that full name; it is changed by `put` and `drop` only."""
        row = self._locks.get(name)
        if row is None:
            row = self._locks[name] = lock_rows.of_lock(self.store.execute, name)
            self._size += 1 + len(row.claims)
        return row

    def put(self, claim: ClaimRow) -> None:
        """A claim is new, or in another state."""
        self.lock(claim.lock).put(claim)
        self._changed[claim.lock, claim.number] = claim
        self._size += 1

    def drop(self, claim: ClaimRow) -> None:
        """A claim has ended."""
        row = self.lock(claim.lock)
        row.leave(claim.number)
        del row.claims[claim.number]
        self._changed[claim.lock, claim.number] = None

    def write_back(self) -> None:
        """Write what has changed; called at the end of every batch."""
        if self._changed:
            self._write()
        if self._size > CLAIMS_CACHED:
            self.forget()

    def _write(self) -> None:
        gone = [key for key, claim in self._changed.items() if claim is None]
        there = [lock_rows.values(claim) for claim in self._changed.values() if claim is not None]
        connection = self.store.connection
        if gone:
            connection.executemany("DELETE FROM lock_claims WHERE lock = ? AND number = ?", gone)
        if there:
            connection.executemany(
                "INSERT OR REPLACE INTO lock_claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", there
            )
        self._changed.clear()

    def forget(self) -> None:
        """Drop all that is remembered of the table."""
        self._locks.clear()
        self._changed.clear()
        self._size = 0
