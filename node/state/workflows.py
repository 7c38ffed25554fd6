"""Workflows: tasks that were submitted together, counted by state.

A workflow runs until all its tasks have ended; RetryTasks can make it run again. None of its tasks is forgotten before it
has ended and the retention of all of them is over, so that a retry finds what it needs; it goes with the last of them.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.state.rows import timestamp
from node.state.store import Store
from taskraft.v1 import task_pb2

_STATES: Final = 11  # 0 is none
_COUNTS: Final = struct.Struct(f"<{_STATES}I")
_FIRST_ENDED: Final = task_pb2.TASK_STATE_SUCCEEDED
_SELECT: Final = (
    "SELECT id, name, labels, create_ms, end_ms, keep_ms, cancelled, tasks, counts FROM workflows"
)


@dataclass(slots=True, kw_only=True)
class WorkflowRow:
    """A workflow as of the last applied entry; only `Workflows` changes it.

    Invariant: `counts` adds up to the number of tasks that it was submitted with, those forgotten included.
    """

    id: int  # never given to another workflow
    name: str  # `workflows/{workflow}`
    labels: bytes  # encoded taskraft.v1.Workflow with nothing but its labels
    create_ms: int
    end_ms: int = 0  # 0 while it runs
    keep_ms: int = 0  # its tasks are remembered at least until then
    cancelled: bool = False
    tasks: int = 0  # not forgotten yet
    counts: list[int] = field(default_factory=lambda: [0] * _STATES)  # by TaskState

    def state(self) -> task_pb2.TaskState:
        """The TaskState of the whole."""
        if not self.end_ms:
            return task_pb2.TASK_STATE_RUNNING
        if self.cancelled:
            return task_pb2.TASK_STATE_CANCELLED
        good = self.counts[task_pb2.TASK_STATE_SUCCEEDED] == sum(self.counts)
        return task_pb2.TASK_STATE_SUCCEEDED if good else task_pb2.TASK_STATE_FAILED

    def to_proto(self) -> task_pb2.Workflow:
        """The workflow as the API shows it."""
        workflow = task_pb2.Workflow.FromString(self.labels)
        workflow.name, workflow.state = self.name, self.state()
        workflow.create_time.CopyFrom(timestamp(self.create_ms))
        if self.end_ms:
            workflow.end_time.CopyFrom(timestamp(self.end_ms))
        workflow.counts.CopyFrom(task_counts(self.counts))
        return workflow


def task_counts(counts: Sequence[int]) -> task_pb2.TaskCounts:
    """How many tasks are in each state, from a sequence indexed by TaskState."""
    return task_pb2.TaskCounts(
        queued=counts[task_pb2.TASK_STATE_QUEUED],
        blocked=counts[task_pb2.TASK_STATE_BLOCKED],
        delayed=counts[task_pb2.TASK_STATE_DELAYED],
        leased=counts[task_pb2.TASK_STATE_LEASED],
        succeeded=counts[task_pb2.TASK_STATE_SUCCEEDED],
        failed=counts[task_pb2.TASK_STATE_FAILED],
        cancelled=counts[task_pb2.TASK_STATE_CANCELLED],
        expired=counts[task_pb2.TASK_STATE_EXPIRED],
        dead_lettered=counts[task_pb2.TASK_STATE_DEAD_LETTERED],
    )


def _row(found: tuple[Any, ...]) -> WorkflowRow:
    return WorkflowRow(
        id=found[0],
        name=found[1],
        labels=found[2],
        create_ms=found[3],
        end_ms=found[4],
        keep_ms=found[5],
        cancelled=bool(found[6]),
        tasks=found[7],
        counts=list(_COUNTS.unpack(found[8])),
    )


@dataclass(slots=True)
class Workflows:
    """The workflows that the batch in hand touches; written back at its end, as all of `Tables`."""

    store: Store
    _changed: dict[int, WorkflowRow] = field(default_factory=dict)
    _gone: list[int] = field(default_factory=list)

    def by_name(self, name: str) -> WorkflowRow | None:
        """The workflow of the full name `workflows/{workflow}`."""
        found = self.store.execute("SELECT id FROM workflows WHERE name = ?", (name,)).fetchone()
        return None if found is None else self.by_id(found[0])

    def by_id(self, workflow_id: int) -> WorkflowRow | None:
        """The workflow of that id."""
        row = self._changed.get(workflow_id)
        if row is None:
            found = self.store.execute(f"{_SELECT} WHERE id = ?", (workflow_id,)).fetchone()
            row = None if found is None else _row(found)
        return row

    def add(self, time_ms: int, workflow: task_pb2.Workflow) -> int:
        """There is a new workflow, of no tasks yet; its id."""
        labels = task_pb2.Workflow(labels=workflow.labels).SerializeToString(deterministic=True)
        row = WorkflowRow(id=self.store.new_id(), name=workflow.name, labels=labels, create_ms=time_ms)
        self.store.execute(
            "INSERT INTO workflows VALUES (?, ?, ?, ?, 0, 0, 0, 0, ?)",
            (row.id, row.name, row.labels, row.create_ms, _COUNTS.pack(*row.counts)),
        )
        self._changed[row.id] = row
        return row.id

    def moved(self, workflow_id: int, before: int, after: int, due_ms: int) -> None:
        """One of its tasks went from one state to another, or is new if `before` is 0.

        If it has ended, `due_ms` is when it may be forgotten.
        """
        row = self._change(workflow_id)
        if before:
            row.counts[before] -= 1
            assert row.counts[before] >= 0
        else:
            row.tasks += 1
        row.counts[after] += 1
        row.keep_ms = max(row.keep_ms, due_ms)

    def cancelled(self, workflow_id: int) -> None:
        """It was cancelled as a whole."""
        self._change(workflow_id).cancelled = True

    def retried(self, workflow_id: int) -> None:
        """Some of its tasks have new attempts."""
        row = self._change(workflow_id)
        row.cancelled, row.end_ms = False, 0

    def forgotten(self, workflow_ids: Iterable[int]) -> None:
        """One task of each of these is gone; one that has none any more is gone, too."""
        for workflow_id in workflow_ids:
            row = self._change(workflow_id)
            row.tasks -= 1
            if row.tasks == 0:
                self.store.execute("DELETE FROM workflows WHERE id = ?", (workflow_id,))
                del self._changed[workflow_id]
                self._gone.append(workflow_id)

    def _change(self, workflow_id: int) -> WorkflowRow:
        row = self.by_id(workflow_id)
        assert row is not None, "a task belongs to a workflow that does not exist"
        self._changed[workflow_id] = row
        return row

    def write_back(self) -> list[int]:
        """Write what has changed, at the end of a batch; the ids of those that have, or are gone."""
        for row in self._changed.values():
            running = any(row.counts[:_FIRST_ENDED])
            row.end_ms = 0 if running else row.end_ms or self.store.meta.time_ms
        if self._changed:
            self.store.connection.executemany(
                "UPDATE workflows SET end_ms = ?, keep_ms = ?, cancelled = ?, tasks = ?, counts = ? WHERE id = ?",
                [
                    (row.end_ms, row.keep_ms, row.cancelled, row.tasks, _COUNTS.pack(*row.counts), row.id)
                    for row in self._changed.values()
                ],
            )
        told = [*self._changed, *self._gone]
        self.forget()
        return told

    def forget(self) -> None:
        """Drop everything that is remembered of the table."""
        self._changed.clear()
        self._gone.clear()


def select(store: Store, before_id: int, limit: int) -> list[WorkflowRow]:
    """Workflows, newest first, those with lower ids than `before_id` (0: all); only between batches."""
    rows = store.execute(
        f"{_SELECT} WHERE id < ? ORDER BY id DESC LIMIT ?", (before_id or (1 << 63) - 1, limit)
    )
    return [_row(found) for found in rows]
