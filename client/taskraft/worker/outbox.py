"""What a worker has to say, gathered until the stream can take it: frames without I/O.

Everything that is ready when a frame can be written goes into one frame of its kind, so that the cost of a frame is
shared by as many tasks as the stream is slow. An outcome is `unsent` until it is written, then `unacked` until the
broker has committed or refused it; when a stream breaks, unacked outcomes are unsent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FRAME_BYTES_SOFT = 1 << 20  # a frame ends when it is this large; only a single element may exceed it
OUTCOMES_MAX = 10_000  # the broker's limit of one frame
RECEIVED_MAX = 10_000  # the broker's limit of one frame
PROGRESS_MAX = 1_000  # the broker's limit of one frame
CREDIT_MAX = 100_000  # the broker's limit of one grant


class Outbox:
    """Invariant: a lease has at most one outcome here, in `unsent` or in `unacked`."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.unsent: dict[int, worker_pb2.Outcome] = {}
        self.unacked: dict[int, worker_pb2.Outcome] = {}
        self.progress: dict[int, worker_pb2.LeaseProgress] = {}
        self.credit = 0
        self.heartbeat: worker_pb2.Heartbeat | None = None
        self.drain_within_s: float | None = None
        self._drain_said = False

    @property
    def owes(self) -> bool:
        """True if there are outcomes that are neither committed nor refused."""
        return bool(self.unsent or self.unacked)

    @property
    def settled(self) -> bool:
        """True if nothing is owed and the drain is announced, should there be one."""
        return not self.owes and (self.drain_within_s is None or self._drain_said)

    def __bool__(self) -> bool:
        """True if there is something to write."""
        return bool(
            self.received
            or self.unsent
            or self.progress
            or self.credit
            or self.heartbeat is not None
            or (self.drain_within_s is not None and not self._drain_said)
        )

    def outcome(self, outcome: worker_pb2.Outcome) -> None:
        """A lease has come to this. What progress was to be said is said only if it is needed later on."""
        lease_id = outcome.lease_id
        assert lease_id not in self.unacked
        self.unsent[lease_id] = outcome
        if self.progress and not outcome.HasField("failure"):  # another attempt may go on from a checkpoint
            self.progress.pop(lease_id, None)

    def report(self, progress: worker_pb2.LeaseProgress) -> None:
        """Say how far a task is; of several that wait the newest of each part goes."""
        earlier = self.progress.get(progress.lease_id)
        if earlier is not None and not progress.checkpoint:
            progress.checkpoint = earlier.checkpoint
        self.progress[progress.lease_id] = progress

    def held(self) -> Iterator[int]:
        """The leases whose outcomes are not settled."""
        yield from self.unsent
        yield from self.unacked

    def acked(self, lease_ids: Iterable[int]) -> None:
        """These outcomes are committed."""
        unacked = self.unacked
        for lease_id in lease_ids:
            unacked.pop(lease_id, None)

    def rejected(self, lease_ids: Iterable[int]) -> list[worker_pb2.Outcome]:
        """These outcomes will not be accepted; returns them."""
        gone = [self.unacked.pop(lease_id, None) for lease_id in lease_ids]
        return [outcome for outcome in gone if outcome is not None]

    def forget(self, lease_ids: Iterable[int]) -> None:
        """These leases are lost: nothing that is said of them would be heard."""
        gone = set(lease_ids)
        if not gone:
            return
        self.received = [one for one in self.received if one not in gone]
        for lease_id in gone:
            self.unsent.pop(lease_id, None)
            self.unacked.pop(lease_id, None)
            self.progress.pop(lease_id, None)

    def broken(self) -> None:
        """The stream ended: what it carried and was not answered goes again, permissions are void."""
        self.unsent = {**self.unacked, **self.unsent}
        self.unacked = {}
        self.credit = 0
        self.heartbeat = None
        self._drain_said = False

    def frames(self) -> Iterator[worker_pb2.WorkRequest]:
        """All that is to be written now, the most urgent first; what is taken is said."""
        if self.heartbeat is not None:
            heartbeat, self.heartbeat = self.heartbeat, None
            yield worker_pb2.WorkRequest(heartbeat=heartbeat)
        received, self.received = self.received, []
        for start in range(0, len(received), RECEIVED_MAX):
            part = worker_pb2.Received(lease_ids=received[start : start + RECEIVED_MAX])
            yield worker_pb2.WorkRequest(received=part)
        while self.progress:
            yield worker_pb2.WorkRequest(progress=self._take_progress())
        if self.drain_within_s is not None and not self._drain_said:
            self._drain_said = True
            within = Duration()
            within.FromNanoseconds(int(self.drain_within_s * 1e9))
            yield worker_pb2.WorkRequest(drain=worker_pb2.WorkerDrain(within=within))
        while self.unsent:
            yield worker_pb2.WorkRequest(outcomes=self._take_outcomes())
        while self.credit:
            part_tasks = min(self.credit, CREDIT_MAX)
            self.credit -= part_tasks
            yield worker_pb2.WorkRequest(credit=worker_pb2.WorkCredit(tasks=part_tasks))

    def _take_progress(self) -> worker_pb2.ProgressReport:
        taken: list[worker_pb2.LeaseProgress] = []
        size_bytes = 0
        for one in list(self.progress.values())[:PROGRESS_MAX]:
            size_bytes += len(one.checkpoint)
            if taken and size_bytes > FRAME_BYTES_SOFT:
                break
            taken.append(self.progress.pop(one.lease_id))
        return worker_pb2.ProgressReport(tasks=taken)

    def _take_outcomes(self) -> worker_pb2.Outcomes:
        unsent, size_bytes = self.unsent, 0
        taken: list[worker_pb2.Outcome] = []
        for outcome in unsent.values():
            size_bytes += outcome.ByteSize()
            if taken and (size_bytes > FRAME_BYTES_SOFT or len(taken) == OUTCOMES_MAX):
                break
            taken.append(outcome)
        if len(taken) == len(unsent):
            self.unacked.update(unsent)
            self.unsent = {}
        else:
            for outcome in taken:
                self.unacked[outcome.lease_id] = unsent.pop(outcome.lease_id)
        assert taken
        return worker_pb2.Outcomes(outcomes=taken)
