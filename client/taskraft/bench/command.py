"""`taskraft bench`: measure a cluster, or a fresh local one."""

from pathlib import Path
from typing import Annotated

import typer

from taskraft import Client
from taskraft.bench import task_view, view
from taskraft.bench.failover import measure_failover
from taskraft.bench.latency import measure_latency
from taskraft.bench.locks import measure_locks
from taskraft.bench.standard import Plan, measure_standard
from taskraft.bench.streams import StreamsPlan, measure_streams
from taskraft.bench.task_workflow import Shape
from taskraft.bench.tasks import TasksPlan, measure_task_set
from taskraft.bench.throughput import Load, measure_end_to_end, measure_publish
from taskraft.bench.topics import TopicRun, measure_delays, measure_topic
from taskraft.bench.transactions import measure_transactions
from taskraft.local import AttachedCluster
from taskraft.terminal.options import DEFAULT_ADDRESS, Address, Output, OutputOption, parse_size
from taskraft.terminal.report import emit, err, progress
from taskraft.terminal.session import run_async, with_client

TIMEOUT_S = 60.0
LOST = 1

bench = typer.Typer(
    help="Measure a cluster through the SDK. Acknowledged means: on the disks of a majority.",
    no_args_is_help=True,
)

Size = Annotated[int, typer.Option("--size", parser=parse_size, metavar="SIZE", help="Bytes of a message.")]
Duration = Annotated[float, typer.Option("--duration", min=0.1, metavar="SECONDS", help="How long.")]
Messages = Annotated[
    int, typer.Option("--messages", min=0, help="End after so many instead; 0: by duration.")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Messages handed to the SDK at once.")]
Outstanding = Annotated[int, typer.Option("--outstanding", min=1, help="Unacknowledged batches at any time.")]


@bench.command("publish")
def publish(
    size: Size = "100",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    duration: Duration = 5.0,
    messages: Messages = 0,
    batch: Batch = 1_000,
    outstanding: Outstanding = 8,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish as fast as it goes, to a queue that nobody consumes (it is deleted afterwards).

    Example:

    `taskraft bench publish --size 1KiB --duration 10`
    """
    load = Load(size_bytes=size, duration_s=duration, messages=messages, batch=batch, outstanding=outstanding)

    with progress() as bar:
        task = bar.add_task("publishing", total=messages or None, note="messages")
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_publish(
                client, load, progress=lambda done: bar.update(task, completed=done)
            ),
        )
    emit(output, result, view.throughput_pairs(result))


@bench.command("e2e")
def e2e(
    size: Size = "100",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    duration: Duration = 5.0,
    messages: Messages = 0,
    batch: Batch = 1_000,
    outstanding: Outstanding = 8,
    ahead: Annotated[
        int, typer.Option(min=1, help="How many messages the consumer may be behind before publishing waits.")
    ] = 50_000,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish, consume and acknowledge at the same time; only committed acknowledgements count.

    Example:

    `taskraft bench e2e --size 1KiB --messages 500000`
    """
    load = Load(
        size_bytes=size,
        duration_s=duration,
        messages=messages,
        batch=batch,
        outstanding=outstanding,
        ahead=max(ahead, batch),
    )
    with progress() as bar:
        task = bar.add_task("publish to ack", total=messages or None, note="messages")
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_end_to_end(
                client, load, progress=lambda done: bar.update(task, completed=done)
            ),
        )
    emit(output, result, view.throughput_pairs(result))


@bench.command("latency")
def latency(
    size: Size = "100",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    duration: Duration = 5.0,
    path: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Where to measure fdatasync; default: the temporary directory."
        ),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """One publish at a time, beside a bare gRPC echo and a bare fdatasync of 4 KiB, taking turns.

    Give --path on the file system of the nodes' data, if this is their machine. Example:

    `taskraft bench latency --path taskraft-data`
    """
    with err().status("publish, echo and fdatasync take turns ..."):
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_latency(client, size_bytes=size, duration_s=duration, sync_path=path),
        )
    emit(output, result, view.latency_table([result]))


@bench.command("topic")
def topic(
    queues: Annotated[int, typer.Option("--queues", min=1, help="How many queues are bound.")] = 10,
    size: Size = "100",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    duration: Duration = 5.0,
    batch: Batch = 1_000,
    outstanding: Outstanding = 8,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish to a topic that many queues are bound to; then the same with one queue, to compare.

    Example:

    `taskraft bench topic --queues 10 --size 1KiB`
    """
    load = Load(size_bytes=size, duration_s=duration, batch=batch, outstanding=outstanding)

    async def work(client: Client) -> list[TopicRun]:
        return [await measure_topic(client, load, count) for count in sorted({1, queues})]

    with err().status("publishing to a topic ..."):
        results = with_client(address, TIMEOUT_S, work)
    emit(output, results, view.topics_table(results))


@bench.command("delay")
def delay(
    pending: Annotated[
        int,
        typer.Option("--pending", min=1, help="Messages that wait meanwhile, each for a time of its own."),
    ] = 1_000_000,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Messages whose delivery is timed.")
    ] = 5_000,
    duration: Duration = 10.0,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """How late delayed messages are delivered while many others wait for their time.

    The clock of this machine says what the time is, so it must be that of the leader, or agree with it. Example:

    `taskraft bench delay --pending 100000`
    """
    with progress() as bar:
        task = bar.add_task("storing what waits", total=pending, note="messages")
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_delays(
                client,
                pending=pending,
                samples=samples,
                duration_s=duration,
                progress=lambda done: bar.update(task, completed=done),
            ),
        )
    emit(output, result, view.delay_pairs(result))


@bench.command("transactions")
def transactions(
    size: Size = "100",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    duration: Duration = 5.0,
    outstanding: Annotated[int, typer.Option("--outstanding", min=1, help="Transactions at any time.")] = 64,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Transactions of one publish and one acknowledgement, one at a time and many at once.

    Example:

    `taskraft bench transactions --outstanding 128`
    """
    with err().status("transactions, one at a time and then many at once ..."):
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_transactions(
                client, size_bytes=size, duration_s=duration, outstanding=outstanding
            ),
        )
    emit(output, result, view.transactions_table(result))


