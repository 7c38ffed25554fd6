"""A leader dies with many tasks queued: how soon its successor has a worker run one, and how much memory they take."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskraft import Client
from taskraft.bench.backlog import memory
from taskraft.bench.figures import Memory, Spread, milliseconds
from taskraft.bench.queues import fresh_task_queue
from taskraft.bench.task_worker import (
    NOTED,
    STAMP,
    STARTS_VARIABLE,
    running_worker,
    task_batch,
    wait_for_worker,
)
from taskraft.bench.throughput import Incomplete
from taskraft.local import LocalCluster, LocalClusterError, wait_until_whole

PAYLOAD_BYTES = 100
BATCH, OUTSTANDING = 2_000, 4
TIMEOUT_S = 120.0
POLL_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverResult:
    """`kill_to_start_ms` is from the kill of the leader to the first instruction of the first task of its successor.

    The queue is paused when the leader dies, so that no task can start which the dead leader had assigned, and
    resumed through the successor: the resume, a commit of its own, is in the time. Memory is per node. `missing`
    tasks were acknowledged and are neither queued nor ended.
    """

    tasks: int
    payload_bytes: int
    fill_tasks_per_s: float
    trials: int
    kill_to_leader_ms: Spread
    kill_to_start_ms: Spread
    memory_before: dict[str, Memory]
    memory_with_tasks: dict[str, Memory]
    memory_after: dict[str, Memory]
    missing: int


async def measure_takeover(
    cluster: LocalCluster, *, tasks: int, trials: int, progress: Callable[[str], None]
) -> TakeoverResult:
    """Queue so many tasks, then kill -9 the leader and restart it `trials` times. The queue is deleted at the end."""
    before = memory(cluster)
    leader_s, start_s = [], []
    with tempfile.TemporaryDirectory(prefix="taskraft-bench-") as directory:
        starts = Path(directory) / "starts"
        starts.touch()
        async with (
            Client(cluster.address, timeout=TIMEOUT_S) as client,
            fresh_task_queue(client) as queue,
            running_worker(client, queue, {STARTS_VARIABLE: str(starts)}) as worker,
        ):
            await wait_for_worker(client, queue, worker)
            await client.pause_queue(queue)
            fill_s = await fill(client, queue, tasks, progress)
            filled = memory(cluster)
            for trial in range(trials):
                progress(f"kill {trial + 1} of {trials}")
                led, started = await one_trial(cluster, client, queue, starts)
                leader_s.append(led)
                start_s.append(started)
            after = memory(cluster)
            missing = await missing_tasks(client, queue)
    return TakeoverResult(
        tasks=tasks,
        payload_bytes=PAYLOAD_BYTES,
        fill_tasks_per_s=round(tasks / fill_s),
        trials=trials,
        kill_to_leader_ms=Spread.of([milliseconds(one) for one in leader_s]),
        kill_to_start_ms=Spread.of([milliseconds(one) for one in start_s]),
        memory_before=before,
        memory_with_tasks=filled,
        memory_after=after,
        missing=missing,
    )


async def fill(client: Client, queue: str, tasks: int, progress: Callable[[str], None]) -> float:
    """Submit so many tasks, some batches at a time; how long it took. Raises Incomplete unless all are there."""
    left = tasks

    async def submit() -> None:
        nonlocal left
        while left > 0:
            count = min(BATCH, left)
            left -= count
            await client.tasks.submit_many(task_batch(queue, NOTED, count, PAYLOAD_BYTES))
            progress(f"{tasks - left:,} tasks queued")

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(OUTSTANDING):
            group.create_task(submit())
    seconds = time.perf_counter() - start
    if (held := (await client.get_queue(queue)).stats.messages) != tasks:
        raise Incomplete(f"{tasks} tasks were acknowledged and the queue holds {held}")
    return seconds


async def missing_tasks(client: Client, queue: str) -> int:
    """How many tasks were submitted and are neither there nor have ended."""
    stats = (await client.get_queue(queue)).stats
    assert stats.tasks is not None
    return stats.published_messages - stats.messages - stats.tasks.ended


async def one_trial(cluster: LocalCluster, client: Client, queue: str, starts: Path) -> tuple[float, float]:
    """Kill the leader, resume the queue, wait for a start, pause, restart the node: seconds to leader and to start."""
    leader = (await wait_until_whole(client, TIMEOUT_S)).leader_id
    await nothing_runs(client, queue)
    seen = size_bytes(starts)
    killed_ns = time.monotonic_ns()
    cluster.kill(leader)
    await client.resume_queue(queue)
    led_s = (time.monotonic_ns() - killed_ns) / 1e9
    started_ns = await first_start(starts, seen)
    await client.pause_queue(queue)
    await cluster.restart(leader)
    await wait_until_whole(client, TIMEOUT_S)
    return led_s, (started_ns - killed_ns) / 1e9


async def nothing_runs(client: Client, queue: str) -> None:
    """Return when no worker holds a task of the queue, which must be paused."""
    async with asyncio.timeout(TIMEOUT_S):
        while (await client.get_queue(queue)).stats.leased_messages:  # noqa: ASYNC110  the broker is asked
            await asyncio.sleep(POLL_S)


async def first_start(starts: Path, seen: int) -> int:
    """When the first task began whose stamp stands after the first `seen` bytes: nanoseconds of the monotonic clock."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while size_bytes(starts) < seen + STAMP.size:  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise LocalClusterError(
            f"no task started for {TIMEOUT_S:.0f} s", "the nodes' logs say more"
        ) from None
    return stamp_at(starts, seen)


def size_bytes(path: Path) -> int:
    return path.stat().st_size


def stamp_at(path: Path, place: int) -> int:
    return int(STAMP.unpack_from(path.read_bytes(), place)[0])
