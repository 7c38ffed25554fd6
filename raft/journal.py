"""PySyncObj's Journal over our log and ballot.

PySyncObj asks its journal for tuples (command, index, term). It never looks into the command, because the
engine overrides all that would (`raft/engine.py`), so what stands there is the entry's index: nothing is read
from disk to count votes or to find a term. The first tuple stands for the log's base: the entry before the
first one held, known by index and term only.

Nothing is written here: appending marks the log dirty, and what promises durability waits for the write
(`raft/core.py`).
"""

from __future__ import annotations

from typing import overload

from pysyncobj.journal import Journal

from raft.ballot import Ballot
from raft.records import Entry
from raft.segments import Log
from raft.types import NOOP

type_of_slot = tuple[int, int, int]


class LogJournal(Journal):  # type: ignore[misc]
    """The log as PySyncObj sees it."""

    def __init__(self, log: Log, ballot: Ballot, commit: int) -> None:
        self._log = log
        self._ballot = ballot
        self._commit = commit

    def add(self, command: Entry | bytes, idx: int, term: int) -> None:
        if isinstance(command, Entry):
            self._log.append(idx, term, command.kind, command.payload)
        else:  # PySyncObj's own no-op of a new leader
            assert len(command) == 1
            self._log.append(idx, term, NOOP, b"")

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 (PySyncObj's names)
        assert entryFrom > 0, "the base is never deleted"
        self._log.truncate(self._log.base[0] + entryFrom)

    def clear(self) -> None:
        raise AssertionError("only an installed snapshot replaces the log, and that is not PySyncObj's to do")

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        raise AssertionError("only the node releases segments")

    def __len__(self) -> int:
        return self._log.last[0] - self._log.base[0] + 1

    @overload
    def __getitem__(self, item: int) -> type_of_slot: ...
    @overload
    def __getitem__(self, item: slice) -> list[type_of_slot]: ...
    def __getitem__(self, item: int | slice) -> type_of_slot | list[type_of_slot]:
        base = self._log.base[0]
        if isinstance(item, slice):
            return [self._slot(base + i) for i in range(*item.indices(len(self)))]
        return self._slot(base + (item if item >= 0 else len(self) + item))

    def _slot(self, index: int) -> type_of_slot:
        term = self._log.term_at(index)
        assert term is not None
        return index, index, term

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        self._ballot.put(term, votedForNodeId)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._ballot.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._ballot.vote

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Known again soon after a restart, so it is not written."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._commit

    def _destroy(self) -> None:
        """The replica closes the disk."""