@bench.command("locks")
def locks(
    duration: Duration = 5.0,
    outstanding: Annotated[int, typer.Option(min=1, help="Loops at once in the second and third part.")] = 64,
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Acquire and release: one lock at a time, many different ones at once, many for the same one.

    Example:

    `taskraft bench locks --outstanding 128`
    """
    with err().status("locks, one at a time, many at once, and all the same one ..."):
        result = with_client(
            address,
            TIMEOUT_S,
            lambda client: measure_locks(client, duration_s=duration, outstanding=outstanding),
        )
    emit(output, result, view.locks_table(result))


@bench.command("failover")
def failover(
    cluster: Annotated[
        Path,
        typer.Option(
            "--cluster",
            exists=True,
            metavar="FILE",
            help="The cluster.json of `taskraft up` (or its directory).",
        ),
    ] = Path("taskraft-data"),
    trials: Annotated[int, typer.Option("--trials", "-n", min=1, help="How many kills.")] = 10,
    size: Size = "1KiB",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    output: OutputOption = Output.TABLE,
) -> None:
    """Kill -9 the leader of a local cluster and restart it, again and again, while publishing.

    Measures from the kill to the first acknowledgement of a message that was published after it, and reads
    everything back at the end. Exit code 1 if an acknowledged message is missing. Example:

    `taskraft bench failover --cluster taskraft-data/cluster.json -n 10`
    """
    attached = AttachedCluster(cluster)
    with progress() as bar:
        task = bar.add_task("kills", total=trials, note="")

        def note(done: int, seconds: float) -> None:
            bar.update(task, completed=done, note=f"{seconds * 1000:.0f} ms")

        result = run_async(measure_failover(attached, trials=trials, size_bytes=size, progress=note))
    emit(output, result, view.failover_table(result))
    if result.lost:
        raise typer.Exit(LOST)


@bench.command("standard")
def standard(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each throughput figure.")] = 3,
    duration: Duration = 5.0,
    trials: Annotated[int, typer.Option(min=1, help="Kills in the failover part.")] = 10,
    backlog: Annotated[
        int, typer.Option(min=0, help="Also a backlog of so many messages of 100 B, for memory and restart.")
    ] = 0,
    directory: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Where the cluster's data lives meanwhile; default: temporary."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The whole set on a local three-node cluster of its own, which is gone afterwards.

    Examples:

    `taskraft bench standard`

    `taskraft bench standard --backlog 5000000 --output json > figures.json`
    """
    plan = Plan(runs=runs, duration_s=duration, trials=trials, backlog=backlog, directory=directory)
    result = run_async(measure_standard(plan, progress))
    emit(output, result, *view.standard_tables(result))
    if result.failover.lost:
        raise typer.Exit(LOST)


@bench.command("streams")
def streams(
    total: Annotated[
        int, typer.Option(parser=parse_size, metavar="SIZE", help="How much is replayed, of each size.")
    ] = "200MiB",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    directory: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Where the clusters' data lives meanwhile; default: temporary."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay of a stream from a cold start, by one reader, on local three-node clusters of its own.

    Example:

    `taskraft bench streams --total 1GiB`
    """
    plan = StreamsPlan(total_bytes=total, directory=directory)
    result = run_async(measure_streams(plan, progress))
    emit(output, result, *view.streams_tables(result))


@bench.command("tasks")
def tasks(
    runs: Annotated[int, typer.Option(min=1, help="Runs of throughput and of the workflow.")] = 3,
    duration: Duration = 5.0,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the workflow.")] = 100,
    width: Annotated[int, typer.Option(min=1, help="Tasks in each layer.")] = 100,
    backlog: Annotated[
        int, typer.Option(min=0, help="Tasks queued when leaders are killed; 0: without that part.")
    ] = 100_000,
    trials: Annotated[int, typer.Option(min=1, help="Leaders killed.")] = 3,
    directory: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Where the cluster's data lives meanwhile; default: temporary."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tasks on a local three-node cluster of its own: throughput, latency, a workflow, the death of leaders.

    Exit code 1 if a task is missing at the end. Examples:

    `taskraft bench tasks`

    `taskraft bench tasks --backlog 1000000 --output json > figures.json`
    """
    plan = TasksPlan(
        runs=runs,
        duration_s=duration,
        shape=Shape(tasks=layers * width, layers=layers),
        trials=trials,
        backlog=backlog,
        directory=directory,
    )
    result = run_async(measure_task_set(plan, progress))
    emit(output, result, *task_view.task_tables(result))
    if result.takeover is not None and result.takeover.missing:
        raise typer.Exit(LOST)
