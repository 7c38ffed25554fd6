"""`taskraft up`: a local cluster of real processes, for as long as the command runs."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from taskraft.local import CLUSTER_FILE, Layout, LocalCluster, LocalClusterError, NodePlace, read_cluster_file
from taskraft.terminal.options import Output, OutputOption
from taskraft.terminal.report import err, out, print_json, table
from taskraft.terminal.session import INTERRUPTED, run_async

DEFAULT_DATA_DIR = Path("taskraft-data")
DEFAULT_NODES, DEFAULT_PORT = 3, 7001
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    context: typer.Context,
    nodes: Annotated[
        int | None, typer.Option(min=1, max=9, help="How many; default 3, or what the data directory has.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65_000,
            help="gRPC of the first node; HTTP is 100 above, peers 200 above. Default 7001.",
        ),
    ] = None,
    data_dir: Annotated[
        Path,
        typer.Option("--data-dir", "-d", file_okay=False, help="Where the nodes keep their data and logs."),
    ] = DEFAULT_DATA_DIR,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a cluster on this machine and stop it with Ctrl-C. The data stays: the same command goes on with it.

    Writes DATA_DIR/cluster.json (addresses, pids) and DATA_DIR/n1/node.log, n2/..., and so on. A node that dies is
    reported and not restarted. What follows `--` goes to every node as it stands.

    Examples:

    `taskraft up`

    `taskraft up --nodes 1 --port 9001 --data-dir /tmp/play`

    `taskraft up -- --heartbeat-ms 20 --log-level debug`
    """
    layout, known = choose_layout(data_dir, nodes, port, context.args)
    report = Report(layout, output)
    report.starting(known)
    run_async(serve(layout, report))


def choose_layout(
    data_dir: Path, nodes: int | None, port: int | None, settings: list[str]
) -> tuple[Layout, bool]:
    """What to start in that directory, and whether a cluster lives there already.

    A cluster's members and peer addresses are part of its data: other ones are refused with LocalClusterError.
    """
    if not (data_dir / CLUSTER_FILE).exists():
        plan = Layout.plan(
            data_dir, nodes=nodes or DEFAULT_NODES, port=port or DEFAULT_PORT, settings=settings
        )
        return plan, False
    before, _ = read_cluster_file(data_dir)
    old_nodes, old_port = len(before.nodes), int(before.nodes[0].grpc.rpartition(":")[2])
    plan = Layout.plan(data_dir, nodes=nodes or old_nodes, port=port or old_port, settings=settings)
    if [(node.id, node.raft) for node in plan.nodes] != [(node.id, node.raft) for node in before.nodes]:
        raise LocalClusterError(
            f"{data_dir} holds a cluster of {old_nodes} nodes on port {old_port}; its members are part of its data",
            f"start it with --nodes {old_nodes} --port {old_port}, or choose another --data-dir",
        )
    return plan, True


async def serve(layout: Layout, report: "Report") -> None:
    """Run the cluster until a signal comes; a second one does not wait for the nodes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    cluster = LocalCluster(layout, on_exit=report.died)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal(cluster, stop, report))
    try:
        cluster.start()
        started = asyncio.ensure_future(cluster.wait_until_led())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([started, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            raise typer.Exit(INTERRUPTED)
        report.ready(cluster, started.result())
        await stopped
    finally:
        report.stopped(await cluster.stop())


def on_signal(cluster: LocalCluster, stop: asyncio.Event, report: "Report") -> Callable[[], None]:
    """What Ctrl-C does: stop; a second time: kill."""

    def handle() -> None:
        if stop.is_set():
            for place in cluster.layout.nodes:
                cluster.kill(place.id)
            return
        stop.set()
        report.stopping()

    return handle


class Report:
    """What `up` says. With JSON: the content of cluster.json on standard output once the cluster is there."""

    def __init__(self, layout: Layout, output: Output) -> None:
        self._layout = layout
        self._json = output is Output.JSON
        self._console = err() if self._json else out()

    def starting(self, known: bool) -> None:
        nodes = f"{len(self._layout.nodes)} nodes" if len(self._layout.nodes) > 1 else "1 node"
        which = "going on with the data" if known else "new"
        self._console.print(f"Starting {nodes} in {self._layout.directory} ({which})", soft_wrap=True)

    def ready(self, cluster: LocalCluster, leader: str) -> None:
        if self._json:
            print_json(json.loads((self._layout.directory / CLUSTER_FILE).read_text()))
        else:
            grid = table("node", "gRPC", "HTTP", "peers", "pid", "log", right=["pid"])
            for place in self._layout.nodes:
                name = f"[bold green]{place.id}[/] leads" if place.id == leader else place.id
                log = str(place.log.relative_to(self._layout.directory))
                grid.add_row(name, place.grpc, place.http, place.raft, str(cluster.pid(place.id)), log)
            self._console.print(grid)
        address = (
            "" if self._layout.nodes[0].grpc == "127.0.0.1:7001" else f" --address {self._layout.address}"
        )
        self._console.print(f"Try: [bold]taskraft status{address}[/]   Stop with Ctrl-C.", soft_wrap=True)

    def died(self, place: NodePlace, how: str) -> None:
        self._console.print(
            f"[bold red]{place.id} died ({how}).[/] It is not restarted; its log is {place.log}",
            soft_wrap=True,
        )

    def stopping(self) -> None:
        self._console.print("Stopping; again Ctrl-C kills the nodes.")

    def stopped(self, late: list[str]) -> None:
        if late:
            self._console.print(f"[yellow]Killed {', '.join(late)}: no end within the grace period.[/]")
