"""The arithmetic of the benchmarks."""

import asyncio
import json
import os
import random
import time
from pathlib import Path

import pytest

from taskraft.bench.disk import fdatasync_seconds
from taskraft.bench.figures import CpuMeter, Machine, Memory, Percentiles, Spread, percentile
from taskraft.bench.task_takeover import stamp_at
from taskraft.bench.task_view import spread
from taskraft.bench.task_worker import NOTED, STARTED, STARTS_VARIABLE, app, noted, started, task_batch
from taskraft.bench.task_worker import STAMP as START
from taskraft.bench.task_workflow import PARENTS, Shape
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


@pytest.mark.parametrize("payload_bytes", [0, 13, 100, 1024])
def test_a_task_of_the_benchmark_is_a_call_of_about_that_size(payload_bytes: int) -> None:
    tasks = task_batch("q", STARTED, 3, payload_bytes)

    assert len(tasks) == 3
    assert len(tasks[0].payload) == max(payload_bytes, len('{"args": [""]}'))
    args = json.loads(tasks[0].payload)["args"]
    assert time.monotonic_ns() <= asyncio.run(started(*args)) <= time.monotonic_ns()


def test_every_layer_of_the_workflow_waits_for_the_one_above() -> None:
    shape = Shape(tasks=12, layers=3)

    tasks = shape.build("q", "run")

    assert len({task.id for task in tasks}) == 12
    layer = {task.id: i // shape.width for i, task in enumerate(tasks)}
    assert all(task.after == [] for task in tasks[: shape.width])
    for task in tasks[shape.width :]:
        parents = [layer[str(parent)] for parent in task.after]
        assert parents == [layer[task.id] - 1] * PARENTS


def test_a_start_can_be_seen_before_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    monkeypatch.setenv(STARTS_VARIABLE, str(starts))
    before = time.monotonic_ns()

    asyncio.run(noted())
    asyncio.run(noted())

    assert before <= stamp_at(starts, 0) <= stamp_at(starts, START.size) <= time.monotonic_ns()
    assert NOTED in app.tasks


def test_a_figure_is_shown_with_the_spread_of_its_runs() -> None:
    assert spread(Spread.of([1200.0, 1000.0, 1100.0])) == "[bold]1,100[/] (1,000 to 1,200)"
    assert spread(Spread.of([1.255]), ".1f") == "[bold]1.3[/] (1.3 to 1.3)"
