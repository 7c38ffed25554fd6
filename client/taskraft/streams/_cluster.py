"""The runtime's log in a cluster: a source, a state queue, and transactions that only the right processor can make.

The state queue `{group}-state` is a stream that keeps the newest message of each key. A transaction ends with the clock
there, whose headers say how many messages were stored with it; the next transaction acknowledges exactly these, which is
refused unless all of them are still there. So each transaction can be followed by one other only: a processor that was
paused, and comes back when another one has gone on, is refused whatever it brings. Before there is a clock, the records
of the source do the same: each can be acknowledged once.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING

from taskraft import errors
from taskraft._ranges import Ranges
from taskraft.streams import _limits
from taskraft.streams._clock import CLOCK
from taskraft.streams._lengths import moment_ms
from taskraft.streams._plan import Record
from taskraft.streams.errors import StateMismatch, Superseded
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from taskraft._client import Client
    from taskraft._message import Batch, Message
    from taskraft._reader import Reader
    from taskraft._values import QueueInfo
    from taskraft.streams._processor import Cut

_log = logging.getLogger("taskraft.streams")

_CELLS, _SOURCE = (
    "cells",
    "source",
)  # headers of the clock: messages before it in its transaction, uid of the source


class ClusterLog:
    """The log of one processor: see `_runtime.Log`."""

    def __init__(self, client: Client, *, source: str, group: str) -> None:
        self._client = client
        self._group = group
        self._source = client.queue(source)
        self._source_uid = ""
        self._first_sequence = 1  # where the group stands in the source
        self._state = StateQueue()
        self._state_queue = client.queue(f"{group}-state")
        self._reader: Reader | None = None

    async def load(self, quiet_s: float) -> Mapping[str, bytes]:
        """See `_runtime.Log`. The groups come first, then the state: so nobody can be between them unnoticed."""
        await self.close()
        source = await self._client.get_queue(self._source.name)
        if source.kind != "stream" or source.compaction:
            raise errors.WrongQueueKind(f"{source.name} is not a stream that keeps all its messages")
        self._source_uid = source.uid
        self._first_sequence = max(1, await self._position_in(source))
        name = self._state_queue.name
        kept = await self._client.create_queue(name, kind="stream", compaction=True, exist_ok=True)
        if not kept.compaction or kept.max_age or kept.max_messages or kept.max_bytes:
            raise StateMismatch(
                f"{name} is not a stream without limits that keeps the newest message of each key"
            )
        await self._position_in(kept)
        self._state = StateQueue()
        while await self._read_on(self._state):
            if not quiet_s:
                break
            await asyncio.sleep(quiet_s)
        if self._state.source_uid not in ("", source.uid):
            raise StateMismatch(f"{name} is about an earlier queue of the name {source.name}")
        return self._state.bodies

    async def receive(self, after: int | None, wait_s: float) -> Sequence[Record]:
        if self._reader is None:
            first = max(self._first_sequence, 0 if after is None else after + 1)
            self._reader = self._source.read(position=first, prefetch_bytes=_limits.PREFETCH_BYTES)
            await self._reader.start()
        try:
            async with asyncio.timeout(wait_s):
                batch = await self._reader.next_batch()
        except TimeoutError:
            return ()
        if batch is None:
            return ()
        expected = self._first_sequence if after is None else after + 1
        if batch.first_sequence > expected:
            places = expected, batch.first_sequence - 1, self._source.name
            _log.warning(
                "records %d to %d of %s were gone, or skipped by a seek, before they were read", *places
            )
        return records_of(batch)

    async def commit(self, cut: Cut) -> None:
        request = commit_request(
            cut,
            source=self._source.name,
            source_uid=self._source_uid,
            group=self._group,
            state_queue=self._state_queue.name,
            last=self._state.last,
        )
        connection = self._client._connection  # noqa: SLF001  ours
        try:
            response = await connection.call(
                "QueueService/Commit", request, queue_pb2.CommitResponse.FromString
            )
        except errors.LeaseLost as error:
            raise Superseded(error.message, metadata=error.metadata) from error
        stored = next(one.publish for one in response.results if one.HasField("publish"))
        self._state.last = stored.first_sequence, stored.first_sequence + stored.count - 1

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    async def _position_in(self, queue: QueueInfo) -> int:
        """Where the group stands in a stream; at the beginning if it is new."""
        for group in queue.stats.groups:
            if group.name == self._group:
                return group.position
        return (await self._client.queue(queue.name).seek(self._group, "beginning")).position

    async def _read_on(self, state: StateQueue) -> bool:
        """Read the state queue to its end; True if there was anything new."""
        before = state.next_sequence
        async with self._state_queue.read(position=before, follow=False) as reader:
            async for batch in reader.batches():
                state.read(batch.messages)
        return state.next_sequence > before


class StateQueue:
    """The state queue as far as it was read: the newest message of each key, and the transaction that came last."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.next_sequence = 1
        self.last: tuple[int, int] | None = None  # the sequences of the last transaction
        self.source_uid = ""

    def read(self, messages: Iterable[Message]) -> None:
        """Take messages in, in the order of the queue."""
        for message in messages:
            self.bodies[message.key] = message.body
            self.next_sequence = message.sequence + 1
            if message.key == CLOCK:
                self.last = message.sequence - int(message.headers[_CELLS]), message.sequence
                self.source_uid = message.headers[_SOURCE]


def records_of(batch: Batch) -> list[Record]:
    publish_ms = moment_ms(batch.publish_time)
    return [
        Record(message.sequence, message.body, publish_ms, dict(message.headers), message.key)
        for message in batch.messages
    ]


def commit_request(
    cut: Cut, *, source: str, source_uid: str, group: str, state_queue: str, last: tuple[int, int] | None
) -> queue_pb2.CommitRequest:
    """The transaction that stores a cut after the transaction whose state has the sequences `last`.

    Its first publish is that of the state, and the clock is the end of that. Outputs of one queue stay in their order.
    """
    request = queue_pb2.CommitRequest(request_id=uuid.uuid4().hex)
    if last is not None:
        _acknowledge(request, state_queue, group, [last])
    if cut.taken:
        _acknowledge(request, source, group, Ranges((sequence, sequence) for sequence in cut.taken))
    state = request.operations.add().publish
    state.queue = f"queues/{state_queue}"
    for key, body in cut.state.items():
        state.messages.add(key=key, body=body)
    clock = state.messages[-1]
    assert clock.key == CLOCK, "the clock ends what a transaction stores"
    clock.headers[_CELLS], clock.headers[_SOURCE] = str(len(cut.state) - 1), source_uid
    publishes: dict[str, queue_pb2.PublishOperation] = {}
    for output in cut.outputs:
        publish = publishes.get(output.queue)
        if publish is None:
            publish = publishes[output.queue] = request.operations.add().publish
            publish.queue = output.queue if output.queue.startswith("topics/") else f"queues/{output.queue}"
        publish.messages.add(key=output.key, body=output.body, headers=output.headers)
    return request


def _acknowledge(
    request: queue_pb2.CommitRequest, queue: str, group: str, ranges: Iterable[tuple[int, int]]
) -> None:
    acknowledge = request.operations.add().acknowledge
    acknowledge.queue, acknowledge.group = f"queues/{queue}", group
    for first, last in ranges:
        acknowledge.ranges.add(first=first, last=last)
