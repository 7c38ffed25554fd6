"""The streams of QueueService on the leader: PublishStream and Consume.

Reading and writing never wait for each other. A stream ends because the client is done writing, went away or made
a mistake, or because this node stops or leads no longer; in the last two cases it is told where to go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from node import limits, wire
from node.api import validate
from node.api.forward import Context
from node.api.groups import Groups
from node.api.publishing import Publishing
from node.api.queues import is_stream
from node.dispatch.dispatcher import Outlet
from node.dispatch.ledger import Range
from node.dispatch.takers import Consumer
from node.errors import (
    ApiError,
    CommitUnknown,
    Internal,
    InvalidField,
    Malformed,
    NotLeader,
    ShuttingDown,
    WrongQueueKind,
    failure,
    translate,
)
from node.leadership import Leadership
from node.state.results import Success
from taskraft.v1 import queue_pb2

_log = logging.getLogger(__name__)

MOVED = (
    NotLeader,
    ShuttingDown,
    CommitUnknown,
)  # after these the client goes on elsewhere, or here once all is clear


@dataclass(frozen=True, slots=True)
class Publication:
    """A batch of a PublishStream, on its way or refused."""

    producer_sequence: int
    outcome: asyncio.Future[Success] | ApiError
    count: int = 0
    started_ms: int = 0


class Streams:
    """QueueService's streams by name."""

    def __init__(
        self, publishing: Publishing, groups: Groups, leadership: Leadership, stopping: asyncio.Event
    ) -> None:
        self._publishing, self._queues = publishing, publishing.queues
        self._groups = groups
        self._leadership, self._stopping = leadership, stopping

    async def PublishStream(self, context: Context) -> None:
        await PublishStream(self._publishing, self._leadership, self._stopping, context).run()

    async def Consume(self, context: Context) -> None:
        start = await _start(context)
        name = validate.queue_name(start.queue, "start.queue")
        validate.text(start.consumer_id, "start.consumer_id", limits.CONSUMER_ID_CHARS_MAX)
        held = validate.held(start.held)
        queue, consumer, granted = await self._join(name, start, held)
        term = self._queues.dispatcher.term
        assert term is not None
        reading = asyncio.create_task(_read_consumer(context, queue, consumer))
        try:
            started = queue_pb2.ConsumeStarted(session_id=consumer.holder, held=_pairs(granted), term=term)
            await context.write(queue_pb2.ConsumeResponse(started=started).SerializeToString())
            await _write_consumer(context, queue, consumer)
            if isinstance(consumer.error, MOVED):
                advice = queue_pb2.ConsumeResponse(reconnect=await reconnect(self._leadership))
                await context.write(advice.SerializeToString())
            if consumer.error:
                raise consumer.error
        finally:
            reading.cancel()
            queue.leave(consumer)
            await asyncio.wait([reading])

    async def _join(
        self, name: str, start: queue_pb2.ConsumeStart, held: Sequence[Range]
    ) -> tuple[Outlet, Consumer, Sequence[Range]]:
        """Who delivers to a stream that begins, the stream as they see it, and what of `held` it got."""
        position = validate.position(start.position, "start.position")
        dispatcher = self._queues.dispatcher
        row = await self._queues.row(name)
        if not is_stream(row) and start.HasField("position"):
            raise WrongQueueKind(f"{name} is not a stream: it has no positions", queue=name)
        if is_stream(row) and not start.group:
            readers, at = await self._groups.readers(name, position)
            return readers, readers.join(dispatcher.new_name(), start.consumer_id, at), ()
        queue = await self._queues.joined(name, start.group, position)
        consumer = Consumer(dispatcher.new_name(), start.consumer_id)
        return queue, consumer, queue.join(consumer, held)


# Consume ----------------------------------------------------------------------------------------------------------


