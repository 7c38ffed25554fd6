"""`taskraft task`: submit tasks, look at them, follow, cancel and retry them, and ask why one does not run."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import Annotated, Any, Literal

import typer

from taskraft import Client, TaskInfo, errors
from taskraft.cli.submit import submit
from taskraft.cli.task_view import (
    explained,
    explanation_json,
    safe,
    task_details,
    task_json,
    task_row,
    tasks_table,
)
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    Timeout,
    parse_headers,
    parse_past,
)
from taskraft.terminal.report import emit, err, human_count, out, print_json_line
from taskraft.terminal.session import ctrl_c, with_client
from taskraft.terminal.states import word

TIMEOUT_S = 10.0
LISTED = 100


class State(StrEnum):
    """The states of tasks, for the command line."""

    QUEUED = "queued"
    BLOCKED = "blocked"
    DELAYED = "delayed"
    LEASED = "leased"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD_LETTERED = "dead_lettered"


Order = Literal["newest", "schedule"]

task = typer.Typer(help="Submit tasks, look at them, cancel and retry them.", no_args_is_help=True)
task.command("submit")(submit)

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
TaskIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The tasks' ids.")]
OfQueue = Annotated[str, typer.Option("--queue", "-q", help="Of this queue.")]
OfStates = Annotated[
    list[State] | None, typer.Option("--state", "-s", help="In this state; may be repeated.")
]
OfType = Annotated[str, typer.Option("--type", "-t", help="Of this type.")]
OfLabels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="With this label.")
]
OfWorkflow = Annotated[str, typer.Option("--workflow", "-W", help="Of this workflow.")]
OfWorker = Annotated[str, typer.Option("--worker", help="At this worker.")]


def chosen(**which: Any) -> dict[str, Any]:
    """The filters that were given."""
    return {name: value for name, value in which.items() if value}


@task.command("list")
def list_(
    queue: OfQueue = "",
    state: OfStates = None,
    type_: OfType = "",
    label: OfLabels = None,
    workflow: OfWorkflow = "",
    worker: OfWorker = "",
    since: Annotated[
        datetime | None,
        typer.Option(parser=parse_past, metavar="TIME", help="Submitted since: 5m ago, or a time."),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(parser=parse_past, metavar="TIME", help="Submitted before: 5m ago, or a time."),
    ] = None,
    order: Annotated[
        Order,
        typer.Option(
            help="Newest first; or those queued in --queue, in the order in which they would start."
        ),
    ] = "newest",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = LISTED,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """List tasks, newest first or as they will start.

    Examples:

    `taskraft task list --queue images --state failed --state dead_lettered`

    `taskraft task list --queue images --order schedule`

    `taskraft task list --since 10m --output json | jq -r '.[].id'`
    """
    if order == "schedule" and not queue:
        raise typer.BadParameter("--order schedule needs --queue: every queue has an order of its own")
    which = chosen(
        queue=queue,
        states=state,
        type=type_,
        labels=parse_headers(label or []),
        workflow=workflow,
        worker_id=worker,
        created_from=since,
        created_before=before,
    )

    async def work(client: Client) -> tuple[list[TaskInfo], bool]:
        found: list[TaskInfo] = []
        async for one in client.tasks.list(order=order, **which):
            if len(found) == limit:
                return found, True
            found.append(one)
        return found, False

    found, more = with_client(address, timeout, work)
    emit(
        output, [task_json(one) for one in found], tasks_table(found) if found else "There are no such tasks."
    )
    if more and output is Output.TABLE:
        err().print(f"There are more than {human_count(limit)}; --limit shows more of them.", style="dim")


@task.command("show")
def show(
    task_id: TaskId,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a task with its history, progress, error and result.

    Example:

    `taskraft task show 0198c9`
    """
    info = with_client(address, timeout, lambda client: client.tasks.get(task_id, full=True))
    emit(output, task_json(info), task_details(info))


