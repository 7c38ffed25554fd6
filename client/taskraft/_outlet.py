"""Where messages are published to: what queues and topics have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskraft import _wire, errors
from taskraft._values import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskraft._connection import Connection
    from taskraft._values import OutgoingMessage


async def store(
    connection: Connection,
    target: str,
    message: OutgoingMessage,
    timeout: float | None,
    *,
    allow_unroutable: bool = False,
) -> Receipt:
    """Store one message in `queues/{queue}`, or in all that are bound to `topics/{topic}`."""
    wire, timed = _wire.outgoing(message), _wire.is_timed(message)
    publisher = connection.publisher(target, allow_unroutable=allow_unroutable)
    deadline_s = asyncio.get_running_loop().time() + (timeout or connection.timeout_s)
    if not publisher.has_room:
        await publisher.room(deadline_s)
    return await publisher.put(wire, 1, deadline_s, timed=timed)


async def store_many(
    connection: Connection,
    target: str,
    messages: Sequence[bytes | OutgoingMessage],
    timeout: float | None,
    *,
    allow_unroutable: bool = False,
) -> list[Receipt]:
    """The same of many, in order; a receipt for each part stored together."""
    publisher = connection.publisher(target, allow_unroutable=allow_unroutable)
    deadline_s = asyncio.get_running_loop().time() + (timeout or connection.timeout_s)
    stored: list[asyncio.Future[Receipt]] = []
    try:
        for wire, count, timed in _wire.pieces(messages):
            if not publisher.has_room:
                await publisher.room(deadline_s)
            stored.append(publisher.put(wire, count, deadline_s, timed=timed))
        return await asyncio.gather(*stored)
    except errors.TaskraftError as error:
        results = await asyncio.gather(*stored, return_exceptions=True)
        error.receipts = tuple(result for result in results if isinstance(result, Receipt))
        raise
    except asyncio.CancelledError:
        for future in stored:
            future.cancel()
        raise