async def _start(context: Context) -> queue_pb2.ConsumeStart:
    data = await context.read()
    if data is grpc.aio.EOF:  # type: ignore[comparison-overlap]
        raise InvalidField("start", "the first request")
    request = queue_pb2.ConsumeRequest.FromString(data)
    if request.WhichOneof("request") != "start":
        raise InvalidField("start", "the first request")
    return request.start


async def _read_consumer(context: Context, queue: Outlet, consumer: Consumer) -> None:
    """Do what the consumer says until it is done; whatever goes wrong closes it with that error."""
    try:
        while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[comparison-overlap]
            if consumer.closing:
                return
            _obey(queue, consumer, queue_pb2.ConsumeRequest.FromString(data))
            await consumer.drain()
    except DecodeError:
        consumer.close(Malformed())
    except ApiError as error:
        consumer.close(error)
    except Exception:  # noqa: BLE001  one stream ends, the node goes on
        _log.exception("stream_failed", extra={"fields": {"stream": "Consume"}})
        consumer.close(Internal())
    consumer.close(None)


def _obey(queue: Outlet, consumer: Consumer, request: queue_pb2.ConsumeRequest) -> None:
    match request.WhichOneof("request"):
        case "ack":
            queue.ack(consumer, validate.ranges(request.ack.ranges, "ack.ranges"))
        case "credit":
            queue.credit(consumer, *validate.credit(request.credit))
        case "nack":
            _give_back(queue, consumer, request.nack)
        case "start":
            raise InvalidField("start", "the first request only")
        case _:
            raise InvalidField("request", "start, credit, ack or nack")


def _give_back(queue: Outlet, consumer: Consumer, nack: queue_pb2.ConsumeNack) -> None:
    delay_ms = validate.duration_ms(nack.delay, "nack.delay", 0, limits.REJECT_DELAY_MS_MAX)
    ranges = validate.ranges(nack.ranges, "nack.ranges")
    if not nack.dead_letter:
        queue.nack(consumer, ranges, delay_ms)
    elif delay_ms:
        raise InvalidField("nack.delay", "none for what becomes a dead letter")
    else:
        queue.refuse(consumer, ranges)


async def _write_consumer(context: Context, queue: Outlet, consumer: Consumer) -> None:
    """Write what there is until the consumer is closed and all its acknowledgements are answered."""
    while True:
        consumer.signal.clear()
        if consumer.acked:
            ranges, consumer.acked = consumer.acked, []
            acked = queue_pb2.ConsumeAcked(ranges=_pairs(ranges))
            await context.write(queue_pb2.ConsumeResponse(acked=acked).SerializeToString())
        elif consumer.lost:
            ranges, consumer.lost = consumer.lost, []
            lost = queue_pb2.LeaseLost(ranges=_pairs(ranges))
            await context.write(queue_pb2.ConsumeResponse(lease_lost=lost).SerializeToString())
        elif consumer.parcel and not consumer.closing:
            await context.write(wire.consume_response(consumer.write().parts))
            queue.sent(consumer)
        elif consumer.closing and not consumer.settling:
            return
        else:
            consumer.drained.set()
            await consumer.signal.wait()


# PublishStream ----------------------------------------------------------------------------------------------------


