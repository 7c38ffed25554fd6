"""Distributions of times, and what all metrics have in common."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "taskraft_"
QUEUES_MAX: Final = 1_000
OTHER: Final = "(other)"  # no queue can have this name

DISK_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MESSAGE_SECONDS: Final = (
    0.001,
    0.005,
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
    43200.0,
)
SNAPSHOT_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


class Distribution:
    """A histogram in seconds that takes many equal observations at once: a batch is one call, however long.

    Invariant: the counts, one for each bound and one for what is above the last, add up to all observations.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        assert list(bounds) == sorted(set(bounds))
        self.sum_s = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count `count` observations of the same length. A clock that was set back counts as no time."""
        assert count >= 0
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self._bounds, seconds)] += count
        self.sum_s += seconds * count

    def buckets(self) -> list[tuple[str, float]]:
        """How many observations were not longer than each bound, as Prometheus writes it."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets
