"""Consumer groups as the batch in hand has left them, and the ranges of what they have done and were given again.

Rows of groups that a batch changes are kept here and written once at its end; ranges are written at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from node.state.ranges import overlapping
from node.state.rows import ChunkRow, timestamp
from node.state.store import Store
from taskraft.v1 import queue_pb2

_ROWS_CACHED: Final = 4_096
_GROUP: Final = "SELECT id, queue_id, name, position, watermark, create_ms FROM groups"

Range = tuple[int, int]
"""(first, last), both included."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A consumer group of a stream as of the last applied entry.

    Invariants: 1 <= position <= the stream's next_sequence; position - 1 <= watermark < next_sequence; no range of what the
    group has done touches what is before its position.
    """

    id: int  # never given to another group, nor to a queue
    queue_id: int
    name: str
    position: int
    watermark: int
    create_ms: int

    def to_proto(self, position: int, pending: int) -> queue_pb2.ConsumerGroup:
        """The group as the API shows it: its position and its pending messages are those of now."""
        return queue_pb2.ConsumerGroup(
            name=self.name,
            position=position,
            pending_messages=pending,
            create_time=timestamp(self.create_ms),
        )


@dataclass(slots=True)
class GroupTables:
    """What transitions read and write of groups."""

    store: Store
    _rows: dict[tuple[int, str], GroupRow] = field(default_factory=dict)
    _names: dict[int, tuple[int, str]] = field(default_factory=dict)  # may hold some that are gone
    _changed: dict[int, GroupRow] = field(default_factory=dict)

    # Groups

    def get(self, queue_id: int, name: str) -> GroupRow | None:
        """The group of a stream by its name."""
        row = self._rows.get((queue_id, name))
        if row is None:
            found = self.store.execute(
                f"{_GROUP} WHERE queue_id = ? AND name = ?", (queue_id, name)
            ).fetchone()
            if found is not None:
                row = self._rows[queue_id, name] = GroupRow(*found)
        return row

    def by_id(self, group_id: int) -> GroupRow | None:
        known = self._names.get(group_id)
        if known is None:
            known = self.store.execute(
                "SELECT queue_id, name FROM groups WHERE id = ?", (group_id,)
            ).fetchone()
            if known is None:
                return None
            self._names[group_id] = known
        row = self.get(*known)
        return row if row is not None and row.id == group_id else None

    def of(self, queue_id: int) -> list[GroupRow]:
        """All groups of a stream, by name."""
        names = self.store.execute(
            "SELECT name FROM groups WHERE queue_id = ? ORDER BY name", (queue_id,)
        ).fetchall()
        rows = [self.get(queue_id, name) for (name,) in names]
        return [row for row in rows if row is not None]

    def count(self, queue_id: int) -> int:
        (count,) = self.store.execute(
            "SELECT count(*) FROM groups WHERE queue_id = ?", (queue_id,)
        ).fetchone()
        return int(count)

    def add(self, row: GroupRow) -> None:
        """There is a new group."""
        self.store.execute(
            "INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?)",
            (row.id, row.queue_id, row.name, row.position, row.watermark, row.create_ms),
        )
        self._rows[row.queue_id, row.name] = row

    def put(self, row: GroupRow) -> None:
        """A group has another position or watermark now."""
        self._rows[row.queue_id, row.name] = self._changed[row.id] = row

    def drop(self, row: GroupRow) -> None:
        """A group is gone."""
        self.clear(row.id)
        self.store.execute("DELETE FROM groups WHERE id = ?", (row.id,))
        self._rows.pop((row.queue_id, row.name), None)
        self._changed.pop(row.id, None)

    def move(self, row: GroupRow, position: int) -> GroupRow:
        """Let a group go on at `position`, with nothing done, delivered or tried beyond it."""
        self.clear(row.id)
        row = replace(row, position=position, watermark=position - 1)
        self.put(row)
        return row

    def write_back(self) -> None:
        """Write what has changed; called at the end of every batch."""
        if self._changed:
            self.store.connection.executemany(
                "UPDATE groups SET position = ?, watermark = ? WHERE id = ?",
                [(row.position, row.watermark, row.id) for row in self._changed.values()],
            )
            self._changed.clear()
        if len(self._rows) > _ROWS_CACHED or len(self._names) > _ROWS_CACHED:
            self._rows.clear()
            self._names.clear()

    def forget(self) -> None:
        """Drop everything that is remembered of the tables."""
        self._rows.clear()
        self._names.clear()
        self._changed.clear()

    # What a group has done beyond its position

    def done(self, group_id: int, first: int, last: int) -> list[Range]:
        """What of a range is done, in order. The first may begin earlier, the last may end later."""
        found: list[Range] = self.store.execute(
            "SELECT first, last FROM group_acks WHERE group_id = :group AND last >= :first AND first BETWEEN"
            " ifnull((SELECT max(first) FROM group_acks WHERE group_id = :group AND first <= :first), 0)"
            " AND :last ORDER BY first",
            {"group": group_id, "first": first, "last": last},
        ).fetchall()
        return found

    def done_within(self, group_id: int, first: int, last: int) -> int:
        """How many sequences of a range are done."""
        within = self.done(group_id, first, last)
        return sum(min(high, last) - max(low, first) + 1 for low, high in within)

    def add_done(self, group_id: int, first: int, last: int) -> int:
        """A range beyond the position is done; how many of its sequences were not before."""
        added = last - first + 1
        begin, end = first, last
        for low, high in self.done(group_id, first - 1, last + 1):
            added -= max(0, min(high, last) - max(low, first) + 1)
            begin, end = min(begin, low), max(end, high)
            self.store.execute("DELETE FROM group_acks WHERE group_id = ? AND first = ?", (group_id, low))
        self.store.execute("INSERT INTO group_acks VALUES (?, ?, ?)", (group_id, begin, end))
        return added

    def done_after(self, group_id: int, position: int) -> int:
        """How many sequences from `position` on are done."""
        (count,) = self.store.execute(
            "SELECT ifnull(sum(last - max(first, :at) + 1), 0) FROM group_acks WHERE group_id = :group AND last >= :at",
            {"group": group_id, "at": position},
        ).fetchone()
        return int(count)

    def trim(self, group_id: int, position: int) -> None:
        """What is before the position needs no ranges."""
        execute = self.store.execute
        execute("DELETE FROM group_acks WHERE group_id = ? AND first < ?", (group_id, position))
        execute(
            "DELETE FROM group_attempts WHERE group_id = ? AND first < ? AND last < ?",
            (group_id, position, position),
        )

    def clear(self, group_id: int) -> None:
        self.store.execute("DELETE FROM group_acks WHERE group_id = ?", (group_id,))
        self.store.execute("DELETE FROM group_attempts WHERE group_id = ?", (group_id,))

    def without_done(self, group_id: int, rows: Sequence[ChunkRow]) -> Sequence[ChunkRow]:
        """Successive rows, at least one, as they look to the group; those that it has done are left out."""
        done = self.done(group_id, rows[0].first_sequence, rows[-1].last_sequence)
        found = []
        for row in rows:
            for first, last in overlapping(done, row.first_sequence, row.last_sequence) if done else ():
                row = row.without(first, last)  # noqa: PLW2901
            if row.live:
                found.append(row)
        return found

    # Attempts

    def attempts(self, group_id: int, first: int, last: int) -> list[tuple[int, int, int]]:
        """(first, last, attempt) of what was delivered again in a range, in order, cut at both ends."""
        found = self.store.execute(
            "SELECT first, last, attempt FROM group_attempts WHERE group_id = :group AND last >= :first AND first"
            " BETWEEN ifnull((SELECT max(first) FROM group_attempts WHERE group_id = :group AND first <= :first), 0)"
            " AND :last ORDER BY first",
            {"group": group_id, "first": first, "last": last},
        )
        return [(max(low, first), min(high, last), attempt) for low, high, attempt in found.fetchall()]

    def record_attempt(self, group_id: int, first: int, last: int, attempt: int) -> None:
        """The last delivery of these messages to the group was their `attempt`."""
        execute = self.store.execute
        # Cut what is recorded at both ends; what is within goes.
        for at in (first, last + 1):
            straddling = execute(
                "SELECT first, last, attempt FROM group_attempts WHERE group_id = ? AND first < ?"
                " ORDER BY first DESC LIMIT 1",
                (group_id, at),
            ).fetchone()
            if straddling is not None and straddling[1] >= at:
                low, high, recorded = straddling
                execute(
                    "UPDATE group_attempts SET last = ? WHERE group_id = ? AND first = ?",
                    (at - 1, group_id, low),
                )
                execute("INSERT INTO group_attempts VALUES (?, ?, ?, ?)", (group_id, at, high, recorded))
        execute(
            "DELETE FROM group_attempts WHERE group_id = ? AND first BETWEEN ? AND ?", (group_id, first, last)
        )
        execute("INSERT INTO group_attempts VALUES (?, ?, ?, ?)", (group_id, first, last, attempt))