class PublishStream:
    """One producer's stream. `closing` is set when nothing more is read; then `error` says how it ends."""

    def __init__(
        self, publishing: Publishing, leadership: Leadership, stopping: asyncio.Event, context: Context
    ) -> None:
        self._publishing, self._broker = publishing, publishing.queues.broker
        self._leadership, self._stopping = leadership, stopping
        self._context = context
        self._term = leadership.term
        self._unanswered: deque[Publication] = deque()
        self._room = asyncio.Semaphore(limits.PUBLISH_STREAM_UNANSWERED_MAX)
        self._signal = asyncio.Event()
        self._closing = False
        self._error: ApiError | None = None

    async def run(self) -> None:
        helpers = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]
        try:
            await self._answer()
            if isinstance(self._error, MOVED):
                advice = queue_pb2.PublishStreamResponse(reconnect=await reconnect(self._leadership))
                await self._context.write(advice.SerializeToString())
            if self._error:
                raise self._error
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.wait(helpers)

    def _close(self, error: ApiError | None) -> None:
        """Read nothing more; the first reason stays."""
        if not self._closing:
            self._closing, self._error = True, error
        self._signal.set()

    async def _watch(self) -> None:
        """Notice that this node stops or leads no longer, also while the stream is idle."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while self._leadership.term == self._term and not stopping.done():
                changed = asyncio.create_task(self._leadership.changed(None))
                await asyncio.wait([stopping, changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            stopping.cancel()
        self._close(ShuttingDown() if self._stopping.is_set() else self._leadership.not_leader())

    async def _read(self) -> None:
        try:
            while (data := await self._context.read()) is not grpc.aio.EOF:  # type: ignore[comparison-overlap]
                await self._room.acquire()
                if self._closing:
                    return
                self._unanswered.append(await self._take(data))
                self._signal.set()
        except DecodeError:
            self._close(Malformed())
        except Exception:  # noqa: BLE001  one stream ends, the node goes on
            _log.exception("stream_failed", extra={"fields": {"stream": "PublishStream"}})
            self._close(Internal())
        self._close(None)

    async def _take(self, data: bytes) -> Publication:
        """Send a batch on its way. Raises DecodeError if it is none."""
        head, encoded, chunk = wire.cut(data, queue_pb2.PublishStreamRequest)
        sequence = head.producer_sequence
        try:
            validate.text(head.producer_id, "producer_id", limits.PRODUCER_ID_CHARS_MAX, 1)
            if not 1 <= sequence <= limits.SEQUENCE_MAX:
                raise InvalidField("producer_sequence", f"1 to {limits.SEQUENCE_MAX}")
            command, count = await self._publishing.command(
                head, encoded, chunk, producer=(head.producer_id, sequence)
            )
            await self._broker.room_for(command.size)
            submitted = self._broker.submit(command)
        except Exception as error:
            answer = translate(error)
            if answer is None:
                raise
            return Publication(sequence, answer)
        return Publication(sequence, submitted, count, self._publishing.queues.clock.now_ms())

    async def _answer(self) -> None:
        """Answer batch after batch, in order, until the stream is closed and nothing is unanswered."""
        while True:
            if self._unanswered:
                response = await self._outcome(self._unanswered[0])
                self._unanswered.popleft()
                self._room.release()
                await self._context.write(response.SerializeToString())
            elif self._closing:
                return
            else:
                self._signal.clear()
                await self._signal.wait()

    async def _outcome(self, publication: Publication) -> queue_pb2.PublishStreamResponse:
        response = queue_pb2.PublishStreamResponse(producer_sequence=publication.producer_sequence)
        try:
            if isinstance(publication.outcome, ApiError):
                raise publication.outcome
            stored = await self._publishing.published(
                publication.outcome, publication.count, publication.started_ms
            )
        except ApiError as error:
            response.failure.CopyFrom(failure(error))
            if isinstance(error, MOVED):
                self._close(error if isinstance(error, ShuttingDown) else self._leadership.not_leader())
            return response
        response.first_sequence, response.count = stored.first_sequence, stored.count
        response.duplicate, response.delayed = stored.duplicate, stored.delayed
        response.queues = stored.queues
        return response


# Both -------------------------------------------------------------------------------------------------------------


def _pairs(ranges: Sequence[Range]) -> list[queue_pb2.SequenceRange]:
    return [queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges]


async def reconnect(leadership: Leadership) -> queue_pb2.Reconnect:
    """Where to go on; worth a moment's wait until the next leader is known."""
    await leadership.successor(limits.LEADER_WAIT_MS / 1000)
    return queue_pb2.Reconnect(after=Duration(), endpoints=leadership.endpoints())
