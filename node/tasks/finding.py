"""Finding a worker for the first task of a lane: among those that fit, by keeping one, or by making others yield."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from node.clock import Clock
from node.state.task_rows import ReadyTask
from node.tasks.lanes import Lane
from node.tasks.placement import can_ever_run, choose
from node.tasks.preemption import Running, victims
from node.tasks.reservations import Reservations, Taken
from node.tasks.workers import Lease, Worker
from taskraft.internal.v1 import command_pb2

if TYPE_CHECKING:
    from node.tasks.queue import Chosen

FITTING_MAX: Final = 64
"""Workers that are compared for one task; of more, others have their turn at the next one."""


class Pool(Protocol):
    """The workers of all queues."""

    version: int
    """Changes whenever a worker comes, goes, or says other types, labels, queues or capacity."""

    def of_queue(self, queue_id: int) -> Sequence[Worker]:
        """Those that take tasks of a queue."""
        ...


class Finder:
    """Looks among the workers of one queue."""

    def __init__(self, queue_id: int, pool: Pool, reservations: Reservations, clock: Clock) -> None:
        self._queue_id, self._pool, self._reservations, self._clock = queue_id, pool, reservations, clock
        self._turn = 0
        self._passed = False  # the task that a worker is kept for: who comes now comes after it
        self.let_go: list[str] = []
        """Workers that were kept for a task which started elsewhere: others may want them now."""

    @property
    def version(self) -> int:
        """Changes whenever `matched` may."""
        return self._pool.version

    def willing(self) -> list[Worker]:
        """The workers that take tasks now."""
        return [worker for worker in self._pool.of_queue(self._queue_id) if worker.willing]

    @staticmethod
    def can_run(worker: Worker, demand: command_pb2.Demand) -> bool:
        """True if a worker can ever run such tasks."""
        return can_ever_run(worker, demand) is None

    def matched(self, lane: Lane) -> list[Worker]:
        """The workers that can ever run the tasks of a lane."""
        if lane.matched_at != self._pool.version:
            workers = self._pool.of_queue(self._queue_id)
            lane.matched = [worker for worker in workers if self.can_run(worker, lane.demand)]
            lane.matched_at = self._pool.version
        return lane.matched

    def find(self, matched: Sequence[Worker], lane: Lane, task: ReadyTask, placement: int) -> Worker | None:
        """Who of those that are `matched` gets a task now; None if it fits nowhere, or only where it would be in the
        way of another one.
        """
        resources = lane.resources
        if len(matched) > FITTING_MAX:
            self._turn += FITTING_MAX
            start = self._turn % len(matched)
            matched = [*matched[start:], *matched[:start]]
        fitting = []
        for worker in matched:
            if (
                worker.willing
                and worker.capacity.fits(resources)
                and worker.room_for(task.bytes)
                and (not self._reservations or self._is_free(worker, task, lane))
            ):
                fitting.append(worker)
                if len(fitting) == FITTING_MAX:
                    break
        if len(fitting) > 1:
            return choose(fitting, placement, self._queue_id)
        return fitting[0] if fitting else None

    def _is_free(self, worker: Worker, task: ReadyTask, lane: Lane) -> bool:
        """True if a task is in the way of none that the worker is kept for."""
        end_ms = self._clock.now_ms() + task.size_ms
        return self._reservations.allows(
            worker.worker_id,
            self._queue_id,
            task.number,
            lane.resources,
            end_ms,
            before_own=not self._passed,
        )

    def started(self, worker: Worker, lane: Lane, task: ReadyTask) -> None:
        """A task was given to a worker."""
        if self._reservations:
            kept = self._reservations.of(self._queue_id)
            if kept is not None and kept.number == task.number and kept.worker_id != worker.worker_id:
                self.let_go.append(kept.worker_id)
            end_ms = self._clock.now_ms() + task.size_ms
            self._reservations.started(worker.worker_id, self._queue_id, task.number, lane.resources, end_ms)

    # Keeping ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The tasks of the queue are looked at from the first one on."""
        self._passed = False

    def is_kept_for(self, task: ReadyTask) -> bool:
        """True if a worker is kept for this task."""
        kept = self._reservations.of(self._queue_id) if self._reservations else None
        return kept is not None and kept.number == task.number

    def passed(self, task: ReadyTask) -> None:
        """This task has had its turn, and could not start."""
        self._passed = self._passed or self.is_kept_for(task)

    def keep_none(self) -> None:
        """The queue cannot use the worker that it keeps: others may."""
        if self._reservations and (kept := self._reservations.of(self._queue_id)):
            self.let_go.append(kept.worker_id)
            self._reservations.release(self._queue_id)

    def keep(self, lane: Lane, task: ReadyTask, pending: Mapping[int, Chosen]) -> None:
        """Keep a worker for the first task, which fits nowhere now; or go on keeping the one that is kept."""
        now_ms = self._clock.now_ms()
        if not self._reservations.is_due(self._queue_id, task.number, now_ms):
            return
        kept = self._reservations.of(self._queue_id)
        workers = self._present(lane)
        if kept is not None and kept.number == task.number:
            workers = [one for one in workers if one.worker_id == kept.worker_id] or workers
        coming: dict[Worker, list[Taken]] = {}
        for chosen in pending.values():
            taken = Taken(now_ms + chosen.task.size_ms, chosen.lane.resources)
            coming.setdefault(chosen.worker, []).append(taken)
        places = [(worker, self._taken(worker) + coming.get(worker, [])) for worker in workers]
        self._reservations.reserve(self._queue_id, task.number, lane.resources, places, now_ms)

    def _present(self, lane: Lane) -> list[Worker]:
        return [
            worker
            for worker in self.matched(lane)
            if worker.session is not None and not worker.draining and not worker.silent
        ]

    def _taken(self, worker: Worker) -> list[Taken]:
        """What a worker's tasks take, and until when as far as can be said; late ones may end at any moment."""
        ahead_ms = self._clock.now_ms() - self._clock.wall_ms()
        return [
            Taken(lease.leased.start_ms + lease.leased.size_ms + ahead_ms, lease.resources)
            for leases in (worker.leases, worker.stale)
            for lease in leases.values()
            if not lease.answered
        ]

    # Preempting ---------------------------------------------------------------------------------------------------

    def to_yield(self, lane: Lane, task: ReadyTask) -> list[Lease]:
        """Running tasks of this queue that have to yield for a waiting one; empty if none have to, or none can."""
        workers = [
            (worker, [_running(lease) for lease in worker.leases.values() if self._may_yield(lease)])
            for worker in self._present(lane)
        ]
        chosen = {one.number for one in victims(task.priority, lane.resources, workers)}
        return [
            lease
            for worker, _ in workers
            for lease in worker.leases.values()
            if lease.leased.number in chosen
        ]

    def _may_yield(self, lease: Lease) -> bool:
        return lease.leased.queue_id == self._queue_id and not lease.settling and not lease.revoked


def _running(lease: Lease) -> Running:
    """A lease as preemption sees it."""
    leased = lease.leased
    return Running(leased.number, leased.priority, lease.preemptible, lease.resources, leased.start_ms)
