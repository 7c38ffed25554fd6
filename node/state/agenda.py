"""When time brings something to each queue, kept in memory: so that asking for the next time costs nothing.

What is kept is never later than the truth, and made exact when its time has come.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

_HEAP_SLACK = 64


class Agenda:
    """Derived from the store, and made anew whenever that is rolled back."""

    def __init__(self, queue_ids: Iterable[int]) -> None:
        """Of these queues nothing is known yet, the others have nothing ahead."""
        self._due_ms = dict.fromkeys(queue_ids, 0)
        self._exact: set[int] = set()
        self._heap = [(due_ms, queue_id) for queue_id, due_ms in self._due_ms.items()]
        heapq.heapify(self._heap)

    def lower(self, queue_id: int, due_ms: int) -> bool:
        """There is something new in the queue, for that time; True if it is the first."""
        known_ms = self._due_ms.get(queue_id)
        if known_ms is not None and known_ms <= due_ms:
            return False
        self._exact.add(queue_id)
        self._set(queue_id, due_ms)
        return True

    def loosen(self, queue_id: int) -> None:
        """What comes first may have gone."""
        self._exact.discard(queue_id)

    def drop(self, queue_id: int) -> None:
        """The queue is gone."""
        self._due_ms.pop(queue_id, None)
        self._exact.discard(queue_id)

    def first_ms(self, by_ms: int, look: Callable[[int], int | None]) -> int | None:
        """The earliest time; if that is not above `by_ms` it is exact, otherwise it may be later than this. `look` finds the
        time of a queue.
        """
        while self._heap:
            due_ms, queue_id = self._heap[0]
            if self._due_ms.get(queue_id) != due_ms:
                heapq.heappop(self._heap)
            elif due_ms > by_ms or queue_id in self._exact:
                return due_ms
            else:
                self.look_again(queue_id, look)
        return None

    def look_again(self, queue_id: int, look: Callable[[int], int | None]) -> None:
        """Find out exactly when the queue has something."""
        due_ms = look(queue_id)
        if due_ms is None:
            self.drop(queue_id)
        else:
            self._exact.add(queue_id)
            self._set(queue_id, due_ms)

    def due(self, by_ms: int) -> list[int]:
        """The queues that may have something by then, in the order of their ids: all that have, and perhaps others."""
        return sorted(queue_id for queue_id, due_ms in self._due_ms.items() if due_ms <= by_ms)

    def _set(self, queue_id: int, due_ms: int) -> None:
        if self._due_ms.get(queue_id) == due_ms:
            return
        self._due_ms[queue_id] = due_ms
        heapq.heappush(self._heap, (due_ms, queue_id))
        if len(self._heap) > 2 * len(self._due_ms) + _HEAP_SLACK:
            self._heap = [(due_ms, queue_id) for queue_id, due_ms in self._due_ms.items()]
            heapq.heapify(self._heap)
