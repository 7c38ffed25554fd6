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


def throughput_table(per_second: Spread, runs: Sequence[TaskThroughput]) -> Table:
    """One row a run, the median in the title; cores used at the end."""
    load = runs[0].load
    title = (
        f"No-op tasks, submit to completed, both committed: {spread(per_second)} tasks/s; batches of "
        f"{human_count(load.batch)} x {human_bytes(load.payload_bytes)}, one worker process"
    )
    numbers = ["tasks/s", "tasks", "acked p50", "p99 ms", "client", "worker", "nodes"]
    grid = table("run", *numbers, title=title, right=numbers)
    for number, run in enumerate(runs, 1):
        grid.add_row(
            str(number),
            human_count(run.tasks_per_s),
            human_count(run.tasks),
            f"{run.batch_acknowledged.p50_ms:.1f}",
            f"{run.batch_acknowledged.p99_ms:.1f}",
            cores(run.client_cores),
            cores(run.worker_cores),
            cores(run.node_cores),
        )
    return grid


def latency_table(result: TaskLatency) -> Table:
    title = f"One task at a time, in turns of the same run; fdatasync in {result.sync_path}"
    grid = table("what", "calls", *QUANTILES, title=title, right=["calls", *QUANTILES])
    size = human_bytes(result.payload_bytes)
    grid.add_row(f"[bold]submit {size} to its start[/]", *quantiles(result.submit_to_start))
    grid.add_row("submit to its committed result", *quantiles(result.submit_to_result))
    grid.add_row(f"bare grpc.aio echo {size}", *quantiles(result.grpc_echo))
    grid.add_row("bare fdatasync 4 KiB", *quantiles(result.fdatasync_4k))
    return grid


def workflow_table(result: WorkflowResult) -> Table:
    shape = result.shape
    return pairs(
        {
            "total, submit to the last end": f"{spread(result.total_s, '.2f')} s",
            "of it the submit, one commit": f"{spread(result.submit_s, '.2f')} s",
            "overhead per task": f"{spread(result.per_task_us)} us",
            "per layer": f"{spread(result.per_layer_ms, '.1f')} ms",
        },
        title=f"Workflow of {human_count(shape.tasks)} no-op tasks in {human_count(shape.layers)} layers",
    )


def takeover_table(result: TakeoverResult) -> Table:
    """Memory of each node, with the times in the title."""
    times = result.kill_to_start_ms
    title = (
        f"{human_count(result.tasks)} x {human_bytes(result.payload_bytes)} queued, at "
        f"{human_count(result.fill_tasks_per_s)} tasks/s; kill -9 of the leader to the first task of its successor: "
        f"{spread(times)} ms of {len(times.runs)}; a commit there after {spread(result.kill_to_leader_ms)} ms; missing: "
        + (f"[red]{result.missing}[/]" if result.missing else "0")
    )
    numbers = ["RSS before", "with them", "peak", "at the end", "peak "]
    grid = table("node", *numbers, title=title, right=numbers)
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
    return grid


def task_tables(result: TasksResult) -> list[Table]:
    tables = [
        head(result.machine, nodes=result.nodes, version=result.version, directory=result.directory),
        throughput_table(result.tasks_per_s, result.throughput),
        latency_table(result.latency),
        workflow_table(result.workflow),
    ]
    if result.takeover is not None:
        tables.append(takeover_table(result.takeover))
    return tables
