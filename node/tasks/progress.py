"""What workers say of their tasks, on its way into the log: at most about once a second for each task."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from node import limits
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.rows import timestamp
from node.tasks.workers import Lease
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import worker_pb2

INTERVAL_MS: Final = 1_000


class Progress:
    """The last words on each lease that are not in the log yet. `due_ms`: when they go there, monotonic."""

    def __init__(self) -> None:
        self.due_ms: int | None = None
        self._reports: dict[int, command_pb2.RecordedProgress] = {}

    def report(self, lease: Lease, said: worker_pb2.LeaseProgress, clock: Clock) -> None:
        """A worker said something; it replaces what it said before."""
        report = self._reports.get(lease.leased.lease_id)
        if report is None:
            report = self._reports[lease.leased.lease_id] = command_pb2.RecordedProgress(
                number=lease.leased.number, lease_id=lease.leased.lease_id
            )
        report.progress.fraction = min(1.0, max(0.0, said.fraction))
        report.progress.message = said.message[: limits.PROGRESS_MESSAGE_CHARS_MAX]
        report.progress.time.CopyFrom(timestamp(clock.wall_ms()))
        if said.checkpoint:
            report.checkpoint = said.checkpoint
        if self.due_ms is None:
            self.due_ms = clock.now_ms() + INTERVAL_MS

    def is_due(self, now_ms: int) -> bool:
        return self.due_ms is not None and now_ms >= self.due_ms

    def commands(self, now_ms: int) -> Iterator[tuple[Command, Answer]]:
        """What is due. Losing it is no loss: the worker goes on and will say more."""
        while self._reports and self.is_due(now_ms):
            yield self._record(islice(self._reports, limits.PROGRESS_REPORTS_MAX))
            if not self._reports:
                self.due_ms = None

    def last_words(self, lease_ids: Iterable[int]) -> Iterator[tuple[Command, Answer]]:
        """What was said of leases that are about to end: another attempt may go on from it."""
        if not self._reports:
            return
        wanted = deque(lease_id for lease_id in lease_ids if lease_id in self._reports)
        while wanted:
            some = [wanted.popleft() for _ in range(min(len(wanted), limits.PROGRESS_REPORTS_MAX))]
            yield self._record(lease_id for lease_id in some if lease_id in self._reports)
            wanted.extendleft(lease_id for lease_id in some if lease_id in self._reports)

    def _record(self, lease_ids: Iterable[int]) -> tuple[Command, Answer]:
        """Some of these reports, at least one, so many as fit a command."""
        chosen: list[command_pb2.RecordedProgress] = []
        size = 0
        for lease_id in lease_ids:
            report = self._reports[lease_id]
            size += report.ByteSize()
            if chosen and size > limits.ENTRY_BYTES_SOFT // 2:
                break
            chosen.append(report)
        for report in chosen:
            del self._reports[report.lease_id]
        command = command_pb2.RecordProgress(tasks=chosen)
        return plain(command_pb2.Command(record_progress=command)), _ignore

    def clear(self) -> None:
        self._reports.clear()
        self.due_ms = None


def _ignore(error: BaseException | None) -> None:
    """Nobody waits for it."""
