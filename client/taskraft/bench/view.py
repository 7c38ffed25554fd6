"""Measurements as tables for people."""

from collections.abc import Sequence

from rich.table import Table

from taskraft.bench.backlog import BacklogResult
from taskraft.bench.failover import FailoverResult
from taskraft.bench.figures import Machine, Percentiles
from taskraft.bench.latency import LatencyResult
from taskraft.bench.locks import LocksResult
from taskraft.bench.standard import StandardResult, Throughput
from taskraft.bench.streams import StreamsResult
from taskraft.bench.throughput import EndToEndResult, PublishResult
from taskraft.bench.topics import DelayResult, TopicRun
from taskraft.bench.transactions import TransactionsResult
from taskraft.terminal.report import human_bytes, human_count, pairs, table

QUANTILES = ("p50 ms", "p90 ms", "p99 ms", "max ms")


def throughput_pairs(result: PublishResult | EndToEndResult) -> Table:
    """One run, in words."""
    load, batch = result.load, result.batch_acknowledged
    rows = {
        "rate": f"[bold]{human_count(result.messages_per_s)} msg/s[/], {result.mb_per_s:.1f} MB/s",
        "messages": f"{human_count(result.messages)} of {human_bytes(load.size_bytes)} in {result.seconds:.1f} s",
        "load": f"batches of {load.batch}, {load.outstanding} of them outstanding",
        "batch to its acknowledgement": f"p50 {batch.p50_ms:.1f} ms, p99 {batch.p99_ms:.1f} ms",
        "cores used by the client": cores(result.client_cores),
    }
    if isinstance(result, PublishResult):
        return pairs(rows, title="Publish, acknowledged on the disks of a majority")
    delivered = result.delivered
    if delivered is not None:
        rows["publish to delivery"] = f"p50 {delivered.p50_ms:.1f} ms, p99 {delivered.p99_ms:.1f} ms"
    rows["redelivered"] = human_count(result.redelivered)
    return pairs(rows, title="Publish to ack, both on the disks of a majority")


def throughput_table(results: Sequence[PublishResult | EndToEndResult]) -> Table:
    """One row a run: a batch to its acknowledgement, then to its delivery; cores used at the end."""
    numbers = [
        "msg/s",
        "MB/s",
        "messages",
        "acked p50",
        "p99 ms",
        "delivered p50",
        "p99 ms ",
        "client",
        "nodes",
    ]
    title = "Each run: a batch to its acknowledgement and to its delivery; cores used"
    grid = table("run", "size", *numbers, title=title, right=numbers)
    for result in results:
        delivered = result.delivered if isinstance(result, EndToEndResult) else None
        grid.add_row(
            "publish" if isinstance(result, PublishResult) else "to ack",
            human_bytes(result.load.size_bytes),
            human_count(result.messages_per_s),
            f"{result.mb_per_s:.1f}",
            human_count(result.messages),
            f"{result.batch_acknowledged.p50_ms:.1f}",
            f"{result.batch_acknowledged.p99_ms:.1f}",
            f"{delivered.p50_ms:.1f}" if delivered else "",
            f"{delivered.p99_ms:.1f}" if delivered else "",
            cores(result.client_cores),
            cores(result.node_cores),
        )
    return grid


def topics_table(results: Sequence[TopicRun]) -> Table:
    """One row for each number of queues."""
    numbers = ["msg/s", "stored/s", "messages", *QUANTILES]
    title = "Publish to a topic; a batch to its acknowledgement"
    grid = table("queues", "size", *numbers, title=title, right=["queues", *numbers])
    for run in results:
        acknowledged = run.batch_acknowledged
        grid.add_row(
            str(run.queues),
            human_bytes(run.load.size_bytes),
            human_count(run.messages_per_s),
            human_count(round(run.copies_per_s)),
            human_count(run.messages),
            *(
                f"{value:.1f}"
                for value in (
                    acknowledged.p50_ms,
                    acknowledged.p90_ms,
                    acknowledged.p99_ms,
                    acknowledged.max_ms,
                )
            ),
        )
    return grid


def delay_pairs(result: DelayResult) -> Table:
    lag = result.lag
    rows = {
        "delivery after its time": f"[bold]p50 {lag.p50_ms:.1f} ms, p99 {lag.p99_ms:.1f} ms[/], "
        f"at most {lag.max_ms:.1f} ms",
        "measured": f"{human_count(result.samples, 'message')}, due within {result.seconds:g} s",
        "delivered too early": human_count(result.early),
        "waiting meanwhile": f"{human_count(result.pending)}, stored at {human_count(result.pending_per_s)} a second",
    }
    return pairs(rows, title="Delayed messages")


def cores(number: float | None) -> str:
    return "?" if number is None else f"{number:.2f}"


def transactions_table(result: TransactionsResult) -> Table:
    title = f"One publish of {human_bytes(result.size_bytes)} and one acknowledgement each"
    numbers = ["per second", "transactions", *QUANTILES]
    grid = table("at once", *numbers, title=title, right=["at once", *numbers])
    for run in (result.single, result.pipelined):
        grid.add_row(str(run.outstanding), human_count(run.transactions_per_s), *quantiles(run.latency))
    return grid


