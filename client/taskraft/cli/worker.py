"""`taskraft worker`: run the tasks of an app. `taskraft workers`: who runs tasks, and sending one home."""

import gc
import logging
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from taskraft import App, Client, WorkerInfo
from taskraft.cli.task_view import mapping, safe
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    Timeout,
    parse_addresses,
    parse_duration,
    parse_headers,
    parse_quantities,
)
from taskraft.terminal.report import emit, err, human_age, human_count, one_line, table
from taskraft.terminal.session import with_client
from taskraft.worker import LoadError, Worker, load_app

TIMEOUT_S = 10.0
GC_THRESHOLDS = (10_000, 20, 20)  # hundreds of tasks come at once, and there are no cycles in them

workers = typer.Typer(help="Show the workers, and send one home.", invoke_without_command=True)


class LogLevel(StrEnum):
    """What of a worker's log is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    app: Annotated[
        str, typer.Argument(metavar="MODULE[:APP]", help="Where the app is; found from the current folder.")
    ],
    queues: Annotated[
        str,
        typer.Option(
            "--queues", "-q", metavar="A,B", help="Take tasks from these; default: all of the app's."
        ),
    ] = "",
    threads: Annotated[int, typer.Option("--threads", "-t", min=0, help="For blocking functions.")] = 4,
    processes: Annotated[
        int,
        typer.Option("--processes", "-p", min=0, help="For functions that compute; 0: they run in threads."),
    ] = 0,
    coroutines: Annotated[int, typer.Option(min=0, help="Coroutine functions that run at once.")] = 100,
    prefetch: Annotated[int, typer.Option(min=0, help="Most tasks that wait here for a place.")] = 1_000,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label that tasks may ask for."),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option("--capacity", "-c", metavar="NAME=NUMBER", help="How much it has of a resource."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", help="The worker's id, best the same after a restart; default: host and random."
        ),
    ] = "",
    grace: Annotated[
        float,
        typer.Option(
            parser=parse_duration, metavar="DURATION", help="How long running tasks may take at the end."
        ),
    ] = "30s",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            parser=parse_addresses,
            envvar="TASKRAFT_ADDRESS",
            metavar="HOST:PORT[,...]",
            help="In place of the addresses that the app has.",
            rich_help_panel="Connection",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel,
        typer.Option("--log-level", help="What is said on standard error.", rich_help_panel="Output"),
    ] = LogLevel.INFO,
) -> None:
    """Run the tasks of an app until SIGTERM or Ctrl-C; what runs then is finished, what has not begun goes back.

    A second signal does not wait. Examples:

    `taskraft worker shop.tasks:app --queues images,mail --threads 8`

    `taskraft worker shop.tasks --processes 2 --capacity cpu=2 --label zone=eu`
    """
    log_to_stderr(log_level)
    gc.set_threshold(*GC_THRESHOLDS)  # before the app is imported, which may know better
    found = load(app)
    if address:
        found.addresses = address
    running = Worker(
        found,
        queues=[part.strip() for part in queues.split(",") if part.strip()],
        threads=threads,
        processes=processes,
        coroutines=coroutines,
        prefetch=prefetch,
        labels=parse_headers(label or []),
        capacity=parse_quantities(capacity or []),
        worker_id=name,
        grace=grace,
    )
    say(f"{running.worker_id} is connecting to {','.join(found.addresses)}   Stop with Ctrl-C.")
    announcing = threading.Thread(target=announce, args=[running, found.addresses], daemon=True)
    announcing.start()
    gc.collect()
    gc.freeze()  # what was imported stays: no collection needs to look at it again
    running.run()


def announce(running: Worker, addresses: Sequence[str]) -> None:
    """Say it when the broker knows the worker; nothing if it ends before, which is told elsewhere."""
    with suppress(Exception):
        running.wait_until_begun()
        if not running.is_asked_to_end:
            say(f"{running.worker_id} takes tasks from {', '.join(running.queues)} at {','.join(addresses)}")


def say(line: str) -> None:
    err().print(safe(line), soft_wrap=True)


def load(spec: str) -> App:
    """The app. Raises typer.BadParameter if there is none; what its module raises is shown as it is, for its author."""
    try:
        return load_app(spec)
    except LoadError as error:
        raise typer.BadParameter(str(error), param_hint="MODULE[:APP]") from None
    except Exception:  # noqa: BLE001  whatever the module of others raises
        traceback.print_exc()
        raise typer.Exit(1) from None


class Lines(logging.Formatter):
    """A fact a line: time, level, what happened, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:12]
        fields: dict[str, Any] = getattr(record, "fields", {})
        said = " ".join([record.getMessage(), *(f"{key}={value}" for key, value in fields.items())])
        line = f"{at} {record.levelname.lower():<7} {record.name.removeprefix('taskraft.')} {one_line(said)}"
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        return "\n".join([line, *map(one_line, trace.splitlines())]) if trace else line


def log_to_stderr(level: LogLevel) -> None:
    """Print what the SDK and the tasks log; of the libraries underneath, only what is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=level.value.upper(), handlers=[handler], force=True)
    for library in ("grpc", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


@workers.callback()
def list_(
    context: typer.Context,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the workers: how busy they are, how many tasks they hold, and what these take.

    Examples:

    `taskraft workers`

    `taskraft workers --output json | jq -r '.[] | select(.load > 1) | .id'`
    """
    if context.invoked_subcommand is not None:
        return

    async def work(client: Client) -> list[WorkerInfo]:
        return [info async for info in client.workers.list()]

    infos = with_client(address, timeout, work)
    emit(
        output,
        infos,
        workers_table(infos) if infos else "There are no workers; `taskraft worker` starts one.",
    )


@workers.command("drain")
def drain(
    worker_id: Annotated[str, typer.Argument(metavar="ID", help="Which worker.")],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a worker to finish what it runs, hand the rest back and end.

    Example:

    `taskraft workers drain host-1f9d`
    """
    with_client(address, timeout, lambda client: client.workers.drain(worker_id))
    emit(output, {"draining": worker_id}, f"{safe(worker_id)} finishes what it runs and takes nothing more.")


def workers_table(infos: list[WorkerInfo]) -> Table:
    numbers = ["load", "held", "slots"]
    grid = table(
        "worker", "queues", *numbers, "used / capacity", "labels", "silent for", "state", right=numbers
    )
    for info in infos:
        grid.add_row(
            safe(info.id),
            safe(", ".join(info.queues)),
            busy(info.load),
            human_count(info.leases),
            human_count(info.slots),
            used(info),
            mapping(info.labels),
            human_age(info.heartbeat_time),
            condition(info),
        )
    return grid


def busy(fraction: float) -> str:
    """`42%`, coloured from half full on."""
    style = "red" if fraction > 1 else "yellow" if fraction > 0.5 else "green"
    return f"[{style}]{fraction:.0%}[/]"


def used(info: WorkerInfo) -> str:
    """`cpu 1/2, memory 0/8`."""
    return safe(
        ", ".join(f"{name} {info.used.get(name, 0):g}/{has:g}" for name, has in sorted(info.capacity.items()))
    )


def condition(info: WorkerInfo) -> str:
    """What is out of the ordinary about a worker; nothing if it is connected and takes tasks."""
    said = [
        "[red]stream broken[/]" if not info.connected else "",
        "[yellow]draining[/]" if info.draining else "",
        f"[magenta]{human_count(info.overdue_tasks, 'task')} past the slice[/]" if info.overdue_tasks else "",
    ]
    return ", ".join(part for part in said if part)
