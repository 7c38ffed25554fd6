"""The node's clocks, as an argument: nothing in `node` reads the time elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Milliseconds: `now_ms` never goes back, `wall_ms` is the time since 1970 as people know it."""

    now_ms: Callable[[], int] = _monotonic_ms
    wall_ms: Callable[[], int] = _wall_ms
