"""How results, progress and errors look. Results go to standard output, the rest to standard error."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from taskraft.errors import TaskraftError
from taskraft.local import LocalClusterError
from taskraft.terminal.options import Output

WIDTH_WITHOUT_TERMINAL = 140
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
GRPC_NOISE = re.compile(r"failed to connect to all addresses; last error: \w+: \S+ ")
AGE_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

HINTS = {
    "UNAVAILABLE": "is a broker running there? `taskraft up` starts a cluster, --address says where one is",
    "NO_LEADER": "a majority of the nodes must run and reach each other: `taskraft status`",
    "NOT_LEADER": "give the addresses of all nodes: --address HOST:PORT,HOST:PORT,...",
    "SHUTTING_DOWN": "try again, or give the addresses of all nodes: --address HOST:PORT,HOST:PORT,...",
    "DEADLINE_EXCEEDED": "it may or may not have been done; `taskraft status` shows whether the cluster is well",
    "COMMIT_UNKNOWN": "it may or may not have been done; look before you try again",
    "QUEUE_NOT_FOUND": "`taskraft queue list` shows the queues, `taskraft queue create` makes one",
    "QUEUE_EXISTS": "`taskraft queue show` shows its settings, `taskraft queue update` changes them",
    "QUEUE_IN_USE": "`taskraft queue update QUEUE --dead-letter-queue ''` takes it away from the other",
    "UNROUTABLE": "`taskraft queue update QUEUE --bind PATTERN` binds a queue; --allow-unroutable if that is no error",
    "OUT_OF_RANGE": "`taskraft queue show` shows how many messages there ever were",
    "DEAD_LETTER_LOOP": "choose a queue whose dead letters do not come back here",
    "QUEUE_FULL": "consume or purge what it holds, or raise its limits with `taskraft queue update`",
    "DISK_LOW": "free space on the broker's disk; it takes messages again by itself",
    "OVERLOADED": "try again later, or publish more slowly",
    "PAYLOAD_TOO_LARGE": "`taskraft queue show` shows the queue's largest message size",
    "TASK_NOT_FOUND": "`taskraft task list` shows the tasks; ended ones are forgotten after a while",
    "WORKFLOW_NOT_FOUND": "`taskraft workflow list` shows the workflows",
    "SCHEDULE_NOT_FOUND": "`taskraft schedule list` shows the schedules",
    "SCHEDULE_EXISTS": "`taskraft schedule show` shows its settings, --replace changes them",
    "LOCK_HELD": "`taskraft lock show` shows who holds it and who waits for it; --wait waits longer",
    "LOCK_NOT_HELD": "`taskraft lock show` shows who holds it",
    "LOCK_LOST": "the cluster could not be reached for too long, or someone took it away; a longer --ttl bridges more",
    "LOCK_MISMATCH": "`taskraft lock show` shows what it is in use as; everyone must ask for the same",
    "WORKER_NOT_FOUND": "`taskraft workers` shows the workers",
    "WRONG_QUEUE_KIND": "`taskraft queue show` shows what it holds; `taskraft queue create --kind task` makes one for tasks",
    "UNKNOWN_DEPENDENCY": "submit the task that it waits for first",
    "DEADLINE_INFEASIBLE": "give it more time, or let its queue accept such tasks: --accept-infeasible",
    "MEMBER_EXISTS": "`taskraft status` lists the members",
    "MEMBER_NOT_FOUND": "`taskraft status` lists the members",
    "CHANGE_IN_PROGRESS": "members change one at a time; try again when the other change is done",
    "CATCH_UP_TIMEOUT": "does the new node run with --join yes, and can the others reach its peer address? It stays a "
    "learner and gets its vote later; `taskraft cluster remove` takes it out",
    "TRANSFER_FAILED": "`taskraft status` shows whether that member is connected and caught up; try again",
    "INTERNAL": "the node's log says more",
}


def out() -> Console:
    """Standard output as it is now (tests and pipes exchange it)."""
    return console(sys.stdout)


def err() -> Console:
    return console(sys.stderr)


def console(file: TextIO) -> Console:
    """As wide as the terminal, or wide enough for our tables where nobody looks at a terminal."""
    wide = not file.isatty() and "COLUMNS" not in os.environ
    return Console(file=file, highlight=False, emoji=False, width=WIDTH_WITHOUT_TERMINAL if wide else None)


def report_error(error: BaseException) -> None:
    """One red line with the reason, one with a hint."""
    reason, message, hint = describe(error)
    terminal = err()
    terminal.print(f"[bold red]error:[/] [red]{escape(reason)}: {escape(message)}[/]", soft_wrap=True)
    if hint:
        terminal.print(f"[dim]hint:[/] {escape(hint)}", soft_wrap=True)


def describe(error: BaseException) -> tuple[str, str, str]:
    """Reason, message and hint (may be empty) of an error; of a group, those of its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TaskraftError):
        untold = {key: value for key, value in error.metadata.items() if not tells(error.message, value)}
        details = ", ".join(f"{key}={value}" for key, value in sorted(untold.items()))
        message = f"{error.message} ({details})" if details else error.message
        message = GRPC_NOISE.sub("", message)
        return error.reason, message, HINTS.get(error.reason, "")
    if isinstance(error, LocalClusterError):
        return "LOCAL_CLUSTER", str(error), error.hint
    if isinstance(error, TimeoutError):
        return "DEADLINE_EXCEEDED", "there was no answer in time", HINTS["DEADLINE_EXCEEDED"]
    if isinstance(error, OSError) and error.strerror:
        return "SYSTEM", f"{error.filename}: {error.strerror}" if error.filename else error.strerror, ""
    if isinstance(error, ValueError):
        return "INVALID_VALUE", str(error), ""
    name = type(error).__name__
    return name, str(error) or "unexpected", "this is a bug; TASKRAFT_DEBUG=1 shows where it happened"


