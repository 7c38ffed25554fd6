"""Consuming: one stream with credit, kept up across leaders.

The reader takes deliveries and confirmations from the stream; the writer sends acknowledgements, nacks and credit
when there are any and the last write is done. Neither waits for the other. What is owed to whom is in `_leases.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

import grpc

from taskraft import _failures, _limits, errors
from taskraft._consumer_frames import pairs_of, ranges_of, requests
from taskraft._leases import Leases
from taskraft._message import Batch, Message, kept
from taskraft._ranges import Range, Ranges
from taskraft._retry import Backoff, Deadline, is_hopeless
from taskraft._streams import obey, run_stream
from taskraft._values import SequenceRange
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from types import TracebackType

    from taskraft._pool import Pool

    Stream = grpc.aio.StreamStreamCall[queue_pb2.ConsumeRequest, queue_pb2.ConsumeResponse]

_log = logging.getLogger("taskraft.consumer")

T = TypeVar("T")


class Consumer:
    """Receives the messages of one queue, each leased to this consumer until it is settled or lost.

    `prefetch` bounds the messages that are delivered and not acknowledged, `prefetch_bytes` the bytes that wait here
    for the application. Use it with `async with`, or iterate over it directly.

    Order: messages come in the order of the queue, except those that come again. Duplicates: a message comes again
    after a nack, after its lease was lost, or if the leader changed before its acknowledgement was stored; while the
    consumer is connected a lease does not end. After a broken connection the consumer claims what it held, and only
    what somebody else has got meanwhile is lost: it is dropped here if the application has not seen it yet.
    """

    queue: str
    group: str
    consumer_id: str

    def __init__(
        self, pool: Pool, start: queue_pb2.ConsumeStart, *, prefetch: int, prefetch_bytes: int, timeout: float
    ) -> None:
        for name, value, most in (
            ("prefetch", prefetch, _limits.PREFETCH_MESSAGES_MAX),
            ("prefetch_bytes", prefetch_bytes, _limits.CREDIT_BYTES_MAX),
        ):
            if not 0 < value <= most:
                raise errors.InvalidArgument(f"{name} must be 1 to {most}", metadata={"field": name})
        self.queue = start.queue.removeprefix("queues/")
        self.group, self.consumer_id = start.group, start.consumer_id
        self._start = start
        self._pool = pool
        self._timeout_s = timeout
        self._leases = Leases(prefetch, prefetch_bytes)
        self._batches: deque[Batch] = deque()
        self._current: Iterator[Message] = iter(())
        self._arrived = asyncio.Event()
        self._work = asyncio.Event()
        self._ready = asyncio.Event()
        self._started = asyncio.Event()  # set while there is a session, and when there will be none any more
        self._session_id = ""
        self._waiting = 0
        self._connected = False
        self._entered = False
        self._closing = False
        self._heard_s = 0.0
        self._failure: errors.TaskraftError | None = None
        self._last_failure: errors.TaskraftError = errors.DeadlineExceeded()
        self._task: asyncio.Task[None] | None = None

    # For the application ---------------------------------------------------------------------------------------

    @property
    def entered(self) -> bool:
        """True if it is used with `async with`, and so closed by that."""
        return self._entered

    @property
    def closed(self) -> bool:
        """True after `close`, or when consuming has become impossible."""
        return self._closing or self._failure is not None

    async def __aenter__(self) -> Self:
        """Connect; raises what makes consuming impossible, such as QueueNotFound."""
        self._entered = True
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Message]:
        """All messages until the consumer is closed. Several tasks may iterate; each message goes to one of them.

        Without `async with` the consumer is closed when the iteration ends.
        """
        return self._messages() if self.entered else self._closing_after(self._messages())

    def batches(self) -> AsyncIterator[Batch]:
        """The same, batch by batch: the fastest way to consume."""
        batches = self._all_batches()
        return batches if self.entered else self._closing_after(batches)

    async def settle(self) -> tuple[SequenceRange, ...]:
        """Wait until all acknowledgements so far are settled, across leaders if need be.

        Returns those that were not confirmed since the last call: their messages may be delivered again. Nothing
        returned means that all are stored on a majority of the nodes.
        """
        self._leases.collect()
        self._work.set()
        if owed := [*self._leases.owed, *self._leases.sent]:
            self._check_open()
            await self._leases.wait_for(owed, strict=False)
        return tuple(SequenceRange(*one) for one in self._leases.take_lost())

    async def close(self) -> None:
        """Store the acknowledgements so far, give all other messages back, and disconnect; takes up to 5 s."""
        if self._task is None or self._closing:
            return
        self._closing = True
        self._started.set()
        self._current = iter(())
        self._batches.clear()
        self._arrived.set()
        self._leases.collect()
        self._work.set()  # no nacks: what they give back would come here again; the end of the stream gives it to others
        await asyncio.wait([self._task], timeout=_limits.CLOSE_S)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._leases.fail(errors.ClientClosed())

    def note_ack(self, first: int, last: int) -> bool:
        """See Message.ack: all the Python that an acknowledgement costs before it is sent with others."""
        if self._closing or self._failure is not None:
            self._check_open()
        self._leases.ack(first, last)
        if not self._work.is_set():
            self._work.set()
        return True

    async def settle_ack(self, first: int, last: int) -> None:
        """Acknowledge and wait until that is stored; LeaseLost, CommitUnknown."""
        self.note_ack(first, last)
        self._leases.collect()
        if not self._leases.is_on_its_way(first, last):
            raise errors.LeaseLost
        await self._leases.wait_for([(first, last)], strict=True)

    async def settle_nack(self, first: int, last: int, *, delay: float) -> None:
        """See Message.nack."""
        self._check_open()
        self._leases.nack(first, last, delay)
        self._work.set()

    def lease_name(self) -> tuple[str, str, str]:
        """See Lease."""
        return self._start.queue, self.group, self._session_id

    def enlist(self, ranges: Iterable[Range]) -> None:
        """See Lease."""
        self._leases.enlist(ranges)
        self._work.set()

    def delist(self, ranges: Iterable[Range], *, done: bool) -> None:
        """See Lease."""
        self._leases.delist(ranges, done=done)
        self._work.set()

    async def renewed(self, lease_id: str, ranges: Iterable[Range], timeout_s: float) -> bool:
        """See Lease; waits for the next session if there is none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._started.wait()
        missing = Ranges(ranges)
        for one in self._leases.enlisted:
            missing.take(*one)
        return self._session_id != lease_id and not missing and not self.closed

    async def settle_reject(self, first: int, last: int) -> None:
        """See Message.reject."""
        self._check_open()
        self._leases.nack(first, last, None)
        self._work.set()

    # Handing out -------------------------------------------------------------------------------------------------

    async def _messages(self) -> AsyncIterator[Message]:
        while True:
            message = next(self._current, None)
            if message is not None:
                yield message
            elif self._batches:
                self._current = iter(self._pop().messages)
            elif not await self._arrival():
                return

    async def _all_batches(self) -> AsyncIterator[Batch]:
        while (batch := await self.next_batch()) is not None:
            yield batch

    async def _closing_after(self, some: AsyncIterator[T]) -> AsyncIterator[T]:
        try:
            await self.start()
            async for one in some:
                yield one
        finally:
            await self.close()

    async def next_batch(self) -> Batch | None:
        """The next batch; None when the consumer is closed."""
        while not self._batches:
            if not await self._arrival():
                return None
        return self._pop()

    async def _arrival(self) -> bool:
        """Wait until a batch may have arrived; False when the consumer is closed."""
        if self._failure is not None and not self._closing:
            raise _failures.copy(self._failure)
        if not self._closing:
            self._waiting += 1
            self._arrived.clear()
            self._work.set()
            try:
                await self._arrived.wait()
            finally:
                self._waiting -= 1
        return not self._closing

    def _pop(self) -> Batch:
        batch = self._batches.popleft()
        self._leases.waiting_bytes -= batch.wire_bytes
        return batch

    def _drop(self, lost: list[Range]) -> None:
        """Do not hand out what is not ours any more."""
        if not lost:
            return
        gone = Ranges(lost)
        self._current = iter([message for message in self._current if message.sequence not in gone])
        self._batches = deque(part for batch in self._batches for part in kept(batch, list(gone)))
        self._leases.waiting_bytes = sum(batch.wire_bytes for batch in self._batches)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise _failures.copy(self._failure)
        if self._closing:
            raise errors.ClientClosed("the consumer is closed")

    # The stream --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"taskraft-consume-{self.queue}")
        try:
            async with asyncio.timeout(
                self._timeout_s + _limits.PROBE_S
            ):  # the search ends first and says why
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
            self._fail(errors.InternalError(f"the consumer failed: {error!r}"))
            raise

    async def _keep_connected(self, backoff: Backoff) -> None:
        while not (self._closing and self._leases.nothing_owed):
            try:
                address = await self._pool.find(Deadline(self._timeout_s))
            except errors.Unavailable as error:
                self._last_failure = error
                _log.warning("no_leader", extra={"fields": {"reason": str(error)}})
                continue
            failure = await self._stream(address)
            self._started.clear()
            self._last_failure = failure
            _log.debug("stream_ended", extra={"fields": {"address": address, "reason": str(failure)}})
            if is_hopeless(failure):
                self._fail(failure)
                return
            self._pool.heed(failure, address)
            if self._connected:
                self._connected = False
                backoff.reset()
            if self._pool.leader in (None, address) and not self._closing:
                await asyncio.sleep(backoff.next_s())

    def _fail(self, error: errors.TaskraftError) -> None:
        self._failure = error
        self._leases.fail(error)
        self._ready.set()
        self._started.set()
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
        started = asyncio.Event()
        asked = self._leases.held()
        return await run_stream(
            stream,
            self._read(stream, asked, started),
            self._write(stream, asked, started),
            self._watch(address),
        )

    async def _read(self, stream: Stream, asked: list[Range], started: asyncio.Event) -> NoReturn:
        leases, clock = self._leases, asyncio.get_running_loop().time
        while (response := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(response, queue_pb2.ConsumeResponse)
            self._heard_s = clock()
            match response.WhichOneof("response"):
                case "delivery" if response.delivery.messages:
                    batch = Batch(self, response.delivery)
                    leases.delivered(batch.first_sequence, batch.last_sequence, batch.wire_bytes)
                    self._batches.append(batch)
                    self._arrived.set()
                case "acked":
                    leases.confirmed(pairs_of(response.acked.ranges))
                case "lease_lost":
                    lost = list(pairs_of(response.lease_lost.ranges))
                    leases.gone(lost)
                    self._drop(lost)
                case "started":
                    self._drop(leases.resumed(asked, pairs_of(response.started.held)))
                    self._connected = True
                    self._session_id = response.started.session_id
                    self._started.set()
                    started.set()
                    self._ready.set()
                case "reconnect":
                    await obey(response.reconnect, self._pool)
            self._work.set()
        raise errors.Unavailable("the broker closed the stream")

    async def _write(self, stream: Stream, asked: list[Range], started: asyncio.Event) -> NoReturn:
        start = queue_pb2.ConsumeStart(held=ranges_of(asked[: _limits.HELD_RANGES_MAX]))
        start.MergeFrom(self._start)
        await stream.write(queue_pb2.ConsumeRequest(start=start))
        await started.wait()
        while True:
            self._work.clear()
            for request in requests(self._leases, closing=self._closing, starved=self._waiting > 0):
                await stream.write(request)
            if self._closing and self._leases.nothing_owed and not self._work.is_set():
                await stream.done_writing()
                await asyncio.sleep(_limits.GOODBYE_S)
                raise errors.ShuttingDown("closed")
            await self._work.wait()

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
