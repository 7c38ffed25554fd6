"""The simulation of tasks notices: each planted bug breaks a promise within a few seeds that pass without it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.sim.noticing import all_tried, notice_task_bug, parameters
from tests.sim.task_bugs import BUGS


@pytest.fixture(scope="module")
def tried(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    with all_tried(notice_task_bug, parameters(request, "name")) as futures:
        yield futures


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_of_tasks_is_noticed(name: str, tried: Mapping[str, Future[None]]) -> None:
    tried[name].result()
