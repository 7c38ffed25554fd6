"""Lanes: the tasks of one queue that are alike for placement and limits, so that they wait in one order.

A lane comes with its first task and goes some time after its last one; its id then is never used again. When a queue is
purged all its lanes are retired: tasks that come or come back after that stand in new ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from node.state.store import Store
from node.state.task_rows import LaneRow, TaskQueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2

_CACHED: Final = 4_096
_SELECT: Final = "SELECT id, queue_id, demand, tasks, idle_ms FROM lanes"


def demand_of(task: task_pb2.Task) -> command_pb2.Demand:
    """What a task asks of a worker, and shares limits by."""
    return command_pb2.Demand(
        type=task.type,
        resources=task.resources,
        worker_labels=task.worker_labels,
        tenant=task.tenant,
        limit_key=task.limit_key,
        preemptible=task.preemptible,
    )


def _row(found: tuple[Any, ...]) -> LaneRow:
    return LaneRow(found[0], found[1], command_pb2.Demand.FromString(found[2]), found[3], found[4])


@dataclass(slots=True)
class Lanes:
    """Lanes as the batch in hand has left them; what it has changed is written at its end."""

    store: Store
    _rows: dict[int, LaneRow] = field(default_factory=dict)
    _alike: dict[tuple[Any, ...], LaneRow] = field(default_factory=dict)
    _added: dict[int, LaneRow] = field(default_factory=dict)
    _changed: dict[int, LaneRow] = field(default_factory=dict)

    def find(self, lane_id: int) -> LaneRow | None:
        """The lane of that id."""
        row = self._rows.get(lane_id)
        if row is None:
            found = self.store.execute(f"{_SELECT} WHERE id = ?", (lane_id,)).fetchone()
            if found is not None:
                row = self._rows[lane_id] = _row(found)
        return row

    def of_task(self, queue: TaskQueueRow, task: task_pb2.Task) -> LaneRow:
        """The lane in which a task waits; a new one if there is none like it."""
        key = (
            queue.queue_id,
            task.type,
            task.tenant,
            task.limit_key,
            task.preemptible,
            tuple(sorted(task.resources.items())) if task.resources else (),
            tuple(sorted(task.worker_labels.items())) if task.worker_labels else (),
        )
        row = self._alike.get(key)
        if row is None or row.id <= queue.retired_lane:
            row = self._alike[key] = self._alike_or_new(queue, demand_of(task))
        return row

    def _alike_or_new(self, queue: TaskQueueRow, demand: command_pb2.Demand) -> LaneRow:
        encoded = demand.SerializeToString(deterministic=True)
        found = self.store.execute(
            f"{_SELECT} WHERE queue_id = ? AND demand = ? AND id > ?",
            (queue.queue_id, encoded, queue.retired_lane),
        ).fetchone()
        if found is not None:
            return self._rows.get(found[0]) or self._rows.setdefault(found[0], _row(found))
        row = LaneRow(self.store.new_id(), queue.queue_id, demand)
        self._rows[row.id] = self._added[row.id] = row
        return row

    def count(self, lane_id: int, more: int, time_ms: int) -> None:
        """So many more of its tasks have not ended."""
        row = self.find(lane_id)
        assert row is not None, "a task that has not ended stands in a lane that is gone"
        row.tasks += more
        assert row.tasks >= 0
        row.idle_ms = 0 if row.tasks else time_ms
        self._changed[lane_id] = row

    def waited_in(self, queue: TaskQueueRow) -> list[LaneRow]:
        """The lanes of a queue with QUEUED tasks; only between batches."""
        rows = self.store.execute(
            f"{_SELECT} WHERE queue_id = ? AND id > ? AND tasks > 0"
            " AND EXISTS (SELECT 1 FROM tasks WHERE state = 1 AND lane_id = lanes.id) ORDER BY id",
            (queue.queue_id, queue.retired_lane),
        )
        return [self._rows.get(found[0]) or _row(found) for found in rows]

    def idle_since(self, time_ms: int, limit: int) -> list[tuple[int, int]]:
        """(id, queue id) of up to `limit` lanes that have been empty since then or longer; nothing may be unwritten."""
        assert not self._added
        assert not self._changed
        return self.store.execute(
            "SELECT id, queue_id FROM lanes WHERE idle_ms > 0 AND idle_ms <= ? ORDER BY idle_ms, id LIMIT ?",
            (time_ms, limit),
        ).fetchall()

    def next_idle_ms(self) -> int | None:
        """Since when the lane is empty that has been so for longest; only between batches."""
        idle_ms: int | None = self.store.execute(
            "SELECT min(idle_ms) FROM lanes WHERE idle_ms > 0"
        ).fetchone()[0]
        return idle_ms

    def delete(self, lane_ids: Iterable[int]) -> None:
        """These lanes are empty and go."""
        gone = set(lane_ids)
        self.store.connection.executemany("DELETE FROM lanes WHERE id = ?", [(lane_id,) for lane_id in gone])
        for lane_id in gone:
            self._rows.pop(lane_id, None)
        self._alike = {key: row for key, row in self._alike.items() if row.id not in gone}

    def write_back(self) -> None:
        """Write what has changed."""
        if self._added:
            self.store.connection.executemany(
                "INSERT INTO lanes VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        row.id,
                        row.queue_id,
                        row.demand.SerializeToString(deterministic=True),
                        row.tasks,
                        row.idle_ms,
                    )
                    for row in self._added.values()
                ],
            )
        changed = [row for row in self._changed.values() if row.id not in self._added]
        if changed:
            self.store.connection.executemany(
                "UPDATE lanes SET tasks = ?, idle_ms = ? WHERE id = ?",
                [(row.tasks, row.idle_ms, row.id) for row in changed],
            )
        self._added.clear()
        self._changed.clear()
        if len(self._rows) > _CACHED or len(self._alike) > _CACHED:
            self._rows.clear()
            self._alike.clear()

    def forget(self) -> None:
        """Drop everything that is remembered."""
        self._rows.clear()
        self._alike.clear()
        self._added.clear()
        self._changed.clear()
