import random

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as some

from node.rates import PARTS, Histogram, RateWindow, bucket_end_ms, bucket_of
from taskraft.v1.queue_pb2 import Percentiles

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here
START_MS = 5_000_000


def ms(duration: Duration) -> int:
    return duration.ToMilliseconds()


def three(percentiles: Percentiles) -> list[int]:
    return [ms(percentiles.p50), ms(percentiles.p90), ms(percentiles.p99)]


# Histograms -----------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(some.integers(0, 1 << 40))
def test_a_time_is_counted_with_times_at_most_a_sixteenth_longer(time_ms: int) -> None:
    end_ms = bucket_end_ms(bucket_of(time_ms))

    assert min(time_ms, (1 << 40) - 1) <= end_ms <= time_ms * (1 + 1 / PARTS)


def test_short_times_are_exact_and_buckets_follow_without_a_gap() -> None:
    assert [bucket_end_ms(bucket_of(time_ms)) for time_ms in range(2 * PARTS)] == list(range(2 * PARTS))
    assert {bucket_of(time_ms) for time_ms in range(100_000)} == set(range(bucket_of(99_999) + 1))
    assert bucket_of(1 << 60) < 1_000, "the number of buckets is bounded"


@UNHURRIED
@given(some.lists(some.integers(0, 1 << 30), min_size=1, max_size=200))
def test_a_percentile_is_what_so_many_of_a_hundred_did_not_exceed(times_ms: list[int]) -> None:
    histogram = Histogram()
    for time_ms in times_ms:
        histogram.add(time_ms)

    for part, found_ms in zip((50, 90, 99), histogram.not_exceeded_by((50, 90, 99)), strict=True):
        exact_ms = sorted(times_ms)[-(-part * len(times_ms) // 100) - 1]
        assert exact_ms <= found_ms <= exact_ms * (1 + 1 / PARTS)


# The window -----------------------------------------------------------------------------------------------------------


def test_figures_are_as_worked_out_by_hand() -> None:
    window = RateWindow(START_MS)
    window.submitted(START_MS + 100, 3)
    window.started(START_MS + 1_100, 3)
    window.settled(START_MS + 2_000, wait_ms=10, run_ms=20, total_ms=30)
    window.settled(START_MS + 3_000, wait_ms=20, run_ms=30, total_ms=0)  # failed, and is tried again
    window.settled(START_MS + 4_000, wait_ms=30, run_ms=10, total_ms=90)

    rates = window.rates(START_MS + 10_000)

    assert (rates.submitted, rates.started, rates.ended) == (3, 3, 2)
    assert ms(rates.window) == 10_000
    assert rates.throughput == 0.2
    assert ms(rates.latency) == (30 + 90 - 20 - 30 - 10) // 2
    assert three(rates.waiting) == [10, 30, 30]
    assert three(rates.running) == [10, 20, 20]
    assert ms(rates.end_to_end.p50) == 30
    assert 90 <= ms(rates.end_to_end.p90) <= 95


def test_nothing_happened_yet() -> None:
    rates = RateWindow(START_MS).rates(START_MS)

    assert (rates.ended, rates.throughput, ms(rates.latency), three(rates.waiting)) == (0, 0.0, 0, [0, 0, 0])


@pytest.mark.parametrize(("after_ms", "ended"), [(59_000, 1), (60_000, 0), (600_000, 0)])
def test_what_happened_a_minute_ago_is_forgotten(after_ms: int, ended: int) -> None:
    window = RateWindow(START_MS)
    window.settled(START_MS + 500, wait_ms=1, run_ms=1, total_ms=2)

    rates = window.rates(START_MS + 500 + after_ms)

    assert rates.ended == ended
    assert 59_000 <= ms(rates.window) <= 60_000


def test_a_second_that_comes_round_again_begins_at_zero() -> None:
    window = RateWindow(START_MS)
    window.submitted(START_MS, 5)
    window.submitted(START_MS + 60_000, 2)

    assert window.rates(START_MS + 60_000).submitted == 2


def test_latency_is_never_negative() -> None:
    window = RateWindow(START_MS)
    window.settled(START_MS, wait_ms=0, run_ms=5_000, total_ms=0)
    window.settled(START_MS, wait_ms=0, run_ms=10, total_ms=10)

    assert ms(window.rates(START_MS + 1).latency) == 0


def test_memory_does_not_grow_with_tasks() -> None:
    rng, window = random.Random(1), RateWindow(0)
    for number in range(100_000):
        total_ms = int(rng.lognormvariate(8, 3)) + 1
        window.settled(number * 2, wait_ms=total_ms // 2, run_ms=total_ms // 2, total_ms=total_ms)

    buckets = sum(len(second.total.counts) for second in window._seconds)
    assert len(window._seconds) == 60
    assert buckets < 60 * bucket_of(1 << 60)


def test_littles_law_holds_between_backlog_rate_and_latency() -> None:
    """One worker, each task 50 ms, one every 40 ms for a while: backlog = rate of ends x time in the system."""
    window, free_ms, inside = RateWindow(0), 0, 0.0
    for number in range(1_000):
        submitted_ms = number * 40
        start_ms = max(free_ms, submitted_ms)
        free_ms = start_ms + 50
        inside += free_ms - submitted_ms
        window.submitted(submitted_ms, 1)
        window.settled(free_ms, wait_ms=start_ms - submitted_ms, run_ms=50, total_ms=free_ms - submitted_ms)

    rates = window.rates(free_ms)

    mean_inside = inside / free_ms
    time_inside_s = (ms(rates.latency) + 50) / 1_000
    assert rates.ended == 1_000
    assert mean_inside == pytest.approx(rates.throughput * time_inside_s, rel=0.01)
