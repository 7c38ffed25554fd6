"""The scheduler: which task goes to which worker, and when a lease has to end.

It listens to the state machine, is asked for commands by the broker, and is pumped whenever `touch` was called or the
time came that the last `pump` named. It never waits and reads no clock but the one it is given, so that a simulation
runs the very same code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Final, Protocol

from node import limits
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.errors import NotLeader
from node.state.listener import Silence
from node.state.rows import QueueRow
from node.state.task_rows import QUEUED, Leased, ReadyTask, Settled, TaskRow
from node.tasks.book import LeaseBook
from node.tasks.desk import Desk
from node.tasks.foresight import Foresight
from node.tasks.keeper import Keeper
from node.tasks.lanes import Lanes
from node.tasks.pool import WorkerPool
from node.tasks.progress import Progress
from node.tasks.queue import Chosen, Running, TaskQueue
from node.tasks.reservations import Reservations
from node.tasks.session import Contents
from node.tasks.settling import Settling
from node.tasks.upkeep import Upkeep
from node.tasks.workers import Lease, Worker
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, worker_pb2

PAUSE_MS: Final = 1_000
"""After something that was proposed could not be applied, which is a mistake of ours."""


class State(Lanes, Contents, Protocol):
    """The part of the state machine that the scheduler reads."""

    @property
    def time_ms(self) -> int:
        """The latest time that an applied batch carried."""
        ...

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        ...

    def queues(self, after_name: str = "", limit: int = -1) -> list[QueueRow]:
        """Queues by name."""
        ...

    def leased_tasks(self) -> list[Leased]:
        """All leases in force."""
        ...

    def task_by_number(self, number: int) -> TaskRow | None:
        """The task of that number."""
        ...

    def next_due_ms(self) -> int | None:
        """When AdvanceTasks has something to do, wall clock; None: nothing is ahead."""
        ...

    def reordering(self, queue_id: int) -> bool:
        """True while a queue's waiting tasks are being put in another order."""
        ...


def _nobody_asks(numbers: Sequence[int]) -> None:
    pass


