"""A publish to a topic that many queues are bound to, and what waits for its time while much else does."""

import asyncio
import itertools
import os
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from taskraft import Client, OutgoingMessage, Queue
from taskraft.bench.figures import Percentiles
from taskraft.bench.queues import fresh_queue
from taskraft.bench.throughput import Incomplete, Load, Progress, Publishing

FAR_AHEAD = timedelta(hours=6)  # when what only waits is due
MARGIN_S = 2.0  # before the first measured message is due
PATIENCE_S = 30.0  # after the last one was
PENDING_BATCH, PENDING_OUTSTANDING = 1_000, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRun:
    """Publishing to one topic. Each message is stored in all `queues`."""

    queues: int
    load: Load
    messages: int
    seconds: float
    messages_per_s: float
    batch_acknowledged: Percentiles

    @property
    def copies_per_s(self) -> float:
        return self.messages_per_s * self.queues


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayResult:
    """How late delayed messages were, while `pending` others waited for a later time.

    `lag` is from the time that a message asked for to its delivery, by the clock of this machine.
    """

    pending: int
    pending_per_s: float
    """How fast those were stored."""
    samples: int
    seconds: float
    """The time over which the measured messages were due."""
    early: int
    """Delivered before their time."""
    lag: Percentiles


@asynccontextmanager
async def _bound(client: Client, count: int) -> AsyncIterator[tuple[str, list[Queue]]]:
    """A topic with so many queues of its own."""
    topic = f"bench.{uuid.uuid4().hex[:12]}"
    async with AsyncExitStack() as stack:
        queues = [await stack.enter_async_context(fresh_queue(client)) for _ in range(count)]
        for queue in queues:
            await client.update_queue(queue.name, bindings=[f"{topic}.*"])
        yield f"{topic}.created", queues


async def measure_topic(client: Client, load: Load, queues: int) -> TopicRun:
    """Publish as fast as it goes; nobody consumes."""
    async with _bound(client, queues) as (name, bound):
        publishing = Publishing(client.topic(name), load, lambda _: None)
        start = time.perf_counter()
        await publishing.run()
        seconds = time.perf_counter() - start
        for queue in bound:
            held = (await client.get_queue(queue.name)).stats.messages
            if held != publishing.acknowledged:
                raise Incomplete(f"{publishing.acknowledged} messages went to a topic, a queue got {held}")
    return TopicRun(
        queues=queues,
        load=load,
        messages=publishing.acknowledged,
        seconds=round(seconds, 3),
        messages_per_s=round(publishing.acknowledged / seconds),
        batch_acknowledged=Percentiles.of_seconds(publishing.seconds),
    )


async def measure_delays(
    client: Client, *, pending: int, samples: int, duration_s: float, progress: Progress = lambda _: None
) -> DelayResult:
    """`pending` messages wait, each for a time of its own; then `samples` others become due within `duration_s`."""
    async with fresh_queue(client) as queue:
        start = time.perf_counter()
        await _store_pending(queue, pending, progress)
        seconds = time.perf_counter() - start
        first = datetime.now(UTC) + timedelta(seconds=MARGIN_S + samples / 10_000)
        ahead_s = [random.uniform(0, duration_s) for _ in range(samples)]
        await queue.publish_many(
            [
                OutgoingMessage(os.urandom(100), {"at": at.isoformat()}, deliver_at=at)
                for at in (first + timedelta(seconds=each) for each in ahead_s)
            ]
        )
        async with asyncio.timeout(MARGIN_S + samples / 10_000 + duration_s + PATIENCE_S):
            lags_s = await _lags(queue, samples)
        return DelayResult(
            pending=pending,
            pending_per_s=round(pending / seconds),
            samples=samples,
            seconds=duration_s,
            early=sum(lag < 0 for lag in lags_s),
            lag=Percentiles.of_seconds(lags_s),
        )


async def _store_pending(queue: Queue, count: int, progress: Progress) -> None:
    """Store messages that are due a millisecond after another, far ahead."""
    far = datetime.now(UTC) + FAR_AHEAD
    starts = itertools.count(0, PENDING_BATCH)
    body, stored = os.urandom(100), 0

    async def store() -> None:
        nonlocal stored
        while (start := next(starts)) < count:
            batch = [
                OutgoingMessage(body, deliver_at=far + timedelta(milliseconds=place))
                for place in range(start, min(start + PENDING_BATCH, count))
            ]
            await queue.publish_many(batch)
            stored += len(batch)
            progress(stored)

    await asyncio.gather(*(store() for _ in range(PENDING_OUTSTANDING)))


async def _lags(queue: Queue, samples: int) -> list[float]:
    """How long after its time each message came."""
    lags_s: list[float] = []
    async with queue.consume() as consumer:
        async for message in consumer:
            lags_s.append((datetime.now(UTC) - datetime.fromisoformat(message.headers["at"])).total_seconds())
            await message.ack()
            if len(lags_s) == samples:
                return lags_s
    return lags_s
