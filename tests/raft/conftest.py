"""What the tests of raft share."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import uvloop

from tests.sim.peers import Run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run one coroutine on a fresh loop of either kind; whatever the loop complains about fails the test."""

    def to_the_end(story: Awaitable[None]) -> None:
        complaints: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await story

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())
        assert complaints == []

    return to_the_end
