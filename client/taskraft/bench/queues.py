"""Queues that exist only while something is measured."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from taskraft import Client, Queue
from taskraft.errors import TaskraftError

QueueKind = Literal["message", "task"]

PREFIX = "bench-"
CLEAN_UP_S = 2.0


@asynccontextmanager
async def fresh_queue(client: Client) -> AsyncIterator[Queue]:
    """A new queue that is deleted at the end, with what is in it."""
    async with _fresh(client, "message") as name:
        yield client.queue(name)


@asynccontextmanager
async def fresh_task_queue(client: Client) -> AsyncIterator[str]:
    """The name of a new queue of tasks that is deleted at the end, with what is in it."""
    async with _fresh(client, "task") as name:
        yield name


@asynccontextmanager
async def _fresh(client: Client, kind: QueueKind) -> AsyncIterator[str]:
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    await client.create_queue(name, kind=kind)
    try:
        yield name
    except BaseException:
        with suppress(TaskraftError, TimeoutError):  # what went wrong before is what counts
            async with asyncio.timeout(CLEAN_UP_S):
                await client.delete_queue(name)
        raise
    await client.delete_queue(name)
