"""The arithmetic of the benchmarks."""

import os
import random
import time
from pathlib import Path

import pytest

from taskraft.bench.disk import fdatasync_seconds
from taskraft.bench.figures import CpuMeter, Machine, Memory, Percentiles, Spread, percentile
from taskraft.bench.throughput import STAMP, Load, stamped


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(i) for i in range(1, 101)]

    assert [percentile(samples, percent) for percent in (1, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([7.0], 50) == 7.0


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_in_order_whatever_the_samples(seed: int) -> None:
    rng = random.Random(seed)
    samples = [rng.expovariate(1000) for _ in range(rng.randrange(1, 200))]

    times = Percentiles.of_seconds(samples)

    assert times.count == len(samples)
    assert times.max_ms == round(max(samples) * 1000, 3)
    assert times.min_ms == round(min(samples) * 1000, 3)


def test_the_spread_of_runs_has_their_median() -> None:
    spread = Spread.of([5.0, 1.0, 3.0])

    assert (spread.min, spread.median, spread.max) == (1.0, 3.0, 5.0)
    assert spread.runs == (5.0, 1.0, 3.0)


def test_the_memory_of_a_process_has_a_peak_not_below_what_it_has() -> None:
    memory = Memory.of(os.getpid())

    assert 1 << 20 < memory.resident_bytes <= memory.peak_bytes


def test_a_busy_process_uses_about_a_core() -> None:
    meter = CpuMeter([os.getpid()])
    before = os.times()
    while os.times().elapsed - before.elapsed < 0.3:
        pass
    used = sum(os.times()[:2]) - sum(before[:2])

    assert meter.cores(1.0) == pytest.approx(used, abs=0.05)


def test_nothing_is_said_about_processes_that_are_not_there() -> None:
    assert CpuMeter([]).cores(1.0) is None
    assert CpuMeter([2**22 + 1]).cores(1.0) is None


def test_the_machine_says_what_it_is() -> None:
    machine = Machine.this()

    assert machine.cpus >= 1
    assert machine.memory_bytes > 1 << 28


@pytest.mark.parametrize("size", [0, 1, 8, 100])
def test_a_stamped_batch_has_bodies_of_exactly_the_size(size: int) -> None:
    for bodies in Load(size_bytes=size, batch=7).prepare():
        assert [len(body) for body in stamped(bodies)] == [size] * 7


def test_the_stamp_is_the_time_at_which_the_batch_is_handed_over() -> None:
    before = time.monotonic_ns()

    first, second = stamped([bytes(100), bytes(100)])

    assert before <= STAMP.unpack_from(first)[1] <= time.monotonic_ns()
    assert second == bytes(100)


def test_the_bare_disk_is_measured_and_leaves_no_file(tmp_path: Path) -> None:
    samples = fdatasync_seconds(tmp_path, 0.05)

    assert samples
    assert min(samples) > 0
    assert list(tmp_path.iterdir()) == []
