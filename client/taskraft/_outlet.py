"""Where messages are published to: what queues and topics have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskraft import _wire, errors
from taskraft._values import OutgoingMessage, Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from taskraft._connection import Connection


def encoded(
    body: bytes,
    headers: Mapping[str, str] | None,
    key: str,
    priority: int,
    ttl: float | None,
    delay: float,
    deliver_at: datetime | None,
) -> tuple[bytes, bool]:
    """One message as it travels, and whether it may be delayed."""
    if not key and not priority and ttl is None and not delay and deliver_at is None:
        return _wire.message(body, headers), False
    one = OutgoingMessage(body, headers or {}, key, priority, ttl, delay, deliver_at)
    return _wire.outgoing(one), _wire.is_timed(one)


async def store(
    connection: Connection,
    target: str,
    message: tuple[bytes, bool],
    timeout: float | None,
    *,
    allow_unroutable: bool = False,
) -> Receipt:
    """Store one message, as `encoded` made it, in `queues/{queue}` or in all that are bound to `topics/{topic}`."""
    wire, timed = message
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
