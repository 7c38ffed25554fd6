"""When time brings something to each queue, kept in memory: so that asking for the next time costs nothing.

What is kept is never later than the truth, and made exact when its time has come. When the store is rolled back to the last
commit, or to a place after that, what was known at the commit holds again: with very many queues it would be a long work to
find that out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

_HEAP_SLACK = 64


class Agenda:
    """Derived from the store, as it is and as it was at the last commit."""

    def __init__(self, queue_ids: Iterable[int]) -> None:
        """Of these queues nothing is known yet, the others have nothing ahead."""
        self._due_ms = dict.fromkeys(queue_ids, 0)
        self._exact: set[int] = set()
        self._heap = [(due_ms, queue_id) for queue_id, due_ms in self._due_ms.items()]
        heapq.heapify(self._heap)
        self._before: dict[int, int] | None = None
        """The earliest time that was known, since the last commit, of each queue of which a later one is known now; None: this
        was made after that commit.
        """

    def committed(self) -> None:
        """The store was committed as it is."""
        self._before = {}

    def roll_back(self) -> bool:
        """The store was rolled back; False if this has to be made anew."""
        if self._before is None:
            return False
        self._exact.clear()
        for queue_id, due_ms in self._before.items():
            self._set(queue_id, min(due_ms, self._due_ms.get(queue_id, due_ms)))
        return True

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
        """The queue is gone, or nothing is ahead of it."""
        self._note(queue_id)
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
        known_ms = self._due_ms.get(queue_id)
        if known_ms == due_ms:
            return
        if known_ms is not None and known_ms < due_ms:
            self._note(queue_id)
        self._due_ms[queue_id] = due_ms
        heapq.heappush(self._heap, (due_ms, queue_id))
        if len(self._heap) > 2 * len(self._due_ms) + _HEAP_SLACK:
            self._heap = [(due_ms, queue_id) for queue_id, due_ms in self._due_ms.items()]
            heapq.heapify(self._heap)

    def _note(self, queue_id: int) -> None:
        """What is known of the queue now may be true again after a rollback."""
        known_ms = self._due_ms.get(queue_id)
        if self._before is not None and known_ms is not None:
            self._before[queue_id] = min(known_ms, self._before.get(queue_id, known_ms))
