"""`taskraft queue consume`: messages to standard output."""

import asyncio
import base64
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from taskraft import Client, Message, Pulled, Queue
from taskraft.errors import LeaseLost
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_duration,
)
from taskraft.terminal.report import err, human_count, one_line, print_json_line
from taskraft.terminal.session import ctrl_c, with_client

TIMEOUT_S = 10.0
PULL_MESSAGES = 10_000  # the broker's limit of one pull
FOLLOW_WAIT_S = 20.0
TABLE_HEAD = f"{'sequence':>10}  {'attempt':>7}  {'published (UTC)':<23}  body"

Show = Callable[[Message], None]


def consume(
    name: QueueName,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for more messages, until Ctrl-C (which is exit code 0)."),
    ] = False,
    group: Annotated[
        str, typer.Option("--group", "-g", help="Of a stream: the consumer group, made if there is none.")
    ] = "",
    wait: Annotated[
        float,
        typer.Option(
            parser=parse_duration, metavar="DURATION", help="How long to wait for a message, at most 60s."
        ),
    ] = "1s",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    ack: Annotated[
        bool,
        typer.Option(
            "--ack/--no-ack", help="Remove the messages, or only look: they are given back at the end."
        ),
    ] = True,
    raw: Annotated[bool, typer.Option("--raw", help="Print bodies only, a line each.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print messages, then acknowledge them. Ends when the queue is empty, or as the options say.

    A message is acknowledged after it is printed: if this command dies in between, it is delivered again. JSON is
    one object per line.

    Examples:

    `taskraft queue consume orders --count 10`

    `taskraft queue consume orders --follow --output json | jq .body`

    `taskraft queue consume orders --no-ack --count 1`

    `taskraft queue consume payments --group billing`
    """
    rows = output is Output.TABLE and not raw
    show = row_printer() if rows else show_raw if raw else print_message_json

    async def work(client: Client) -> int:
        queue = client.queue(name)
        task = asyncio.ensure_future(
            drain(queue, show, count=count, follow=follow, wait_s=wait, ack=ack, group=group)
        )
        try:
            with ctrl_c(task.cancel) if follow else nullcontext():
                return await task
        except asyncio.CancelledError:
            if follow:
                return -1
            raise

    shown = with_client(address, timeout, work)
    if rows and shown >= 0:
        err().print(f"{human_count(shown, 'message')}{'' if ack else ', given back'}", style="dim")


async def drain(
    queue: Queue,
    show: Show,
    *,
    count: int | None,
    follow: bool,
    wait_s: float,
    ack: bool,
    group: str,
) -> int:
    """Pull, show and acknowledge; returns how many messages were shown."""
    shown = 0
    held: list[Pulled] = []
    try:
        while count is None or shown < count:
            most = PULL_MESSAGES if count is None else min(PULL_MESSAGES, count - shown)
            pulled = await queue.pull(
                max_messages=most, wait=FOLLOW_WAIT_S if follow else wait_s, group=group
            )
            for message in pulled.messages:
                show(message)
            sys.stdout.flush()
            shown += len(pulled.messages)
            if pulled.messages and ack:
                await pulled.ack()
            elif pulled.messages:
                held.append(pulled)
            elif not follow:
                break
    finally:
        for pulled in held:
            await give_back(pulled)
    return shown


async def give_back(pulled: Pulled) -> None:
    """Return messages that were only looked at; those whose lease ran out are back already."""
    try:
        await pulled.nack()
    except LeaseLost:
        return


def message_json(message: Message) -> dict[str, Any]:
    """A message as `--output json` prints it: text as `body`, anything else as `body_base64`."""
    try:
        body = {"body": message.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(message.body).decode()}
    return {
        "sequence": message.sequence,
        "attempt": message.attempt,
        "publish_time": message.publish_time,
        "key": message.key,
        "priority": message.priority,
        "headers": dict(message.headers),
        "dead_letter": message.dead_letter,
        **body,
    }


def print_message_json(message: Message) -> None:
    print_json_line(message_json(message))


def show_raw(message: Message) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(message.body + b"\n")


def row_printer() -> Show:
    """Prints a message as a row; the first one with the head of the table before it."""
    headed = False

    def show(message: Message) -> None:
        nonlocal headed
        if not headed:
            err().print(TABLE_HEAD, style="bold")
            headed = True
        sys.stdout.write(row(message) + "\n")

    return show


def row(message: Message) -> str:
    at = message.publish_time.strftime("%Y-%m-%d %H:%M:%S.%f")[:23] if message.publish_time else ""
    body = one_line(message.body.decode("utf-8", "backslashreplace"))
    headers = "".join(f" {key}={value}" for key, value in sorted(message.headers.items()))
    shown = headers and f"  [{one_line(headers[1:])}]"
    return f"{message.sequence:>10}  {message.attempt:>7}  {at:<23}  {body}{shown}"