def tells(message: str, detail: str) -> bool:
    """Whether a message has that detail already; an empty one it always has."""
    return not detail or re.search(rf"(?<!\w){re.escape(detail)}(?!\w)", message) is not None


def as_json(value: object) -> Any:
    """Plain JSON of our values: dataclasses become objects, times ISO 8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Path):
        return str(value)
    return value


def print_json(value: object) -> None:
    """Indented, for one result."""
    sys.stdout.write(json.dumps(as_json(value), indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    """On one line, for one result of many."""
    sys.stdout.write(json.dumps(as_json(value), ensure_ascii=False) + "\n")


def emit(output: Output, value: object, *view: RenderableType) -> None:
    """Print a result: `value` as JSON, or `view` for people."""
    if output is Output.JSON:
        print_json(value)
        return
    terminal = out()
    for part in view:
        terminal.print(part)


def table(*columns: str, title: str = "", right: Iterable[str] = ()) -> Table:
    """An empty table in our look; the columns named in `right` are aligned right."""
    grid = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    right = set(right)
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return grid


def pairs(rows: Mapping[str, str], title: str = "") -> Table:
    """A table of names and values."""
    grid = Table(box=None, show_header=False, title=title or None, title_justify="left", pad_edge=False)
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(name, value)
    return grid


def progress(*, of_bytes: bool = False, wanted: bool = True) -> Progress:
    """A progress bar on standard error, in units or in bytes; silent if not wanted or where nobody watches."""
    terminal = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True) if of_bytes else MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=terminal,
        transient=True,
        disable=not (wanted and terminal.is_terminal),
    )


def human_count(number: float, unit: str = "") -> str:
    """`1,234`; with a unit `1,234 messages`, `1 message`."""
    return f"{number:,.0f} {unit}{'' if number == 1 else 's'}" if unit else f"{number:,.0f}"


def human_bytes(number: float) -> str:
    """`512 B`, `1.5 MiB`."""
    size = float(number)
    for unit in BYTE_UNITS:
        if size < 1024 or unit == BYTE_UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def human_duration(seconds: float) -> str:
    """`0.3 ms`, `850 ms`, `30 s`, `5 min`, `2.5 h`."""
    if seconds < 0.01:
        return f"{round(seconds * 1000, 2):g} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in AGE_UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    raise AssertionError


def human_age(moment: datetime | None) -> str:
    """How long ago; empty for never."""
    if moment is None:
        return ""
    return human_duration(max(0.0, (datetime.now(UTC) - moment).total_seconds()))


def one_line(text: str) -> str:
    """Text of others as it can be shown: what would move the cursor or colour the terminal is written as an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def human_limit(limit: int, text: str) -> str:
    return text if limit else "none"
