"""Run seeds from the command line: `python -m tests.sim.run --seeds 0:1000`, or one with `--seed 17`."""

import argparse
import logging
import sys
import time
import traceback

from tests.sim.faults import simulate
from tests.sim.world import World

SECONDS = 12.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.run", description=__doc__)
    parser.add_argument("--seeds", default="0:300", metavar="FIRST:END", help="a range of seeds")
    parser.add_argument("--seed", type=int, help="replay one seed, with its traceback")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"simulated seconds of faults (default {SECONDS:g})"
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    first, end = (
        (options.seed, options.seed + 1) if options.seed is not None else map(int, options.seeds.split(":"))
    )
    failed, began = [], time.monotonic()
    for seed in range(first, end):
        world = World(seed, nodes=5 if seed % 5 == 4 else 3)
        try:
            simulate(world, options.seconds)
        except Exception as error:  # noqa: BLE001  every failure of a run is a finding
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
            print(
                f"  replay: python -m tests.sim.run --seed {seed} --seconds {options.seconds:g}", flush=True
            )
            if options.seed is not None:
                traceback.print_exc()
        finally:
            world.close()
        if (seed - first) % 50 == 49 or options.seed is not None:
            print(
                f"{seed - first + 1} of {end - first} seeds, {len(failed)} failed, {time.monotonic() - began:.0f} s; "
                f"the last one: {world.leaderships} leaderships, {world.snapshots} snapshots, "
                f"{world.acknowledged} acknowledged",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
