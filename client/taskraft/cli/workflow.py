"""`taskraft workflow`: look at workflows, cancel them, run them again."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from taskraft import Client, TaskInfo, WorkflowInfo
from taskraft.cli.task_view import safe, task_json, when
from taskraft.terminal.graph import Drawing
from taskraft.terminal.layers import Step
from taskraft.terminal.options import DEFAULT_ADDRESS, Address, Output, OutputOption, Timeout
from taskraft.terminal.report import (
    as_json,
    emit,
    err,
    human_age,
    human_count,
    human_duration,
    one_line,
    pairs,
    table,
)
from taskraft.terminal.session import with_client
from taskraft.terminal.states import counted, look, state_text, word

TIMEOUT_S = 30.0
LISTED = 100
FAULTS_SHOWN = 5


class State(StrEnum):
    """The states of workflows, for the command line."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


workflow = typer.Typer(help="Look at workflows, cancel them, run them again.", no_args_is_help=True)

WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id.")]


@workflow.command("list")
def list_(
    state: Annotated[
        list[State] | None, typer.Option("--state", "-s", help="In this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = LISTED,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """List workflows, newest first.

    Example:

    `taskraft workflow list --state running`
    """

    async def work(client: Client) -> tuple[list[WorkflowInfo], bool]:
        found: list[WorkflowInfo] = []
        async for info in client.workflows.list(states=[one.value for one in state or []]):
            if len(found) == limit:
                return found, True
            found.append(info)
        return found, False

    found, more = with_client(address, timeout, work)
    emit(output, found, overview(found) if found else "There are no such workflows.")
    if more and output is Output.TABLE:
        err().print(f"There are more than {human_count(limit)}; --limit shows more of them.", style="dim")


@workflow.command("show")
def show(
    workflow_id: WorkflowId,
    each: Annotated[
        bool, typer.Option("--tasks", help="A row for every task: count nothing together.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Draw a workflow: its tasks below those that they wait for, alike ones counted together. JSON lists all of them.

    Examples:

    `taskraft workflow show nightly-7`

    `taskraft workflow show nightly-7 --output json | jq -r '.tasks[] | select(.state == "failed") | .id'`
    """

    async def work(client: Client) -> tuple[WorkflowInfo, list[TaskInfo]]:
        info = await client.workflows.get(workflow_id)
        with err().status("reading its tasks ..."):
            tasks = [one async for one in client.tasks.list(workflow=info.id, full=True)]
        return info, tasks[::-1]  # oldest first, as they were submitted

    info, tasks = with_client(address, timeout, work)
    document = as_json(info) | {"tasks": [task_json(one) for one in tasks]} if output is Output.JSON else None
    emit(output, document, details(info, tasks, each=each))


@workflow.command("cancel")
def cancel(
    workflow_id: WorkflowId,
    reason: Annotated[str, typer.Option(help="For the tasks' history.")] = "",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel all tasks of a workflow that have not ended.

    Example:

    `taskraft workflow cancel nightly-7 --reason 'wrong input'`
    """
    cancelled = with_client(
        address, timeout, lambda client: client.workflows.cancel(workflow_id, reason=reason)
    )
    emit(output, {"cancelled_tasks": cancelled}, f"Cancelled {human_count(cancelled, 'task')}.")


@workflow.command("retry")
def retry(
    workflow_id: WorkflowId,
    all_: Annotated[bool, typer.Option("--all", help="Run everything again, also what succeeded.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a workflow again from its failures on, or all of it.

    Examples:

    `taskraft workflow retry nightly-7`

    `taskraft workflow retry nightly-7 --all`
    """
    retried = with_client(
        address, timeout, lambda client: client.workflows.retry(workflow_id, all_tasks=all_)
    )
    emit(output, {"retried_tasks": retried}, f"{human_count(retried, 'task')} may run again.")


def overview(infos: list[WorkflowInfo]) -> Table:
    grid = table("workflow", "state", "ended", "tasks", "age", "took", right=["ended", "age", "took"])
    for info in infos:
        counts = info.counts
        grid.add_row(
            safe(info.id),
            state_text(info.state),
            f"{counts.ended:,}/{counts.total:,}",
            counted(as_json(counts)),
            human_age(info.create_time),
            took(info),
        )
    return grid


def took(info: WorkflowInfo) -> str:
    if info.create_time is None or info.end_time is None:
        return ""
    return human_duration((info.end_time - info.create_time).total_seconds())


def details(info: WorkflowInfo, tasks: list[TaskInfo], *, each: bool) -> Group:
    """The workflow in numbers, its drawing, and the first tasks that ended badly."""
    counts = info.counts
    labels = ", ".join(f"{key}={value}" for key, value in sorted(info.labels.items()))
    rows = {
        "workflow": f"[bold]{safe(info.id)}[/]",
        "state": state_text(info.state).markup,
        "tasks": f"{counts.ended:,} of {counts.total:,} have ended: {counted(as_json(counts)).markup}",
        "labels": safe(labels),
        "created": when(info.create_time),
        "ended": f"{when(info.end_time)}, took {took(info)}" if info.end_time else "",
    }
    head = pairs({name: value for name, value in rows.items() if value})
    return Group(head, "", Drawing([Step.of(one) for one in tasks], each=each), *faults(tasks))


def faults(tasks: list[TaskInfo]) -> list[Text]:
    """The tasks that failed by themselves, the first few with their errors."""
    bad = [
        task
        for task in tasks
        if task.error is not None
        and task.state in ("failed", "dead_lettered")
        and task.error.reason != "DEPENDENCY_FAILED"
    ]
    lines = [Text("")] if bad else []
    for task in bad[:FAULTS_SHOWN]:
        assert task.error is not None
        state = look(task.state)
        line = Text(f"{state.sign} {one_line(task.id)} {word(task.state)}: ", style=state.style)
        lines.append(
            line + Text(f"{one_line(task.error.reason)}: {one_line(task.error.message)}", style="not bold")
        )
    if len(bad) > FAULTS_SHOWN:
        lines.append(Text(f"  and {len(bad) - FAULTS_SHOWN:,} more", style="dim"))
    return lines
