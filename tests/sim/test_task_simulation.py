"""Runs with tasks: leaders, workers, streams and disks fail in all ways, and no promise about tasks is broken.

`make soak` runs more of them. A failing seed prints the command that replays it, alone and with its traceback.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.sim.batch import Batch, batch_of
from tests.sim.run import TASKS, tell

SEEDS = 20
SEEDS_PER_TEST = 5  # progress is shown test by test
SECONDS = 5.0


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with batch_of(seconds=SECONDS, state=TASKS) as batch:
        yield batch


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_promise_about_tasks_is_broken(batch: Batch, first: int) -> None:
    failed = [o for o in batch.run(range(first, first + SEEDS_PER_TEST)) if o.failure is not None]

    assert not failed, "\n".join(map(str, failed))


def test_the_runs_with_tasks_were_not_calm(batch: Batch) -> None:
    outcomes = batch.run(range(2 * SEEDS_PER_TEST))

    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    least = {
        "executions": 100,
        "outcomes acked": 100,
        "outcomes LEASE_LOST": 2,
        "leases yield": 10,
        "leases failure": 3,
        "leases LEASE_EXPIRED": 0.5,
        "leases INSTANCE_REPLACED": 0.3,
        "leases TIMEOUT": 0.3,
        "leases not received": 1,
        "leaderships": 2,
        "ticks": 3,
        "workers killed": 0.5,
        "workers paused": 0.5,
        "lines cut": 1,
    }
    calm = [what for what, per_run in least.items() if counts[what] < per_run * len(outcomes)]
    assert not calm, tell(counts)


def test_a_seed_of_tasks_is_the_same_run_in_every_process(batch: Batch) -> None:
    (first,) = batch.run(range(1, 2))

    assert batch.again(1).digest == first.digest
