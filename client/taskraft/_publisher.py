"""Publishing: many callers, one stream.

Callers put wire bytes and a future into a buffer. A frame leaves as soon as fewer than two are unanswered, with all
that the buffer holds by then: an idle publisher sends at once, a busy one gathers while the last frame is stored.
There is no timer to wait for. What is sent, and with which number, is decided in `_producer.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NoReturn

import grpc

from taskraft import _limits, errors
from taskraft._producer import Piece, Producer
from taskraft._retry import Backoff, Deadline, is_hopeless
from taskraft._streams import obey, run_stream
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from taskraft._pool import Pool
    from taskraft._values import Receipt

    Stream = grpc.aio.StreamStreamCall[bytes, queue_pb2.PublishStreamResponse]

_log = logging.getLogger("taskraft.publisher")


class Publisher:
    """The publisher of one queue or topic: callers use `room` and `put`; its own task keeps the stream."""

    def __init__(self, pool: Pool, target: str, *, buffer_bytes: int, allow_unroutable: bool = False) -> None:
        """`target` is `queues/{queue}` or `topics/{topic}`."""
        self._pool = pool
        self._buffer_bytes = buffer_bytes
        self._producer = Producer(target, _limits.FRAMES_IN_FLIGHT, allow_unroutable=allow_unroutable)
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._work = asyncio.Event()
        self._freed = asyncio.Event()
        self._sooner = asyncio.Event()  # the next deadline is earlier than it was
        self._closed = False
        self._heard_s = 0.0
        self._backoff = Backoff()
        self._task = asyncio.create_task(self._run(), name=f"taskraft-publish-{target}")

    @property
    def has_room(self) -> bool:
        return self._producer.bytes < self._buffer_bytes

    async def room(self, deadline_s: float) -> None:
        """Wait until the buffer has room; what is put then may exceed its limit once."""
        try:
            async with asyncio.timeout_at(deadline_s):
                while not self.has_room and not self._closed:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise errors.DeadlineExceeded("no room in the publish buffer: the broker is too slow") from None

    def put(
        self, wire: bytes, count: int, deadline_s: float, *, timed: bool = False
    ) -> asyncio.Future[Receipt]:
        """Take `count` messages; the future is their receipt, or why they were not stored."""
        if self._closed:
            raise errors.ClientClosed
        done: asyncio.Future[Receipt] = self._loop.create_future()
        if deadline_s < self._producer.deadline_s:
            self._sooner.set()
        self._producer.put(Piece(wire, count, done, deadline_s, timed))
        self._work.set()
        return done

    async def close(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s`; what was not answered by then fails."""
        self._closed = True
        self._freed.set()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._producer.idle:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            _log.warning("closed_unanswered", extra={"fields": {"bytes": self._producer.bytes}})
        self._task.cancel()
        await asyncio.wait([self._task])
        self._producer.fail_all(errors.ClientClosed())

    async def _run(self) -> None:
        while True:
            while self._producer.idle:
                self._work.clear()
                await self._work.wait()
            try:
                address = await self._pool.find(Deadline(self._producer.deadline_s - self._clock()))
            except errors.Unavailable as error:
                self._expire(error)
                continue
            failure = await self._stream(address)
            _log.debug("stream_ended", extra={"fields": {"address": address, "reason": str(failure)}})
            self._producer.disconnected()
            self._expire(failure)
            if is_hopeless(failure):
                self._producer.fail_all(failure)
                self._freed.set()
            self._pool.heed(failure, address)
            if not self._producer.idle and self._pool.leader in (None, address):
                await asyncio.sleep(self._backoff.next_s())

    def _expire(self, reason: errors.TaskraftError) -> bool:
        if self._clock() < self._producer.deadline_s:
            return False
        given_up = self._producer.expire(self._clock(), reason)
        self._freed.set()
        return given_up

    async def _stream(self, address: str) -> errors.TaskraftError:
        """Keep one stream until it ends; returns why it did."""
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, queue_pb2.PublishStreamResponse]
        open_stream = self._pool.channel(address).stream_stream(
            "/taskraft.v1.QueueService/PublishStream",
            response_deserializer=queue_pb2.PublishStreamResponse.FromString,
        )
        stream = open_stream(metadata=self._pool.metadata)
        self._heard_s = self._clock()
        return await run_stream(stream, self._read(stream), self._write(stream), self._watch(address))

    async def _read(self, stream: Stream) -> NoReturn:
        while (answer := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(answer, queue_pb2.PublishStreamResponse)
            self._heard_s = self._clock()
            if answer.HasField("reconnect"):
                await obey(answer.reconnect, self._pool)
            self._producer.answered(answer, self._heard_s)
            self._backoff.reset()
            self._freed.set()
            self._work.set()
        raise errors.Unavailable("the broker closed the stream")

    async def _write(self, stream: Stream) -> NoReturn:
        while True:
            frame = self._producer.next_frame(self._clock())
            if frame is not None:
                await stream.write(frame)
                continue
            self._freed.set()
            self._work.clear()
            await self._work.wait()

    async def _watch(self, address: str) -> NoReturn:
        """Notice what no answer tells: messages whose time is over, and a leader that is silent and deposed."""
        while True:
            left_s = self._producer.deadline_s - self._clock()
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, min(left_s, _limits.SILENCE_S))):
                    await self._sooner.wait()
            if self._expire(errors.DeadlineExceeded()):
                raise errors.DeadlineExceeded
            if not self._producer.waits_for_answer:
                self._heard_s = self._clock()
            elif self._clock() - self._heard_s >= _limits.SILENCE_S:
                await self._pool.check()
                if self._pool.leader not in (None, address):
                    raise errors.Unavailable(f"{address} is silent and another node leads")
