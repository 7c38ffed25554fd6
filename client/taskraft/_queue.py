"""A queue of a cluster: publish, consume, pull."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskraft import _limits, _outlet, _wire
from taskraft._pull import Pulled
from taskraft._times import duration
from taskraft._values import OutgoingMessage
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from taskraft._connection import Connection
    from taskraft._consumer import Consumer
    from taskraft._values import Receipt


class Queue:
    """A queue of a cluster, by name. It holds no connection of its own."""

    name: str

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name
        self._target = f"queues/{name}"

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    async def publish(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Store one message; returns when a majority of the nodes has it on disk.

        `key`, `priority`, `ttl`, `delay` and `deliver_at` are those of `OutgoingMessage`. Messages of concurrent calls
        travel together. Whatever fails on the way, the message is stored once; only after DeadlineExceeded or
        CommitUnknown nobody knows. If the buffer is full, the call waits for room in it.
        """
        if key or priority or ttl is not None or delay or deliver_at is not None:
            message = OutgoingMessage(body, headers or {}, key, priority, ttl, delay, deliver_at)
            return await _outlet.store(self._connection, self._target, message, timeout)
        wire = _wire.message(body, headers)
        publisher = self._connection.publisher(self._target)
        deadline_s = asyncio.get_running_loop().time() + (timeout or self._connection.timeout_s)
        if not publisher.has_room:
            await publisher.room(deadline_s)
        return await publisher.put(wire, 1, deadline_s)

    async def publish_many(
        self, messages: Sequence[bytes | OutgoingMessage], *, timeout: float | None = None
    ) -> list[Receipt]:
        """Store messages, in order: the fast way for thousands. Returns a receipt for each part stored together.

        A part has up to 1 MiB and 10,000 messages and is stored wholly or not at all. If one fails, the error's
        `receipts` are those of the parts that were stored.
        """
        return await _outlet.store_many(self._connection, self._target, messages, timeout)

    def consume(
        self,
        *,
        prefetch: int = _limits.PREFETCH_MESSAGES,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
        consumer_id: str = "",
    ) -> Consumer:
        """A consumer: `async with queue.consume() as consumer: async for message in consumer: ...`."""
        return self._connection.consumer(
            self.name, prefetch=prefetch, prefetch_bytes=prefetch_bytes, consumer_id=consumer_id
        )

    async def pull(self, *, max_messages: int = 100, wait: float = 0.0) -> Pulled:
        """Lease up to `max_messages` messages, waiting up to `wait` seconds (at most 60) for the first one."""
        request = queue_pb2.PullRequest(
            queue=f"queues/{self.name}", max_messages=max_messages, wait=duration(wait)
        )
        connection = self._connection
        response = await connection.call(
            "QueueService/Pull",
            request,
            queue_pb2.PullResponse.FromString,
            timeout_s=connection.timeout_s + wait,
        )
        return Pulled(connection.pool, self.name, response, connection.timeout_s)
