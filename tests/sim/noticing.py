"""How the simulation notices planted bugs. Each is tried in a process of its own, two at a time."""

import logging
import multiprocessing
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import pytest

from node.state import handlers
from tests.sim import bugs, message_bugs, message_faults, task_bugs
from tests.sim.batch import JOBS
from tests.sim.message_world import MessageWorld
from tests.sim.task_faults import simulate
from tests.sim.task_world import TaskWorld

SEEDS = 60
TASK_SEEDS = 15
TASK_SECONDS = 3.5
MESSAGE_SEEDS = 8
MESSAGE_SECONDS = 3.0


def parameters(request: pytest.FixtureRequest, name: str) -> list[str]:
    """The values of a parameter in the tests of this module that are going to run."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [str(item.callspec.params[name]) for item in items if item.module is request.module]


@contextmanager
def all_tried(notice: Callable[[str], None], names: list[str]) -> Iterator[Mapping[str, Future[None]]]:
    """Begin with all of these bugs; the futures fail if one is not noticed, or noticed without being there."""
    with ProcessPoolExecutor(JOBS, multiprocessing.get_context("spawn"), logging.disable) as executor:
        yield {name: executor.submit(notice, name) for name in names}
        executor.shutdown(cancel_futures=True)


def notice_bug(name: str) -> None:
    """A bug of the log breaks a promise within some seeds, and without it these seeds pass."""
    bug = bugs.BUGS[name]
    with pytest.MonkeyPatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        last_seed, finding = _first_finding(lambda seed: bug.run(seed, broken=True), range(SEEDS))
    assert re.search(bug.shows_as, finding), finding
    for seed in range(last_seed + 1):
        bug.run(seed, broken=False)


def notice_task_bug(name: str) -> None:
    """A bug of the scheduler or of the state of tasks breaks a promise within a few seeds that pass without it."""
    bug = task_bugs.BUGS[name]
    with pytest.MonkeyPatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        for kind, handler in bug.handlers.items():
            patches.setitem(handlers.HANDLERS, kind, handler)
        seeds = range(bug.seed, bug.seed + TASK_SEEDS)
        seed, finding = _first_finding(lambda seed: _run(bug, seed), seeds)
    assert re.search(bug.shows_as, finding), finding
    _run(bug, seed)


def notice_message_bug(name: str) -> None:
    """A bug of the dispatcher or of the state of queues breaks a promise within a few seeds that pass without it."""
    bug = message_bugs.BUGS[name]
    with pytest.MonkeyPatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        seeds = range(bug.seed, bug.seed + MESSAGE_SEEDS)
        seed, finding = _first_finding(lambda seed: _run_messages(bug, seed), seeds)
    assert re.search(bug.shows_as, finding), finding
    _run_messages(bug, seed)


def _run_messages(bug: message_bugs.MessageBug, seed: int) -> None:
    """One run with messages; raises what the checkers, or assertions of the node, have to say."""
    world = MessageWorld(seed)
    try:
        message_faults.simulate(world, MESSAGE_SECONDS, bug.rates)
    finally:
        world.close()


def _run(bug: task_bugs.TaskBug, seed: int) -> None:
    """One run with tasks; raises what the checkers, or assertions of the node, have to say."""
    world = TaskWorld(seed)
    try:
        simulate(world, TASK_SECONDS, bug.rates)
    finally:
        world.close()


def _first_finding(run: Callable[[int], None], seeds: range) -> tuple[int, str]:
    """The first seed that notices the bug, and how."""
    for seed in seeds:
        try:
            run(seed)
        except Exception:  # noqa: BLE001  what it is, is judged by the caller
            return seed, traceback.format_exc()
    raise AssertionError(f"{len(seeds)} runs went well")
