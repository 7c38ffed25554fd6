"""Give log segments back: what still lives in the oldest of them is copied into the store.

The log can only be cut from its old end, so the oldest sealed segment is looked at: if little of it lives, or the log is
larger than it may be, its live chunks are moved. A segment may go once a checkpoint that began after that has made
it durable that nothing in it is needed. Every call does one bounded step.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from node import limits
from node.state import compaction
from node.state.bodies import LogBody
from node.state.entries import commands_of
from node.state.schema import body_id, body_place
from node.state.store import Execute, Store

_SURVEY_ROWS = 5_000
_FREE_PAGES_KEPT = 4_096
_FREE_PAGES_STEP = 512


class Segment(Protocol):
    """Entries `first` to `last` of the log in one file; a sealed one does not grow any more."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sealed(self) -> bool: ...


def move(execute: Execute, log_body: LogBody, first: int, last: int, bytes_max: int) -> bool:
    """Copy bodies of live chunks in log entries `first` to `last` into `bodies`, oldest first.

    Stops after an entry with which `bytes_max` is reached; True if there may be more. KeyError if the log does not
    hold an entry that is needed.
    """
    found: list[tuple[int]] = execute(
        "SELECT DISTINCT body FROM chunks WHERE moved = 0 AND body BETWEEN ? AND ? ORDER BY body LIMIT ?",
        (body_id(first, 0), body_id(last + 1, 0) - 1, limits.RECLAIM_STEP_ROWS),
    ).fetchall()
    size = 0
    for log_index, group in groupby(found, key=lambda row: body_place(row[0])[0]):
        commands = list(commands_of(log_body(log_index)))
        for (body,) in group:
            chunk = commands[body_place(body)[1]].publish.chunk
            assert chunk, "a chunk row points at something that is not a publish"
            execute("INSERT INTO bodies VALUES (?, ?)", (body, chunk))
            execute("UPDATE chunks SET moved = 1 WHERE body = ? AND moved = 0", (body,))
            size += len(chunk)
        if size >= bytes_max:
            return True
    return len(found) == limits.RECLAIM_STEP_ROWS


def sweep(execute: Execute, rows_max: int) -> bool:
    """Delete so many rows of buried backlogs; True if there may be more."""
    buried = execute("SELECT backlog FROM graveyard LIMIT 1").fetchone()
    if buried is None:
        return False
    swept = execute(
        "DELETE FROM chunks WHERE backlog = ? AND first_sequence IN"
        " (SELECT first_sequence FROM chunks WHERE backlog = ? ORDER BY first_sequence LIMIT ?)",
        (*buried, *buried, rows_max),
    )
    if swept.rowcount < rows_max and compaction.sweep(execute, buried[0], rows_max) < rows_max:
        execute("DELETE FROM graveyard WHERE backlog = ?", buried)
    return True


class Reclaimer:
    """Works through the log from its old end. Invariant: `released <= _done`, and both never go back."""

    def __init__(self, store: Store) -> None:
        self.pending = False  # there is more to do now; otherwise it is enough to call again some time later
        self._store = store
        self._done = 0  # nothing up to here is needed, as of the open transaction
        self._waiting: list[tuple[int, int]] = []  # (index, number of the checkpoint that makes it durable)
        self._released = 0
        self._surveyed: tuple[int, int] = (
            0,
            0,
        )  # (last body looked at in the oldest segment, live bytes so far)

    def step(self, segments: Sequence[Segment], log_bytes_max: int, log_body: LogBody) -> int:
        """Do one step; the index up to which the log may be released."""
        self.pending = False
        noted = self._done, self._surveyed, [*self._waiting]
        try:
            with self._store.aside() as execute:
                self.pending = (
                    sweep(execute, limits.RECLAIM_STEP_ROWS)
                    or self._give_pages_back(execute)
                    or self._next_segment(segments, log_bytes_max, log_body)
                )
        except BaseException:
            self._done, self._surveyed, self._waiting = noted  # what was done for it is undone
            raise
        return self.released()

    def released(self) -> int:
        """The index up to which the log may be released: it is durable that nothing up to there is needed."""
        while self._waiting and self._waiting[0][1] <= self._store.checkpoints_done:
            self._released = self._waiting.pop(0)[0]
        return self._released

    def _next_segment(self, segments: Sequence[Segment], log_bytes_max: int, log_body: LogBody) -> bool:
        """One step on the oldest segment that still holds something; True if there is more to do."""
        held = [segment for segment in segments if segment.last > self._done]
        if not held or not held[0].sealed or held[0].last > self._store.checkpointed:
            return False
        oldest = held[0]
        if sum(segment.bytes for segment in held) <= log_bytes_max:
            verdict = self._survey(oldest)
            if verdict is not None:
                return verdict
        if move(self._store.execute, log_body, oldest.first, oldest.last, limits.RECLAIM_STEP_BYTES):
            return True
        self._done, self._surveyed = oldest.last, (0, 0)
        self._waiting.append((oldest.last, self._store.checkpoints_begun + 1))
        return len(held) > 1

    def _survey(self, segment: Segment) -> bool | None:
        """None if little of the segment lives; otherwise whether to look on at once (True) or some time later.

        What several rows have of one body counts once. A step that ends within a body leaves out the rest of it.
        """
        after, live = self._surveyed
        rows, last, size = self._store.execute(
            "SELECT sum(rows), max(body), sum(size) FROM (SELECT body, count(*) AS rows, max(size) AS size FROM"
            " (SELECT body, offset, bytes * live / count AS size FROM chunks"
            " WHERE moved = 0 AND body BETWEEN ? AND ? ORDER BY body LIMIT ?) GROUP BY body, offset)",
            (max(after + 1, body_id(segment.first, 0)), body_id(segment.last + 1, 0) - 1, _SURVEY_ROWS),
        ).fetchone()
        if rows:
            after, live = last, live + size
        if live * 100 > segment.bytes * limits.RECLAIM_LIVE_PERCENT_MAX:
            self._surveyed = (0, 0)
            return False
        self._surveyed = (after, live)
        return True if rows == _SURVEY_ROWS else None

    def _give_pages_back(self, execute: Execute) -> bool:
        """Shrink the file a little if a good part of it is free; True if it was."""
        free, pages = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        if free <= _FREE_PAGES_KEPT or free * 4 <= pages:
            return False
        execute(f"PRAGMA incremental_vacuum({_FREE_PAGES_STEP})").fetchall()
        return True
