"""Messages per second: publishing alone, and publishing together with consuming and acknowledging."""

import asyncio
import itertools
import os
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from taskraft import Client, Consumer, Queue, Topic
from taskraft.bench.figures import CpuMeter, Percentiles
from taskraft.bench.queues import fresh_queue

STAMP = struct.Struct("<8sQ")  # MARK, then when the batch was handed over: nanoseconds of the monotonic clock
MARK = b"taskraft"
WARM_UP_BATCHES = 5
PREPARED_BATCHES = 16

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is published: batches of `batch` messages, `outstanding` of them unacknowledged at any time.

    It ends after `messages`, or after `duration_s` if that is 0. `ahead` is how many messages the consumer may
    be behind before publishing waits for it (e2e only).
    """

    size_bytes: int = 100
    batch: int = 1_000
    outstanding: int = 8
    duration_s: float = 5.0
    messages: int = 0
    ahead: int = 50_000

    def __post_init__(self) -> None:
        assert self.batch >= 1
        assert self.outstanding >= 1
        assert self.ahead >= self.batch

    def prepare(self) -> list[list[bytes]]:
        """A few batches of different random bodies, made before the clock runs."""
        return [[os.urandom(self.size_bytes) for _ in range(self.batch)] for _ in range(PREPARED_BATCHES)]


def stamped(bodies: list[bytes]) -> list[bytes]:
    """The batch with the time in the first body, as far as its size allows."""
    first = bodies[0]
    return [(STAMP.pack(MARK, time.monotonic_ns()) + first[STAMP.size :])[: len(first)], *bodies[1:]]


class Incomplete(Exception):
    """The queue does not hold what it must hold: the measurement is void, and the broker is at fault."""


async def check(client: Client, queue: Queue, *, published: int, left: int) -> None:
    """Raise Incomplete unless the broker counts what was acknowledged."""
    stats = (await client.get_queue(queue.name)).stats
    if (stats.published_messages, stats.messages) != (published, left):
        raise Incomplete(
            f"{published} messages were acknowledged and {left} must be left; "
            f"the queue had {stats.published_messages} and holds {stats.messages}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """Publishing alone. `batch_acknowledged` is from handing a batch over to its acknowledgement."""

    load: Load
    messages: int
    seconds: float
    messages_per_s: float
    mb_per_s: float
    batch_acknowledged: Percentiles
    client_cores: float | None
    node_cores: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEndResult:
    """Publish to ack: every message was published, delivered and acknowledged, and the acks are committed.

    `delivered` is from handing a batch over to its delivery, of what has room for a time stamp. `redelivered` counts deliveries after the first.
    """

    load: Load
    messages: int
    seconds: float
    messages_per_s: float
    mb_per_s: float
    batch_acknowledged: Percentiles
    delivered: Percentiles | None
    redelivered: int
    client_cores: float | None
    node_cores: float | None


class Publishing:
    """The publishing side of a run: so many tasks, each with one batch outstanding."""

    def __init__(self, to: Queue | Topic, load: Load, progress: Progress) -> None:
        self._to, self._load, self._progress = to, load, progress
        self._batches = itertools.cycle(load.prepare())
        self.acknowledged = 0
        self.handed_over = 0
        self.seconds: list[float] = []

    async def run(self, room: Callable[[], Awaitable[None]] | None = None) -> None:
        """Publish until the load is done; `room` returns when the next batch may go."""
        end = time.perf_counter() + self._load.duration_s
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.outstanding):
                group.create_task(self._publish(end, room))

    def _finished(self, end: float) -> bool:
        if self._load.messages:
            return self.handed_over >= self._load.messages
        return time.perf_counter() >= end

    async def _publish(self, end: float, room: Callable[[], Awaitable[None]] | None) -> None:
        while not self._finished(end):
            self.handed_over += self._load.batch
            if room is not None:
                await room()
            bodies = stamped(next(self._batches))
            start = time.perf_counter()
            await self._to.publish_many(bodies)
            self.seconds.append(time.perf_counter() - start)
            self.acknowledged += len(bodies)
            self._progress(self.acknowledged)


class Consuming:
    """The consuming side of a run: takes every batch, acknowledges it, and holds the publishing side back."""

    def __init__(self, queue: Queue, load: Load) -> None:
        self._queue, self._load = queue, load
        self._moved = asyncio.Event()
        self.received = 0
        self.redelivered = 0
        self.delays: list[float] = []

    async def run(self, publishing: Publishing, published: asyncio.Task[None]) -> None:
        """Consume until all that `published` published is acknowledged for good."""
        async with (
            self._queue.consume(prefetch=2 * self._load.ahead, prefetch_bytes=64 << 20) as consumer,
            asyncio.TaskGroup() as group,
        ):
            taking = group.create_task(self._take_all(consumer))
            await asyncio.wait([published])
            while self.received < publishing.acknowledged:
                await self._movement()
            await consumer.settle()
            taking.cancel()

    async def room(self, publishing: Publishing) -> None:
        """Return when the consumer is close enough behind."""
        while publishing.handed_over - self.received > self._load.ahead + self._load.batch:
            await self._movement()

    async def _movement(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _take_all(self, consumer: Consumer) -> None:
        async for batch in consumer.batches():
            await batch.ack()
            self._take(batch.bodies()[0], len(batch), batch.attempt)

    def _take(self, first_body: bytes, count: int, attempt: int) -> None:
        if attempt > 1:
            self.redelivered += count
            return
        self.received += count
        self._moved.set()
        if (
            first_body.startswith(MARK) and len(first_body) >= STAMP.size
        ):  # what is delivered may start anywhere
            self.delays.append((time.monotonic_ns() - STAMP.unpack_from(first_body)[1]) / 1e9)


async def measure_publish(
    client: Client, load: Load, *, node_pids: Sequence[int] = (), progress: Progress = lambda _: None
) -> PublishResult:
    """Publish to a fresh queue that nobody consumes."""
    async with fresh_queue(client) as queue:
        publishing = Publishing(queue, load, progress)
        await warm_up(queue, load)
        own, nodes = CpuMeter([os.getpid()]), CpuMeter(node_pids)
        start = time.perf_counter()
        await publishing.run()
        seconds = time.perf_counter() - start
        stored = publishing.acknowledged + WARM_UP_BATCHES * load.batch
        await check(client, queue, published=stored, left=stored)
        return PublishResult(
            load=load,
            messages=publishing.acknowledged,
            seconds=round(seconds, 3),
            messages_per_s=round(publishing.acknowledged / seconds),
            mb_per_s=round(publishing.acknowledged * load.size_bytes / seconds / 1e6, 1),
            batch_acknowledged=Percentiles.of_seconds(publishing.seconds),
            client_cores=own.cores(seconds),
            node_cores=nodes.cores(seconds),
        )


async def measure_end_to_end(
    client: Client, load: Load, *, node_pids: Sequence[int] = (), progress: Progress = lambda _: None
) -> EndToEndResult:
    """Publish to a fresh queue and consume it at the same time; the clock stops at the last committed ack."""
    async with fresh_queue(client) as queue:
        publishing, consuming = Publishing(queue, load, progress), Consuming(queue, load)
        own, nodes = CpuMeter([os.getpid()]), CpuMeter(node_pids)
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            published = group.create_task(publishing.run(lambda: consuming.room(publishing)))
            group.create_task(consuming.run(publishing, published))
        seconds = time.perf_counter() - start
        await check(client, queue, published=publishing.acknowledged, left=0)
        return EndToEndResult(
            load=load,
            messages=publishing.acknowledged,
            seconds=round(seconds, 3),
            messages_per_s=round(publishing.acknowledged / seconds),
            mb_per_s=round(publishing.acknowledged * load.size_bytes / seconds / 1e6, 1),
            batch_acknowledged=Percentiles.of_seconds(publishing.seconds),
            delivered=Percentiles.of_seconds(consuming.delays) if consuming.delays else None,
            redelivered=consuming.redelivered,
            client_cores=own.cores(seconds),
            node_cores=nodes.cores(seconds),
        )


async def warm_up(queue: Queue, load: Load) -> None:
    """Connections, caches and the first files of the log are not what is measured."""
    for _ in range(WARM_UP_BATCHES):
        await queue.publish_many([os.urandom(load.size_bytes)] * load.batch)
