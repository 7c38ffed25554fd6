"""What becomes of leases: assigned, revoked, over; and when a worker says nothing, given to others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from node.state.task_rows import CANCELLED, SUCCEEDED, Settled
from node.tasks.session import Session
from node.tasks.settling import INTERNAL, LEASE_EXPIRED, TIMEOUT
from node.tasks.workers import Lease, Worker
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from node.tasks.scheduler import Scheduler

RECEIPT_MS: Final = 3_000
"""An assignment that its worker has not received after this time goes to another one."""
LOOK_MS: Final = 200
"""How often workers are looked at for silence."""
DESPAIR_MS: Final = 1_000
"""Between two tries to end a lease whose end could not be applied."""
HEARTBEATS_MISSED_MAX: Final = 3
"""No lease ends before so many heartbeats were missed, however short it is."""


class Keeper:
    """Leases from their commit to their end. It ends them by handing them to `Scheduler.settling`.

    A place at a worker is free again when its outcome has come, or at once if the assignment was never sent over the
    present stream; else the lease is `stale` until the worker has answered the revocation, or, if a transaction of its own
    has completed the task, until it says that it is done with it.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._next_look_ms = 0

    def assign(self, lease: Lease, slice_ms: int | None) -> None:
        """A lease is committed: its worker gets it, or it goes back if that stream is gone."""
        session = lease.worker.session
        if session is None or session.ended or session is not lease.paid:
            self.give_back(lease)
            return
        now_ms = self._scheduler.clock.now_ms()
        session.assign(lease, slice_ms, now_ms)
        if lease.leased.timeout_ms:
            self._scheduler.book.times_out(lease, now_ms + lease.leased.timeout_ms)

    def settled(self, lease: Lease, ended: Settled) -> None:
        """A lease is over, and no longer in the book."""
        worker, session, lease_id = lease.worker, lease.worker.session, lease.leased.lease_id
        if lease.answered:
            if session is not None and not lease.refused:
                self._answer(session, lease_id, accepted=ended.state != CANCELLED)
        elif session is not None and lease.over is session:
            worker.stale[lease_id] = lease
            lease.succeeded = ended.state == SUCCEEDED
            if not lease.succeeded:
                session.revoke(lease_id, _revocation(ended))
        else:
            worker.give(lease.leased.queue_id, lease.resources)
            if session is not None and session.withdraw(lease_id):
                worker.refund(lease.paid, lease.leased.bytes)

    @staticmethod
    def _answer(session: Session, lease_id: int, *, accepted: bool) -> None:
        if accepted:
            session.acked(lease_id)
        else:
            session.rejected(lease_id, "LEASE_LOST")

    def answered(self, leases: Iterable[Lease], error: BaseException | None) -> None:
        """The ends of these leases were applied, or could not be."""
        for lease in leases:
            if self._scheduler.book.get(lease.leased.lease_id) is not lease:
                continue
            if error is None:
                self.void(lease)
                self._scheduler.touch(lease.worker.queues)
            elif self._scheduler.term is not None:
                self._despair(lease)

    def _despair(self, lease: Lease) -> None:
        """An end cannot be applied, by a mistake of ours: the attempt is lost, and that is tried until it works."""
        session, lease_id = lease.worker.session, lease.leased.lease_id
        if lease.answered and not lease.refused and session is not None:
            session.rejected(lease_id, INTERNAL)
        lease.refused = True
        self._scheduler.book.retry(lease, self._scheduler.clock.now_ms() + DESPAIR_MS)
        self._scheduler.touched()

    def void(self, lease: Lease) -> None:
        """The state knows nothing of a lease any more."""
        self._scheduler.book.pop(lease.leased.lease_id)
        self.settled(lease, _VOID)

    def revoke(self, lease: Lease, reason: worker_pb2.RevokeReason) -> None:
        """Ask a worker to yield, once for each stream."""
        session = lease.worker.session
        if lease.revoked or lease.settling or session is None:
            return
        if lease.over is session:
            lease.revoked = True
            session.revoke(lease.leased.lease_id, reason)
        else:
            self.give_back(lease)  # it was not sent yet

    def free(self, lease: Lease) -> None:
        """It does not count against limits any more: its end goes into the log before any later lease."""
        queue = self._scheduler.queues.get(lease.leased.queue_id)
        if queue is not None and queue.limited:
            queue.freed(lease.limit_key)

    def give_back(self, lease: Lease) -> None:
        """Its worker does not have it; the attempt does not count."""
        if not lease.settling:
            self.free(lease)
            self._scheduler.settling.back(lease)
            self._scheduler.touched()

    def lose(self, lease: Lease, reason: str) -> None:
        """Its worker is lost; the attempt counts."""
        if not lease.settling:
            self.free(lease)
            self._scheduler.settling.lost(lease, reason)
            self._scheduler.touched()

    def gone(self, worker: Worker) -> None:
        """A worker that is not connected has no lease any more."""
        self._scheduler.reservations.worker_gone(worker.worker_id)
        self._scheduler.pool.remove(worker.worker_id)

    # Time ---------------------------------------------------------------------------------------------------------

    def watch(self) -> int | None:
        """End what has to end by now; returns when to look again."""
        now_ms = self._scheduler.clock.now_ms()
        for lease in self._scheduler.book.sliced(now_ms):
            self.revoke(lease, worker_pb2.REVOKE_REASON_SLICE_END)
        for lease in self._scheduler.book.to_retry(now_ms):
            lease.settling = False
            self._scheduler.settling.lost(lease, INTERNAL)
        for lease in self._scheduler.book.timed_out(now_ms):
            self.free(lease)
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
            self.give_back(worker.leases[lease_id])
        if worker.session is not None:
            for lease in worker.session.unsent(now_ms - RECEIPT_MS):
                self.give_back(lease)
        if worker.lease_ms_min and silence_ms > max(worker.lease_ms_min, patience_ms):
            for lease in list(worker.leases.values()):
                if silence_ms > max(lease.leased.lease_ms, patience_ms):
                    self.lose(lease, LEASE_EXPIRED)
        if worker.session is None and not worker.leases:
            self.gone(worker)


_VOID: Final = Settled(0, 0, 0, CANCELLED, "", 0, "LEASE_LOST", 0, 0)


def _revocation(ended: Settled) -> worker_pb2.RevokeReason:
    """What a worker is told of a lease that ended without it."""
    if ended.state == CANCELLED:
        return worker_pb2.REVOKE_REASON_CANCELLED
    if ended.reason == TIMEOUT:
        return worker_pb2.REVOKE_REASON_TIMEOUT
    return worker_pb2.REVOKE_REASON_LEASE_LOST
