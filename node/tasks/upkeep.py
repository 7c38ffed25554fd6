"""What the log has to be told because time passes, or because a queue's order has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.rows import QueueRow
from taskraft.internal.v1 import command_pb2

ADVANCED_TASKS: Final = 1_000
"""Tasks that one command makes ready, expires or forgets; applying it holds the event loop for some milliseconds."""
REORDERED_TASKS: Final = 2_000
PAUSE_MS: Final = 1_000
"""After a step that could not be applied, which is a mistake of ours."""


class Ahead(Protocol):
    """What the state machine knows of work that time brings."""

    def next_due_ms(self) -> int | None:
        """When AdvanceTasks has something to do, wall clock; None: nothing is ahead."""
        ...

    def reordering(self, queue_id: int) -> bool:
        """True while a queue's waiting tasks are being put in another order."""
        ...

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        ...


class Upkeep:
    """Proposes one step at a time, each when the last one is answered."""

    def __init__(self, state: Ahead) -> None:
        self._state = state
        self._advancing = False
        self._resume_ms = 0
        self._reordering: dict[int, bool] = {}  # queues to be looked at; True: a step is on its way

    def look_at(self, queue_id: int) -> None:
        """A queue may be in a new order."""
        if self._state.reordering(queue_id):
            self._reordering.setdefault(queue_id, False)

    def clear(self) -> None:
        self._advancing = False
        self._reordering.clear()

    def is_due(self, clock: Clock, time_ms: int) -> bool:
        """True if there is a command to be proposed. `time_ms` is the time of the log, which may be ahead of the clock."""
        if clock.now_ms() < self._resume_ms:
            return False
        if any(not on_its_way for on_its_way in self._reordering.values()):
            return True
        due_ms = self._state.next_due_ms()
        return not self._advancing and due_ms is not None and due_ms <= max(clock.wall_ms(), time_ms)

    def next_ms(self, clock: Clock, time_ms: int) -> int | None:
        """When `is_due` becomes true by itself, monotonic."""
        due_ms = self._state.next_due_ms()
        if due_ms is None or self._advancing:
            return None
        return max(self._resume_ms, clock.now_ms() + max(0, due_ms - max(clock.wall_ms(), time_ms)))

    def commands(
        self, clock: Clock, time_ms: int, again: Callable[[BaseException | None], None]
    ) -> Iterator[tuple[Command, Answer]]:
        """What is due; `again` is called when a step is answered."""
        if not self.is_due(clock, time_ms):
            return
        for queue_id, on_its_way in list(self._reordering.items()):
            if on_its_way:
                continue
            row = self._state.queue_by_id(queue_id)
            if row is None:
                del self._reordering[queue_id]
                continue
            self._reordering[queue_id] = True
            step = command_pb2.ReorderTasks(queue=row.name, queue_uid=row.uid, limit=REORDERED_TASKS)
            yield (
                plain(command_pb2.Command(reorder_tasks=step)),
                partial(self._reordered, queue_id, clock, again),
            )
        due_ms = self._state.next_due_ms()
        if not self._advancing and due_ms is not None and due_ms <= max(clock.wall_ms(), time_ms):
            self._advancing = True
            advance = command_pb2.AdvanceTasks(limit=ADVANCED_TASKS)
            yield plain(command_pb2.Command(advance_tasks=advance)), partial(self._advanced, clock, again)

    def _advanced(
        self, clock: Clock, again: Callable[[BaseException | None], None], error: BaseException | None
    ) -> None:
        self._advancing = False
        self._paused(clock, error)
        again(error)

    def _reordered(
        self,
        queue_id: int,
        clock: Clock,
        again: Callable[[BaseException | None], None],
        error: BaseException | None,
    ) -> None:
        if queue_id in self._reordering:
            del self._reordering[queue_id]
            self.look_at(queue_id)
        self._paused(clock, error)
        again(error)

    def _paused(self, clock: Clock, error: BaseException | None) -> None:
        if error is not None:
            self._resume_ms = clock.now_ms() + PAUSE_MS
