"""A worker as placement sees it, with tasks that start and end when a test says so."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.tasks.placement import Capacity, Resources
from node.tasks.reservations import Taken


@dataclass(slots=True, eq=False)
class ToyWorker:
    """Invariant: `capacity.used`, `held` and `credit` are what the tasks that started and did not end make of them."""

    worker_id: str
    capacity: Capacity = field(default_factory=lambda: Capacity({}))
    load: float = 0.0
    slots: int = 4
    held: int = 0
    credit: int = 4
    labels: Mapping[str, str] = field(default_factory=dict)
    types: frozenset[str] = frozenset()
    of_queue: Counter[int] = field(default_factory=Counter)
    tasks: dict[int, Taken] = field(default_factory=dict)

    def held_of(self, queue_id: int) -> int:
        return self.of_queue[queue_id]

    def has_room(self, resources: Resources) -> bool:
        return self.credit > 0 and self.capacity.fits(resources)

    def start(self, number: int, resources: Resources, end_ms: int = 0, queue_id: int = 1) -> None:
        self.tasks[number] = Taken(end_ms, resources)
        self.capacity.take(resources)
        self.held += 1
        self.credit -= 1
        self.of_queue[queue_id] += 1

    def end(self, number: int, queue_id: int = 1) -> None:
        self.capacity.give(self.tasks.pop(number).resources)
        self.held -= 1
        self.credit += 1
        self.of_queue[queue_id] -= 1

    def taken(self) -> list[Taken]:
        return list(self.tasks.values())


def worker(worker_id: str = "w", *, slots: int = 4, **capacity: float) -> ToyWorker:
    """A worker with this capacity and as much credit as slots."""
    return ToyWorker(worker_id, Capacity(capacity), slots=slots, credit=slots)
