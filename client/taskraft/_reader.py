"""Reading a stream from a position on: nothing is leased, nothing is acknowledged.

A reader knows the sequence that comes next. When its connection breaks it goes on there at the next leader, so that
nothing is missed and nothing comes twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Self

import grpc

from taskraft import _failures, _limits, errors
from taskraft._message import Batch, Message
from taskraft._retry import Backoff, Deadline, is_hopeless
from taskraft._streams import obey, run_stream
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

    from taskraft._pool import Pool
    from taskraft._ranges import Range

    Stream = grpc.aio.StreamStreamCall[queue_pb2.ConsumeRequest, queue_pb2.ConsumeResponse]

_log = logging.getLogger("taskraft.reader")


class Unleased:
    """The lease of messages that are read: there is none."""

    def note_ack(self, first: int, last: int) -> bool:
        """See Lease."""
        raise errors.InvalidArgument(
            "a reader leases nothing: there is nothing to acknowledge or to give back"
        )

    async def settle_ack(self, first: int, last: int) -> None:
        self.note_ack(first, last)

    async def settle_nack(self, first: int, last: int, *, delay: float) -> None:
        self.note_ack(first, last)

    async def settle_reject(self, first: int, last: int) -> None:
        self.note_ack(first, last)

    def lease_name(self) -> tuple[str, str, str]:
        """See Lease."""
        raise errors.InvalidArgument("a reader leases nothing: there is nothing to settle in a transaction")

    def enlist(self, ranges: Iterable[Range]) -> None:
        """See Lease."""

    def delist(self, ranges: Iterable[Range], *, done: bool) -> None:
        """See Lease."""

    async def renewed(self, lease_id: str, ranges: Iterable[Range], timeout_s: float) -> bool:
        """See Lease."""
        return False


_UNLEASED = Unleased()


class Reader:
    """Reads the messages of a stream, oldest first, beside whoever consumes them. Made by `Queue.read`.

    Use it with `async with`, or iterate over it directly: over messages, or over `batches()`, which is faster. It goes on
    at the next leader where it was, and at the oldest message that is kept if it is behind that. What waits here for the
    application has `prefetch_bytes` at most.
    """

    queue: str

    def __init__(
        self,
        pool: Pool,
        queue: str,
        position: queue_pb2.Position,
        *,
        follow: bool,
        prefetch_bytes: int,
        timeout: float,
    ) -> None:
        if not 0 < prefetch_bytes <= _limits.CREDIT_BYTES_MAX:
            message = f"prefetch_bytes must be 1 to {_limits.CREDIT_BYTES_MAX}"
            raise errors.InvalidArgument(message, metadata={"field": "prefetch_bytes"})
        self.queue = queue
        self._pool = pool
        self._position = position
        self._follow = follow
        self._prefetch_bytes = prefetch_bytes
        self._timeout_s = timeout
        self._next = 0  # sequence of the message after the last that came here
        self._passed = 0  # the same of what was handed out
        self._batches: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._credit = self._credit_bytes = 0  # granted on this stream and not used yet
        self._arrived = asyncio.Event()
        self._work = asyncio.Event()
        self._ready = asyncio.Event()
        self._ended = self._closing = self._entered = self._connected = False
        self._heard_s = 0.0
        self._failure: errors.TaskraftError | None = None
        self._last_failure: errors.TaskraftError = errors.DeadlineExceeded()
        self._task: asyncio.Task[None] | None = None

    # For the application ---------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The sequence after the last message that was handed out; 0 before the first one."""
        return self._passed

    @property
    def entered(self) -> bool:
        """True if it is used with `async with`, and so closed by that."""
        return self._entered

    @property
    def closed(self) -> bool:
        """True after `close`, or when reading has become impossible."""
        return self._closing or self._failure is not None

    async def __aenter__(self) -> Self:
        """Connect; raises what makes reading impossible, such as QueueNotFound or OutOfRange."""
        self._entered = True
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """All messages: until the reader is closed, or, without `follow`, until the end of the stream.

        Without `async with` the reader is closed when the iteration ends.
        """
        batches = self.batches()
        try:
            async for batch in batches:
                for message in batch.messages:
                    yield message
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def batches(self) -> AsyncIterator[Batch]:
        """The same messages as they travelled, many at a time."""
        try:
            await self.start()
            while (batch := await self.next_batch()) is not None:
                yield batch
        finally:
            if not self._entered:
                await self.close()

    async def next_batch(self) -> Batch | None:
        """The next batch; None at the end."""
        while not self._batches:
            if self._failure is not None and not self._closing:
                raise _failures.copy(self._failure)
            if self._closing or self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._batches.popleft()
        self._waiting_bytes -= batch.wire_bytes
        self._passed = batch.last_sequence + 1
        self._work.set()
        return batch

    async def close(self) -> None:
        """Disconnect."""
        self._closing = True
        self._batches.clear()
        self._arrived.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # The stream --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, unless that was done; raises what makes reading impossible."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"taskraft-read-{self.queue}")
        try:
            async with asyncio.timeout(self._timeout_s + _limits.PROBE_S):
                await self._ready.wait()
        except TimeoutError:
            await self.close()
            raise _failures.copy(self._last_failure) from None
        if self._failure is not None:
            raise _failures.copy(self._failure)

    async def _run(self) -> None:
        try:
            await self._keep_connected(Backoff())
        except errors.ClientClosed as error:
            self._fail(error)
        except Exception as error:
            self._fail(errors.InternalError(f"the reader failed: {error!r}"))
            raise

    async def _keep_connected(self, backoff: Backoff) -> None:
        while not self._ended:
            try:
                address = await self._pool.find(Deadline(self._timeout_s))
            except errors.Unavailable as error:
                self._last_failure = error
                _log.warning("no_leader", extra={"fields": {"reason": str(error)}})
                continue
            failure = await self._stream(address)
            if self._ended:
                return
            self._last_failure = failure
            _log.debug("stream_ended", extra={"fields": {"address": address, "reason": str(failure)}})
            if is_hopeless(failure):
                self._fail(failure)
                return
            self._pool.heed(failure, address)
            if self._connected:
                self._connected = False
                backoff.reset()
            if self._pool.leader in (None, address):
                await asyncio.sleep(backoff.next_s())

    def _fail(self, error: errors.TaskraftError) -> None:
        self._failure = error
        self._ready.set()
        self._arrived.set()

    async def _stream(self, address: str) -> errors.TaskraftError:
        """Keep one stream until it ends; returns why it did."""
        open_stream: grpc.aio.StreamStreamMultiCallable[queue_pb2.ConsumeRequest, queue_pb2.ConsumeResponse]
        open_stream = self._pool.channel(address).stream_stream(
            "/taskraft.v1.QueueService/Consume",
            request_serializer=queue_pb2.ConsumeRequest.SerializeToString,
            response_deserializer=queue_pb2.ConsumeResponse.FromString,
        )
        stream = open_stream(metadata=self._pool.metadata)
        self._heard_s = asyncio.get_running_loop().time()
        self._credit = self._credit_bytes = 0
        started = asyncio.Event()
        return await run_stream(
            stream, self._read(stream, started), self._write(stream, started), self._watch(address)
        )

    async def _read(self, stream: Stream, started: asyncio.Event) -> NoReturn:
        clock = asyncio.get_running_loop().time
        while (response := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(response, queue_pb2.ConsumeResponse)
            self._heard_s = clock()
            match response.WhichOneof("response"):
                case "delivery" if response.delivery.messages:
                    self._take(Batch(_UNLEASED, response.delivery))
                case "delivery":
                    self._next = max(self._next, response.delivery.first_sequence)
                    if not self._follow:
                        self._ended = True
                        self._arrived.set()
                        raise errors.ShuttingDown("all is read")
                case "started":
                    self._connected = True
                    started.set()
                    self._ready.set()
                case "reconnect":
                    await obey(response.reconnect, self._pool)
        raise errors.Unavailable("the broker closed the stream")

    def _take(self, batch: Batch) -> None:
        self._next = batch.last_sequence + 1
        self._credit -= len(batch)
        self._credit_bytes -= batch.wire_bytes
        self._waiting_bytes += batch.wire_bytes
        self._batches.append(batch)
        self._arrived.set()
        self._work.set()

    async def _write(self, stream: Stream, started: asyncio.Event) -> NoReturn:
        position = queue_pb2.Position(sequence=self._next) if self._next else self._position
        start = queue_pb2.ConsumeStart(queue=f"queues/{self.queue}", position=position)
        await stream.write(queue_pb2.ConsumeRequest(start=start))
        await started.wait()
        while True:
            self._work.clear()
            if credit := self._more_credit():
                await stream.write(queue_pb2.ConsumeRequest(credit=credit))
            await self._work.wait()

    def _more_credit(self) -> queue_pb2.Credit | None:
        """What to grant now: when half of the room is free. Bytes are what counts, there are always messages enough."""
        free = self._prefetch_bytes - self._waiting_bytes - max(0, self._credit_bytes)
        messages = _limits.CREDIT_MESSAGES_MAX - self._credit
        if free < max(1, self._prefetch_bytes // 2) and messages < _limits.CREDIT_MESSAGES_MAX // 2:
            return None
        free = max(0, free)
        self._credit += messages
        self._credit_bytes += free
        return queue_pb2.Credit(messages=messages, bytes=free)

    async def _watch(self, address: str) -> NoReturn:
        """Notice a leader that is silent because it is not the leader any more."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_limits.SILENCE_S)
            if clock() - self._heard_s < _limits.SILENCE_S:
                continue
            await self._pool.check()
            if self._pool.leader not in (None, address):
                raise errors.Unavailable(f"{address} is silent and another node leads")
