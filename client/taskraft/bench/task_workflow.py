"""What a large workflow costs beside its work: layers of tasks that do nothing, each waiting for tasks of the layer above."""

import time
from dataclasses import dataclass

from taskraft import Client, NewTask
from taskraft.bench.figures import Spread
from taskraft.bench.queues import fresh_task_queue
from taskraft.bench.task_worker import NOOP, running_worker, wait_for_worker
from taskraft.bench.throughput import Incomplete

PARENTS = 2  # of each task, among its neighbours in the layer above: a braid, in which no layer can run ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`tasks` no-op tasks in `layers` layers of the same width."""

    tasks: int = 10_000
    layers: int = 100

    def __post_init__(self) -> None:
        assert self.layers >= 1
        assert self.tasks % self.layers == 0

    @property
    def width(self) -> int:
        return self.tasks // self.layers

    def build(self, queue: str, prefix: str) -> list[NewTask]:
        """The tasks, parents first; ids begin with `prefix`."""
        return [
            NewTask(
                type=NOOP,
                queue=queue,
                id=f"{prefix}-{layer}-{place}",
                after=[
                    f"{prefix}-{layer - 1}-{(place + offset) % self.width}"
                    for offset in range(min(PARENTS, self.width))
                    if layer
                ],
            )
            for layer in range(self.layers)
            for place in range(self.width)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """Several runs. `total_s` is from the submit to the committed end of the last task; `submit_s` is its first part.

    `per_task_us` is the total by task, `per_layer_ms` by layer: a layer is one turn to the worker and back at least.
    """

    shape: Shape
    submit_s: Spread
    total_s: Spread
    per_task_us: Spread
    per_layer_ms: Spread


async def measure_workflow(client: Client, shape: Shape, *, runs: int) -> WorkflowResult:
    """Submit a workflow and wait for its end, `runs` times."""
    submit_s, total_s = [], []
    async with fresh_task_queue(client) as queue, running_worker(client, queue) as worker:
        await wait_for_worker(client, queue, worker)
        for run in range(runs):
            tasks = shape.build(queue, f"{queue}-{run}")
            start = time.perf_counter()
            await client.tasks.submit_many(tasks, workflow=f"{queue}-{run}")
            submit_s.append(time.perf_counter() - start)
            info = await client.workflows.wait(f"{queue}-{run}")
            total_s.append(time.perf_counter() - start)
            if info.counts.succeeded != shape.tasks:
                raise Incomplete(f"of {shape.tasks} tasks {info.counts.succeeded} succeeded")
    return WorkflowResult(
        shape=shape,
        submit_s=Spread.of([round(one, 3) for one in submit_s]),
        total_s=Spread.of([round(one, 3) for one in total_s]),
        per_task_us=Spread.of([round(one / shape.tasks * 1e6, 1) for one in total_s]),
        per_layer_ms=Spread.of([round(one / shape.layers * 1e3, 2) for one in total_s]),
    )
