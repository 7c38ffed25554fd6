"""Publish, and what it shares with PublishStream: from the bytes of a request to a command, and to its answer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from node import commands, wire
from node.api import message_input, validate
from node.api.queues import Queues, holds_messages
from node.commands import Command
from node.errors import ApiError
from node.state.results import Published, Success
from node.state.rows import QueueRow
from node.web.metrics import Metrics
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

Head = queue_pb2.PublishRequest | queue_pb2.PublishStreamRequest | queue_pb2.PublishOperation


class Routes(Protocol):
    """The part of the state machine that knows who is bound to a topic."""

    def routes(self, topic: str) -> list[QueueRow]:
        """The queues with a pattern that matches, whatever their headers."""
        ...


class Publishing:
    """QueueService's Publish."""

    def __init__(self, queues: Queues, routes: Routes, metrics: Metrics, message_bytes_max: int) -> None:
        self.queues = queues
        self._routes, self._metrics = routes, metrics
        self._message_bytes_max = message_bytes_max

    async def Publish(self, data: bytes) -> bytes:
        head, encoded, chunk = wire.cut(data, queue_pb2.PublishRequest)
        command, count = await self.command(head, encoded, chunk, validate.request_id(head.request_id))
        submitted = self.queues.broker.submit(command)
        stored = await self.published(submitted, count, self.queues.clock.now_ms())
        return queue_pb2.PublishResponse(
            first_sequence=stored.first_sequence,
            count=stored.count,
            duplicate=stored.duplicate,
            delayed=stored.delayed,
            queues=stored.queues,
        ).SerializeToString()

    async def command(
        self,
        head: Head,
        encoded: bytes,
        chunk: command_pb2.Chunk,
        request_id: str = "",
        producer: tuple[str, int] = ("", 0),
    ) -> tuple[Command, int]:
        """What stores the messages, and how many there are. `producer` is its id and the sequence of this batch.

        Raises InvalidField, PayloadTooLarge, QueueNotFound, WrongQueueKind, DiskLow.
        """
        name = head.queue
        if name.startswith(validate.TOPICS):
            message_bytes_max, kind = self._topic_limits(name), int(queue_pb2.QUEUE_KIND_UNSPECIFIED)
        else:
            message_bytes_max, kind = await self._limits(validate.queue_name(name, "queue"))
        count, marked = message_input.messages(
            chunk, encoded, message_bytes_max, kind, self.queues.clock.wall_ms()
        )
        self.queues.check_disk()
        command = commands.publish(
            queue=name,
            chunk=encoded,
            count=count,
            request_id=request_id,
            producer_id=producer[0],
            producer_sequence=producer[1],
            marked=marked,
            allow_unroutable=head.allow_unroutable,
        )
        return command, count

    async def _limits(self, name: str) -> tuple[int, int]:
        """The largest message that a queue takes, and its kind. Raises QueueNotFound, WrongQueueKind."""
        row = await self.queues.row(name)
        holds_messages(row)
        return row.config.max_message_bytes or self._message_bytes_max, row.config.kind

    def _topic_limits(self, name: str) -> int:
        """The largest message that all queues of a topic take, as they are now."""
        routes = self._routes.routes(validate.topic(name, "queue"))
        given = (row.config.max_message_bytes or self._message_bytes_max for row in routes)
        return min(given, default=self._message_bytes_max)

    async def published(self, submitted: asyncio.Future[Success], count: int, started_ms: int) -> Published:
        """The outcome of a publish of `count` messages, measured."""
        outcome = "refused"
        try:
            result = await submitted
            assert isinstance(result, Published)
            outcome = "duplicate" if result.duplicate else "stored"
            return result
        except ApiError as error:
            outcome = "unknown" if error.name == "COMMIT_UNKNOWN" else "refused"
            raise
        except asyncio.CancelledError:
            outcome = "unknown"
            raise
        finally:
            self._metrics.publish.labels(outcome).inc(count)
            self._metrics.commit_seconds.observe((self.queues.clock.now_ms() - started_ms) / 1000)
