"""How many tasks each queue holds, by state."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from node.state.store import Store
from node.state.task_rows import STATES, TaskQueueRow

_COUNTS: Final = struct.Struct(f"<{STATES}Q")
_CACHED: Final = 4_096


def _row(found: tuple[Any, ...]) -> TaskQueueRow:
    return TaskQueueRow(found[0], [*_COUNTS.unpack(found[1])], *found[2:])


@dataclass(slots=True)
class TaskQueues:
    """The queues of kind TASK that the batch in hand has asked for; those it has changed are written at its end."""

    store: Store
    stale: set[int] = field(default_factory=set)
    """Queues of which something has changed since someone emptied this."""
    _rows: dict[int, TaskQueueRow | None] = field(default_factory=dict)
    _changed: dict[int, TaskQueueRow] = field(default_factory=dict)

    def find(self, queue_id: int) -> TaskQueueRow | None:
        """The queue of that id; None if it is gone or not of kind TASK."""
        try:
            return self._rows[queue_id]
        except KeyError:
            found = self.store.execute("SELECT * FROM task_queues WHERE queue_id = ?", (queue_id,)).fetchone()
            row = self._rows[queue_id] = None if found is None else _row(found)
            return row

    def put(self, row: TaskQueueRow) -> None:
        """The row has changed."""
        self._changed[row.queue_id] = row

    def add(self, queue_id: int) -> None:
        """There is a new, empty queue."""
        row = self._rows[queue_id] = self._changed[queue_id] = TaskQueueRow(queue_id)
        self._insert([row])

    def drop(self, queue_id: int) -> None:
        """The queue is gone: all its tasks are dead."""
        self.store.execute("DELETE FROM task_queues WHERE queue_id = ?", (queue_id,))
        self._rows[queue_id] = None
        self._changed.pop(queue_id, None)
        self.stale.add(queue_id)

    def all_ids(self) -> list[int]:
        """All queues of kind TASK; only between batches."""
        return [queue_id for (queue_id,) in self.store.execute("SELECT queue_id FROM task_queues")]

    def changed(self) -> Iterator[TaskQueueRow]:
        """The rows that are not written yet."""
        yield from self._changed.values()

    def _insert(self, rows: list[TaskQueueRow]) -> None:
        self.store.connection.executemany(
            "INSERT OR REPLACE INTO task_queues VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.queue_id,
                    _COUNTS.pack(*row.counts),
                    row.waiting_bytes,
                    row.leased_bytes,
                    row.submitted,
                    row.forgettable,
                    row.over_ms,
                    row.purged,
                    row.retired_lane,
                    row.reordered,
                    row.reorder_until,
                )
                for row in rows
            ],
        )

    def write_back(self) -> None:
        """Write what has changed."""
        if self._changed:
            self._insert([*self._changed.values()])
            self.stale.update(self._changed)
            self._changed.clear()
        if len(self._rows) > _CACHED:
            self._rows.clear()

    def forget(self) -> None:
        """Drop everything that is remembered of the table."""
        self._rows.clear()
        self._changed.clear()
