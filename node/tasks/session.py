"""One Work stream as the scheduler sees it: what is to be written to it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from node import limits
from node.errors import ApiError, SlowReader
from node.state.rows import duration
from node.tasks.assignments import assign_frame
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from node.tasks.workers import Lease


class Contents(Protocol):
    """Where the contents of tasks are found."""

    def specs(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded public Tasks by number, input fields only; those that are gone are left out."""
        ...

    def checkpoints(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Checkpoints by number."""
        ...

    def parents(self, number: int) -> list[tuple[str, int, int]]:
        """(name, state, number) of the tasks that a task depends on, in the order of its dependencies."""
        ...

    def results(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded TaskResults by number."""
        ...


class Session:
    """What waits to be said to a worker; what gathers while a frame is being written goes into the next one.

    `on_ready` is called whenever there is something to write, or the session is to end; `on_sent` with each lease whose
    assignment has been taken for writing.
    """

    def __init__(
        self, session_id: str, *, on_ready: Callable[[], None], on_sent: Callable[[Lease], None]
    ) -> None:
        self.session_id = session_id
        self.ended = False
        """Nothing more is read; the stream ends when all is written."""
        self.error: ApiError | None = None
        """What it ends with; None is a normal end."""
        self.awaiting: set[int] = set()
        """Leases whose outcomes have come and are not answered."""
        self._on_ready, self._on_sent = on_ready, on_sent
        self._frames: list[worker_pb2.WorkResponse] = []
        self._heartbeat: int | None = None
        self._assign: dict[int, tuple[Lease, int | None, int]] = {}
        self._acked: list[int] = []
        self._rejected: dict[str, list[int]] = {}
        self._revoked: dict[worker_pb2.RevokeReason, list[int]] = {}

    # What the scheduler says --------------------------------------------------------------------------------------

    def welcome(self, held: Iterable[int], *, term: int, heartbeat_ms: int) -> None:
        answer = worker_pb2.Welcome(
            session_id=self.session_id,
            heartbeat_interval=duration(heartbeat_ms),
            held_lease_ids=held,
            term=term,
        )
        self._say(worker_pb2.WorkResponse(welcome=answer))

    def assign(self, lease: Lease, slice_ms: int | None, now_ms: int) -> None:
        self._assign[lease.leased.lease_id] = (lease, slice_ms, now_ms)
        self._on_ready()

    def withdraw(self, lease_id: int) -> bool:
        """Do not send an assignment after all; False if it is sent already."""
        return self._assign.pop(lease_id, None) is not None

    def unsent(self, until_ms: int | None = None) -> list[Lease]:
        """The leases whose assignments wait to be sent, or only those that have waited since then or longer."""
        found = []
        for lease, _, since_ms in self._assign.values():
            if until_ms is not None and since_ms > until_ms:
                break
            found.append(lease)
        return found

    def acked(self, lease_id: int) -> None:
        self.awaiting.discard(lease_id)
        self._acked.append(lease_id)
        self._answers()

    def rejected(self, lease_id: int, reason: str) -> None:
        self.awaiting.discard(lease_id)
        self._rejected.setdefault(reason, []).append(lease_id)
        self._answers()

    def revoke(self, lease_id: int, reason: worker_pb2.RevokeReason) -> None:
        self._revoked.setdefault(reason, []).append(lease_id)
        self._on_ready()

    def heartbeat(self, sequence: int) -> None:
        """Answer a heartbeat; of several only the last one."""
        self._heartbeat = sequence
        self._on_ready()

    def ask_to_drain(self, reason: str) -> None:
        self._say(worker_pb2.WorkResponse(drain=worker_pb2.DrainRequested(reason=reason)))

    def end(self, error: ApiError | None) -> None:
        """End the stream once outcomes on their way are answered; the first reason stays."""
        if not self.ended:
            self.ended, self.error = True, error
        self._on_ready()

    def abandon(self, error: ApiError) -> None:
        """End the stream; what it waits for will not be answered here."""
        self.awaiting.clear()
        self._assign.clear()
        self.end(error)

    @property
    def over(self) -> bool:
        """True if the stream is to be closed now, unless there is another frame."""
        return self.ended and not self.awaiting

    def _say(self, frame: worker_pb2.WorkResponse) -> None:
        self._frames.append(frame)
        self._on_ready()

    def _answers(self) -> None:
        answers = len(self._acked)
        if self._rejected:
            answers += sum(map(len, self._rejected.values()))
        if answers > limits.HELD_LEASES_MAX:
            self.abandon(SlowReader())
        self._on_ready()

    # What the stream takes ----------------------------------------------------------------------------------------

    def next_frame(self, contents: Contents) -> bytes | None:
        """The next encoded WorkResponse; None if there is nothing to say now."""
        if self._frames:
            return self._frames.pop(0).SerializeToString()
        if self._heartbeat is not None:
            answer = worker_pb2.HeartbeatAck(sequence=self._heartbeat)
            self._heartbeat = None
            return worker_pb2.WorkResponse(heartbeat_ack=answer).SerializeToString()
        if self._revoked:
            reason, lease_ids = self._revoked.popitem()
            revoke = worker_pb2.Revoke(lease_ids=lease_ids, reason=reason)
            return worker_pb2.WorkResponse(revoke=revoke).SerializeToString()
        if self._acked:
            lease_ids, self._acked = self._acked, []
            return worker_pb2.WorkResponse(acked=worker_pb2.Acked(lease_ids=lease_ids)).SerializeToString()
        if self._rejected:
            refusal, lease_ids = self._rejected.popitem()
            rejected = worker_pb2.Rejected(lease_ids=lease_ids, reason=refusal)
            return worker_pb2.WorkResponse(rejected=rejected).SerializeToString()
        if self._assign and not self.ended:
            return self._next_assign(contents)
        return None

    def _next_assign(self, contents: Contents) -> bytes:
        """As many assignments as fit a frame, at least one."""
        chosen: list[tuple[Lease, int | None]] = []
        size = 0
        for lease, slice_ms, _ in self._assign.values():
            size += lease.leased.bytes
            if chosen and (size > limits.ASSIGN_BYTES_SOFT or len(chosen) == limits.ASSIGN_TASKS_MAX):
                break
            chosen.append((lease, slice_ms))
        for lease, _ in chosen:
            del self._assign[lease.leased.lease_id]
            self._on_sent(lease)
        return assign_frame([(lease.leased, slice_ms) for lease, slice_ms in chosen], contents)