@task.command("watch")
def watch(
    task_id: Annotated[str, typer.Argument(metavar="[ID]", help="Only this task, until it ends.")] = "",
    queue: OfQueue = "",
    state: OfStates = None,
    type_: OfType = "",
    label: OfLabels = None,
    workflow: OfWorkflow = "",
    current: Annotated[
        bool, typer.Option("--current", "-c", help="First the tasks as they are now, then the changes.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after so many changes.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print tasks as their states change, until Ctrl-C (which is exit code 0). JSON is one object per line.

    Examples:

    `taskraft task watch --queue images --state failed`

    `taskraft task watch 0198c9`
    """
    which = chosen(
        queue=queue, states=state, type=type_, labels=parse_headers(label or []), workflow=workflow
    )
    if task_id and which:
        raise typer.BadParameter("give an id or filters, not both")
    show_one = print_task_json if output is Output.JSON else print_task_row

    async def work(client: Client) -> None:
        following = asyncio.ensure_future(
            follow_one(client, task_id, show_one)
            if task_id
            else follow(client, which, current, limit, show_one)
        )
        with ctrl_c(following.cancel):
            await asyncio.wait([following])
        if not following.cancelled():
            following.result()

    with_client(address, timeout, work)


def print_task_json(info: TaskInfo) -> None:
    print_json_line(task_json(info))


def print_task_row(info: TaskInfo) -> None:
    out().print(task_row(info), soft_wrap=True)


async def follow(
    client: Client, which: Mapping[str, Any], current: bool, limit: int | None, show_one: Any
) -> None:
    """Print what changes."""
    shown = count(1)
    async for info in client.tasks.watch(include_current=current, **which):
        show_one(info)
        if next(shown) == limit:
            return


async def follow_one(client: Client, task_id: str, show_one: Any) -> None:
    """Print a task's states until its end."""
    known = await client.tasks.get(task_id)
    which = chosen(queue=known.queue, type=known.type, workflow=known.workflow, labels=known.labels)
    async for info in client.tasks.watch(include_current=True, **which):
        if info.id == known.id:
            show_one(info)
            if info.ended:
                return


@task.command("cancel")
def cancel(
    task_ids: TaskIds = None,
    workflow: OfWorkflow = "",
    queue: Annotated[str, typer.Option("--queue", "-q", help="All that wait in this queue.")] = "",
    reason: Annotated[str, typer.Option(help="For the tasks' history.")] = "",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel tasks that have not ended; running ones are stopped at their workers.

    Examples:

    `taskraft task cancel 0198c9 --reason 'wrong width'`

    `taskraft task cancel --queue images`
    """
    ids = one_target(task_ids, workflow, queue)
    cancelled = with_client(
        address,
        timeout,
        lambda client: client.tasks.cancel(*ids, workflow=workflow, queue=queue, reason=reason),
    )
    emit(output, {"cancelled_tasks": cancelled}, f"Cancelled {human_count(cancelled, 'task')}.")


@task.command("retry")
def retry(
    task_ids: TaskIds = None,
    workflow: OfWorkflow = "",
    queue: Annotated[str, typer.Option("--queue", "-q", help="The dead letters of this queue.")] = "",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give new attempts to tasks that ended without success.

    Examples:

    `taskraft task retry 0198c9`

    `taskraft task retry --queue images`
    """
    ids = one_target(task_ids, workflow, queue)

    async def work(client: Client) -> tuple[int, list[str]]:
        retried = await client.tasks.retry(*ids, workflow=workflow, queue=queue)
        return retried, [] if retried else [await why_not_retried(client, one) for one in ids]

    retried, reasons = with_client(address, timeout, work)
    said = " ".join([f"{human_count(retried, 'task')} may run again.", *reasons])
    emit(output, {"retried_tasks": retried}, said)


async def why_not_retried(client: Client, task_id: str) -> str:
    """What became of a task that gets no new attempts."""
    try:
        info = await client.tasks.get(task_id)
    except errors.TaskNotFound:
        return f"There is no task {safe(task_id)}."
    if info.state == "succeeded":
        return f"{safe(info.id)}: it succeeded."
    return f"{safe(info.id)}: it has not ended, it is {word(info.state)}."


def one_target(task_ids: list[str] | None, workflow: str, queue: str) -> list[str]:
    """The ids, which may be none if a workflow or a queue was given. Raises typer.BadParameter unless it is one."""
    if bool(task_ids) + bool(workflow) + bool(queue) != 1:
        raise typer.BadParameter("give ids, --workflow or --queue")
    return task_ids or []


@task.command("explain")
def explain(
    task_id: TaskId,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a task does not run, and when it is expected to start and to finish.

    Example:

    `taskraft task explain 0198c9`
    """
    explanation = with_client(address, timeout, lambda client: client.tasks.explain(task_id))
    emit(output, explanation_json(explanation), explained(explanation))
