"""The set of measurements of tasks, on a three-node cluster of its own: `taskraft bench tasks`."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from taskraft import Client
from taskraft.bench.figures import Machine, Spread
from taskraft.bench.queues import fresh_task_queue
from taskraft.bench.standard import NODES
from taskraft.bench.task_latency import TaskLatency, measure_task_latency
from taskraft.bench.task_load import TaskLoad, TaskThroughput, measure_tasks
from taskraft.bench.task_takeover import TakeoverResult, measure_takeover
from taskraft.bench.task_workflow import Shape, WorkflowResult, measure_workflow
from taskraft.local import Layout, LocalCluster, free_port

PAYLOAD_BYTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPlan:
    """How much of it. `backlog` tasks are queued when leaders die; 0: without that part. `directory` None: temporary."""

    runs: int = 3
    duration_s: float = 5.0
    shape: Shape = field(default_factory=Shape)
    trials: int = 3
    backlog: int = 100_000
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksResult:
    """Everything, with where and how it was measured."""

    machine: Machine
    nodes: int
    directory: str
    version: str
    tasks_per_s: Spread
    throughput: tuple[TaskThroughput, ...]
    latency: TaskLatency
    workflow: WorkflowResult
    takeover: TakeoverResult | None


async def measure_task_set(
    plan: TasksPlan, bar: Callable[[], AbstractContextManager[Progress]]
) -> TasksResult:
    """Start a cluster, measure everything, stop it; the data goes with it."""
    with tempfile.TemporaryDirectory(dir=plan.directory, prefix="taskraft-bench-") as directory:
        layout = Layout.plan(Path(directory), nodes=NODES, port=free_port(NODES))
        async with LocalCluster(layout) as cluster:
            with bar() as progress:
                return await measure_on(cluster, plan, progress)


async def measure_on(cluster: LocalCluster, plan: TasksPlan, progress: Progress) -> TasksResult:
    """The set in its order: latency first, while the cluster holds nothing, and the long queue last."""
    pids = [cluster.pid(place.id) for place in cluster.layout.nodes]
    steps = 1 + plan.runs + 1 + (1 if plan.backlog else 0)
    bar = progress.add_task("", total=steps, note="")

    async with Client(cluster.address) as client:
        version = (await client.cluster()).version
        progress.update(bar, description="latency")
        latency = await measure_task_latency(
            client,
            payload_bytes=PAYLOAD_BYTES,
            duration_s=plan.duration_s,
            sync_path=cluster.layout.directory,
        )
        progress.advance(bar)
        throughput = []
        progress.update(bar, description="submit to completed")
        async with fresh_task_queue(client) as queue:  # one for all: deleting one is work, too
            for _ in range(plan.runs):
                load = TaskLoad(payload_bytes=PAYLOAD_BYTES, duration_s=plan.duration_s)
                throughput.append(await measure_tasks(client, queue, load, node_pids=pids))
                progress.advance(bar)
        progress.update(bar, description="workflow")
        workflow = await measure_workflow(client, plan.shape, runs=plan.runs)
        progress.advance(bar)
    takeover = None
    if plan.backlog:
        progress.update(bar, description="takeover")
        takeover = await measure_takeover(
            cluster,
            tasks=plan.backlog,
            trials=plan.trials,
            progress=lambda note: progress.update(bar, note=note),
        )
        progress.advance(bar)
    return TasksResult(
        machine=Machine.this(),
        nodes=NODES,
        directory=str(cluster.layout.directory.parent),
        version=version,
        tasks_per_s=Spread.of([run.tasks_per_s for run in throughput]),
        throughput=tuple(throughput),
        latency=latency,
        workflow=workflow,
        takeover=takeover,
    )
