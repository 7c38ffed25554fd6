"""`taskraft schedule`: tasks that are submitted again and again."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from taskraft import Client, Missed, NewTask, Overlap, ScheduleInfo
from taskraft.cli.submit import payload_of
from taskraft.cli.task_view import JSON_TYPE, content, distance, mapping, safe, task_json, when
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    Yes,
    parse_duration,
    parse_headers,
    parse_moment,
    parse_quantities,
)
from taskraft.terminal.report import as_json, emit, human_count, human_duration, pairs, table
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0

schedule = typer.Typer(help="Submit tasks again and again, by cron or interval.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@schedule.command("create")
def create(
    name: Name,
    queue: QueueName,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="What is to be done each time.")],
    cron: Annotated[
        str | None,
        typer.Option(
            help="Minute, hour, day of month, month, day of week; six fields: seconds first; or @hourly ..."
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Every so often, in place of cron."),
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="For cron, such as Europe/Lisbon.")] = "UTC",
    overlap: Annotated[
        Overlap,
        typer.Option(
            help="While the last one has not ended: leave out, submit all the same, cancel the last."
        ),
    ] = "skip",
    missed: Annotated[
        Missed,
        typer.Option(help="Of ticks that passed while nobody could fire them: fire none, the latest, all."),
    ] = "latest",
    missed_window: Annotated[
        float | None,
        typer.Option(
            "--missed-window", parser=parse_duration, metavar="DURATION", help="How late; default 1h."
        ),
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            parser=parse_duration, metavar="DURATION", help="Fire up to so much later, to spread load."
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(parser=parse_moment, metavar="TIME", help="No tick before: 5m from now, or a time."),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(parser=parse_moment, metavar="TIME", help="No tick from then on.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Fire nothing until it is resumed.")] = False,
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="JSON", help="The input as it is; `-`: from standard input."),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(
            "--args", metavar="JSON", help="The arguments of a Python task: a list, or an object by name."
        ),
    ] = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="Of its tasks.")] = 0,
    max_attempts: Annotated[int, typer.Option(min=0, max=1000, help="Tries; 0: the queue's setting.")] = 0,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="An attribute of its tasks."),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option("--resource", "-r", metavar="NAME=NUMBER", help="What a task takes of its worker."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change one of that name that is there.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a schedule: its task is submitted once for each tick, whatever fails meanwhile.

    Examples:

    `taskraft schedule create nightly reports build --cron '30 2 * * *' --time-zone Europe/Lisbon`

    `taskraft schedule create poll feeds fetch --every 5m --args '["https://example.org"]' --overlap queue`
    """
    if (cron is None) == (every is None):
        raise typer.BadParameter("give --cron or --every")
    task = NewTask(
        type=type_,
        queue=queue,
        payload=payload_of(payload, arguments, JSON_TYPE),
        priority=priority,
        max_attempts=max_attempts,
        labels=parse_headers(label or []),
        resources=parse_quantities(resource or []),
    )
    settings: dict[str, Any] = {
        "cron": cron,
        "interval": every,
        "time_zone": time_zone if cron is not None and time_zone != "UTC" else None,
        "overlap": overlap,
        "missed": missed,
        "missed_window": missed_window,
        "jitter": jitter,
        "start_time": start,
        "end_time": end,
        "paused": paused or None,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    info = with_client(
        address, timeout, lambda client: client.schedules.create(name, task, replace=replace, **given)
    )
    print_one(output, info)


@schedule.command("list")
def list_(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all schedules with their next ticks.

    Example:

    `taskraft schedule list`
    """

    async def work(client: Client) -> list[ScheduleInfo]:
        return [info async for info in client.schedules.list()]

    infos = with_client(address, timeout, work)
    view = overview(infos) if infos else "There are no schedules; `taskraft schedule create` makes one."
    emit(output, [schedule_json(info) for info in infos], view)


@schedule.command("show")
def show(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a schedule with its next ticks.

    Example:

    `taskraft schedule show nightly`
    """
    print_one(output, with_client(address, timeout, lambda client: client.schedules.get(name)))


@schedule.command("pause")
def pause(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Fire nothing until it is resumed.

    Example:

    `taskraft schedule pause nightly`
    """
    print_one(output, with_client(address, timeout, lambda client: client.schedules.pause(name)))


@schedule.command("resume")
def resume(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Fire its ticks again; those that passed meanwhile as its missed policy says.

    Example:

    `taskraft schedule resume nightly`
    """
    print_one(output, with_client(address, timeout, lambda client: client.schedules.resume(name)))


@schedule.command("trigger")
def trigger(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit its task now, beside its ticks.

    Example:

    `taskraft schedule trigger nightly`
    """
    task_id = with_client(address, timeout, lambda client: client.schedules.trigger(name))
    emit(output, {"task_id": task_id}, f"Submitted [bold]{safe(task_id)}[/].")


@schedule.command("delete")
def delete(
    name: Name,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete a schedule; tasks that it has submitted stay.

    Example:

    `taskraft schedule delete nightly --yes`
    """
    if not yes:
        typer.confirm(f"Delete the schedule {name}?", abort=True, err=True)
    with_client(address, timeout, lambda client: client.schedules.delete(name))
    emit(output, {"deleted": name}, f"Deleted {safe(name)}.")


def schedule_json(info: ScheduleInfo) -> dict[str, Any]:
    """A schedule as `--output json` prints it."""
    fields = {name: getattr(info, name) for name in info.__slots__ if name != "task"}
    out: dict[str, Any] = as_json(fields)
    return out | {"task": task_json(info.task)}


def print_one(output: Output, info: ScheduleInfo) -> None:
    emit(output, schedule_json(info), details(info))


def times(info: ScheduleInfo) -> str:
    """`30 2 * * * in Europe/Lisbon`, or `every 5 min`."""
    if info.interval is not None:
        return f"every {human_duration(info.interval)}"
    return f"{safe(info.cron or '')} in {safe(info.time_zone or 'UTC')}"


def next_tick(info: ScheduleInfo) -> str:
    if info.paused:
        return "[yellow]paused[/]"
    return distance(info.next_tick_times[0]) if info.next_tick_times else "never again"


def overview(infos: list[ScheduleInfo]) -> Table:
    grid = table(
        "schedule", "times", "task", "next", "last", "fired", "left out", right=["fired", "left out"]
    )
    for info in infos:
        grid.add_row(
            safe(info.name),
            times(info),
            f"{safe(info.task.type)} in {safe(info.task.queue)}",
            next_tick(info),
            distance(info.last_tick_time),
            human_count(info.fired_ticks),
            human_count(info.overlapped_ticks + info.missed_ticks),
        )
    return grid


def details(info: ScheduleInfo) -> Table:
    task = info.task
    rows = {
        "schedule": f"[bold]{safe(info.name)}[/]{' [yellow](paused)[/]' if info.paused else ''}",
        "times": times(info),
        "next": "\n".join(when(tick) for tick in info.next_tick_times) or "never again",
        "last": f"{when(info.last_tick_time)}{f', task {safe(info.last_task_id)}' if info.last_task_id else ''}",
        "ticks": f"{human_count(info.fired_ticks)} fired; left out: {human_count(info.overlapped_ticks)} because the last one "
        f"had not ended, {human_count(info.missed_ticks)} because they were missed",
        "task": f"{safe(task.type)} in queue {safe(task.queue)}, priority {task.priority}",
        "payload": content(task.payload, task.content_type),
        "labels": mapping(task.labels),
        "resources": mapping(task.resources),
        "overlap": info.overlap.replace("_", " "),
        "missed": f"{info.missed}, up to {human_duration(info.missed_window)} late",
        "jitter": human_duration(info.jitter) if info.jitter else "",
        "from": when(info.start_time),
        "until": when(info.end_time),
        "created": when(info.create_time),
        "etag": safe(info.etag),
    }
    return pairs({name: value for name, value in rows.items() if value})
