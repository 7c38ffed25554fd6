"""Run seeds: `python -m tests.sim.run --seeds 0:1000 --jobs 2`, or replay one with `--seed 17`.

Every seed is one run of `tests/sim/faults.py`, with five founders for each fifth seed and three for the others, and
with its own weather and luck for each third one. Exits with 1 if any failed, and prints how to replay it.
"""

import argparse
import hashlib
import logging
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from tests.sim import lock_faults, message_faults, task_faults
from tests.sim.checks import Promises
from tests.sim.faults import Rates, simulate
from tests.sim.lock_faults import LockRates
from tests.sim.lock_world import LockWorld
from tests.sim.machine import MachineStore
from tests.sim.message_faults import MessageRates
from tests.sim.message_world import MessageWorld
from tests.sim.network import Weather
from tests.sim.node import Store
from tests.sim.task_faults import TaskRates
from tests.sim.task_world import TaskWorld
from tests.sim.world import ListStore, World

SECONDS = 12.0
TASKS, MESSAGES, LOCKS = "tasks", "messages", "locks"
STATES: dict[str, type[Store]] = {"list": ListStore, "machine": MachineStore}
SWARMS = (
    "crash",
    "all_at_once",
    "partition",
    "pause",
    "slow_disk",
    "torn",
    "wipe",
    "flip",
    "change",
    "hand_over",
)
LOCK_SWARMS = (*SWARMS, "kill_client", "pause_client", "cut_line", "island")
TASK_SWARMS = (*SWARMS, "kill_worker", "pause_worker", "cut_line", "drain", "cancel", "retry")

MESSAGE_SWARMS = (*SWARMS, "kill_client", "pause_client", "cut_line", "settings")

R = TypeVar("R", bound=Rates)
Simulated = Callable[[float], None]
"""Runs for so many seconds of faults, and checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run: what happened in it (`World.counts`), and why it failed if it did."""

    seed: int
    counts: Counter[str]
    digest: str
    """Of all that was promised: the same seed gives the same digest everywhere."""
    failure: str | None
    trace: str
    options: str

    def __str__(self) -> str:
        if self.failure is None:
            return f"seed {self.seed}: {tell(self.counts)}; digest {self.digest}"
        return f"seed {self.seed}: {self.failure}\n  replay: python -m tests.sim.run --seed {self.seed} {self.options}"


def unusual(dice: random.Random, usual: R, swarming: Sequence[str]) -> tuple[Weather, R]:
    """Networks that forget, repeat and echo, and faults that come in swarms or hardly at all."""
    weather = Weather(
        loss=dice.choice((0.0, 0.01, 0.1, 0.3)),
        double=dice.choice((0.0, 0.1, 1.0)),
        late=dice.choice((0.0, 0.1, 0.4)),
        late_s=dice.choice((0.2, 1.0, 3.0)),
        delay_s=dice.choice(((0.0003, 0.008), (0.005, 0.04))),
    )
    swarms = {what: min(0.5, getattr(usual, what) * dice.choice((0.3, 1.0, 4.0))) for what in swarming}
    return weather, replace(usual, **swarms)


def _commands(seed: int, nodes: int, store: type[Store]) -> tuple[World, Simulated]:
    weather, rates = Weather(), Rates()
    if not seed % 3:
        weather, rates = unusual(random.Random(seed), rates, SWARMS)
    world = World(seed, nodes=nodes, weather=weather, store_class=store)
    return world, lambda seconds: simulate(world, seconds, rates)


def _tasks(seed: int, nodes: int) -> tuple[World, Simulated]:
    weather, rates = Weather(), TaskRates()
    if not seed % 3:
        weather, rates = unusual(random.Random(seed), rates, TASK_SWARMS)
    world = TaskWorld(seed, nodes=nodes, weather=weather)
    return world, lambda seconds: task_faults.simulate(world, seconds, rates)


def _messages(seed: int, nodes: int) -> tuple[World, Simulated]:
    weather, rates = Weather(), MessageRates()
    if not seed % 3:
        weather, rates = unusual(random.Random(seed), rates, MESSAGE_SWARMS)
    world = MessageWorld(seed, nodes=nodes, weather=weather)
    return world, lambda seconds: message_faults.simulate(world, seconds, rates)


def _locks(seed: int, nodes: int) -> tuple[World, Simulated]:
    weather, rates = Weather(), LockRates()
    if not seed % 3:
        weather, rates = unusual(random.Random(seed), rates, LOCK_SWARMS)
    world = LockWorld(seed, nodes=nodes, weather=weather)
    return world, lambda seconds: lock_faults.simulate(world, seconds, rates)


WORLDS = {TASKS: _tasks, MESSAGES: _messages, LOCKS: _locks}


def run_seed(seed: int, *, seconds: float = SECONDS, state: str = "list") -> Outcome:
    """One run; `state` says what is replicated: a list of commands, the node's own state machine, or that with
    the scheduler, workers and clients of tasks, or with all of a node, producers and consumers of messages,
    or with the keeper and clients of locks.
    """
    logging.disable(logging.CRITICAL)  # nodes complain of what is done to them
    nodes = 5 if seed % 5 == 4 else 3
    world, simulated = (
        WORLDS[state](seed, nodes) if state in WORLDS else _commands(seed, nodes, STATES[state])
    )
    failure, trace = None, ""
    try:
        simulated(seconds)
    except Exception as error:  # noqa: BLE001  every failure of a run is a finding
        failure, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    finally:
        world.close()
        logging.disable(logging.NOTSET)
    return Outcome(
        seed=seed,
        counts=world.counts,
        digest=digest(world.promises),
        failure=failure,
        trace=trace,
        options=f"--state {state} --seconds {seconds:g}",
    )


def run_seeds(
    seeds: Iterable[int], *, jobs: int, seconds: float = SECONDS, state: str = "list"
) -> Iterator[Outcome]:
    """Run seeds in that many processes; outcomes come in the order of the seeds."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        yield from pool.map(partial(run_seed, seconds=seconds, state=state), seeds)


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
    parser.add_argument(
        "--state", choices=[*STATES, *WORLDS], default="list", help="what is replicated (default list)"
    )
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run_seed(options.seed, seconds=options.seconds, state=options.state)
        print(outcome, outcome.trace, sep="\n")
        return 0 if outcome.failure is None else 1
    first, end = map(int, options.seeds.split(":"))
    failed, began, counts = 0, time.monotonic(), Counter[str]()
    seeds = range(first, end)
    outcomes = run_seeds(seeds, jobs=options.jobs, seconds=options.seconds, state=options.state)
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
