"""The simulation of messages notices: each planted bug breaks a promise within a few seeds that pass without it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.sim.message_bugs import BUGS
from tests.sim.noticing import all_tried, notice_message_bug, parameters


@pytest.fixture(scope="module")
def tried(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    with all_tried(notice_message_bug, parameters(request, "name")) as futures:
        yield futures


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_of_messages_is_noticed(name: str, tried: Mapping[str, Future[None]]) -> None:
    tried[name].result()
