"""The simulation of tasks notices: each planted bug breaks a promise within a few seeds that pass without it."""

import logging
import re
import traceback
from collections.abc import Iterator

import pytest

from node.state import handlers
from tests.sim.task_bugs import BUGS, TaskBug
from tests.sim.task_faults import simulate
from tests.sim.task_world import TaskWorld

SEEDS = 15
SECONDS = 3.5


@pytest.fixture(autouse=True)
def nodes_are_quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(bug: TaskBug, seed: int) -> None:
    """One run; raises what the checkers, or assertions of the node, have to say."""
    world = TaskWorld(seed)
    try:
        simulate(world, SECONDS, bug.rates)
    finally:
        world.close()


def first_finding(bug: TaskBug) -> tuple[int, str]:
    """The first seed that notices the bug, and how."""
    for seed in range(bug.seed, bug.seed + SEEDS):
        try:
            run(bug, seed)
        except Exception:  # noqa: BLE001  what it is, is judged by the caller
            return seed, traceback.format_exc()
    pytest.fail(f"{SEEDS} runs went well")


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_of_tasks_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    with monkeypatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        for kind, handler in bug.handlers.items():
            patches.setitem(handlers.HANDLERS, kind, handler)
        seed, finding = first_finding(bug)

    assert re.search(bug.shows_as, finding), finding
    run(bug, seed)
