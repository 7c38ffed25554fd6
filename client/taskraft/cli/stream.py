"""`taskraft queue read`, `seek` and `delete-group`: streams from any position, and their consumer groups."""

import asyncio
import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from taskraft import Client, Position
from taskraft.cli.consume import print_message_json, row_printer, show_raw
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    Yes,
    parse_past,
)
from taskraft.terminal.report import emit, err, human_count
from taskraft.terminal.session import ctrl_c, with_client

TIMEOUT_S = 10.0

GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="The consumer group.")]


def parse_position(text: str) -> Position:
    """`beginning`, `end`, a sequence, or a time. Raises typer.BadParameter."""
    text = text.strip()
    match text:
        case "beginning":
            return "beginning"
        case "end":
            return "end"
        case _ if text.isascii() and text.isdecimal():
            return int(text)
    try:
        return parse_past(text)
    except typer.BadParameter:
        message = (
            f"{text!r} is not a position; write beginning, end, a sequence, 5m or 2026-03-01T12:00+01:00"
        )
        raise typer.BadParameter(message) from None


def read(
    name: QueueName,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="POSITION",
            help="Begin here: beginning, end, a sequence, 5m (so long ago) or a time.",
        ),
    ] = "beginning",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for more messages, until Ctrl-C (which is exit code 0)."),
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print bodies only, a line each.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print messages of a stream from a position on. Nothing is acknowledged, and no consumer notices.

    JSON is one object per line.

    Examples:

    `taskraft queue read orders --from 10m --follow`

    `taskraft queue read orders --from 4711 --count 1 --output json | jq .body`
    """
    position = parse_position(from_)
    rows = output is Output.TABLE and not raw
    show = row_printer() if rows else show_raw if raw else print_message_json

    async def print_all(client: Client) -> int:
        shown = 0
        async with client.queue(name).read(position=position, follow=follow) as reader:
            async for batch in reader.batches():
                for message in batch.messages[: None if count is None else count - shown]:
                    show(message)
                    shown += 1
                sys.stdout.flush()
                if shown == count:
                    break
        return shown

    async def work(client: Client) -> int:
        task = asyncio.ensure_future(print_all(client))
        try:
            with ctrl_c(task.cancel) if follow else nullcontext():
                return await task
        except asyncio.CancelledError:
            if follow:
                return -1
            raise

    shown = with_client(address, timeout, work)
    if rows and shown >= 0:
        err().print(human_count(shown, "message"), style="dim")


def seek(
    name: QueueName,
    group: GroupName,
    position: Annotated[
        str,
        typer.Argument(metavar="POSITION", help="beginning, end, a sequence, 5m (so long ago) or a time."),
    ],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a consumer group of a stream go on somewhere else. It is created if there is none.

    What was acknowledged beyond the position is delivered again.

    Examples:

    `taskraft queue seek orders billing beginning`

    `taskraft queue seek orders billing 2h`
    """
    at = parse_position(position)
    moved = with_client(address, timeout, lambda client: client.queue(name).seek(group, at))
    pending = human_count(moved.pending_messages, "message")
    emit(output, moved, f"{group} goes on at {moved.position}: {pending} of {name} are pending.")


def delete_group(
    name: QueueName,
    group: GroupName,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete a consumer group of a stream: nobody knows any more what it has done.

    Example:

    `taskraft queue delete-group orders billing --yes`
    """
    if not yes:
        typer.confirm(f"Delete the consumer group {group} of {name}?", abort=True, err=True)
    with_client(address, timeout, lambda client: client.queue(name).delete_group(group))
    emit(output, {"deleted": group}, f"Deleted the consumer group {group} of {name}.")
