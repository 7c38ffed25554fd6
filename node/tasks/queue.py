"""One queue of tasks as its leader schedules it: what is next, whether its limits allow it, and who gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from node.clock import Clock
from node.policies import policy as policy_of
from node.state.rows import QueueRow
from node.state.task_rows import ReadyTask, Settled
from node.tasks.lanes import Lane, LaneOrder, Lanes
from node.tasks.limits import Concurrency, Rates
from node.tasks.placement import can_ever_run, choose
from node.tasks.preemption import Running as RunningTask
from node.tasks.preemption import victims
from node.tasks.reservations import Reservations, Taken
from node.tasks.workers import Lease, Worker
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

LANES_SET_ASIDE_MAX = 256
"""Lanes that may be passed over in one go because nothing can run their heads now."""
PREEMPTION_PAUSE_MS = 1_000
"""Between two preemptions in a queue: those that were asked to yield need a moment."""


class Chosen(NamedTuple):
    """A task that is to be leased to a worker."""

    queue: TaskQueue
    lane: Lane
    task: ReadyTask
    worker: Worker


class Pool(Protocol):
    """The workers of all queues."""

    version: int
    """Changes whenever a worker comes, goes, or says other types, labels, queues or capacity."""

    def of_queue(self, queue_id: int) -> Sequence[Worker]:
        """Those that take tasks of a queue."""
        ...


Running = tuple[str, str, int, bool]
"""Limit key, tenant and expected run time of a task at a worker; True if its end is on its way into the log."""


class TaskQueue:
    """Chooses the tasks of one queue. What it has chosen counts as running until `freed` or `undone`."""

    def __init__(
        self, row: QueueRow, state: Lanes, pool: Pool, reservations: Reservations, *, clock: Clock
    ) -> None:
        self.row = row
        self.due_ms: int | None = None
        """When a rate limit that stood in the way of the last pass allows the next task, monotonic."""
        self._state, self._pool, self._reservations, self._clock = state, pool, reservations, clock
        self._aside: list[Lane] = []
        self._willing: list[Worker] = []
        self._preempt_at_ms = 0
        self.rates = Rates(row.config.scheduling)
        self._set_up(row.config.scheduling, ())

    def _set_up(self, settings: queue_pb2.Scheduling, running: Iterable[Running]) -> None:
        """All that the settings decide."""
        self._settings = settings
        self.policy = policy_of(settings)
        self.concurrency = Concurrency(settings.max_running, settings.max_running_per_key)
        self.rates = self.rates.changed(settings)
        self.lanes = LaneOrder(self._state, self.row.id, self.policy)
        for one in running:
            self.adopt(*one)

    @property
    def slice_ms(self) -> int | None:
        return self.policy.slice_ms

    @property
    def lease_ms(self) -> int:
        """Of tasks that do not say."""
        return self._settings.lease.ToMilliseconds()

    # What happens to the queue ------------------------------------------------------------------------------------

    def changed(self, row: QueueRow, running: Iterable[Running]) -> None:
        """It has other settings, perhaps."""
        self.row = row
        if row.config.scheduling != self._settings:
            self._set_up(row.config.scheduling, running)

    def adopt(self, limit_key: str, tenant: str, size_ms: int, ending: bool = False) -> None:
        """Something runs that was not chosen here; if it is `ending`, it is `settled`, but not `freed` any more."""
        if not ending:
            self.concurrency.started(limit_key)
        self.policy.started(tenant, size_ms)

    def freed(self, limit_key: str) -> None:
        """A running task ends, by a command that goes into the log before any later lease."""
        self.concurrency.ended(limit_key)

    def settled(self, lease: Lease, ended: Settled) -> None:
        """A lease has ended."""
        self._corrected(lease.tenant, lease.leased.size_ms, ended.run_ms)

    def unready(self, lane_id: int, numbers: Sequence[int]) -> None:
        """These tasks do not wait any more, and nothing is kept for them."""
        self.lanes.unready(lane_id, numbers)
        reserved = self._reservations.of(self.row.id)
        if reserved is not None and reserved.number in numbers:
            self._reservations.release(self.row.id)

    def undone(self, chosen: Chosen) -> None:
        """What was chosen was not leased after all."""
        demand = chosen.lane.demand
        self.concurrency.ended(demand.limit_key)
        self._corrected(demand.tenant, chosen.task.size_ms, 0)

    def _corrected(self, tenant: str, charged_ms: int, run_ms: int) -> None:
        self.policy.settled(tenant, charged_ms, run_ms)
        if not self.policy.rank_is_static:
            self.lanes.moved(tenant)

    # Choosing -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A pass begins: until `finish` nothing but `choose` changes workers."""
        self.due_ms = None
        self._willing = [worker for worker in self._pool.of_queue(self.row.id) if worker.willing]

    def choose(self, pending: Mapping[int, Chosen]) -> Chosen | None:
        """The next task and its worker, both counted as taken; None if nothing more can start in this pass.

        `pending` are the tasks whose leases are on their way, by number.
        """
        if self.row.config.paused:
            return None
        while self._someone() and len(self._aside) < LANES_SET_ASIDE_MAX and (lane := self.lanes.next()):
            task = lane.window.head()
            assert task is not None
            if task.number in pending:  # it was put in another order meanwhile
                lane.window.take()
                self.lanes.put(lane)
                continue
            if self._held_back():
                self.lanes.put(lane)
                return None
            worker = self._worker_for(lane, task)
            if worker is None:
                if not self._aside and lane.resources and self._allowed(lane):
                    self._reserve(lane, task, pending)
                self._aside.append(lane)
                continue
            chosen = Chosen(self, lane, lane.window.take(), worker)
            self._start(chosen)
            self.lanes.put(lane)
            return chosen
        return None

    def finish(self) -> None:
        """The pass is over: lanes that were passed over take their places again."""
        aside, self._aside = self._aside, []
        for lane in aside:
            self.lanes.put(lane)
        self._willing = []

    def to_preempt(self) -> list[Lease]:
        """Running tasks that are to yield to the first waiting one; at most once in `PREEMPTION_PAUSE_MS`.

        Called after a pass, when that one could not start.
        """
        now_ms = self._clock.now_ms()
        if not self._settings.preemption or self.row.config.paused or now_ms < self._preempt_at_ms:
            return []
        lane = self.lanes.next()
        if lane is None:
            return []
        task = lane.window.head()
        assert task is not None
        self.lanes.put(lane)
        if not self.concurrency.room or self.concurrency.may_start(lane.demand.limit_key):
            return []
        workers = [
            (worker, [running(lease) for lease in worker.leases.values() if self._may_yield(lease)])
            for worker in self.matched(lane)
            if worker.session is not None and not worker.draining and not worker.silent
        ]
        chosen = {one.number for one in victims(task.priority, lane.resources, workers)}
        if chosen:
            self._preempt_at_ms = now_ms + PREEMPTION_PAUSE_MS
        return [
            lease
            for worker, _ in workers
            for lease in worker.leases.values()
            if lease.leased.number in chosen
        ]

    def _may_yield(self, lease: Lease) -> bool:
        return lease.leased.queue_id == self.row.id and not lease.settling and not lease.revoked

    def _someone(self) -> bool:
        """True if there is a worker that takes tasks."""
        while self._willing:
            if self._willing[-1].willing:
                return True
            self._willing.pop()
        return False

    def _held_back(self) -> bool:
        """True if a limit of the whole queue stands in the way."""
        return not self.concurrency.room or self._must_wait(self.rates.delay_ms(self._clock.now_ms()))

    def _must_wait(self, delay_ms: int) -> bool:
        if delay_ms <= 0:
            return False
        at_ms = self._clock.now_ms() + delay_ms
        self.due_ms = at_ms if self.due_ms is None else min(self.due_ms, at_ms)
        return True

    def _worker_for(self, lane: Lane, task: ReadyTask) -> Worker | None:
        """Who gets the head of a lane; None if its limits or the workers do not allow it now."""
        if not self._allowed(lane):
            return None
        resources = lane.resources
        fitting = [
            worker
            for worker in self.matched(lane)
            if worker.willing and worker.capacity.fits(resources) and worker.room_for(task.bytes)
        ]
        if self._reservations:
            fitting = [worker for worker in fitting if self._is_free_for(worker, lane, task)]
        if len(fitting) > 1:
            return choose(fitting, self._settings.placement, self.row.id)
        return fitting[0] if fitting else None

    def _allowed(self, lane: Lane) -> bool:
        """True if no limit of its key stands in the way of a lane."""
        key, now_ms = lane.demand.limit_key, self._clock.now_ms()
        return not self.concurrency.may_start(key) and not self._must_wait(
            self.rates.key_delay_ms(key, now_ms)
        )

    def _is_free_for(self, worker: Worker, lane: Lane, task: ReadyTask) -> bool:
        """True if a task is in the way of none that the worker is kept for."""
        end_ms = self._clock.now_ms() + task.size_ms
        return self._reservations.allows(worker.worker_id, self.row.id, task.number, lane.resources, end_ms)

    def _reserve(self, lane: Lane, task: ReadyTask, pending: Mapping[int, Chosen]) -> None:
        """Keep a worker for the first task, which fits nowhere now; or go on keeping the one that is kept."""
        now_ms = self._clock.now_ms()
        if not self._reservations.is_due(self.row.id, task.number, now_ms):
            return
        kept = self._reservations.of(self.row.id)
        workers = [
            worker
            for worker in self.matched(lane)
            if worker.session is not None and not worker.draining and not worker.silent
        ]
        if kept is not None and kept.number == task.number:
            workers = [one for one in workers if one.worker_id == kept.worker_id] or workers
        coming: dict[Worker, list[Taken]] = {}
        for chosen in pending.values():
            taken = Taken(now_ms + chosen.task.size_ms, chosen.lane.resources)
            coming.setdefault(chosen.worker, []).append(taken)
        places = [(worker, self._taken(worker) + coming.get(worker, [])) for worker in workers]
        self._reservations.reserve(self.row.id, task.number, lane.resources, places, now_ms)

    def _taken(self, worker: Worker) -> list[Taken]:
        """What a worker's tasks take, and until when as far as can be said; late ones may end at any moment."""
        ahead_ms = self._clock.now_ms() - self._clock.wall_ms()
        return [
            Taken(lease.leased.start_ms + lease.leased.size_ms + ahead_ms, lease.resources)
            for leases in (worker.leases, worker.stale)
            for lease in leases.values()
            if not lease.answered
        ]

    @staticmethod
    def can_run(worker: Worker, demand: command_pb2.Demand) -> bool:
        """True if a worker can ever run such tasks."""
        return can_ever_run(worker, demand) is None

    def matched(self, lane: Lane) -> list[Worker]:
        """The workers that can ever run the tasks of a lane."""
        if lane.matched_at != self._pool.version:
            workers = self._pool.of_queue(self.row.id)
            lane.matched = [worker for worker in workers if self.can_run(worker, lane.demand)]
            lane.matched_at = self._pool.version
        return lane.matched

    def _start(self, chosen: Chosen) -> None:
        demand = chosen.lane.demand
        self.concurrency.started(demand.limit_key)
        self.rates.take(demand.limit_key, self._clock.now_ms())
        self.policy.started(demand.tenant, chosen.task.size_ms)
        worker, resources, task = chosen.worker, chosen.lane.resources, chosen.task
        worker.take(self.row.id, resources, task.bytes)
        if self._reservations:
            end_ms = self._clock.now_ms() + task.size_ms
            self._reservations.started(worker.worker_id, self.row.id, task.number, resources, end_ms)


def running(lease: Lease) -> RunningTask:
    """A lease as preemption sees it."""
    leased = lease.leased
    return RunningTask(leased.number, leased.priority, lease.preemptible, lease.resources, leased.start_ms)
