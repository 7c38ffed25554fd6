from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from taskraft import Client
from tests.client.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
