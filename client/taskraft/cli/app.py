"""The commands of `taskraft`, and the one place where errors become exit codes."""

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from taskraft.bench.command import bench
from taskraft.cli.cluster import cluster, status
from taskraft.cli.demo import demo
from taskraft.cli.lock import lock
from taskraft.cli.node import node
from taskraft.cli.queue import queue
from taskraft.cli.schedule import schedule
from taskraft.cli.task import task
from taskraft.cli.topic import topic
from taskraft.cli.up import up
from taskraft.cli.worker import worker, workers
from taskraft.cli.workflow import workflow
from taskraft.terminal.report import out, report_error

EXIT_CODES = "Exit codes: 0 ok · 1 error · 2 wrong command line · 130 interrupted"

app = typer.Typer(
    name="taskraft",
    help="Durable message queues and a task scheduler in one Raft-replicated log, over gRPC.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("taskraft")
        except PackageNotFoundError:  # a source tree that was not installed
            number = "source"
        out().print(f"taskraft {number}")
        raise typer.Exit


@app.callback()
def taskraft(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """What all commands have in common."""


app.command("up", context_settings={"allow_extra_args": True})(up)
app.command(
    "node",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(node)
app.command("status")(status)
app.add_typer(cluster, name="cluster")
app.add_typer(queue, name="queue")
app.add_typer(topic, name="topic")
app.add_typer(task, name="task")
app.add_typer(workflow, name="workflow")
app.add_typer(schedule, name="schedule")
app.add_typer(lock, name="lock")
app.command("worker")(worker)
app.add_typer(workers, name="workers")
app.add_typer(bench, name="bench")
app.command("demo")(demo)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; no exception leaves but in debugging."""
    debugging = bool(os.environ.get("TASKRAFT_DEBUG"))
    if debugging:
        logging.basicConfig(level=logging.DEBUG)
    else:  # errors are told by us, once; what libraries have to say on the way is for debugging
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        logging.getLogger("taskraft").addHandler(logging.NullHandler())
    try:
        app(list(arguments), prog_name="taskraft")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `taskraft queue consume ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # a person gets a line, whatever went wrong
        if debugging:
            raise
        report_error(error)
        return 1
    return 0


def main() -> None:
    """The entry point of the `taskraft` script."""
    sys.exit(run(sys.argv[1:]))
