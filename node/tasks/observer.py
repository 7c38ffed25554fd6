"""Watches what happens to tasks on the leader, and keeps each queue's last minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from node.clock import Clock
from node.rates import RateWindow
from node.state.listener import Silence
from node.state.task_rows import Counts, Leased, ReadyTask, Settled
from taskraft.v1 import queue_pb2


class Counted(Protocol):
    """The part of the state machine that counts tasks."""

    def queue_counts(self, queue_id: int) -> Counts:
        """The tasks of a queue by state, and how many were ever submitted."""
        ...


class Observer(Silence):
    """Rates by queue, since this node leads; queues in which nothing happens cost nothing."""

    def __init__(self, state: Counted, *, clock: Clock) -> None:
        self._state, self._clock = state, clock
        self._leads = False
        self._windows: dict[int, RateWindow] = {}
        self._submitted: dict[int, int] = {}

    def lead(self, term: int) -> None:
        self._leads = True

    def follow(self) -> None:
        self._leads = False
        self._windows.clear()
        self._submitted.clear()

    def rates(self, queue_id: int) -> queue_pb2.TaskRates | None:
        """The last minute of a queue; None if nothing has happened in it since this node leads."""
        window = self._windows.get(queue_id)
        return None if window is None else window.rates(self._clock.now_ms())

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        if not self._leads:
            return
        window = self._window(queue_id)
        submitted = self._state.queue_counts(queue_id).submitted
        new = submitted - self._submitted.setdefault(queue_id, submitted - len(tasks))
        self._submitted[queue_id] = submitted
        if new:
            window.submitted(self._clock.now_ms(), new)

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        if self._leads:
            for queue_id, count in Counter(leased.queue_id for leased in leases).items():
                self._window(queue_id).started(self._clock.now_ms(), count)

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        if not self._leads:
            return
        window, now_ms = self._window(queue_id), self._clock.now_ms()
        alike = Counter((ended.wait_ms, ended.run_ms, ended.total_ms) for ended in settled)
        for (wait_ms, run_ms, total_ms), count in alike.items():
            window.settled(now_ms, wait_ms=wait_ms, run_ms=run_ms, total_ms=total_ms, count=count)

    def queue_deleted(self, queue_id: int) -> None:
        self._windows.pop(queue_id, None)
        self._submitted.pop(queue_id, None)

    def _window(self, queue_id: int) -> RateWindow:
        window = self._windows.get(queue_id)
        if window is None:
            window = self._windows[queue_id] = RateWindow(self._clock.now_ms())
        return window
