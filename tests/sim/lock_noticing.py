"""How the simulation notices planted bugs of locks: see `noticing.py`."""

import re

import pytest

from node.state import handlers
from tests.sim.lock_bugs import BUGS, LockBug
from tests.sim.lock_faults import simulate
from tests.sim.lock_world import LockWorld
from tests.sim.noticing import _first_finding

SEEDS = 40
SECONDS = 5.0


def notice_lock_bug(name: str) -> None:
    """A bug of the keeper or of the state of locks breaks a promise within some seeds, and that one passes without it."""
    bug = BUGS[name]
    with pytest.MonkeyPatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        for kind, handler in bug.handlers.items():
            patches.setitem(handlers.HANDLERS, kind, handler)
        seed, finding = _first_finding(lambda seed: _run(bug, seed), range(bug.seed, bug.seed + SEEDS))
    assert re.search(bug.shows_as, finding), finding
    _run(bug, seed)


def _run(bug: LockBug, seed: int) -> None:
    """One run; raises what the checkers have to say."""
    world = LockWorld(seed)
    try:
        simulate(world, SECONDS, bug.rates)
    finally:
        world.close()
