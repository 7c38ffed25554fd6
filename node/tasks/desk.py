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
from node.state.task_rows import Settled
from node.tasks.session import Session
from node.tasks.settling import INSTANCE_REPLACED, LEASE_EXPIRED
from node.tasks.workers import Lease, Worker
from taskraft.v1 import task_pb2, worker_pb2

if TYPE_CHECKING:
    from node.tasks.scheduler import Scheduler

RECEIPT_MS: Final = 3_000
"""An assignment that its worker has not received after this time goes to another one."""
LOOK_MS: Final = 200
"""How often workers are looked at for silence."""
HEARTBEAT_MS_MIN: Final = 250
HEARTBEAT_MS_MAX: Final = 2_500
HEARTBEATS_A_LEASE: Final = 4
HEARTBEATS_MISSED_MAX: Final = 3
"""No lease ends before so many heartbeats were missed, however short it is."""


class Desk:
    """Sessions, receipts, outcomes, silence. It ends leases by handing them to `Scheduler.settling`."""

    def __init__(self, scheduler: Scheduler, *, not_leader: Callable[[], NotLeader]) -> None:
        self._scheduler, self._not_leader = scheduler, not_leader
        self._sessions: dict[Session, Worker] = {}
        self._next_look_ms = 0
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
        session = Session(scheduler.new_name(), on_ready)
        worker.introduce(hello, queues)
        held = self._resume(worker, hello.held_lease_ids)
        worker.session, worker.heartbeat_ms = session, self._heartbeat_ms(queues)
        worker.connected_ms = scheduler.clock.wall_ms()
        worker.heard(scheduler.clock)
        self._sessions[session] = worker
        scheduler.pool.put(worker)
        session.welcome(held, term=scheduler.term, heartbeat_ms=worker.heartbeat_ms)
        scheduler.touch(worker.queues)
        return session

    def disconnect(self, session: Session) -> None:
        """A stream has ended: its leases go on, but for those that were never sent."""
        worker = self._sessions.pop(session, None)
        if worker is None or worker.session is not session:
            return
        worker.session, worker.credit = None, 0
        for lease_id in session.unsent():
            if lease := worker.leases.get(lease_id):
                self._give_back(lease)
        for lease in worker.stale.values():
            worker.give(lease.leased.queue_id, lease.resources)
        worker.stale.clear()
        if not worker.leases:
            self._gone(worker)

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

    def _resume(self, worker: Worker, named: Iterable[int]) -> list[int]:
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
                self._received(lease)
                held.append(lease_id)
            else:
                known = lease.leased.instance_id == worker.instance_id or not lease.received
                self._give_back(lease) if known else self._lose(lease, INSTANCE_REPLACED)
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
        if credit.capacity:
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
            self._free(lease)
            settling.outcome(lease, outcome)
        self._scheduler.touch(worker.queues)

    def _late(self, worker: Worker, session: Session, lease_id: int, lease: Lease | None) -> None:
        """An outcome of a lease that is over, or about to be."""
        if lease is not None:
            if lease.answered:
                session.awaiting.add(
                    lease_id
                )  # said again after a broken stream: answered when it is committed
                return
            lease.answered, lease.refused = True, True
            worker.give(lease.leased.queue_id, lease.resources)
        elif stale := worker.stale.pop(lease_id, None):
            worker.give(stale.leased.queue_id, stale.resources)
        session.rejected(lease_id, "LEASE_LOST")

    # What becomes of leases ---------------------------------------------------------------------------------------

    def assign(self, lease: Lease, slice_ms: int | None) -> None:
        """A lease is committed: its worker gets it, or it goes back if the worker is gone."""
        now_ms, worker = self._scheduler.clock.now_ms(), lease.worker
        if worker.session is None or worker.session.ended or worker.instance_id != lease.leased.instance_id:
            self._give_back(lease)
            return
        worker.session.assign(lease.leased, slice_ms)
        worker.unreceived[lease.leased.lease_id] = now_ms
        if lease.leased.timeout_ms:
            self._scheduler.book.times_out(lease, now_ms + lease.leased.timeout_ms)

    def settled(self, lease: Lease, ended: Settled) -> None:
        """A lease is over, and no longer in the book."""
        worker, session, lease_id = lease.worker, lease.worker.session, lease.leased.lease_id
        if lease.answered:
            if session is not None and not lease.refused:
                accepted = ended.state != task_pb2.TASK_STATE_CANCELLED
                session.acked(lease_id) if accepted else session.rejected(lease_id, "LEASE_LOST")
        elif session is None or session.withdraw(lease_id):
            worker.give(lease.leased.queue_id, lease.resources)
        else:
            worker.stale[lease_id] = lease
            session.revoke(lease_id, _revocation(ended))

    def answered(self, leases: Iterable[Lease], error: BaseException | None) -> None:
        """The ends of these leases were applied, or could not be."""
        for lease in leases:
            if self._scheduler.book.get(lease.leased.lease_id) is not lease:
                continue
            if error is None:
                self._scheduler.book.pop(lease.leased.lease_id)
                self.settled(lease, _REFUSED)
                self._scheduler.touch(lease.worker.queues)
            elif self._scheduler.term is not None and not lease.doomed:
                self._despair(lease)

    def _despair(self, lease: Lease) -> None:
        """What a worker says of a lease cannot be applied, by a mistake of ours: the attempt is lost."""
        session, lease_id = lease.worker.session, lease.leased.lease_id
        if lease.answered and session is not None:
            session.rejected(lease_id, "INTERNAL")
        lease.doomed = lease.refused = True
        lease.settling = False
        self._scheduler.settling.lost(lease, "INTERNAL")
        self._scheduler.touched()

    def queue_gone(self, queue_id: int) -> None:
        """A queue was deleted with all its tasks."""
        for lease in [lease for lease in self._scheduler.book if lease.leased.queue_id == queue_id]:
            self._scheduler.book.pop(lease.leased.lease_id)
            self.settled(lease, _REFUSED)

    def revoke(self, lease: Lease, reason: worker_pb2.RevokeReason) -> None:
        """Ask a worker to yield, once."""
        if not lease.revoked and not lease.settling and lease.worker.session is not None:
            lease.revoked = True
            lease.worker.session.revoke(lease.leased.lease_id, reason)

    def _gone(self, worker: Worker) -> None:
        self._scheduler.pool.remove(worker.worker_id)
        self._scheduler.reservations.worker_gone(worker.worker_id)

    def _free(self, lease: Lease) -> None:
        if queue := self._scheduler.queues.get(lease.leased.queue_id):
            queue.freed(lease.limit_key)

    def _give_back(self, lease: Lease) -> None:
        if not lease.settling:
            self._free(lease)
            self._scheduler.settling.back(lease)
            self._scheduler.touched()

    def _lose(self, lease: Lease, reason: str) -> None:
        if not lease.settling:
            self._free(lease)
            self._scheduler.settling.lost(lease, reason)
            self._scheduler.touched()

    # Time ---------------------------------------------------------------------------------------------------------

    def watch(self) -> int | None:
        """End what has to end by now; returns when to look again."""
        now_ms = self._scheduler.clock.now_ms()
        for lease in self._scheduler.book.sliced(now_ms):
            self.revoke(lease, worker_pb2.REVOKE_REASON_SLICE_END)
        for lease in self._scheduler.book.timed_out(now_ms):
            self._free(lease)
            self._scheduler.settling.timed_out(lease)
        if now_ms >= self._next_look_ms:
            for worker in list(self._scheduler.pool):
                self._look_at(worker, now_ms)
            self._next_look_ms = now_ms + LOOK_MS
        moments = [self._scheduler.book.next_ms(), self._next_look_ms if self._scheduler.pool else None]
        return min((moment for moment in moments if moment is not None), default=None)

    def _look_at(self, worker: Worker, now_ms: int) -> None:
        silence_ms = now_ms - worker.heard_ms
        patience_ms = HEARTBEATS_MISSED_MAX * worker.heartbeat_ms
        worker.silent = silence_ms > patience_ms
        for lease_id, sent_ms in list(worker.unreceived.items()):
            if now_ms - sent_ms <= RECEIPT_MS:
                break
            del worker.unreceived[lease_id]
            self._give_back(worker.leases[lease_id])
        if worker.lease_ms_min and silence_ms > max(worker.lease_ms_min, patience_ms):
            for lease in list(worker.leases.values()):
                if silence_ms > max(lease.leased.lease_ms, patience_ms):
                    self._lose(lease, LEASE_EXPIRED)
        if worker.session is None and not worker.leases:
            self._gone(worker)

    # For the API --------------------------------------------------------------------------------------------------

    def drain(self, worker_id: str) -> None:
        """Ask a worker to finish, and give it nothing more. WorkerNotFound."""
        worker = self._scheduler.pool.get(worker_id)
        if worker is None:
            raise WorkerNotFound(f"there is no worker {worker_id}", worker_id=worker_id)
        worker.draining = True
        if worker.session is not None:
            worker.session.ask_to_drain("asked by DrainWorker")


_REFUSED: Final = Settled(0, 0, 0, task_pb2.TASK_STATE_CANCELLED, "", 0, "LEASE_LOST", 0, 0)


def _revocation(ended: Settled) -> worker_pb2.RevokeReason:
    """What a worker is told of a lease that ended without it."""
    if ended.state == task_pb2.TASK_STATE_CANCELLED:
        return worker_pb2.REVOKE_REASON_CANCELLED
    if ended.reason == "TIMEOUT":
        return worker_pb2.REVOKE_REASON_TIMEOUT
    return worker_pb2.REVOKE_REASON_LEASE_LOST
