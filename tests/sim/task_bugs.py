"""Planted bugs in what a cluster does with tasks: such as a careless change could bring back, and how each one shows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from node.state import dependencies, leases, schedules
from node.state.results import Result, Triggered
from node.state.tables import Position, Tables
from node.state.task_rows import LEASED, QUEUED
from node.tasks import firing
from node.tasks.desk import Desk
from node.tasks.firing import Firing
from node.tasks.keeper import Keeper
from node.tasks.lanes import LaneOrder
from node.tasks.limits import Concurrency
from node.tasks.queue import TaskQueue
from node.tasks.window import Window
from node.tasks.workers import Worker
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import worker_pb2
from tests.sim.task_faults import TaskRates

Handler = Callable[[Tables, Position, Any], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBug:
    """One broken part, and how that shows."""

    shows_as: str
    """A regular expression: the violated promise, or the assertion that stands in front of it."""
    patches: dict[str, object] = field(default_factory=dict)
    """What is replaced, by its dotted name."""
    handlers: dict[str, Handler] = field(default_factory=dict)
    """What is done for a kind of command."""
    rates: TaskRates = field(default_factory=TaskRates)
    seed: int = 1
    """Where to begin to look for a run that notices."""


# The state.


def leases_whatever_is_there(tables: Tables, at: Position, command: internal.LeaseTasks) -> Result:
    """A lease is given though another one is in force, or the task was cancelled meanwhile."""
    for row in tables.tasks.many(command.numbers).values():
        if row.state != QUEUED:
            row.state = QUEUED
    return leases.lease(tables, at, command)


def leases_without_counting(tables: Tables, at: Position, command: internal.LeaseTasks) -> Result:
    """Attempts are counted when they end, so that one that is lost does not count."""
    result = leases.lease(tables, at, command)
    for row in tables.tasks.many(command.numbers).values():
        if row.state == LEASED and row.lease_id >> 12 == at.log_index << 12 | at.ordinal:
            row.attempt = max(0, row.attempt - 1)
    return result


def fires_again(tables: Tables, at: Position, command: internal.FireSchedule) -> Result:
    """A tick becomes two tasks."""
    result = schedules.fire(tables, at, command)
    if isinstance(result, Triggered):
        again = internal.TriggerSchedule(name=command.name, task=f"{result.task}.again")
        schedules.trigger(tables, at, again)
    return result


def waits_for_one(parents: Any) -> int | None:
    """A child waits for the first of its parents to end, and for no other."""
    count = missing(parents)
    return count if count is None or count >= dependencies.ALTERNATIVE else min(count, 1)


missing = dependencies.missing


# The leader.

adopt, look_at, resume, outcomes = TaskQueue.adopt, Keeper._look_at, Desk._resume, Desk._outcomes


def adopts_without_counting(self: TaskQueue, *arguments: Any) -> None:
    """A new leader does not count what runs already."""
    counted, self.concurrency = self.concurrency, Concurrency(0, 0)
    adopt(self, *arguments)
    self.concurrency = counted


def believes_nobody(self: Desk, worker: Worker, session: Any, named: Any) -> list[int]:
    """What a worker says that it still holds is not heard."""
    return resume(self, worker, session, ())


def has_no_patience(self: Keeper, worker: Worker, now_ms: int) -> None:
    """A worker that is not connected has lost its leases."""
    if worker.session is None:
        worker.heard_ms = now_ms - 3_600_000
    look_at(self, worker, now_ms)


def never_looks(self: Keeper, worker: Worker, now_ms: int) -> None:
    """Whoever falls silent keeps what it has."""


def acknowledges_at_once(self: Desk, worker: Worker, session: Any, said: Any) -> None:
    """An outcome is acknowledged when it arrives."""
    said = list(said)
    outcomes(self, worker, session, said)
    for outcome in said:
        session.acked(outcome.lease_id)


def takes_the_last(self: Window) -> Any:
    """The end of the line is served."""
    task = max(self._waiting.values())
    del self._waiting[task.number]
    return task


def forgets_where_it_stood(self: LaneOrder, lane_id: int, tasks: Any) -> None:
    """A task that comes back to its lane is only found when its window is read again."""
    lane = self._lanes.get(lane_id)
    fresh = [task for task in tasks if lane is None or task.order_ms + 20 > self._state.time_ms]  # type: ignore[attr-defined]
    ready(self, lane_id, fresh)


ready = LaneOrder.ready


def takes_no_credit(self: Worker, queue_id: int, resources: Any, size: int) -> None:
    """A worker is given tasks for as long as it has any credit."""
    self.held += 1
    self._by_queue[queue_id] += 1
    self.capacity.take(resources)


def is_early(row: Any, now_ms: int) -> Any:
    """The ticks of the next moment are fired, too."""
    return steps(row, now_ms + 700)


steps = firing.steps


def plans_the_next_one_only(self: Firing, name: str, row: Any) -> None:
    """A new leader waits for the ticks of its own term."""
    if row is not None and row.next_tick_ms and row.next_tick_ms < self._now_ms() - 300:
        return
    plan(self, name, row)


plan = Firing._plan


def revoked_is_over(self: Keeper, lease: Any, reason: worker_pb2.RevokeReason) -> None:
    """A revoked lease goes to somebody else before its worker has stopped."""
    self.give_back(lease)


BUGS: dict[str, TaskBug] = {
    "a task is leased whatever its state": TaskBug(
        handlers={"lease_tasks": leases_whatever_is_there}, shows_as="Violation|AssertionError", seed=6
    ),
    "an attempt is not counted when it begins": TaskBug(
        handlers={"lease_tasks": leases_without_counting}, shows_as="Violation"
    ),
    "a tick is fired twice": TaskBug(
        handlers={"fire_schedule": fires_again}, shows_as="never committed", rates=TaskRates(schedule=0.02)
    ),
    "a child is released early": TaskBug(
        patches={"node.state.dependencies.missing": waits_for_one}, shows_as="never committed", seed=2
    ),
    "limits are forgotten when a leader takes over": TaskBug(
        patches={"node.tasks.queue.TaskQueue.adopt": adopts_without_counting},
        shows_as="tasks run, and at most|of [kl] run, and at most|AssertionError",
    ),
    "held leases are not honoured": TaskBug(
        patches={"node.tasks.desk.Desk._resume": believes_nobody}, shows_as="without cause"
    ),
    "a worker that lost its stream has lost its leases": TaskBug(
        patches={"node.tasks.keeper.Keeper._look_at": has_no_patience}, shows_as="without cause"
    ),
    "the leases of a silent worker never end": TaskBug(
        patches={"node.tasks.keeper.Keeper._look_at": never_looks}, shows_as="of calm not done", seed=4
    ),
    "outcomes are acknowledged before they are committed": TaskBug(
        patches={"node.tasks.desk.Desk._outcomes": acknowledges_at_once},
        shows_as="is acknowledged, the log says None",
    ),
    "what is not received within a moment is given to others": TaskBug(
        patches={"node.tasks.keeper.RECEIPT_MS": 1, "node.tasks.keeper.LOOK_MS": 5}, shows_as="without cause"
    ),
    "the last one is served first": TaskBug(
        patches={"node.tasks.window.Window.take": takes_the_last}, shows_as="is leased before"
    ),
    "who comes back is forgotten": TaskBug(
        patches={"node.tasks.lanes.LaneOrder.ready": forgets_where_it_stood},
        shows_as="of calm not done|is leased before",
        seed=2,
    ),
    "credit is not used up": TaskBug(
        patches={"node.tasks.workers.Worker.take": takes_no_credit}, shows_as="more than it asked for"
    ),
    "everything fits": TaskBug(
        patches={"node.tasks.placement.Capacity.fits": lambda self, resources: True},
        shows_as="and its tasks take",
    ),
    "ticks come early": TaskBug(
        patches={"node.tasks.firing.steps": is_early},
        shows_as="after its time",
        rates=TaskRates(schedule=0.02),
    ),
    "ticks that passed without a leader are nobody's": TaskBug(
        patches={"node.tasks.firing.Firing._plan": plans_the_next_one_only},
        shows_as="ticks late",
        rates=TaskRates(schedule=0.02, crash=0.01),
    ),
    "a revoked lease is given away before its worker has stopped": TaskBug(
        patches={"node.tasks.keeper.Keeper.revoke": revoked_is_over}, shows_as="without cause"
    ),
    "rates are not kept": TaskBug(
        patches={"node.tasks.limits.Rates.take": lambda self, key, now_ms: None},
        shows_as="start, at most",
        seed=2,
    ),
}
