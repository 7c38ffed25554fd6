"""Runs with messages: leaders, clients, streams and disks fail in all ways, and no promise about messages is broken.

`make soak` runs more of them. A failing seed prints the command that replays it, alone and with its traceback.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.sim.batch import Batch, batch_of
from tests.sim.run import MESSAGES, tell

SEEDS = 12
SEEDS_PER_TEST = 4  # progress is shown test by test
SECONDS = 4.0


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with batch_of(seconds=SECONDS, state=MESSAGES) as batch:
        yield batch


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_promise_about_messages_is_broken(batch: Batch, first: int) -> None:
    failed = [o for o in batch.run(range(first, first + SEEDS_PER_TEST)) if o.failure is not None]

    assert not failed, "\n".join(map(str, failed))


def test_the_runs_with_messages_were_not_calm(batch: Batch) -> None:
    outcomes = batch.run(range(SEEDS))

    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    least = {
        "publications stored": 30,
        "publications unknown": 0.5,
        "delivered": 100,
        "redeliveries": 10,
        "acknowledged": 100,
        "claims": 5,
        "leases lost": 0.5,
        "leaderships": 2,
        "clients killed": 0.5,
        "clients paused": 0.5,
        "lines cut": 1,
    }
    calm = [what for what, per_run in least.items() if counts[what] < per_run * len(outcomes)]
    assert not calm, tell(counts)


def test_a_seed_of_messages_is_the_same_run_in_every_process(batch: Batch) -> None:
    (first,) = batch.run(range(1, 2))

    assert batch.again(1).digest == first.digest
