"""Queues that exist only while something is measured."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from taskraft import Client, Queue
from taskraft.errors import TaskraftError

PREFIX = "bench-"
CLEAN_UP_S = 2.0


@asynccontextmanager
async def fresh_queue(client: Client) -> AsyncIterator[Queue]:
    """A new queue that is deleted at the end, with what is in it."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    await client.create_queue(name)
    try:
        yield client.queue(name)
    except BaseException:
        with suppress(TaskraftError, TimeoutError):  # what went wrong before is what counts
            async with asyncio.timeout(CLEAN_UP_S):
                await client.delete_queue(name)
        raise
    await client.delete_queue(name)
