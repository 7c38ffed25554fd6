"""What a queue did in the last minute: how many tasks or messages, how fast, and how long they took.

Of the N tasks that ended in the window, with T_total the sum of their times from submitted to ended and T_processing
the time that workers ran tasks of the queue in it (slices and failed attempts, too, as their leases end):

    latency = (T_total - T_processing) / N        throughput = N / length of the window

A message is submitted when it is stored, started when it is delivered, and ends when it is acknowledged.

Counts are kept per second, times in histograms of bounded size: memory does not grow with the number of tasks.
Little's law, waiting = rate x time, holds between these figures and is how they are tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from taskraft.v1 import queue_pb2

WINDOW_S: Final = 60
PARTS: Final = 16
"""Buckets of a histogram per doubling: a percentile is at most a sixteenth too high."""
_PART_BITS: Final = PARTS.bit_length() - 1
_MS_MAX: Final = (1 << 40) - 1  # 35 years

assert 1 << _PART_BITS == PARTS


def bucket_of(ms: int) -> int:
    """The bucket that a time is counted in; exact below 2 * PARTS milliseconds."""
    ms = min(max(ms, 0), _MS_MAX)
    shift = max(0, ms.bit_length() - 1 - _PART_BITS)
    return (shift << _PART_BITS) + (ms >> shift)


def bucket_end_ms(bucket: int) -> int:
    """The longest time that is counted in a bucket."""
    shift = max(0, (bucket >> _PART_BITS) - 1)
    return ((bucket - (shift << _PART_BITS) + 1) << shift) - 1


class Histogram:
    """How many times were how long."""

    __slots__ = ("counts",)

    def __init__(self, counts: Counter[int] | None = None) -> None:
        self.counts = Counter[int]() if counts is None else counts

    def add(self, ms: int, count: int = 1) -> None:
        """So many more of this length."""
        self.counts[bucket_of(ms)] += count

    @classmethod
    def sum(cls, histograms: Iterable[Histogram]) -> Histogram:
        """All that is in these together."""
        counts = Counter[int]()
        for histogram in histograms:
            counts.update(histogram.counts)
        return cls(counts)

    def not_exceeded_by(self, hundredths: Iterable[int]) -> list[int]:
        """For each of these parts, which grow, the least time that so many of a hundred did not exceed; 0 if empty."""
        buckets, total = sorted(self.counts.items()), self.counts.total()
        found, place, seen = [], 0, 0
        for part in hundredths:
            while place < len(buckets) and seen * 100 < part * total:
                seen += buckets[place][1]
                place += 1
            found.append(bucket_end_ms(buckets[place - 1][0]) if total else 0)
        return found


class _Second:
    """What happened in one second."""

    __slots__ = ("at_s", "ended", "run_ms", "running", "started", "submitted", "total", "total_ms", "waiting")

    def __init__(self, at_s: int) -> None:
        self.at_s = at_s
        self.submitted = self.started = self.ended = 0
        self.run_ms = self.total_ms = 0
        self.waiting, self.running, self.total = Histogram(), Histogram(), Histogram()


class RateWindow:
    """The last minute of one queue. Times are of a clock that never goes back."""

    def __init__(self, now_ms: int) -> None:
        """Nothing has been seen before this moment."""
        self._since_ms = now_ms
        self._seconds = [_Second(-1)] * WINDOW_S

    def submitted(self, now_ms: int, count: int) -> None:
        """So many tasks are new."""
        self._second(now_ms).submitted += count

    def started(self, now_ms: int, count: int) -> None:
        """So many tasks were leased."""
        self._second(now_ms).started += count

    def settled(self, now_ms: int, *, wait_ms: int, run_ms: int, total_ms: int, count: int = 1) -> None:
        """Leases ended that had waited and run so long; `total_ms` is 0 unless their tasks ended with them."""
        second = self._second(now_ms)
        second.run_ms += run_ms * count
        if total_ms:
            second.ended += count
            second.total_ms += total_ms * count
            second.waiting.add(wait_ms, count)
            second.running.add(run_ms, count)
            second.total.add(total_ms, count)

    def rates(self, now_ms: int) -> queue_pb2.TaskRates:
        """As the API shows them of tasks."""
        from_s = now_ms // 1_000 - WINDOW_S + 1
        seconds = [second for second in self._seconds if second.at_s >= from_s]
        window_ms = now_ms - max(self._since_ms, from_s * 1_000)
        ended = sum(second.ended for second in seconds)
        outside_ms = sum(second.total_ms - second.run_ms for second in seconds)
        return queue_pb2.TaskRates(
            window=_duration(window_ms),
            submitted=sum(second.submitted for second in seconds),
            started=sum(second.started for second in seconds),
            ended=ended,
            throughput=ended / (window_ms / 1_000) if window_ms else 0.0,
            latency=_duration(max(0, outside_ms) // ended if ended else 0),
            waiting=_percentiles(second.waiting for second in seconds),
            running=_percentiles(second.running for second in seconds),
            end_to_end=_percentiles(second.total for second in seconds),
        )

    def message_rates(self, now_ms: int) -> queue_pb2.MessageRates:
        """As the API shows them of messages."""
        rates = self.rates(now_ms)
        return queue_pb2.MessageRates(
            window=rates.window,
            published=rates.submitted,
            delivered=rates.started,
            acknowledged=rates.ended,
            throughput=rates.throughput,
            latency=rates.latency,
            waiting=rates.waiting,
            processing=rates.running,
            end_to_end=rates.end_to_end,
        )

    def _second(self, now_ms: int) -> _Second:
        at_s = now_ms // 1_000
        second = self._seconds[at_s % WINDOW_S]
        if second.at_s != at_s:
            second = self._seconds[at_s % WINDOW_S] = _Second(at_s)
        return second


def _percentiles(histograms: Iterable[Histogram]) -> queue_pb2.Percentiles:
    p50, p90, p99 = map(_duration, Histogram.sum(histograms).not_exceeded_by((50, 90, 99)))
    return queue_pb2.Percentiles(p50=p50, p90=p90, p99=p99)


def _duration(ms: int) -> Duration:
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)
