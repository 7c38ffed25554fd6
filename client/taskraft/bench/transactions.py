"""Consume, transform, produce: how many transactions of one publish and one acknowledgement a cluster does."""

import asyncio
import time
from dataclasses import dataclass

from taskraft import Client, Consumer
from taskraft.bench.figures import Percentiles
from taskraft.bench.queues import fresh_queue

WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRun:
    """`outstanding` loops, each of which takes a message and commits before it takes the next one."""

    outstanding: int
    seconds: float
    transactions: int
    latency: Percentiles
    """From the end of the block to the commit."""

    @property
    def transactions_per_s(self) -> float:
        return self.transactions / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionsResult:
    """One at a time, then many at once."""

    size_bytes: int
    single: TransactionRun
    pipelined: TransactionRun


async def measure_transactions(
    client: Client, *, size_bytes: int, duration_s: float, outstanding: int
) -> TransactionsResult:
    """`duration_s` is for each of the two. Each transaction acknowledges a message and publishes one, to the same queue."""
    async with fresh_queue(client) as queue:
        await queue.publish_many([bytes(size_bytes)] * (4 * outstanding))
        async with queue.consume(prefetch=2 * outstanding) as consumer:
            await _run(client, consumer, 1, WARM_UP_S)
            single = await _run(client, consumer, 1, duration_s)
            await _run(client, consumer, outstanding, WARM_UP_S)
            pipelined = await _run(client, consumer, outstanding, duration_s)
    return TransactionsResult(size_bytes=size_bytes, single=single, pipelined=pipelined)


async def _run(client: Client, consumer: Consumer, outstanding: int, duration_s: float) -> TransactionRun:
    """So many loops at once."""
    samples_s: list[float] = []
    began_s = time.perf_counter()

    async def loop() -> None:
        async for message in consumer:
            async with client.transaction() as tx:
                tx.publish(consumer.queue, message.body)
                tx.ack(message)
                start_s = time.perf_counter()
            samples_s.append(time.perf_counter() - start_s)
            if time.perf_counter() - began_s >= duration_s:
                return

    await asyncio.gather(*(loop() for _ in range(outstanding)))
    return TransactionRun(
        outstanding=outstanding,
        seconds=time.perf_counter() - began_s,
        transactions=len(samples_s),
        latency=Percentiles.of_seconds(samples_s),
    )
