"""Leases in the very entry that makes their tasks, where it is clear who gets them: one commit less for an idle cluster.

That is so when nothing is on its way into the log, nothing waits in the queue, no limit or reservation has to be kept,
and every task of the submit can start at once: then no order can be violated. In all other cases the tasks wait, and
are leased a commit later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.lanes import demand_of
from node.state.task_rows import Leased
from node.tasks.placement import choose
from node.tasks.session import Session
from node.tasks.workers import Lease, Worker
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from node.tasks.queue import TaskQueue
    from node.tasks.scheduler import Scheduler

FORESEEN_TASKS_MAX: Final = 64
"""Of one submit: more of them are worth a commit of their own."""


class Foreseen(NamedTuple):
    """A place that is taken for a task which does not exist yet."""

    name: str
    queue: TaskQueue
    worker: Worker
    session: Session | None
    demand: command_pb2.Demand
    bytes: int


class Foresight:
    """Takes places for submitted tasks. `clear` when leadership is lost."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._coming: dict[str, Foreseen] = {}

    def clear(self) -> None:
        self._coming.clear()

    def leases(self, tasks: Sequence[task_pb2.Task]) -> list[tuple[Command, Answer]]:
        """What is to follow the submit of these tasks in its entry; nothing if it is not clear who gets them all."""
        if not self._is_clear(tasks):
            return []
        found: list[Foreseen] = []
        for task in tasks:
            foreseen = self._place(task)
            if foreseen is None:
                self._give_back(found)
                return []
            found.append(foreseen)
        by_worker: dict[Worker, list[Foreseen]] = {}
        for one in found:
            self._coming[one.name] = one
            by_worker.setdefault(one.worker, []).append(one)
        return [(_command(worker, some), partial(self._answered, some)) for worker, some in by_worker.items()]

    def _is_clear(self, tasks: Sequence[task_pb2.Task]) -> bool:
        scheduler = self._scheduler
        if scheduler.term is None or len(tasks) > FORESEEN_TASKS_MAX or scheduler.reservations:
            return False
        if scheduler.has_commands or scheduler.pending or self._coming:
            return False
        return not any(task.dependencies or task.HasField("not_before") for task in tasks)

    def _place(self, task: task_pb2.Task) -> Foreseen | None:
        """Take a place for a task; None if it has to wait."""
        row = self._scheduler.state.queue(task.queue)
        queue = None if row is None else self._scheduler.queues.get(row.id)
        if queue is None or not queue.is_empty:
            return None
        demand, size = demand_of(task), task.ByteSize()
        fitting = [
            worker
            for worker in queue.finder.willing()
            if queue.finder.can_run(worker, demand)
            and worker.capacity.fits(demand.resources)
            and worker.room_for(size)
        ]
        worker = choose(fitting, queue.row.config.scheduling.placement, queue.row.id)
        if worker is None:
            return None
        worker.take(queue.row.id, demand.resources, size)
        return Foreseen(task.name, queue, worker, worker.session, demand, size)

    def leased(self, leased: Leased) -> Lease | None:
        """The lease of a task that was foreseen; None if this one was not."""
        if not self._coming:
            return None
        row = self._scheduler.state.task_by_number(leased.number)
        foreseen = None if row is None else self._coming.pop(row.name, None)
        if foreseen is None:
            return None
        lease = Lease(leased, foreseen.worker, foreseen.demand, dict(foreseen.demand.resources))
        lease.paid, lease.charged_ms = foreseen.session, leased.size_ms
        foreseen.queue.adopt(lease)
        return lease

    def _answered(self, foreseen: Sequence[Foreseen], error: BaseException | None) -> None:
        """What was not leased gives its places back: the task waits now, or does not exist."""
        left = [one for one in foreseen if self._coming.pop(one.name, None) is one]
        if self._scheduler.term is not None:
            self._give_back(left)

    def _give_back(self, foreseen: Sequence[Foreseen]) -> None:
        for one in foreseen:
            one.worker.give(one.queue.row.id, one.demand.resources)
            one.worker.refund(one.session, one.bytes)
            self._scheduler.touch(one.worker.queues)


def _command(worker: Worker, foreseen: Sequence[Foreseen]) -> Command:
    lease = command_pb2.LeaseTasks(
        worker_id=worker.worker_id,
        instance_id=worker.instance_id,
        names=[one.name for one in foreseen],
    )
    return plain(command_pb2.Command(lease_tasks=lease))
