"""The simulation of locks notices: each planted bug breaks a promise within some seeds that pass without it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.sim.lock_bugs import BUGS
from tests.sim.lock_noticing import notice_lock_bug
from tests.sim.noticing import all_tried, parameters


@pytest.fixture(scope="module")
def tried(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    with all_tried(notice_lock_bug, parameters(request, "name")) as futures:
        yield futures


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_of_locks_is_noticed(name: str, tried: Mapping[str, Future[None]]) -> None:
    tried[name].result()
