"""Three hundred runs: crashes, power cuts, rot, partitions and changes of members, and no promise is broken.

`make soak` runs more of them. A failing seed prints the command that replays it, alone and with its traceback.
"""

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial

import pytest

from tests.sim.run import Outcome, run_seed, tell

SEEDS = 300
MACHINE_SEEDS = 40
SEEDS_PER_TEST = 25  # progress is shown test by test
JOBS = 2


class Batch:
    """Runs in other processes; each seed once, however often it is asked for."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._outcomes: dict[int, Outcome] = {}

    def run_machines(self, seeds: range) -> list[Outcome]:
        """With queues, their SQLite stores and reclaimed segments as the state, for fewer seconds."""
        return list(self._executor.map(partial(run_seed, seconds=6.0, state="machine"), seeds))

    def run(self, seeds: range) -> list[Outcome]:
        missing = [seed for seed in seeds if seed not in self._outcomes]
        for outcome in self._executor.map(run_seed, missing):
            self._outcomes[outcome.seed] = outcome
        return [self._outcomes[seed] for seed in seeds]


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with ProcessPoolExecutor(JOBS, multiprocessing.get_context("spawn")) as executor:
        yield Batch(executor)


def told_by(hash_seed: str, seed: int) -> str:
    """What one run prints, its digest included, in a process of its own."""
    command = [sys.executable, "-m", "tests.sim.run", "--seed", str(seed)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_promise_is_broken(batch: Batch, first: int) -> None:
    failed = [o for o in batch.run(range(first, first + SEEDS_PER_TEST)) if o.failure is not None]

    assert not failed, "\n".join(map(str, failed))


@pytest.mark.parametrize("first", range(0, MACHINE_SEEDS, 10))
def test_the_node_s_own_state_is_the_same_everywhere_whatever_happens(batch: Batch, first: int) -> None:
    outcomes = batch.run_machines(range(first, first + 10))

    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    assert not failed, "\n".join(map(str, failed))


def test_the_runs_were_not_calm(batch: Batch) -> None:
    outcomes = batch.run(range(SEEDS_PER_TEST))

    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    least = {
        "acknowledged": 200,
        "reads": 20,
        "leaderships": 3,
        "snapshots": 1,
        "hand-overs": 0.5,
        "added members": 0.3,
        "removed members": 0.2,
        "wipes": 0.1,
        "flips": 0.1,
        "refusals": 0.1,
    }
    calm = [what for what, per_run in least.items() if counts[what] < per_run * len(outcomes)]
    assert not calm, tell(counts)
    assert all(outcome.counts["acknowledged"] > 0 for outcome in outcomes)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_seed_is_the_same_run_in_every_process(seed: int) -> None:
    first, second = told_by("1", seed), told_by("2", seed)

    assert "digest" in first
    assert first == second