class Scheduler(Silence):
    """Useful on the leader only. Invariant: there are queues, workers and leases only while `term` is set.

    `touch` is called whenever `pump` has something to do, `wake` when there are commands for the broker.
    """

    def __init__(
        self,
        state: State,
        *,
        clock: Clock,
        touch: Callable[[], None],
        wake: Callable[[], None],
        not_leader: Callable[[], NotLeader],
    ) -> None:
        self.term: int | None = None
        self.state, self.clock = state, clock
        self.pool, self.book = WorkerPool(), LeaseBook()
        self.reservations = Reservations()
        self.settling, self.progress = Settling(), Progress()
        self.queues: dict[int, TaskQueue] = {}
        self.pending: dict[int, Chosen] = {}
        """Tasks whose leases are on their way into the log, by number."""
        self.on_received: Callable[[Sequence[int]], None] = _nobody_asks
        """Told of tasks, by number, whose workers have said that they have them: no event of the state machine says so."""
        self.keeper = Keeper(self)
        self.desk = Desk(self, not_leader=not_leader)
        self.foresight = Foresight(self)
        self._upkeep = Upkeep(state)
        self._names = count(1)
        self._leasing: dict[Worker, list[Chosen]] = {}
        self._touched: dict[int, None] = {}
        self._unfinished: dict[int, None] = {}
        self._resume_ms = 0
        self._touch, self._wake = touch, wake

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        """This node leads: its workers have the length of a lease, from now on, to come back."""
        assert not self.queues
        self.term = term
        for row in self.state.queues():
            self._open(row)
        for leased in self.state.leased_tasks():
            self._adopt(leased)
        for queue_id in self.queues:
            self._upkeep.look_at(queue_id)
        self.touch(self.queues)

    def follow(self) -> None:
        self.term = None
        self.desk.abandon()
        for forgotten in (self.queues, self.pending, self._leasing, self._touched, self._unfinished):
            forgotten.clear()
        self.pool, self.book, self.reservations = WorkerPool(), LeaseBook(), Reservations()
        self.settling.clear()
        self.progress.clear()
        self.foresight.clear()
        self._upkeep.clear()

    def _open(self, row: QueueRow) -> TaskQueue | None:
        if row.config.kind != queue_pb2.QUEUE_KIND_TASK:
            return None
        queue = self.queues[row.id] = TaskQueue(
            row, self.state, self.pool, self.reservations, clock=self.clock
        )
        return queue

    def _adopt(self, leased: Leased) -> None:
        """A lease that another leader gave. Its worker may have begun: if another run of it comes, the attempt counts."""
        worker = self.pool.get(leased.worker_id) or self.desk.absent(leased.worker_id)
        lane = self.state.lane(leased.lane_id)
        assert lane is not None, "a lane stays while it has tasks"
        lease = Lease(leased, worker, lane.demand, dict(lane.demand.resources), received=True)
        lease.charged_ms = leased.size_ms
        self.book.add(lease)
        worker.hold(lease)
        if leased.timeout_ms:
            time_ms = max(self.clock.wall_ms(), self.state.time_ms)
            left_ms = leased.start_ms + leased.timeout_ms - time_ms
            self.book.times_out(lease, self.clock.now_ms() + max(0, left_ms))
        if queue := self.queues.get(leased.queue_id):
            queue.adopt(lease)

    def new_name(self) -> str:
        """A name that no other session of this cluster has."""
        assert self.term is not None
        return f"{self.term}.{next(self._names)}"

    # What the state machine says ----------------------------------------------------------------------------------

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        if queue := self.queues.get(queue_id):
            queue.lanes.ready(lane_id, [task for task in tasks if task.number not in self.pending])
            self.touch((queue_id,))

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        if queue := self.queues.get(queue_id):
            numbers = [number for _, number in tasks]
            queue.lanes.unready(lane_id, numbers)
            reserved = self.reservations.of(queue_id)
            if reserved is not None and reserved.number in numbers:
                self._keep_nothing(queue_id)

    def tasks_purged(self, queue_id: int) -> None:
        if queue := self.queues.get(queue_id):
            queue.purged(self._running(queue_id))
            self._keep_nothing(queue_id)

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        if self.term is None:
            return
        for leased in leases:
            chosen = self.pending.pop(leased.number, None)
            if chosen is None and (foreseen := self.foresight.leased(leased)) is not None:
                queue = self.queues[leased.queue_id]
                queue.lanes.unready(leased.lane_id, (leased.number,))
                self.book.add(foreseen)
                self.keeper.assign(foreseen, queue.slice_ms)
            if chosen is None or chosen.worker.worker_id != leased.worker_id:
                continue  # proposed by an earlier leader, and committed before this one was told that it leads
            lease = Lease(leased, chosen.worker, chosen.lane.demand, chosen.lane.resources)
            lease.paid, lease.charged_ms = chosen.session, chosen.task.size_ms
            chosen.queue.lanes.unready(leased.lane_id, (leased.number,))
            self.book.add(lease)
            self.keeper.assign(lease, chosen.queue.slice_ms)

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        queue = self.queues.get(queue_id)
        workers: dict[Worker, None] = {}
        for ended in settled:
            lease = self.book.pop(ended.lease_id)
            if lease is None:
                continue
            if queue is not None:
                queue.settled(lease, ended)
                if not lease.settling:
                    queue.freed(lease.limit_key)
            self.keeper.settled(lease, ended)
            workers[lease.worker] = None
        self._touched.update((of_worker, None) for worker in workers for of_worker in worker.queues)
        self.touch((queue_id,))

    def queue_changed(self, queue_id: int) -> None:
        row = self.state.queue_by_id(queue_id)
        if self.term is None or row is None:
            return
        queue = self.queues.get(queue_id)
        if queue is not None:
            queue.changed(row, self._running(queue_id))
            self._keep_nothing(queue_id)
        elif self._open(row) is not None:
            self.desk.queue_opened(row)
        else:
            return
        self._upkeep.look_at(queue_id)
        self.touch((queue_id,))

    def queue_deleted(self, queue_id: int) -> None:
        if self.queues.pop(queue_id, None):
            self._touched.pop(queue_id, None)
            self._keep_nothing(queue_id)
            for lease in [lease for lease in self.book if lease.leased.queue_id == queue_id]:
                self.keeper.void(lease)

    def lane_gone(self, queue_id: int, lane_id: int) -> None:
        if queue := self.queues.get(queue_id):
            queue.lanes.forget(lane_id)

    def _keep_nothing(self, queue_id: int) -> None:
        """No worker is kept for a task of a queue any more: others may want it."""
        reserved = self.reservations.of(queue_id)
        self.reservations.release(queue_id)
        if reserved is not None and (worker := self.pool.get(reserved.worker_id)):
            self.touch(worker.queues)

    def _running(self, queue_id: int) -> list[Running]:
        """What has a place in a queue, or is about to get one."""
        running = [
            Running(lease.limit_key, lease.tenant, lease.charged_ms, not lease.settling)
            for lease in self.book
            if lease.leased.queue_id == queue_id
        ]
        for chosen in self.pending.values():
            if chosen.queue.row.id == queue_id:
                lane, size_ms = chosen.lane, chosen.task.size_ms
                running.append(Running(lane.limit_key, lane.tenant, size_ms, True))
        return running

    # Pumping ------------------------------------------------------------------------------------------------------

    def touch(self, queue_ids: Iterable[int]) -> None:
        """These queues may have something to do."""
        self._touched.update(dict.fromkeys(queue_ids))
        self._touch()

    def touched(self) -> None:
        """There may be something to propose, or another moment to wake up at."""
        self._touch()

    def pump(self) -> int | None:
        """Do all that can be done now; returns when to pump again at the latest, monotonic, None if nothing is ahead."""
        if self.term is None:
            return None
        now_ms = self.clock.now_ms()
        moments = [self.keeper.watch()]
        touched, self._touched = self._touched, {}
        if now_ms >= self._resume_ms:
            moments += self._choose(touched)
        else:
            self._touched = touched
            moments.append(self._resume_ms)
        moments += [self.progress.due_ms, self._upkeep.next_ms(self.clock, self.state.time_ms)]
        if self.has_commands:
            self._wake()
        ahead = [moment for moment in moments if moment is not None]
        return min(ahead) if ahead else None

    def _choose(self, touched: Mapping[int, None]) -> list[int | None]:
        """Choose in turns, one task a queue, so that no queue takes all places of workers that serve several.

        Returns when to choose again at the latest.
        """
        wanted = {**touched, **self._unfinished}
        queues = [queue for queue_id in wanted if (queue := self.queues.get(queue_id))]
        turns = deque(queues)
        for queue in turns:
            queue.begin(anew=queue.row.id in touched)
        while turns:
            queue = turns.popleft()
            chosen = queue.choose(self.pending)
            if chosen is not None:
                self.pending[chosen.task.number] = chosen
                self._leasing.setdefault(chosen.worker, []).append(chosen)
                turns.append(queue)
        for queue in queues:
            queue.finish()
            while queue.finder.let_go:
                if worker := self.pool.get(queue.finder.let_go.pop()):
                    self.touch(worker.queues)
            for lease in queue.to_preempt():
                self.keeper.revoke(lease, worker_pb2.REVOKE_REASON_PREEMPTED)
        self._unfinished = {queue.row.id: None for queue in queues if queue.more}
        if self._unfinished:
            self._touch()
        self._touched.update((queue.row.id, None) for queue in queues if queue.due_ms is not None)
        return [queue.due_ms for queue in queues]

    # For the broker -----------------------------------------------------------------------------------------------

    @property
    def has_commands(self) -> bool:
        now_ms = self.clock.now_ms()
        return bool(
            self.settling
            or self._leasing
            or self.progress.is_due(now_ms)
            or self._upkeep.is_due(self.clock, self.state.time_ms)
        )

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """Ends of leases first, so that what they free may be given away in the same entry."""
        if self.term is None:
            return
        yield from self.progress.last_words(self.settling.lease_ids())
        for command, leases in self.settling.commands():
            yield command, partial(self.keeper.answered, leases)
        while self._leasing:
            worker = next(iter(self._leasing))
            chosen = self._leasing[worker][: limits.LEASED_TASKS_MAX]
            self._leasing[worker] = self._leasing[worker][limits.LEASED_TASKS_MAX :]
            if not self._leasing[worker]:
                del self._leasing[worker]
            lease = command_pb2.LeaseTasks(
                worker_id=worker.worker_id,
                instance_id=worker.instance_id,
                numbers=[one.task.number for one in chosen],
                lane_ids=[one.lane.id for one in chosen],
            )
            yield plain(command_pb2.Command(lease_tasks=lease)), partial(self._leased, chosen)
        yield from self.progress.commands(self.clock.now_ms())
        yield from self._upkeep.commands(self.clock, self.state.time_ms, self._again)

    def _leased(self, chosen: Sequence[Chosen], error: BaseException | None) -> None:
        """The leases are committed, or are not; what was not leased gives its places back."""
        if self.term is None:
            return
        if error is not None:
            self._resume_ms = self.clock.now_ms() + PAUSE_MS
        for one in chosen:
            if self.pending.get(one.task.number) is not one:
                continue
            del self.pending[one.task.number]
            one.queue.undone(one)
            one.worker.give(one.queue.row.id, one.lane.resources)
            one.worker.refund(one.session, one.task.bytes)
            self._waits_again(one.task.number)
            self.touch(one.worker.queues)

    def _waits_again(self, number: int) -> None:
        """A task that was not leased may wait all the same, in whatever lane: what was told of it meanwhile was not heard."""
        row = self.state.task_by_number(number)
        if row is not None and row.state == QUEUED and (queue := self.queues.get(row.queue_id)):
            queue.lanes.ready(row.lane_id, self.state.ready(row.lane_id, (row.key, number - 1), 1))
            self.touch((row.queue_id,))

    def _again(self, error: BaseException | None) -> None:
        self._touch()

    # For the API --------------------------------------------------------------------------------------------------

    def received(self, number: int) -> bool:
        """True if a task's worker has said that it has it."""
        lease = self.book.of_task(number)
        return lease is not None and lease.received
