"""The head of a lane: a bounded window on tasks that wait, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Protocol

from node.state.task_rows import ReadyTask

WINDOW = 2_048
"""Tasks of a lane that are known after a refill; up to twice as many before the far end is dropped again."""


class Ready(Protocol):
    """Where waiting tasks are found."""

    def ready(self, lane_id: int, after: tuple[int, int] | None, limit: int) -> list[ReadyTask]:
        """The QUEUED tasks of a lane in their order, those after a (key, number)."""
        ...


class Window:
    """The waiting tasks of one lane that are not being leased, in the order of (key, number), as far as they are known.

    Invariant: every waiting task up to `_end` is in `_waiting`, unless it was taken and neither leased nor put back;
    None as the end means that all of them are.
    """

    __slots__ = ("_end", "_heap", "_lane_id", "_refill", "_state", "_waiting")

    def __init__(self, state: Ready, lane_id: int, *, first: int) -> None:
        """`first`: how many tasks the first look fetches; later ones fetch more."""
        self._state, self._lane_id = state, lane_id
        self._waiting: dict[int, ReadyTask] = {}
        self._heap: list[ReadyTask] = []
        self._end: tuple[int, int] | None = (-1 << 63, 0)
        self._refill = min(first, WINDOW)

    def add(self, tasks: Iterable[ReadyTask]) -> None:
        """These wait now; what lies beyond the end will be found when the window gets there."""
        end, waiting, heap = self._end, self._waiting, self._heap
        for task in tasks:
            if end is None or (task.key, task.number) <= end:
                waiting[task.number] = task
                heapq.heappush(heap, task)
        if len(waiting) > 2 * WINDOW:
            self._trim()

    def remove(self, number: int) -> None:
        """This one does not wait any more; it may be unknown."""
        self._waiting.pop(number, None)

    def head(self) -> ReadyTask | None:
        """The first waiting task; None if there is none."""
        heap, waiting = self._heap, self._waiting
        while True:
            while heap:
                task = heap[0]
                if waiting.get(task.number) is task:
                    return task
                heapq.heappop(heap)  # was removed, or came back in another place
            if self._end is None:
                return None
            self._fill(self._end)

    def take(self) -> ReadyTask:
        """Remove and return the head, which must exist."""
        task = heapq.heappop(self._heap)
        assert self._waiting.pop(task.number) is task, "call head() first"
        return task

    def __len__(self) -> int:
        """How many waiting tasks are known."""
        return len(self._waiting)

    @property
    def whole(self) -> bool:
        """True if no other tasks of this lane wait."""
        return self._end is None

    def known(self) -> list[ReadyTask]:
        """The known waiting tasks in their order."""
        return sorted(self._waiting.values())

    def _fill(self, end: tuple[int, int]) -> None:
        tasks = self._state.ready(self._lane_id, end, self._refill)
        if len(tasks) < self._refill:
            self._end = None
        else:
            self._end = (tasks[-1].key, tasks[-1].number)
        self._refill = min(4 * self._refill, WINDOW)
        self._waiting.update((task.number, task) for task in tasks)
        self._heap.extend(tasks)
        heapq.heapify(self._heap)

    def _trim(self) -> None:
        """Forget the far half; it is still in the state."""
        kept = self.known()[:WINDOW]
        self._waiting = {task.number: task for task in kept}
        self._heap = kept  # sorted, and so a heap
        self._end = (kept[-1].key, kept[-1].number)
