"""A large task is not starved by small ones: a worker is kept for it, and filled meanwhile with what does not delay it.

EASY backfilling (D. Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995; A. Mu'alem and D. Feitelson, "Utilization,
Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Backfilling", IEEE TPDS 12, 2001):
the first task of a queue that fits no worker now gets a reservation at the one where it is expected to fit first.
Another task may start there only if it is expected to end before that moment, or if it takes only what is left beside
the reserved task. Expected times are means, not bounds as in those papers; so the moment, once said, is never moved
to a later time: after it nothing is filled in that could be in the way, and the task starts when what runs has ended.

A queue has one reservation. A worker may have those of several queues: they are respected in the order in which they
were made, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from node.tasks.placement import TOLERANCE, Candidate, Capacity, Resources

PATIENCE_MS: Final = 1_000
"""How long the first task of a queue looks for room by itself: most find some at the next end of a task like them."""


class Taken(NamedTuple):
    """A place at a worker that is taken, and when it is expected to be given back."""

    end_ms: int
    resources: Resources


@dataclass(slots=True)
class Reservation:
    """A worker that is kept for a task. What is left beside it gets less as other tasks are let in."""

    queue_id: int
    number: int
    worker_id: str
    resources: Resources
    start_ms: int
    """When the task is expected to start there; in the past if something runs longer than expected."""
    left: dict[str, float] = field(default_factory=dict)
    left_tasks: int = 0


class Reservations:
    """Those of all queues. What takes resources of a worker and is not listed as taken is expected to run for ever."""

    def __init__(self) -> None:
        self._of_queue: dict[int, Reservation] = {}
        self._of_worker: dict[str, list[Reservation]] = {}
        self._looking: dict[
            int, tuple[int, int]
        ] = {}  # by queue: which task last found no room, and since when

    def __len__(self) -> int:
        """How many workers are kept, one counted for each queue that keeps it."""
        return len(self._of_queue)

    def __bool__(self) -> bool:
        """False while there is nothing that `allows` could refuse or `started` could change."""
        return bool(self._of_queue or self._looking)

    def of(self, queue_id: int) -> Reservation | None:
        """The reservation of a queue."""
        return self._of_queue.get(queue_id)

    def is_due(self, queue_id: int, number: int, now_ms: int) -> bool:
        """Says that this task, the first of its queue, found no room now; true if it is time to keep a worker for it.

        Asked before `reserve`, which looks at all workers. Tasks that take turns in being the first share their time.
        """
        _, since_ms = self._looking.get(queue_id, (0, now_ms))
        self._looking[queue_id] = (number, since_ms)
        return now_ms - since_ms >= PATIENCE_MS

    def reserve(
        self,
        queue_id: int,
        number: int,
        resources: Resources,
        workers: Iterable[tuple[Candidate, Sequence[Taken]]],
        now_ms: int,
    ) -> Reservation | None:
        """Keeps a worker for the task that is first in its queue and could not start now.

        `workers` are those that can ever run it and take tasks, whether they have credit now or not. A reservation that
        the task has stays if its worker is among them, one of another task is given up. None if there is no worker, or
        if one has room and is only kept for others: the task then comes after those.
        To be called in each pass in which the task still waits, with what is taken by then; it is enough to name the
        worker of a reservation that the task has, as long as that one is still to be had.
        """
        old = self._of_queue.get(queue_id)
        best: tuple[int, str] | None = None
        chosen: tuple[Candidate, Sequence[Taken]] | None = None
        has_room = False
        for candidate, taken in workers:
            if old is not None and (candidate.worker_id, number) == (old.worker_id, old.number):
                _refresh(old, candidate, taken, now_ms)
                return old
            has_room = has_room or (candidate.credit > 0 and candidate.capacity.fits(resources))
            start_ms = expected_start_ms(candidate, resources, taken, now_ms)
            if start_ms is not None and (best is None or (start_ms, candidate.worker_id) < best):
                best, chosen = (start_ms, candidate.worker_id), (candidate, taken)
        self._drop(queue_id)
        if best is None or chosen is None or has_room:
            return None
        made = Reservation(queue_id, number, best[1], resources, best[0])
        _refresh(made, *chosen, now_ms)
        self._of_queue[queue_id] = made
        self._of_worker.setdefault(made.worker_id, []).append(made)
        return made

    def release(self, queue_id: int) -> None:
        """The task has started, does not wait any more, or is not the first any more."""
        self._looking.pop(queue_id, None)
        self._drop(queue_id)

    def _drop(self, queue_id: int) -> None:
        if gone := self._of_queue.pop(queue_id, None):
            left = self._of_worker[gone.worker_id]
            left.remove(gone)
            if not left:
                del self._of_worker[gone.worker_id]

    def worker_gone(self, worker_id: str) -> None:
        """Nothing is kept at this worker any more."""
        for gone in self._of_worker.pop(worker_id, ()):
            del self._of_queue[gone.queue_id]

    def allows(
        self,
        worker_id: str,
        queue_id: int,
        number: int,
        resources: Resources,
        end_ms: int,
        *,
        before_own: bool = False,
    ) -> bool:
        """True if a task that fits a worker now and would end at `end_ms` is in the way of nothing that it is kept for.

        `before_own`: its turn comes before that of the task of its own queue that a worker is kept for.
        """
        for reserved in self._of_worker.get(worker_id, ()):
            if reserved.queue_id == queue_id and (before_own or reserved.number == number):
                return True  # later ones come after this one
            if end_ms > reserved.start_ms and not _is_left(reserved, resources):
                return False
        return True

    def started(self, worker_id: str, queue_id: int, number: int, resources: Resources, end_ms: int) -> None:
        """A task was given a place at a worker: what it takes beyond the start of reserved tasks is not left any more."""
        for reserved in self._of_worker.get(worker_id, ()):
            if (reserved.queue_id, reserved.number) != (queue_id, number) and end_ms > reserved.start_ms:
                reserved.left_tasks -= 1
                for name, amount in resources.items():
                    reserved.left[name] = reserved.left.get(name, 0.0) - amount
        if self._looking.get(queue_id, (0, 0))[0] == number:
            del self._looking[queue_id]
        if (own := self._of_queue.get(queue_id)) and own.number == number:
            self.release(queue_id)


def expected_start_ms(
    candidate: Candidate, resources: Resources, taken: Sequence[Taken], now_ms: int
) -> int | None:
    """When a worker that can run such a task is expected to have room for it; None if that cannot be said.

    Places are given back one after another as they are expected to; one that is late, at any moment now.
    """
    missing = _missing(candidate.capacity, resources)
    credit = candidate.credit
    if credit > 0 and not missing:
        return now_ms
    for end_ms, given in sorted(taken, key=_end_ms):
        credit += 1
        for name in [name for name in missing if name in given]:
            missing[name] -= given[name]
            if missing[name] <= candidate.capacity.total[name] * TOLERANCE:
                del missing[name]
        if credit > 0 and not missing:
            return max(end_ms, now_ms)
    return None


def _end_ms(taken: Taken) -> int:
    return taken.end_ms


def _missing(capacity: Capacity, resources: Resources) -> dict[str, float]:
    """How much of each resource must be given back before these are free."""
    missing = {}
    for name, amount in resources.items():
        total = capacity.total[name]
        lack = capacity.used.get(name, 0.0) + amount - total
        if lack > total * TOLERANCE:
            missing[name] = lack
    return missing


def _refresh(reserved: Reservation, candidate: Candidate, taken: Sequence[Taken], now_ms: int) -> None:
    """Looks again at when a reserved task is expected to start and what is left beside it. What is late may run on."""
    start_ms = expected_start_ms(candidate, reserved.resources, taken, now_ms)
    if start_ms is not None:
        reserved.start_ms = min(reserved.start_ms, start_ms)
    left, tasks = candidate.capacity.free(), candidate.credit - 1
    for end_ms, given in taken:
        if now_ms < end_ms <= reserved.start_ms:
            tasks += 1
            for name, amount in given.items():
                left[name] = left.get(name, 0.0) + amount
    for name, amount in reserved.resources.items():
        left[name] -= amount
    reserved.left, reserved.left_tasks = left, tasks


def _is_left(reserved: Reservation, resources: Resources) -> bool:
    """True if a task may take this beyond the start of the reserved one, which asks for none of it or leaves enough."""
    if reserved.left_tasks <= 0:
        return False
    left = reserved.left
    return all(
        amount <= left.get(name, 0.0) for name, amount in resources.items() if name in reserved.resources
    )
