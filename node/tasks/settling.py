"""Ends of leases on their way into the log: outcomes of workers, and what the leader finds out itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

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


ENDING_BYTES: Final = 32
"""What the end of a lease takes in the log besides what is said of it, and a little more."""
SHORT_BYTES: Final = 128
"""What this leader says itself, and a little more."""


@dataclass(slots=True)
class Endings:
    """A command in the making, of `size` bytes or less, and the leases that it ends."""

    command: command_pb2.SettleTasks = field(default_factory=command_pb2.SettleTasks)
    leases: list[Lease] = field(default_factory=list)
    size: int = 0


class Settling:
    """Endings that wait for an entry. They leave in the order in which they came, and before any new lease."""

    def __init__(self) -> None:
        self._waiting: deque[Endings] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def outcome(self, lease: Lease, outcome: worker_pb2.Outcome) -> None:
        """What a worker says that its lease came to."""
        settled = self._add(lease, outcome.ByteSize())
        match outcome.WhichOneof("kind"):
            case "result":
                result = outcome.result
                if len(result.data) > limits.RESULT_BYTES_MAX:
                    message = f"the result is {len(result.data)} bytes, at most {limits.RESULT_BYTES_MAX}"
                    _fail(settled, RESULT_TOO_LARGE, message, permanent=True)
                else:
                    settled.result.CopyFrom(result)
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

    def lost(self, lease: Lease, reason: str) -> None:
        """Its worker is lost; the attempt counts."""
        self._add(lease).lost.reason = reason

    def back(self, lease: Lease) -> None:
        """Its worker never had it; the attempt does not count."""
        getattr(self._add(lease), "yield").reason = worker_pb2.REVOKE_REASON_LEASE_LOST

    def timed_out(self, lease: Lease) -> None:
        """It ran too long; the attempt has failed."""
        message = f"it ran longer than {lease.leased.timeout_ms / 1000:g} s"
        _fail(self._add(lease), TIMEOUT, message, permanent=False)

    def _add(self, lease: Lease, said_bytes: int = SHORT_BYTES) -> command_pb2.SettledLease:
        """The end of a lease as it will stand in the log, to be completed with so many bytes at most."""
        assert not lease.settling
        lease.settling = True
        size = said_bytes + ENDING_BYTES
        last = self._waiting[-1] if self._waiting else None
        if (
            last is None
            or len(last.leases) == limits.SETTLED_LEASES_MAX
            or last.size + size > limits.ENTRY_BYTES_SOFT // 2
        ):
            last = Endings()
            self._waiting.append(last)
        last.leases.append(lease)
        last.size += size
        return last.command.leases.add(number=lease.leased.number, lease_id=lease.leased.lease_id)

    def lease_ids(self) -> Iterator[int]:
        """The leases whose ends wait."""
        return (lease.leased.lease_id for endings in self._waiting for lease in endings.leases)

    def commands(self) -> Iterator[tuple[Command, list[Lease]]]:
        """Commands of bounded size, each with the leases that it ends; what is not taken stays."""
        while self._waiting:
            endings = self._waiting.popleft()
            yield plain(command_pb2.Command(settle_tasks=endings.command)), endings.leases

    def clear(self) -> None:
        self._waiting.clear()


def _fail(settled: command_pb2.SettledLease, reason: str, message: str, *, permanent: bool) -> None:
    settled.failure.error.reason, settled.failure.error.message = reason, message
    settled.failure.permanent = permanent


def _cut(error: task_pb2.TaskError) -> None:
    error.reason = error.reason[: limits.ERROR_REASON_CHARS_MAX] or "FAILED"
    error.message = error.message[: limits.ERROR_MESSAGE_CHARS_MAX]
    error.detail = error.detail[: limits.ERROR_DETAIL_CHARS_MAX]
