from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from taskraft import App, Client
from tests.client.broker import Broker
from tests.client.stage import Stage, staged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Story = "Callable[[Broker, Client], Awaitable[None]]"


@pytest.fixture
def play() -> Callable[[Callable[[Broker, Client], Awaitable[None]]], None]:
    """Run a story with a broker of three nodes, led by n1, and a client of it that has a queue named `q`."""

    async def stage(story: Callable[[Broker, Client], Awaitable[None]]) -> None:
        broker = Broker()
        await broker.start("n1", "n2", "n3")
        try:
            async with asyncio.timeout(20), Client(broker.addresses, timeout=10) as client:
                await client.create_queue("q")
                await story(broker, client)
        finally:
            await broker.close()

    return lambda story: asyncio.run(stage(story))


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A broker of three nodes in a thread of its own."""
    with staged() as one:
        yield one


@pytest.fixture
def app(stage: Stage) -> Iterator[App]:
    """An app of the stage's broker."""
    with App(stage.addresses, timeout=10) as one:
        yield one
