"""Measurements of tasks as tables for people."""

from collections.abc import Sequence

from rich.table import Table

from taskraft.bench.figures import Spread
from taskraft.bench.task_latency import TaskLatency
from taskraft.bench.task_load import TaskThroughput
from taskraft.bench.task_takeover import TakeoverResult
from taskraft.bench.task_workflow import WorkflowResult
from taskraft.bench.tasks import TasksResult
from taskraft.bench.view import QUANTILES, cores, head, quantiles
from taskraft.terminal.report import human_bytes, human_count, pairs, table


def spread(figures: Spread, form: str = ",.0f") -> str:
    """`median (min to max)`."""
    return f"[bold]{figures.median:{form}}[/] ({figures.min:{form}} to {figures.max:{form}})"


def medians_table(per_second: Spread, runs: Sequence[TaskThroughput]) -> Table:
    load = runs[0].load
    size = f"{human_bytes(load.payload_bytes)}, batches of {human_count(load.batch)}"
    numbers = ["median tasks/s", "min", "max", "runs"]
    title = "No-op tasks, submit to completed, both committed; one worker process"
    grid = table("payload", *numbers, title=title, right=numbers)
    grid.add_row(
        size,
        f"[bold]{human_count(per_second.median)}[/]",
        human_count(per_second.min),
        human_count(per_second.max),
        str(len(per_second.runs)),
    )
    return grid


def throughput_table(runs: Sequence[TaskThroughput]) -> Table:
    """One row a run: a batch to its acknowledgement; cores used at the end."""
    numbers = ["tasks/s", "tasks", "seconds", "acked p50", "p99 ms", "client", "worker", "nodes"]
    title = "Each run: a batch to its acknowledgement; cores used"
    grid = table("run", *numbers, title=title, right=numbers)
    for number, run in enumerate(runs, 1):
        grid.add_row(
            str(number),
            human_count(run.tasks_per_s),
            human_count(run.tasks),
            f"{run.seconds:.1f}",
            f"{run.batch_acknowledged.p50_ms:.1f}",
            f"{run.batch_acknowledged.p99_ms:.1f}",
            cores(run.client_cores),
            cores(run.worker_cores),
            cores(run.node_cores),
        )
    return grid


def latency_tables(result: TaskLatency) -> list[Table]:
    title = f"One task at a time, in turns of the same run; fdatasync in {result.sync_path}"
    grid = table("what", "calls", *QUANTILES, title=title, right=["calls", *QUANTILES])
    size = human_bytes(result.payload_bytes)
    grid.add_row(f"[bold]submit {size} to its start[/]", *quantiles(result.submit_to_start))
    grid.add_row("submit to its committed result", *quantiles(result.submit_to_result))
    grid.add_row(f"bare grpc.aio echo {size}", *quantiles(result.grpc_echo))
    grid.add_row("bare fdatasync 4 KiB", *quantiles(result.fdatasync_4k))
    rounds = pairs(
        {
            "p50": f"{spread(result.rounds_p50_ms, '.2f')} ms of {len(result.rounds_p50_ms.runs)}",
            "p99": f"{spread(result.rounds_p99_ms, '.2f')} ms of {len(result.rounds_p99_ms.runs)}",
        },
        title="Submit to its start, by rounds",
    )
    return [grid, rounds]


def workflow_table(result: WorkflowResult) -> Table:
    shape = result.shape
    return pairs(
        {
            "total, submit to the last end": f"{spread(result.total_s, '.2f')} s of {len(result.total_s.runs)}",
            "of it the submit, one commit": f"{spread(result.submit_s, '.2f')} s",
            "overhead per task": f"{spread(result.per_task_us)} us",
            "per layer": f"{spread(result.per_layer_ms, '.1f')} ms",
        },
        title=f"Workflow of {human_count(shape.tasks)} no-op tasks in {human_count(shape.layers)} layers",
    )


def takeover_tables(result: TakeoverResult) -> list[Table]:
    """The times, then the memory of each node."""
    trials = len(result.kill_to_start_ms.runs)
    times = pairs(
        {
            "kill -9 of the leader to a commit of its successor": f"{spread(result.kill_to_leader_ms)} ms of {trials}",
            "kill -9 to the first task of its successor": f"{spread(result.kill_to_start_ms)} ms of {trials}",
            "each, ms": ", ".join(f"{run:.0f}" for run in result.kill_to_start_ms.runs),
            "submitted at": f"{human_count(result.fill_tasks_per_s)} tasks/s",
            "missing at the end": f"[red]{result.missing}[/]" if result.missing else "0",
        },
        title=f"Takeover with {human_count(result.tasks)} x {human_bytes(result.payload_bytes)} queued",
    )
    numbers = ["RSS before", "with them", "peak", "at the end", "peak "]
    grid = table("node", *numbers, right=numbers)
    for node, filled in result.memory_with_tasks.items():
        after = result.memory_after[node]
        grid.add_row(
            node,
            human_bytes(result.memory_before[node].resident_bytes),
            human_bytes(filled.resident_bytes),
            human_bytes(filled.peak_bytes),
            human_bytes(after.resident_bytes),
            human_bytes(after.peak_bytes),
        )
    return [times, grid]


def task_tables(result: TasksResult) -> list[Table]:
    tables = [
        head(result.machine, nodes=result.nodes, version=result.version, directory=result.directory),
        medians_table(result.tasks_per_s, result.throughput),
        throughput_table(result.throughput),
        *latency_tables(result.latency),
        workflow_table(result.workflow),
    ]
    if result.takeover is not None:
        tables += takeover_tables(result.takeover)
    return tables
