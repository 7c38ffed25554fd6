"""Runs with locks: leaders, holders and lines fail in all ways, and nobody has a lock that another one may rely on.

`python -m tests.sim.run --state locks` runs more of them. A failing seed prints the command that replays it.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.sim.batch import Batch, batch_of
from tests.sim.run import LOCKS, tell

SEEDS = 20
SEEDS_PER_TEST = 5  # progress is shown test by test
SECONDS = 6.0


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with batch_of(seconds=SECONDS, state=LOCKS) as batch:
        yield batch


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_promise_about_locks_is_broken(batch: Batch, first: int) -> None:
    failed = [o for o in batch.run(range(first, first + SEEDS_PER_TEST)) if o.failure is not None]

    assert not failed, "\n".join(map(str, failed))


def test_the_runs_with_locks_were_not_calm(batch: Batch) -> None:
    outcomes = batch.run(range(SEEDS))

    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    least = {
        "grants": 10,
        "kept alive": 30,
        "released": 10,
        "lost": 1,
        "lost with a delay": 0.3,
        "asked again": 2,
        "leaderships": 2,
        "islands": 0.3,
        "clients killed": 0.5,
        "clients paused": 1,
        "lines cut": 1,
    }
    calm = [what for what, per_run in least.items() if counts[what] < per_run * len(outcomes)]
    assert not calm, tell(counts)


def test_a_holder_that_was_paused_acts_after_its_time_and_only_its_token_tells(batch: Batch) -> None:
    outcomes = batch.run(range(SEEDS))

    assert sum(outcome.counts["writes refused by their token"] for outcome in outcomes) > 0


def test_a_seed_of_locks_is_the_same_run_in_every_process(batch: Batch) -> None:
    (first,) = batch.run(range(1, 2))

    assert batch.again(1).digest == first.digest
