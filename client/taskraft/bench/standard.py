"""The standard set, on a three-node cluster of its own: what `make bench` prints and what we publish."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import Progress

from taskraft import Client
from taskraft.bench.backlog import BacklogResult, measure_backlog
from taskraft.bench.failover import FailoverResult, measure_failover
from taskraft.bench.figures import Machine, Spread
from taskraft.bench.latency import LatencyResult, measure_latency
from taskraft.bench.throughput import (
    EndToEndResult,
    Load,
    PublishResult,
    measure_end_to_end,
    measure_publish,
)
from taskraft.local import Layout, LocalCluster, free_port

NODES = 3
SIZES_BYTES = (100, 1024)
BATCH_BYTES = 100 * 1024  # the batches of both sizes weigh about the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of it. `backlog` messages of 100 B; 0: without that part. `directory` None: a temporary one."""

    runs: int = 3
    duration_s: float = 5.0
    trials: int = 10
    backlog: int = 0
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Several runs of one load."""

    size_bytes: int
    messages_per_s: Spread
    runs: tuple[PublishResult | EndToEndResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardResult:
    """Everything, with where and how it was measured."""

    machine: Machine
    nodes: int
    directory: str
    version: str
    publish: tuple[Throughput, ...]
    end_to_end: tuple[Throughput, ...]
    latency: tuple[LatencyResult, ...]
    failover: FailoverResult
    backlog: BacklogResult | None


def load_for(size_bytes: int, duration_s: float) -> Load:
    """The load of the standard set for messages of that size."""
    batch = max(1, BATCH_BYTES // size_bytes)
    return replace(Load(), size_bytes=size_bytes, batch=batch, duration_s=duration_s, ahead=50 * batch)


async def measure_standard(plan: Plan, bar: Callable[[], AbstractContextManager[Progress]]) -> StandardResult:
    """Start a cluster, measure everything, stop it; the data goes with it."""
    with tempfile.TemporaryDirectory(dir=plan.directory, prefix="taskraft-bench-") as directory:
        layout = Layout.plan(Path(directory), nodes=NODES, port=free_port(NODES))
        async with LocalCluster(layout) as cluster:
            with bar() as progress:
                return await measure_on(cluster, plan, progress)


async def measure_on(cluster: LocalCluster, plan: Plan, progress: Progress) -> StandardResult:
    """The set in its order: the backlog last, so that nothing else meets it."""
    pids = [cluster.pid(place.id) for place in cluster.layout.nodes]
    loads = [load_for(size, plan.duration_s) for size in SIZES_BYTES]
    steps = plan.runs * len(loads) * 2 + len(SIZES_BYTES) + plan.trials + (1 if plan.backlog else 0)
    bar = progress.add_task("", total=steps, note="")

    def step(what: str) -> None:
        progress.update(bar, description=what)

    async with Client(cluster.address) as client:
        version = (await client.cluster()).version
        publish, end_to_end, latency = [], [], []
        for load in loads:
            step(f"publish, {load.size_bytes} B")
            runs: list[PublishResult | EndToEndResult] = []
            for _ in range(plan.runs):
                runs.append(await measure_publish(client, load, node_pids=pids))
                progress.advance(bar)
            publish.append(throughput(load, runs))
        for load in loads:
            step(f"publish to ack, {load.size_bytes} B")
            runs = []
            for _ in range(plan.runs):
                runs.append(await measure_end_to_end(client, load, node_pids=pids))
                progress.advance(bar)
            end_to_end.append(throughput(load, runs))
        for size in SIZES_BYTES:
            step(f"latency, {size} B")
            latency.append(
                await measure_latency(
                    client, size_bytes=size, duration_s=plan.duration_s, sync_path=cluster.layout.directory
                )
            )
            progress.advance(bar)
    step("failover")
    failover = await measure_failover(
        cluster, trials=plan.trials, size_bytes=SIZES_BYTES[1], progress=lambda *_: progress.advance(bar)
    )
    backlog = None
    if plan.backlog:
        step("backlog")
        backlog = await measure_backlog(
            cluster,
            messages=plan.backlog,
            size_bytes=SIZES_BYTES[0],
            progress=lambda done: progress.update(bar, note=f"{done:,} messages"),
        )
        progress.advance(bar)
    return StandardResult(
        machine=Machine.this(),
        nodes=NODES,
        directory=str(cluster.layout.directory.parent),
        version=version,
        publish=tuple(publish),
        end_to_end=tuple(end_to_end),
        latency=tuple(latency),
        failover=failover,
        backlog=backlog,
    )


def throughput(load: Load, runs: list[PublishResult | EndToEndResult]) -> Throughput:
    return Throughput(
        size_bytes=load.size_bytes,
        messages_per_s=Spread.of([run.messages_per_s for run in runs]),
        runs=tuple(runs),
    )
