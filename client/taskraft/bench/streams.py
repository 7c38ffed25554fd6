"""Replay of a stream from a cold start: every node is started anew, and the files are not in memory any more."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import Progress

from taskraft import Client
from taskraft.bench.backlog import memory
from taskraft.bench.figures import CpuMeter, Machine
from taskraft.bench.standard import NODES, SIZES_BYTES, load_for
from taskraft.bench.throughput import Incomplete, Publishing
from taskraft.local import Layout, LocalCluster, free_port

QUEUE = "bench-stream"
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsPlan:
    """How much is replayed of each size of messages, in bytes. `directory` None: a temporary one."""

    total_bytes: int = 200 << 20
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """One stream that was read from its beginning to its end by one reader.

    `first_message_s` is from asking to the first message. Memory is the most that a node ever took, after it was started
    and after it was read. `node_cores` are those of all nodes.
    """

    size_bytes: int
    messages: int
    fill_messages_per_s: float
    first_message_s: float
    seconds: float
    messages_per_s: float
    mb_per_s: float
    peak_bytes_before: int
    peak_bytes_after: int
    client_cores: float | None
    node_cores: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsResult:
    """Everything, with where it was measured."""

    machine: Machine
    nodes: int
    directory: str
    version: str
    replays: tuple[ReplayResult, ...]


async def measure_streams(
    plan: StreamsPlan, bar: Callable[[], AbstractContextManager[Progress]]
) -> StreamsResult:
    """Fill a stream, start all nodes anew, read it; for each size on a cluster of its own, which is gone afterwards."""
    replays = []
    with bar() as progress:
        for size_bytes in SIZES_BYTES:
            with tempfile.TemporaryDirectory(dir=plan.directory, prefix="taskraft-bench-") as directory:
                layout = Layout.plan(Path(directory), nodes=NODES, port=free_port(NODES))
                async with LocalCluster(layout) as cluster:
                    messages = max(1, plan.total_bytes // size_bytes)
                    replays.append(await _measure(cluster, Path(directory), size_bytes, messages, progress))
                    async with Client(cluster.address) as client:
                        version = (await client.cluster()).version
    where = str(plan.directory or tempfile.gettempdir())
    return StreamsResult(
        machine=Machine.this(), nodes=NODES, directory=where, version=version, replays=tuple(replays)
    )


async def _measure(
    cluster: LocalCluster, directory: Path, size_bytes: int, messages: int, progress: Progress
) -> ReplayResult:
    messages, fill_s = await _fill(cluster, size_bytes, messages, progress)
    await cluster.stop()
    forget_files(directory)
    cluster.start()
    await cluster.wait_until_led(TIMEOUT_S)
    before = max(each.peak_bytes for each in memory(cluster).values())
    task = progress.add_task(f"replay of {size_bytes} B", total=messages, note="messages")
    nodes = CpuMeter([cluster.pid(place.id) for place in cluster.layout.nodes])
    client_meter = CpuMeter([os.getpid()])
    read, first_s, start = 0, 0.0, time.perf_counter()
    async with Client(cluster.address, timeout=TIMEOUT_S) as client:
        async for batch in client.queue(QUEUE).read(follow=False).batches():
            first_s = first_s or time.perf_counter() - start
            read += len(batch)
            progress.update(task, completed=read)
        seconds = time.perf_counter() - start
    if read != messages:
        raise Incomplete(f"{messages} messages were acknowledged, {read} were read")
    return ReplayResult(
        size_bytes=size_bytes,
        messages=messages,
        fill_messages_per_s=round(messages / fill_s),
        first_message_s=round(first_s, 3),
        seconds=round(seconds, 3),
        messages_per_s=round(messages / seconds),
        mb_per_s=round(messages * size_bytes / seconds / 1e6, 1),
        peak_bytes_before=before,
        peak_bytes_after=max(each.peak_bytes for each in memory(cluster).values()),
        client_cores=client_meter.cores(seconds),
        node_cores=nodes.cores(seconds),
    )


async def _fill(
    cluster: LocalCluster, size_bytes: int, messages: int, progress: Progress
) -> tuple[int, float]:
    """Publish at least so many messages, in whole batches; how many they were, and how long it took."""
    task = progress.add_task(f"fill with {size_bytes} B", total=messages, note="messages")
    load = replace(load_for(size_bytes, 0.0), messages=messages)
    async with Client(cluster.address, timeout=TIMEOUT_S) as client:
        await client.create_queue(QUEUE, kind="stream")
        publishing = Publishing(client.queue(QUEUE), load, lambda done: progress.update(task, completed=done))
        start = time.perf_counter()
        await publishing.run()
        return publishing.acknowledged, time.perf_counter() - start


def forget_files(directory: Path) -> None:
    """Ask the system to drop what it holds of these files in memory; what it does not drop makes the start less cold."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
