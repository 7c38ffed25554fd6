"""Runs of the simulation in other processes, as many at a time as there are cores to count on."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.sim.run import Outcome, run_seed

JOBS = 2


class Batch:
    """Runs of one kind, by the arguments of `run_seed`; each seed once, however often it is asked for."""

    def __init__(self, executor: Executor, **kind: Any) -> None:
        self._executor, self._run = executor, partial(run_seed, **kind)
        self._outcomes: dict[int, Outcome] = {}

    def run(self, seeds: range) -> list[Outcome]:
        missing = [seed for seed in seeds if seed not in self._outcomes]
        for outcome in self._executor.map(self._run, missing):
            self._outcomes[outcome.seed] = outcome
        return [self._outcomes[seed] for seed in seeds]

    def again(self, seed: int) -> Outcome:
        """The same run once more, in whichever process."""
        return self._executor.submit(self._run, seed).result()


@contextmanager
def batch_of(**kind: Any) -> Iterator[Batch]:
    """A batch with processes of its own."""
    with ProcessPoolExecutor(JOBS, multiprocessing.get_context("spawn")) as executor:
        yield Batch(executor, **kind)
