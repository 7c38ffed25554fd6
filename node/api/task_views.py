"""Tasks as the API shows them: what the state machine knows, and what only the leader does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from node import limits
from node.state.task_rows import LEASED, TaskRow
from taskraft.v1 import task_pb2

READ_ROWS: Final = 250  # with all that belongs to them, at once
READ_BYTES: Final = (
    4 * limits.MIB
)  # of what was submitted; results and checkpoints are at most twice as much a task


class State(Protocol):
    """The part of the state machine that shows tasks."""

    def shown(self, rows: Sequence[TaskRow], view: int, *, with_results: bool = False) -> list[task_pb2.Task]:
        """These tasks in that TaskView, in their order."""
        ...


class Views:
    """Rows in, tasks out. `received` says whether a task's worker has said that it has it."""

    def __init__(self, state: State, received: Callable[[int], bool]) -> None:
        self._state, self._received = state, received

    def one(self, row: TaskRow, view: int) -> task_pb2.Task:
        (task,) = self.shown([row], view)
        return task

    def shown(
        self, rows: Iterable[TaskRow], view: int, *, with_results: bool = False
    ) -> Iterator[task_pb2.Task]:
        """These tasks, in their order. They are read as they are asked for, so that large ones are not held at once."""
        with_large = with_results or view == task_pb2.TASK_VIEW_FULL
        for part in parts(rows, with_large=with_large):
            for row, task in zip(part, self._state.shown(part, view, with_results=with_results), strict=True):
                if row.state == LEASED and self._received(row.number):
                    task.state = task_pb2.TASK_STATE_RUNNING
                yield fitting(task)


def parts(rows: Iterable[TaskRow], *, with_large: bool) -> Iterator[list[TaskRow]]:
    """The same rows in pieces that are read together; alone if one may have much beside what was submitted."""
    part: list[TaskRow] = []
    size = 0
    for row in rows:
        row_bytes = row.bytes
        if with_large and (row.has_result or row.has_checkpoint):
            row_bytes += limits.MIB
        if part and (size + row_bytes > READ_BYTES or len(part) == READ_ROWS):
            yield part
            part, size = [], 0
        part.append(row)
        size += row_bytes
    if part:
        yield part


def fitting(task: task_pb2.Task) -> task_pb2.Task:
    """A task as it passes gRPC: if payload, result, checkpoint and dependencies are too much together, without the last
    two of these.
    """
    for field in ("checkpoint", "dependencies"):
        if task.ByteSize() <= TASK_BYTES_MAX:
            break
        task.ClearField(field)
    return task


TASK_BYTES_MAX: Final = limits.GRPC_BYTES_MAX - limits.COMMAND_OVERHEAD_BYTES_MAX
