"""When each queue has ended tasks to forget, kept in memory: so that asking for the next time costs nothing."""

import heapq
from dataclasses import dataclass, field


@dataclass(slots=True)
class Expiries:
    """Exact as of the last `retention.refresh`, but that queues with rows that are not written may be early. Derived from the store, and made anew whenever that is rolled back."""

    complete: bool = False
    """False: no queue has been looked at yet."""
    over: dict[int, int] = field(default_factory=dict)
    """Queues that remember too many tasks, and since when."""
    _due_ms: dict[int, int] = field(default_factory=dict)
    _heap: list[tuple[int, int]] = field(default_factory=list)

    def set(self, queue_id: int, due_ms: int | None) -> None:
        """The queue has something to forget at that time; None: it never has."""
        if due_ms is None:
            self._due_ms.pop(queue_id, None)
        elif self._due_ms.get(queue_id) != due_ms:
            self._due_ms[queue_id] = due_ms
            heapq.heappush(self._heap, (due_ms, queue_id))

    def first_ms(self) -> int | None:
        """The earliest of these times."""
        while self._heap and self._due_ms.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, time_ms: int) -> list[int]:
        """The queues that have something to forget by that time, in the order of their ids."""
        found = {queue_id for queue_id, due_ms in self._due_ms.items() if due_ms <= time_ms}
        return sorted(found.union(self.over))
