"""How long one confirmed publish takes, beside what gRPC and the disk cost by themselves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from taskraft import Client
from taskraft.bench.disk import fdatasync_seconds
from taskraft.bench.echo import METHOD, echo_channel
from taskraft.bench.figures import Percentiles
from taskraft.bench.queues import fresh_queue

ROUND_S = 0.5  # the three take turns, so that all of them meet the same noise
WARM_UP_CALLS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """One outstanding publish at a time, and the two floors, measured in turns in the same run."""

    size_bytes: int
    duration_s: float
    sync_path: str
    publish: Percentiles
    grpc_echo: Percentiles
    fdatasync_4k: Percentiles


async def measure_latency(
    client: Client, *, size_bytes: int, duration_s: float, sync_path: Path | None
) -> LatencyResult:
    """`duration_s` is for each of the three. `sync_path` is a directory; None: the one for temporary files."""
    body = bytes(size_bytes)
    publish_s: list[float] = []
    echo_s: list[float] = []
    sync_s: list[float] = []
    async with fresh_queue(client) as queue, echo_channel() as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def publish() -> object:
            return await queue.publish(body)

        async def echo() -> object:
            return await call(body)

        for _ in range(WARM_UP_CALLS):
            await publish()
            await echo()
        for _ in range(max(1, round(duration_s / ROUND_S))):
            round_s = min(ROUND_S, duration_s)
            publish_s += await one_at_a_time(publish, round_s)
            echo_s += await one_at_a_time(echo, round_s)
            sync_s += await asyncio.to_thread(fdatasync_seconds, sync_path, round_s)
    return LatencyResult(
        size_bytes=size_bytes,
        duration_s=duration_s,
        sync_path=str(sync_path or "temporary directory"),
        publish=Percentiles.of_seconds(publish_s),
        grpc_echo=Percentiles.of_seconds(echo_s),
        fdatasync_4k=Percentiles.of_seconds(sync_s),
    )


async def one_at_a_time(call: Callable[[], Awaitable[object]], duration_s: float) -> list[float]:
    """Call, await, call again; the seconds of each."""
    samples = []
    end = time.perf_counter() + duration_s
    while (start := time.perf_counter()) < end:
        await call()
        samples.append(time.perf_counter() - start)
    return samples
