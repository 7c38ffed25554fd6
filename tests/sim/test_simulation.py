"""Three hundred runs: crashes, power cuts, rot, partitions and changes of members, and no promise is broken.

`make soak` runs more of them. A failing seed prints the command that replays it, alone and with its traceback.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.sim.batch import Batch, batch_of
from tests.sim.run import tell

SEEDS = 200
MACHINE_SEEDS = 20
SEEDS_PER_TEST = 25  # progress is shown test by test


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with batch_of() as batch:
        yield batch


@pytest.fixture(scope="module")
def machines() -> Iterator[Batch]:
    """With queues, their SQLite stores and reclaimed segments as the state, for fewer seconds."""
    with batch_of(seconds=6.0, state="machine") as machines:
        yield machines


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
def test_the_node_s_own_state_is_the_same_everywhere_whatever_happens(machines: Batch, first: int) -> None:
    outcomes = machines.run(range(first, first + 10))

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
