"""A queue of a cluster: publish, consume, pull, peek, redrive."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from taskraft import _limits, _outlet, _wire
from taskraft._positions import position_of
from taskraft._pull import Pulled
from taskraft._queue_values import REASONS, group_info, peeked_message
from taskraft._redrive import redrive
from taskraft._times import duration
from taskraft._values import OutgoingMessage
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from taskraft._connection import Connection
    from taskraft._consumer import Consumer
    from taskraft._positions import Position
    from taskraft._queue_values import DeadLetterReason, GroupInfo, PeekedMessage
    from taskraft._reader import Reader
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
        group: str = "",
        position: Position = "beginning",
        prefetch: int = _limits.PREFETCH_MESSAGES,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
        consumer_id: str = "",
    ) -> Consumer:
        """A consumer: `async with queue.consume() as consumer: async for message in consumer: ...`.

        A stream is consumed in a consumer group, whose members share its messages. A group that does not exist yet is made
        at `position`: "beginning", "end", a sequence or a time; one that exists goes on where it was.
        """
        start = queue_pb2.ConsumeStart(queue=self._target, consumer_id=consumer_id, group=group)
        if group:
            start.position.CopyFrom(position_of(position))
        return self._connection.consumer(start, prefetch=prefetch, prefetch_bytes=prefetch_bytes)

    def read(
        self,
        *,
        position: Position = "beginning",
        follow: bool = True,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
    ) -> Reader:
        """A reader of a stream: `async for message in queue.read(position="end"): ...`.

        It gets all messages from `position` on, leases none and disturbs nobody. Without `follow` it ends where the
        stream does at that moment.
        """
        return self._connection.reader(
            self.name, position_of(position), follow=follow, prefetch_bytes=prefetch_bytes
        )

    async def seek(self, group: str, position: Position) -> GroupInfo:
        """Let a consumer group of a stream go on somewhere else; it is created if there is none.

        What its consumers have they lose, and what was acknowledged beyond the position comes again. A sequence that is
        gone already means the oldest message; OutOfRange for one beyond the newest plus one.
        """
        request = queue_pb2.SeekRequest(
            queue=self._target, group=group, position=position_of(position), request_id=uuid.uuid4().hex
        )
        response = await self._connection.call(
            "QueueService/Seek", request, queue_pb2.SeekResponse.FromString
        )
        return group_info(response.group)

    async def delete_group(self, group: str) -> None:
        """Delete a consumer group of a stream; its consumers end. GroupNotFound."""
        request = queue_pb2.DeleteGroupRequest(queue=self._target, group=group, request_id=uuid.uuid4().hex)
        await self._connection.call(
            "QueueService/DeleteGroup", request, queue_pb2.DeleteGroupResponse.FromString
        )

    async def pull(self, *, max_messages: int = 100, wait: float = 0.0, group: str = "") -> Pulled:
        """Lease up to `max_messages` messages, waiting up to `wait` seconds (at most 60) for the first one.

        A stream is pulled in a consumer group, which begins at the beginning if there is none.
        """
        request = queue_pb2.PullRequest(
            queue=self._target, max_messages=max_messages, wait=duration(wait), group=group
        )
        connection = self._connection
        response = await connection.call(
            "QueueService/Pull",
            request,
            queue_pb2.PullResponse.FromString,
            timeout_s=connection.timeout_s + wait,
        )
        return Pulled(connection.pool, self.name, group, response, connection.timeout_s)

    async def peek(
        self,
        position: Position = "beginning",
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[PeekedMessage]:
        """Look at messages in their order, from `position` on: all of them, or up to `limit`. None is leased.

        With `key` or `headers` only those of that key, and with all of these headers. Delivered ones are shown too, delayed
        ones are not. OutOfRange if the position is beyond the end.
        """
        request = queue_pb2.PeekRequest(
            queue=self._target, position=position_of(position), key=key, headers=headers or {}
        )
        left = limit
        while left is None or left > 0:
            request.max_messages = min(left or _limits.PEEK_MESSAGES, _limits.PEEK_MESSAGES)
            response = await self._connection.call(
                "QueueService/Peek", request, queue_pb2.PeekResponse.FromString
            )
            for message in response.messages:
                yield peeked_message(message)
            if not response.next_sequence:
                return
            request.position.sequence = response.next_sequence
            left = None if left is None else left - len(response.messages)

    async def redrive(
        self,
        target: str | None = None,
        *,
        reason: DeadLetterReason | None = None,
        source: str = "",
        key: str = "",
        headers: Mapping[str, str] | None = None,
        limit: int | None = None,
        rate: float | None = None,
    ) -> int:
        """Move the dead letters of this queue to the queue `target`, or each to where it comes from; returns how many.

        Only those of that `reason`, that come from the queue `source`, of that key and with all of these headers; up to
        `limit`, and up to `rate` a second. What is delivered and unacknowledged stays, and so does what becomes a dead
        letter while this goes on.
        """
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate is above 0, not {rate}")
        if reason is not None and reason not in REASONS:
            raise ValueError(f"a reason is one of {', '.join(REASONS)}, not {reason!r}")
        request = queue_pb2.RedriveRequest(
            queue=self._target,
            target=_name(target or ""),
            reason=REASONS[reason] if reason else queue_pb2.DEAD_LETTER_REASON_UNSPECIFIED,
            source=_name(source),
            key=key,
            headers=headers or {},
        )
        return await redrive(self._connection, request, limit=limit, rate=rate)


def _name(queue: str) -> str:
    return f"queues/{queue.removeprefix('queues/')}" if queue else ""
