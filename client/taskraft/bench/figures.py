"""The arithmetic of measurements: percentiles, medians of runs, and what the machine is."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Times in milliseconds. Invariant: min <= p50 <= p90 <= p99 <= max."""

    count: int
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    def __post_init__(self) -> None:
        assert self.min_ms <= self.p50_ms <= self.p90_ms <= self.p99_ms <= self.max_ms

    @classmethod
    def of_seconds(cls, samples: Sequence[float]) -> Self:
        """Of at least one sample."""
        ordered = sorted(samples)
        assert ordered
        return cls(
            count=len(ordered),
            min_ms=milliseconds(ordered[0]),
            p50_ms=milliseconds(percentile(ordered, 50)),
            p90_ms=milliseconds(percentile(ordered, 90)),
            p99_ms=milliseconds(percentile(ordered, 99)),
            max_ms=milliseconds(ordered[-1]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over several runs."""

    runs: tuple[float, ...]
    min: float
    median: float
    max: float

    @classmethod
    def of(cls, runs: Sequence[float]) -> Self:
        """Of at least one run."""
        return cls(runs=tuple(runs), min=min(runs), median=median(runs), max=max(runs))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of the samples do not exceed (nearest rank)."""
    assert 0 < percent <= 100
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured."""

    cpus: int
    memory_bytes: int
    kernel: str
    python: str

    @classmethod
    def this(cls) -> Self:
        return cls(
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            kernel=platform.release(),
            python=platform.python_version(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What Linux says a process has in memory, now and at most so far."""

    resident_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Raises OSError where there is no /proc, or no such process."""
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        return cls(resident_bytes=kib(fields["VmRSS"]), peak_bytes=kib(fields["VmHWM"]))


def kib(field: str) -> int:
    """Bytes of `  1234 kB`."""
    return int(field.split(maxsplit=1)[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process used so far. Raises OSError where there is no /proc, or no such process."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / CLOCK_TICKS


class CpuMeter:
    """Cores that processes keep busy, on average since it was made; nothing where there is no /proc."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = self._read()

    def cores(self, seconds: float) -> float | None:
        after = self._read()
        if after is None or self._before is None:
            return None
        return round((after - self._before) / seconds, 2)

    def _read(self) -> float | None:
        try:
            return sum(map(cpu_seconds, self._pids)) if self._pids else None
        except OSError:
            return None