def locks_table(result: LocksResult) -> Table:
    numbers = ["at once", "per second", "acquire p50 ms", "p99 ms", "release p50 ms", "p99 ms "]
    grid = table("locks", *numbers, title="Acquire and release", right=numbers)
    runs = {"one": result.single, "each its own": result.own, "all the same": result.contended}
    for name, run in runs.items():
        times = [run.acquire.p50_ms, run.acquire.p99_ms, run.release.p50_ms, run.release.p99_ms]
        shown = [f"{time_ms:.2f}" for time_ms in times]
        grid.add_row(name, str(run.outstanding), human_count(run.locks_per_s), *shown)
    return grid


def latency_table(results: Sequence[LatencyResult]) -> Table:
    title = f"One at a time, in turns of the same run; fdatasync in {results[0].sync_path}"
    grid = table("what", "calls", *QUANTILES, title=title, right=["calls", *QUANTILES])
    for result in results:
        size = human_bytes(result.size_bytes)
        grid.add_row(f"[bold]publish {size}, acknowledged[/]", *quantiles(result.publish))
        grid.add_row(f"bare grpc.aio echo {size}", *quantiles(result.grpc_echo))
        grid.add_row("bare fdatasync 4 KiB", *quantiles(result.fdatasync_4k))
    return grid


def quantiles(times: Percentiles) -> list[str]:
    figures = (times.p50_ms, times.p90_ms, times.p99_ms, times.max_ms)
    return [human_count(times.count), *(f"{figure:.2f}" for figure in figures)]


def failover_table(result: FailoverResult) -> Table:
    times = result.kill_to_ack_ms
    return pairs(
        {
            "kill -9 to the next acknowledged publish": f"[bold]{times.median:.0f} ms[/] median of "
            f"{result.trials}, {times.min:.0f} to {times.max:.0f} ms",
            "each, ms": ", ".join(f"{run:.0f}" for run in times.runs),
            "load": f"{result.messages_per_s:.0f} publishes/s of {human_bytes(result.size_bytes)}",
            "acknowledged": human_count(result.acknowledged),
            "failed": human_count(result.failed),
            "lost": f"[red]{result.lost}[/]" if result.lost else "0",
            "stored twice": human_count(result.stored_twice),
        },
        title="Failover",
    )


def backlog_table(result: BacklogResult) -> Table:
    """Memory of each node, with what happened around it in the title."""
    title = (
        f"Backlog of {human_count(result.messages)} x {human_bytes(result.size_bytes)}, filled at "
        f"{human_count(result.fill_messages_per_s)} msg/s; all nodes stopped in {result.stop_s:.1f} s, "
        f"led again after {result.restart_to_ready_s:.1f} s, publish acknowledged after "
        f"{result.restart_to_publish_s:.1f} s"
    )
    numbers = ["RSS before", "with it", "peak", "after restart", "peak "]
    grid = table("node", *numbers, title=title, right=numbers)
    for node, filled in result.memory_with_backlog.items():
        after = result.memory_after_restart[node]
        grid.add_row(
            node,
            human_bytes(result.memory_before[node].resident_bytes),
            human_bytes(filled.resident_bytes),
            human_bytes(filled.peak_bytes),
            human_bytes(after.resident_bytes),
            human_bytes(after.peak_bytes),
        )
    return grid


def streams_tables(result: StreamsResult) -> list[Table]:
    """A row for each size of messages, and where it was measured."""
    numbers = ["msg/s", "MB/s", "messages", "first after", "peak before", "and after", "client", "nodes"]
    title = "One reader from the beginning to the end, after all nodes were started anew; memory of a node; cores used"
    grid = table("size", *numbers, title=title, right=numbers)
    for replay in result.replays:
        grid.add_row(
            human_bytes(replay.size_bytes),
            f"[bold]{human_count(replay.messages_per_s)}[/]",
            f"{replay.mb_per_s:.1f}",
            human_count(replay.messages),
            f"{replay.first_message_s * 1000:.0f} ms",
            human_bytes(replay.peak_bytes_before),
            human_bytes(replay.peak_bytes_after),
            cores(replay.client_cores),
            cores(replay.node_cores),
        )
    where = head(result.machine, nodes=result.nodes, version=result.version, directory=result.directory)
    return [where, grid]


def medians_table(title: str, throughputs: Sequence[Throughput]) -> Table:
    numbers = ["median msg/s", "min", "max", "runs"]
    grid = table("size", *numbers, title=title, right=numbers)
    for throughput in throughputs:
        spread = throughput.messages_per_s
        grid.add_row(
            human_bytes(throughput.size_bytes),
            f"[bold]{human_count(spread.median)}[/]",
            human_count(spread.min),
            human_count(spread.max),
            str(len(spread.runs)),
        )
    return grid


def head(machine: Machine, *, nodes: int, version: str, directory: str) -> Table:
    """Where and on what it was measured."""
    return pairs(
        {
            "machine": f"{machine.cpus} cores, {human_bytes(machine.memory_bytes)}, Linux {machine.kernel}, "
            f"Python {machine.python}; nodes and client share it",
            "cluster": f"{nodes} nodes, version {version}, fsync before every acknowledgement, data in {directory}",
        }
    )


def standard_tables(result: StandardResult) -> list[Table]:
    tables = [
        head(result.machine, nodes=result.nodes, version=result.version, directory=result.directory),
        medians_table("Publish, acknowledged", result.publish),
        medians_table("Publish to ack, committed", result.end_to_end),
        throughput_table([run for part in (*result.publish, *result.end_to_end) for run in part.runs]),
        latency_table(result.latency),
        failover_table(result.failover),
    ]
    if result.backlog is not None:
        tables.append(backlog_table(result.backlog))
    return tables
