"""Ends of leases on their way into the log: outcomes of workers, and what the leader finds out itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from node import limits
from node.commands import Command, plain
from node.tasks.workers import Lease
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2, worker_pb2

NOT_RECEIVED = "NOT_RECEIVED"
LEASE_EXPIRED = "LEASE_EXPIRED"
INSTANCE_REPLACED = "INSTANCE_REPLACED"
TIMEOUT = "TIMEOUT"
INTERNAL = "INTERNAL"
RESULT_TOO_LARGE = "RESULT_TOO_LARGE"
CHECKPOINT_TOO_LARGE = "CHECKPOINT_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one lease, as it will stand in the log; `size` bytes."""

    lease: Lease
    settled: command_pb2.SettledLease
    size: int


class Settling:
    """Endings that wait for an entry. They leave in the order in which they came, and before any new lease."""

    def __init__(self) -> None:
        self._waiting: deque[Ending] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def outcome(self, lease: Lease, outcome: worker_pb2.Outcome) -> None:
        """What a worker says that its lease came to."""
        settled = command_pb2.SettledLease(number=lease.leased.number, lease_id=lease.leased.lease_id)
        match outcome.WhichOneof("kind"):
            case "result":
                if len(outcome.result.data) > limits.RESULT_BYTES_MAX:
                    message = (
                        f"the result is {len(outcome.result.data)} bytes, at most {limits.RESULT_BYTES_MAX}"
                    )
                    _fail(settled, RESULT_TOO_LARGE, message, permanent=True)
                else:
                    settled.result.CopyFrom(outcome.result)
            case "yield":
                given_up = getattr(outcome, "yield")
                if len(given_up.checkpoint) > limits.CHECKPOINT_BYTES_MAX:
                    message = f"the checkpoint is {len(given_up.checkpoint)} bytes, at most {limits.CHECKPOINT_BYTES_MAX}"
                    _fail(settled, CHECKPOINT_TOO_LARGE, message, permanent=True)
                else:
                    getattr(settled, "yield").CopyFrom(given_up)
            case _:
                settled.failure.CopyFrom(outcome.failure)
                _cut(settled.failure.error)
        self._add(lease, settled)

    def lost(self, lease: Lease, reason: str) -> None:
        """Its worker is lost; the attempt counts."""
        settled = command_pb2.SettledLease(number=lease.leased.number, lease_id=lease.leased.lease_id)
        settled.lost.reason = reason
        self._add(lease, settled)

    def back(self, lease: Lease) -> None:
        """Its worker never had it; the attempt does not count."""
        settled = command_pb2.SettledLease(number=lease.leased.number, lease_id=lease.leased.lease_id)
        getattr(settled, "yield").reason = worker_pb2.REVOKE_REASON_LEASE_LOST
        self._add(lease, settled)

    def timed_out(self, lease: Lease) -> None:
        """It ran too long; the attempt has failed."""
        settled = command_pb2.SettledLease(number=lease.leased.number, lease_id=lease.leased.lease_id)
        _fail(settled, TIMEOUT, f"it ran longer than {lease.leased.timeout_ms / 1000:g} s", permanent=False)
        self._add(lease, settled)

    def _add(self, lease: Lease, settled: command_pb2.SettledLease) -> None:
        assert not lease.settling
        lease.settling = True
        self._waiting.append(Ending(lease, settled, settled.ByteSize()))

    def lease_ids(self) -> Iterator[int]:
        """The leases whose ends wait."""
        return (ending.lease.leased.lease_id for ending in self._waiting)

    def commands(self) -> Iterator[tuple[Command, list[Lease]]]:
        """Commands of bounded size, each with the leases that it ends; what is not taken stays."""
        while self._waiting:
            chosen: list[Ending] = []
            size = 0
            while self._waiting and len(chosen) < limits.SETTLED_LEASES_MAX:
                if chosen and size + self._waiting[0].size > limits.ENTRY_BYTES_SOFT // 2:
                    break
                chosen.append(self._waiting.popleft())
                size += chosen[-1].size
            command = command_pb2.SettleTasks(leases=[ending.settled for ending in chosen])
            yield plain(command_pb2.Command(settle_tasks=command)), [ending.lease for ending in chosen]

    def clear(self) -> None:
        self._waiting.clear()


def _fail(settled: command_pb2.SettledLease, reason: str, message: str, *, permanent: bool) -> None:
    settled.failure.error.reason, settled.failure.error.message = reason, message
    settled.failure.permanent = permanent


def _cut(error: task_pb2.TaskError) -> None:
    error.reason = error.reason[: limits.ERROR_REASON_CHARS_MAX] or "FAILED"
    error.message = error.message[: limits.ERROR_MESSAGE_CHARS_MAX]
    error.detail = error.detail[: limits.ERROR_DETAIL_CHARS_MAX]
