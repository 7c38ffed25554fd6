"""The workers' side of the scheduler: what they say, what they are told, and what happens when they say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from node.errors import (
    ApiError,
    InvalidField,
    NotLeader,
    QueueNotFound,
    ShuttingDown,
    WorkerNotFound,
    WorkerReplaced,
    WrongQueueKind,
)
from node.state.rows import QueueRow
from node.tasks.session import Session
from node.tasks.settling import INSTANCE_REPLACED
from node.tasks.workers import Lease, Worker
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from node.tasks.scheduler import Scheduler

HEARTBEAT_MS_MIN: Final = 250
HEARTBEAT_MS_MAX: Final = 2_500
HEARTBEATS_A_LEASE: Final = 4
DRAIN_REASON: Final = "asked by DrainWorker"


class Desk:
    """Sessions, what is said in them, and what a worker that comes back still has."""

    def __init__(self, scheduler: Scheduler, *, not_leader: Callable[[], NotLeader]) -> None:
        self._scheduler, self._keeper, self._not_leader = scheduler, scheduler.keeper, not_leader
        self._sessions: dict[Session, Worker] = {}
        self._stopping = False

    # Streams ------------------------------------------------------------------------------------------------------

    def connect(self, hello: worker_pb2.Hello, on_ready: Callable[[], None]) -> Session:
        """A stream begins. Hello was validated. Raises NotLeader, ShuttingDown, QueueNotFound, WrongQueueKind."""
        scheduler = self._scheduler
        if self._stopping:
            raise ShuttingDown
        if scheduler.term is None:
            raise self._not_leader()
        queues = self._queues(hello)
        worker = scheduler.pool.get(hello.worker_id) or self.absent(hello.worker_id)
        if worker.session is not None:
            self._end_session(worker.session, WorkerReplaced(worker_id=worker.worker_id))
        worker.introduce(hello, queues)
        session = Session(scheduler.new_name(), on_ready=on_ready, on_sent=self._sent)
        held = self._resume(worker, session, hello.held_lease_ids)
        worker.session, worker.heartbeat_ms = session, self._heartbeat_ms(queues)
        worker.connected_ms = scheduler.clock.wall_ms()
        worker.heard(scheduler.clock)
        self._sessions[session] = worker
        scheduler.pool.put(worker)
        session.welcome(held, term=scheduler.term, heartbeat_ms=worker.heartbeat_ms)
        if worker.draining:
            session.ask_to_drain(DRAIN_REASON)
        scheduler.touch(worker.queues)
        return session

    def disconnect(self, session: Session) -> None:
        """A stream has ended: its leases go on, but for those that were never sent."""
        worker = self._sessions.pop(session, None)
        if worker is None or worker.session is not session:
            return
        worker.session, worker.credit = None, 0
        for lease in session.unsent():
            self._keeper.give_back(lease)
        for lease in worker.stale.values():
            worker.give(lease.leased.queue_id, lease.resources)
        worker.stale.clear()
        if not worker.leases:
            self._keeper.gone(worker)

    def stop(self) -> None:
        """This node stops: streams end when their outcomes are answered, and their workers go to the next leader."""
        self._stopping = True
        for session in list(self._sessions):
            session.end(ShuttingDown())

    def abandon(self) -> None:
        """This node leads no longer."""
        for session in list(self._sessions):
            session.abandon(self._not_leader())
        self._sessions.clear()

    @property
    def busy(self) -> bool:
        """True while a stream waits for the answer to an outcome."""
        return any(session.awaiting for session in self._sessions)

    def _end_session(self, session: Session, error: ApiError) -> None:
        self._sessions.pop(session, None)
        session.abandon(error)

    def _queues(self, hello: worker_pb2.Hello) -> list[int]:
        found = []
        for name in hello.queues:
            row = self._scheduler.state.queue(name)
            if row is None:
                raise QueueNotFound(queue=name)
            if row.id not in self._scheduler.queues:
                raise WrongQueueKind(queue=name)
            found.append(row.id)
        return found

    def _heartbeat_ms(self, queues: Iterable[int]) -> int:
        leases = [self._scheduler.queues[queue_id].lease_ms for queue_id in queues]
        return max(HEARTBEAT_MS_MIN, min(HEARTBEAT_MS_MAX, min(leases) // HEARTBEATS_A_LEASE))

    def _sent(self, lease: Lease) -> None:
        """An assignment is on its way to its worker."""
        lease.over = lease.worker.session
        lease.worker.unreceived[lease.leased.lease_id] = self._scheduler.clock.now_ms()

    def _resume(self, worker: Worker, session: Session, named: Iterable[int]) -> list[int]:
        """Give the worker what it names of its leases; what it does not goes to others."""
        names, held = set(named), []
        for lease in list(worker.leases.values()):
            lease_id = lease.leased.lease_id
            if lease.settling:
                if not lease.answered:
                    lease.answered = lease.refused = True
                elif lease_id in names and not lease.refused:
                    held.append(lease_id)  # it will be answered when it is committed
            elif lease_id in names:
                worker.hold(lease)
                lease.over, lease.revoked = session, False
                lease.received = False  # its slice begins anew
                self._received(lease)
                held.append(lease_id)
            else:
                known = lease.leased.instance_id == worker.instance_id or not lease.received
                if known:
                    self._keeper.give_back(lease)
                else:
                    self._keeper.lose(lease, INSTANCE_REPLACED)
                lease.answered = lease.refused = True
        for chosen in self._scheduler.pending.values():
            if chosen.worker is worker:
                worker.reserve(chosen.queue.row.id, chosen.lane.resources)
        return held

    def absent(self, worker_id: str) -> Worker:
        """A worker that is not connected yet."""
        clock = self._scheduler.clock
        worker = Worker(
            worker_id=worker_id,
            connected_ms=clock.wall_ms(),
            heard_ms=clock.now_ms(),
            heard_wall_ms=clock.wall_ms(),
        )
        self._scheduler.pool.put(worker)
        return worker

    # What workers say ---------------------------------------------------------------------------------------------

    def handle(self, session: Session, request: worker_pb2.WorkRequest) -> None:
        """Do what a worker says. InvalidField if it is not allowed to say that."""
        worker = self._sessions.get(session)
        if worker is None:
            return  # the session has ended
        if worker.silent:
            self._scheduler.touch(worker.queues)
        worker.heard(self._scheduler.clock)
        match request.WhichOneof("request"):
            case "outcomes":
                self._outcomes(worker, session, request.outcomes.outcomes)
            case "received":
                ids = request.received.lease_ids
                leases = [lease for lease_id in ids if (lease := worker.leases.get(lease_id))]
                for lease in leases:
                    self._received(lease)
                self._scheduler.on_received([lease.leased.number for lease in leases])
            case "credit":
                self._credit(worker, request.credit)
            case "heartbeat":
                worker.load = request.heartbeat.load
                worker.overdue = frozenset(request.heartbeat.overdue_lease_ids)
                session.heartbeat(request.heartbeat.sequence)
            case "progress":
                for said in request.progress.tasks:
                    lease = worker.leases.get(said.lease_id)
                    if lease is not None and not lease.settling:
                        self._scheduler.progress.report(lease, said, self._scheduler.clock)
                self._scheduler.touched()
            case "drain":
                worker.draining = True
            case _:
                raise InvalidField(
                    "request", "hello first, then credit, received, progress, outcomes, drain or heartbeat"
                )

    def _credit(self, worker: Worker, credit: worker_pb2.WorkCredit) -> None:
        worker.credit += credit.tasks
        if credit.bytes:
            worker.credit_bytes = (worker.credit_bytes or 0) + credit.bytes
        if credit.capacity and dict(credit.capacity) != worker.capacity.total:
            worker.set_capacity(credit.capacity)
            self._scheduler.pool.changed()
        self._scheduler.touch(worker.queues)

    def _received(self, lease: Lease) -> None:
        lease.worker.unreceived.pop(lease.leased.lease_id, None)
        if lease.received:
            return
        lease.received = True
        queue = self._scheduler.queues.get(lease.leased.queue_id)
        if queue is not None and queue.slice_ms is not None:
            self._scheduler.book.slice_ends(lease, self._scheduler.clock.now_ms() + queue.slice_ms)
            self._scheduler.touched()

    def _outcomes(self, worker: Worker, session: Session, outcomes: Iterable[worker_pb2.Outcome]) -> None:
        settling, leases = self._scheduler.settling, worker.leases
        for outcome in outcomes:
            lease = leases.get(outcome.lease_id)
            if lease is None or lease.settling:
                self._late(worker, session, outcome.lease_id, lease)
                continue
            worker.unreceived.pop(outcome.lease_id, None)
            lease.answered = True
            session.awaiting.add(outcome.lease_id)
            worker.give(lease.leased.queue_id, lease.resources)
            self._keeper.free(lease)
            settling.outcome(lease, outcome)
        self._scheduler.touch(worker.queues)

    def _late(self, worker: Worker, session: Session, lease_id: int, lease: Lease | None) -> None:
        """An outcome of a lease that is over, or about to be."""
        if lease is not None:
            if lease.answered and not lease.refused:
                session.awaiting.add(lease_id)  # said again over a new stream: answered when it is committed
                return
            if not lease.answered:
                lease.answered = lease.refused = True
                worker.give(lease.leased.queue_id, lease.resources)
        elif stale := worker.stale.pop(lease_id, None):
            worker.give(stale.leased.queue_id, stale.resources)
            if stale.succeeded:
                session.acked(lease_id)
                return
        session.rejected(lease_id, "LEASE_LOST")

    def queue_opened(self, row: QueueRow) -> None:
        """A queue was made: workers that named it before it was deleted take its tasks again."""
        for worker in list(self._scheduler.pool):
            if row.name in worker.queue_names and row.id not in worker.queues:
                worker.queues |= {row.id}
                self._scheduler.pool.put(worker)

    # For the API --------------------------------------------------------------------------------------------------

    def drain(self, worker_id: str) -> None:
        """Ask a worker to finish, and give it nothing more. WorkerNotFound."""
        worker = self._scheduler.pool.get(worker_id)
        if worker is None:
            raise WorkerNotFound(f"there is no worker {worker_id}", worker_id=worker_id)
        worker.draining = True
        if worker.session is not None:
            worker.session.ask_to_drain(DRAIN_REASON)
