"""`taskraft demo`: the story of `taskraft.demo`, as a command."""

import typer

from taskraft.demo import source_files, tell
from taskraft.terminal.session import run_async

ENDED_BADLY = 1


def demo() -> None:
    """Show it: a cluster in a temporary directory, real input, and a kill -9 of the leader in the middle.

    Publishes each source file of Python's standard library, counts their tokens in three consumer processes, kills
    and restarts the leader meanwhile. Then the same as a workflow of tasks, in which a worker is killed and the leader
    again. Compares both results with a single process. Takes about a minute. Exit code 1 if anything is lost, different,
    or ran again after it had ended.
    """
    if not run_async(tell(source_files())):
        raise typer.Exit(ENDED_BADLY)
