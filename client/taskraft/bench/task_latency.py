"""How long an idle cluster takes from a submit to the task's first instruction, beside bare gRPC and a bare disk."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from taskraft import Client
from taskraft.bench.disk import fdatasync_seconds
from taskraft.bench.echo import METHOD, echo_channel
from taskraft.bench.figures import Percentiles, Spread
from taskraft.bench.latency import ROUND_S, one_at_a_time
from taskraft.bench.queues import fresh_task_queue
from taskraft.bench.task_worker import STARTED, running_worker, task_batch, wait_for_worker

WARM_UP_TASKS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLatency:
    """One task at a time, and the two floors, measured in turns in the same run.

    `submit_to_start` ends where the task's function begins, in the worker's process, by the clock that both share;
    `submit_to_result` ends where the submitter has the committed result. The `rounds` are of `submit_to_start`.
    """

    payload_bytes: int
    duration_s: float
    sync_path: str
    submit_to_start: Percentiles
    submit_to_result: Percentiles
    rounds_p50_ms: Spread
    rounds_p99_ms: Spread
    grpc_echo: Percentiles
    fdatasync_4k: Percentiles


async def measure_task_latency(
    client: Client, *, payload_bytes: int, duration_s: float, sync_path: Path
) -> TaskLatency:
    """`duration_s` is for each of the three; `sync_path` is the directory in which fdatasync is measured."""
    start_s: list[float] = []
    echo_s: list[float] = []
    sync_s: list[float] = []
    body = bytes(payload_bytes)
    async with (
        fresh_task_queue(client) as queue,
        running_worker(client, queue) as worker,
        echo_channel() as channel,
    ):
        await wait_for_worker(client, queue, worker)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def task() -> None:
            (one,) = task_batch(queue, STARTED, 1, payload_bytes)
            submitted_ns = time.monotonic_ns()
            submission = await client.tasks.submit(one)
            ended = await client.tasks.ended(submission.id)
            start_s.append((json.loads(ended.result or b"") - submitted_ns) / 1e9)

        async def echo() -> object:
            return await call(body)

        for _ in range(WARM_UP_TASKS):
            await task()
            await echo()
        start_s.clear()
        result_s: list[float] = []
        rounds: list[Percentiles] = []
        round_s = min(ROUND_S, duration_s)
        for _ in range(max(1, round(duration_s / ROUND_S))):
            seen = len(start_s)
            result_s += await one_at_a_time(task, round_s)
            rounds.append(Percentiles.of_seconds(start_s[seen:]))
            echo_s += await one_at_a_time(echo, round_s)
            sync_s += await asyncio.to_thread(fdatasync_seconds, sync_path, round_s)
    return TaskLatency(
        payload_bytes=payload_bytes,
        duration_s=duration_s,
        sync_path=str(sync_path),
        submit_to_start=Percentiles.of_seconds(start_s),
        submit_to_result=Percentiles.of_seconds(result_s),
        rounds_p50_ms=Spread.of([one.p50_ms for one in rounds]),
        rounds_p99_ms=Spread.of([one.p99_ms for one in rounds]),
        grpc_echo=Percentiles.of_seconds(echo_s),
        fdatasync_4k=Percentiles.of_seconds(sync_s),
    )
