"""Runs the scheduler on the event loop: soon after it was touched, and when time asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.clock import Clock
from node.faults import guarded


class Pump:
    """Calls `step` once for all touches of one turn of the loop, behind what else that turn has woken: what a worker is
    to be told goes out first. `fail` is told of a mistake of ours in it.
    """

    def __init__(self, *, clock: Clock, fail: Callable[[Exception], None]) -> None:
        self._clock, self._fail = clock, fail
        self._step: Callable[[], int | None] | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    def drive(self, step: Callable[[], int | None]) -> None:
        """From now on call this; it returns when to be called again at the latest, on the monotonic clock."""
        self._step = step

    def touch(self) -> None:
        """There is something to do."""
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, guarded, self._fail, self._run)

    def _run(self) -> None:
        self._scheduled = False
        assert self._step is not None
        due_ms = self._step()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None:
            delay_s = max(0, due_ms - self._clock.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.touch)
