"""One queue of tasks as its leader schedules it: what is next, whether its limits allow it, and who gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from node.clock import Clock
from node.policies import policy as policy_of
from node.state.rows import QueueRow
from node.state.task_rows import ReadyTask, Settled
from node.tasks.finding import Finder, Pool
from node.tasks.lanes import Lane, LaneOrder, Lanes
from node.tasks.limits import Concurrency, Rates
from node.tasks.reservations import Reservations
from node.tasks.session import Session
from node.tasks.workers import Lease, Worker
from taskraft.v1 import queue_pb2

LANES_SET_ASIDE_MAX: Final = 2_048
"""Lanes that are passed over in one go because nothing can run their heads now; the others have their turn next."""
PREEMPTION_PAUSE_MS: Final = 1_000
"""Between two preemptions in a queue: those that were asked to yield need a moment."""
PREEMPTING_LANES_MAX: Final = 16
"""Lanes that are looked at for one that others should yield to."""


class Chosen(NamedTuple):
    """A task that is to be leased to a worker."""

    queue: TaskQueue
    lane: Lane
    task: ReadyTask
    worker: Worker
    session: Session | None
    """The stream whose credit it takes."""


class Running(NamedTuple):
    """A task that has a place, or is about to get one."""

    limit_key: str
    tenant: str
    charged_ms: int
    """What the policy was told of its run time."""
    counts: bool
    """False if its end is on its way into the log: it does not count against limits any more."""


class TaskQueue:
    """Chooses the tasks of one queue. What it has chosen counts as running until `freed` or `undone`.

    Invariant: a lane with waiting tasks has its place in `lanes`, or is set aside in this pass, at the limit of its key,
    or without a worker that could run it.
    """

    def __init__(
        self, row: QueueRow, state: Lanes, pool: Pool, reservations: Reservations, *, clock: Clock
    ) -> None:
        self.row = row
        self.due_ms: int | None = None
        """When a rate limit or a preemption that stood in the way of the last pass allows more, monotonic."""
        self.more = False
        """True if the last pass did not get to all lanes."""
        self.finder = Finder(row.id, pool, reservations, clock)
        self._state, self._clock = state, clock
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
        self._aside: dict[int, Lane] = {}
        self._unmatched: dict[int, Lane] = {}
        self._unmatched_at = self.finder.version
        self._at_limit: dict[str, dict[int, Lane]] = {}
        self._willing: list[Worker] = []
        self._hopeless: set[object] = set()
        self._held: Lane | None = None  # that of the last choice in this pass: it has no place meanwhile
        self.limited = bool(  # else nothing but workers decides when a task starts
            settings.max_running
            or settings.max_running_per_key
            or settings.rate.per_second
            or settings.rate_per_key.per_second
        )
        for one in running:
            self.policy.started(one.tenant, one.charged_ms)
            if one.counts and self.limited:
                self.concurrency.started(one.limit_key)

    @property
    def slice_ms(self) -> int | None:
        return self.policy.slice_ms

    @property
    def lease_ms(self) -> int:
        """Of tasks that do not say."""
        return self._settings.lease.ToMilliseconds()

    @property
    def is_empty(self) -> bool:
        """True if nothing waits here, and what comes may start without regard to limits or shares."""
        return not (
            self.limited
            or self.row.config.paused
            or self.lanes.waiting
            or self._aside
            or self._unmatched
            or not self.policy.rank_is_static
        )

    # What happens to the queue ------------------------------------------------------------------------------------

    def changed(self, row: QueueRow, running: Iterable[Running]) -> None:
        """It has other settings, perhaps."""
        self.row = row
        if row.config.scheduling != self._settings:
            self._set_up(row.config.scheduling, running)

    def purged(self, running: Iterable[Running]) -> None:
        """All that waited is gone."""
        self._set_up(self._settings, running)

    def adopt(self, lease: Lease) -> None:
        """Something runs that an earlier leader chose."""
        if self.limited:
            self.concurrency.started(lease.limit_key)
        self.policy.started(lease.tenant, lease.charged_ms)

    def freed(self, limit_key: str) -> None:
        """A running task ends, by a command that goes into the log before any later lease."""
        if self.limited:
            self.concurrency.ended(limit_key)
            self._put_all(self._at_limit.pop(limit_key, {}))

    def settled(self, lease: Lease, ended: Settled) -> None:
        """A lease has ended."""
        self._corrected(lease.tenant, lease.charged_ms, ended.run_ms)

    def undone(self, chosen: Chosen) -> None:
        """What was chosen was not leased after all."""
        self.freed(chosen.lane.limit_key)
        self._corrected(chosen.lane.tenant, chosen.task.size_ms, 0)

    def _corrected(self, tenant: str, charged_ms: int, run_ms: int) -> None:
        self.policy.settled(tenant, charged_ms, run_ms)
        if not self.policy.rank_is_static:
            self.lanes.moved(tenant)

    # Choosing -----------------------------------------------------------------------------------------------------

    def begin(self, *, anew: bool) -> None:
        """A pass begins: until `finish` nothing but `choose` changes workers.

        `anew`: something has happened since the last pass, so that all lanes are looked at again.
        """
        self.due_ms, self.more = None, False
        if anew:
            self._put_all(self._aside)
            self.finder.begin()
        if self.finder.version != self._unmatched_at:
            self._unmatched_at = self.finder.version
            self._put_all(self._unmatched)
        waits = self.lanes.waiting and not self.row.config.paused
        self._willing = self.finder.willing() if waits else []

    def choose(self, pending: Mapping[int, Chosen]) -> Chosen | None:
        """The next task and its worker, both counted as taken; None if nothing more can start in this pass.

        `pending` are the tasks whose leases are on their way, by number.
        """
        while self._someone() and not (self.limited and self._held_back()):
            if len(self._aside) >= LANES_SET_ASIDE_MAX:
                self.more = True
                return None
            lane = self.lanes.next(self._held)
            self._held = None
            if lane is None:
                return None
            task = lane.window.head()
            assert task is not None
            if task.number in pending:  # it was put in another order meanwhile
                lane.window.take()
                self._held = lane
                continue
            worker = self._worker_for(lane, task, pending)
            if worker is not None:
                lane.window.take()
                self._start(lane, task, worker)
                self._held = lane
                return Chosen(self, lane, task, worker, worker.session)
        return None

    def finish(self) -> None:
        """The pass is over: lanes that were passed over take their places again, unless others wait for their turn."""
        if self._held is not None:
            self.lanes.put(self._held)
            self._held = None
        if not self.more:
            self._put_all(self._aside)
        if self.limited and not self.concurrency.room:
            self.finder.keep_none()
        self._willing = []
        self._hopeless.clear()

    def _worker_for(self, lane: Lane, task: ReadyTask, pending: Mapping[int, Chosen]) -> Worker | None:
        """Who gets the head of a lane; None, and the lane stands apart, if its limits or the workers do not allow it."""
        key = lane.limit_key
        if self.limited and self.concurrency.may_start(key) is not None:
            self._at_limit.setdefault(key, {})[lane.id] = lane
            self._keep_none_for(task)
        elif not (matched := self.finder.matched(lane)):
            self._unmatched[lane.id] = lane
            self._keep_none_for(task)
        elif lane.shape in self._hopeless or (
            self.limited and self._must_wait(self.rates.key_delay_ms(key, self._clock.now_ms()))
        ):
            self._aside[lane.id] = lane
            self.finder.passed(task)
        else:
            worker = self.finder.find(matched, lane, task, self._settings.placement)
            if worker is not None:
                return worker
            if lane.resources and (not self._aside or self.finder.is_kept_for(task)):
                self.finder.keep(lane, task, pending)
            self.finder.passed(task)
            self._aside[lane.id] = lane
            self._hopeless.add(lane.shape)
        return None

    def _keep_none_for(self, task: ReadyTask) -> None:
        """Something else than the lack of a worker keeps a task from running."""
        if self.finder.is_kept_for(task):
            self.finder.keep_none()

    def _start(self, lane: Lane, task: ReadyTask, worker: Worker) -> None:
        if self.limited:
            self.concurrency.started(lane.limit_key)
            self.rates.take(lane.limit_key, self._clock.now_ms())
        self.policy.started(lane.tenant, task.size_ms)
        worker.take(self.row.id, lane.resources, task.bytes)
        self.finder.started(worker, lane, task)

    def _someone(self) -> bool:
        """True if there is a worker that takes tasks: of those that did when the pass began, only credit is spent."""
        while self._willing:
            if self._willing[-1].credit > 0:
                return True
            self._willing.pop()
        return False

    def _held_back(self) -> bool:
        """True if a limit of the whole queue stands in the way."""
        return not self.concurrency.room or self._must_wait(self.rates.delay_ms(self._clock.now_ms()))

    def _must_wait(self, delay_ms: int) -> bool:
        if delay_ms <= 0:
            return False
        self._wake_up_at(self._clock.now_ms() + delay_ms)
        return True

    def _wake_up_at(self, at_ms: int) -> None:
        self.due_ms = at_ms if self.due_ms is None else min(self.due_ms, at_ms)

    def _put_all(self, apart: dict[int, Lane]) -> None:
        """Lanes that stood apart take their places again."""
        again = list(apart.values())
        apart.clear()
        for lane in again:
            self.lanes.put(lane)

    # Preempting ---------------------------------------------------------------------------------------------------

    def to_preempt(self) -> list[Lease]:
        """Running tasks that are to yield to the first waiting one that could run; at most once in a while.

        Called after a pass, when that one could not start.
        """
        if not self._settings.preemption or self.row.config.paused or not self.lanes.waiting:
            return []
        now_ms = self._clock.now_ms()
        if now_ms < self._preempt_at_ms:
            self._wake_up_at(self._preempt_at_ms)
            return []
        if self._held_back():
            return []
        looked_at: dict[int, Lane] = {}
        found: list[Lease] = []
        while not found and len(looked_at) < PREEMPTING_LANES_MAX and (lane := self.lanes.next()):
            looked_at[lane.id] = lane
            key, task = lane.limit_key, lane.window.head()
            if task is None or self.concurrency.may_start(key) or self.rates.key_delay_ms(key, now_ms):
                continue
            found = self.finder.to_yield(lane, task)
        self._put_all(looked_at)
        if found:
            self._preempt_at_ms = now_ms + PREEMPTION_PAUSE_MS
        return found
