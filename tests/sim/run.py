"""Run seeds: `python -m tests.sim.run --seeds 0:1000 --jobs 2`, or replay one with `--seed 17`.

Every seed is one run of `tests/sim/faults.py`, with five founders for each fifth seed and three for the others. Exits
with 1 if any failed, and prints how to replay it.
"""

import argparse
import hashlib
import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.sim.checks import Promises
from tests.sim.faults import simulate
from tests.sim.world import World

SECONDS = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run: what happened in it (`World.counts`), and why it failed if it did."""

    seed: int
    counts: Counter[str]
    digest: str
    """Of all that was promised: the same seed gives the same digest everywhere."""
    failure: str | None
    trace: str

    def __str__(self) -> str:
        if self.failure is None:
            return f"seed {self.seed}: {tell(self.counts)}; digest {self.digest}"
        return f"seed {self.seed}: {self.failure}\n  replay: python -m tests.sim.run --seed {self.seed}"


def run_seed(seed: int, *, seconds: float = SECONDS) -> Outcome:
    logging.disable(logging.CRITICAL)  # nodes complain of what is done to them
    world = World(seed, nodes=5 if seed % 5 == 4 else 3)
    failure, trace = None, ""
    try:
        simulate(world, seconds)
    except Exception as error:  # noqa: BLE001  every failure of a run is a finding
        failure, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    finally:
        world.close()
        logging.disable(logging.NOTSET)
    return Outcome(
        seed=seed, counts=world.counts, digest=digest(world.promises), failure=failure, trace=trace
    )


def run_seeds(seeds: Iterable[int], *, jobs: int, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Run seeds in that many processes; outcomes come in the order of the seeds."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        yield from pool.map(partial(run_seed, seconds=seconds), seeds)


def digest(promises: Promises) -> str:
    """A short name for everything that was promised in a run."""
    told = (promises.leaders, promises.entries, promises.fingerprints, promises.positions, promises.reads)
    return hashlib.sha256(
        repr([sorted(t.items()) if isinstance(t, dict) else t for t in told]).encode()
    ).hexdigest()[:16]


def tell(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", default="0:300", metavar="FIRST:END", help="a range of seeds")
    parser.add_argument("--seed", type=int, help="replay one seed, with its traceback")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"simulated seconds of faults (default {SECONDS:g})"
    )
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run_seed(options.seed, seconds=options.seconds)
        print(outcome, outcome.trace, sep="\n")
        return 0 if outcome.failure is None else 1
    first, end = map(int, options.seeds.split(":"))
    failed, began, counts = 0, time.monotonic(), Counter[str]()
    outcomes = run_seeds(range(first, end), jobs=options.jobs, seconds=options.seconds)
    for number, outcome in enumerate(outcomes, start=1):
        counts += outcome.counts
        if outcome.failure is not None:
            failed += 1
            print(outcome, flush=True)
        if number % 50 == 0 or number == end - first:
            seconds = time.monotonic() - began
            print(f"{number} of {end - first} seeds, {failed} failed, {seconds:.0f} s", flush=True)
    print(f"in all: {tell(counts)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
