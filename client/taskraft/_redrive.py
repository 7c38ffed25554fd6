"""Moving dead letters page by page, not faster than is wanted."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from taskraft import _limits
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from taskraft._connection import Connection


async def redrive(
    connection: Connection, request: queue_pb2.RedriveRequest, *, limit: int | None, rate: float | None
) -> int:
    """Move up to `limit` of what `request` means, up to `rate` a second; returns how many were moved.

    What became a dead letter after the begin is not moved: else what fails again at once would go in circles.
    """
    clock = asyncio.get_running_loop().time
    last = await _newest(connection, request.queue)
    page = _limits.REDRIVE_MESSAGES if rate is None else max(1, min(_limits.REDRIVE_MESSAGES, int(rate)))
    moved, started_s = 0, clock()
    request.first_sequence = request.first_sequence or 1
    while request.first_sequence <= last and (limit is None or moved < limit):
        request.max_messages = page if limit is None else min(page, limit - moved)
        request.request_id = uuid.uuid4().hex
        response = await connection.call(
            "QueueService/Redrive", request, queue_pb2.RedriveResponse.FromString
        )
        moved += response.moved_messages
        if not response.next_sequence:
            break
        request.first_sequence = response.next_sequence
        if rate is not None:
            await asyncio.sleep(max(0.0, started_s + moved / rate - clock()))
    return moved


async def _newest(connection: Connection, queue: str) -> int:
    """The sequence of the newest message."""
    request = queue_pb2.GetQueueRequest(name=queue)
    response = await connection.call("QueueService/GetQueue", request, queue_pb2.GetQueueResponse.FromString)
    return response.queue.stats.published_messages
