"""Queues that exist only while something is measured."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskraft import Client, Queue

PREFIX = "bench-"


@asynccontextmanager
async def fresh_queue(client: Client) -> AsyncIterator[Queue]:
    """A new queue that is deleted at the end, with what is in it."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    await client.create_queue(name)
    try:
        yield client.queue(name)
    finally:
        await client.delete_queue(name)
