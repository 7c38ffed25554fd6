"""Which of the workers gets a task: what fits where, and the one to choose among those that it fits.

Resources are amounts by name. A resource that a worker does not name it does not have.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

from node.tasks.reasons import Reason
from taskraft.v1 import queue_pb2

Resources = Mapping[str, float]

TOLERANCE: Final = 1e-9
"""Part of a total by which sums of fractions may be wrong: a tenth and two tenths fit into three tenths."""
ROUNDING: Final = 1e-12
"""Part of a total that is nothing: three tenths less three times a tenth."""


class Capacity:
    """What a worker has and what its tasks take. More may be taken than there is, if `total` was made smaller."""

    __slots__ = ("total", "used")

    def __init__(self, total: dict[str, float]) -> None:
        self.total = total
        self.used: dict[str, float] = {}

    def fits(self, resources: Resources) -> bool:
        """True if that much is free now."""
        total, used = self.total, self.used
        for name, amount in resources.items():
            have = total.get(name, 0.0)
            if used.get(name, 0.0) + amount > have + have * TOLERANCE:
                return False
        return True

    def fits_total(self, resources: Resources) -> bool:
        """True if that much would be free if nothing ran."""
        return not self.lacks(resources)

    def lacks(self, resources: Resources) -> list[str]:
        """The names of which there is not that much even if nothing runs."""
        total = self.total
        return [
            name for name, amount in resources.items() if amount > total.get(name, 0.0) * (1.0 + TOLERANCE)
        ]

    def take(self, resources: Resources) -> None:
        """A task takes that much."""
        used = self.used
        for name, amount in resources.items():
            used[name] = used.get(name, 0.0) + amount

    def give(self, resources: Resources) -> None:
        """A task gives that much back; what rounding leaves over goes too."""
        used = self.used
        for name, amount in resources.items():
            left = used.get(name, 0.0) - amount
            if left > self.total.get(name, 0.0) * ROUNDING:
                used[name] = left
            else:
                used.pop(name, None)

    def free(self) -> dict[str, float]:
        """How much of each resource nothing takes; below 0 if `total` was made smaller than what is taken."""
        return {name: amount - self.used.get(name, 0.0) for name, amount in self.total.items()}

    def fullness(self) -> float:
        """The part taken of that resource of which the greatest part is taken; 0: all is free."""
        total = self.total
        shares = [taken / total[name] for name, taken in self.used.items() if total.get(name)]
        return max(shares, default=0.0)


class Demand(Protocol):
    """What a task asks of its worker; internal.v1.Demand is one."""

    @property
    def type(self) -> str:
        """For Candidate.types."""

    @property
    def resources(self) -> Resources:
        """For Candidate.capacity."""

    @property
    def worker_labels(self) -> Mapping[str, str]:
        """For Candidate.labels."""


class Candidate(Protocol):
    """A worker, as far as placement is concerned."""

    @property
    def worker_id(self) -> str:
        """Its name."""

    @property
    def capacity(self) -> Capacity:
        """What it has and what is taken of it."""

    @property
    def load(self) -> float:
        """How busy it says that it is: 0 idle, 1 full."""

    @property
    def slots(self) -> int:
        """How many tasks it runs at once; 0: not said."""

    @property
    def held(self) -> int:
        """How many tasks it has."""

    @property
    def credit(self) -> int:
        """How many more it takes."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What it says about itself."""

    @property
    def types(self) -> frozenset[str]:
        """What it can run; empty: all types."""

    def held_of(self, queue_id: int) -> int:
        """How many tasks of a queue it has."""


Worker = TypeVar("Worker", bound=Candidate)


def can_ever_run(candidate: Candidate, demand: Demand) -> Reason | None:
    """None if this worker can run such tasks when it is idle, else what it is that it lacks."""
    if candidate.types and demand.type not in candidate.types:
        return Reason.NO_WORKER_FOR_TYPE
    labels = candidate.labels
    for name, value in demand.worker_labels.items():
        if labels.get(name) != value:
            return Reason.WORKER_LABELS
    return None if candidate.capacity.fits_total(demand.resources) else Reason.RESOURCES


def choose(candidates: Iterable[Worker], placement: int, queue_id: int) -> Worker | None:
    """The one of these workers, all of which have room, that a queue's Placement says; None if there is none.

    Of equal ones the first by id, so that the choice is a function of what is seen.
    """
    if placement == queue_pb2.PLACEMENT_PACK:
        return min(candidates, key=_fullest, default=None)
    if placement == queue_pb2.PLACEMENT_SPREAD:
        return min(candidates, key=lambda one: (one.held_of(queue_id), *_least_loaded(one)), default=None)
    return min(candidates, key=_least_loaded, default=None)


def _occupancy(candidate: Candidate) -> float:
    """The part of its slots that has a task; above 1 if some wait at the worker."""
    return candidate.held / (candidate.slots or 1)


def _least_loaded(candidate: Candidate) -> tuple[float, str]:
    """What a worker says comes late and may have other causes than our tasks; what it was given is known at once."""
    return (candidate.load + _occupancy(candidate), candidate.worker_id)


def _fullest(candidate: Candidate) -> tuple[float, str]:
    return (-max(_occupancy(candidate), candidate.capacity.fullness()), candidate.worker_id)
