"""What the node asks of locks, between batches."""

from collections.abc import Iterator

from node.state import lock_rows
from node.state.lock_rows import ClaimRow, LockRow
from node.state.tables import Tables


class LockQueries:
    """The part of the machine that reads locks. Rows are as of the last applied entry and change with the next one."""

    _tables: Tables

    def lock(self, name: str) -> LockRow:
        """The lock of the full name `locks/{lock}`; one that is idle has no claims. Not to be changed."""
        return self._tables.locks.lock(name)

    def locks(self, after_name: str = "", limit: int = -1) -> Iterator[LockRow]:
        """Locks in use in the order of their names, those after `after_name`; a negative limit is none. Each is read when it
        is asked for.
        """
        execute = self._tables.store.execute
        for name in lock_rows.names_after(execute, after_name, limit):
            yield lock_rows.of_lock(execute, name)

    def lock_claims(self, lock: str = "", number: int = 0, limit: int = -1) -> list[ClaimRow]:
        """What anyone has of any lock, by name and number, after that claim; a negative limit is none."""
        return lock_rows.claims_after(self._tables.store.execute, lock, number, limit)
