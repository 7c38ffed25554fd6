"""`taskraft queue peek` and `taskraft queue redrive`: look at messages where they are, and move dead letters back."""

import base64
import sys
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from taskraft import Client, DeadLetter, PeekedMessage, Position
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_headers,
    parse_past,
)
from taskraft.terminal.report import emit, err, human_count, one_line, print_json_line
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0
TABLE_HEAD = f"{'sequence':>10}  {'attempts':>8}  {'published (UTC)':<23}  body"
Reason = Literal["max_attempts", "expired", "overflow", "rejected"]

KeyFilter = Annotated[str, typer.Option("--key", "-k", help="Only messages of that key.")]
HeaderFilter = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="KEY=VALUE", help="Only messages that have all of these."),
]


def peek(
    name: QueueName,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = 100,
    from_: Annotated[
        int | None, typer.Option("--from", min=1, metavar="SEQUENCE", help="Begin with this message.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_past, metavar="TIME", help="Begin with what came then or later: 5m ago, or a time."
        ),
    ] = None,
    key: KeyFilter = "",
    header: HeaderFilter = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at messages, delivered ones included. They stay where they are, and nobody has to give them back.

    JSON is one object per line.

    Examples:

    `taskraft queue peek orders --count 10`

    `taskraft queue peek orders-dead --header country=pt --output json | jq .dead_letter.reason`
    """
    if from_ is not None and since is not None:
        raise typer.BadParameter("give --from or --since, not both")
    position: Position = from_ or since or "beginning"
    headers = parse_headers(header or [])
    as_rows = output is Output.TABLE
    shown = 0

    async def work(client: Client) -> None:
        nonlocal shown
        async for message in client.queue(name).peek(position, key=key, headers=headers, limit=count):
            if as_rows and not shown:
                err().print(TABLE_HEAD, style="bold")
            if as_rows:
                sys.stdout.write(row(message) + "\n")
            else:
                print_json_line(peeked_json(message))
            shown += 1

    with_client(address, timeout, work)
    if as_rows:
        err().print(human_count(shown, "message"), style="dim")


def row(message: PeekedMessage) -> str:
    """One line: what is in it, then in brackets what it says about its way."""
    at = message.publish_time.strftime("%Y-%m-%d %H:%M:%S.%f")[:23] if message.publish_time else ""
    marks = [f"{name}={value}" for name, value in sorted(message.headers.items())]
    if message.key:
        marks.append(f"key {message.key}")
    if message.priority:
        marks.append(f"priority {message.priority}")
    if message.leased:
        marks.append("delivered")
    if message.dead_letter:
        marks.append(came(message.dead_letter))
    body = one_line(message.body.decode("utf-8", "backslashreplace"))
    shown = f"  [{one_line(', '.join(marks))}]" if marks else ""
    return f"{message.sequence:>10}  {message.attempts:>8}  {at:<23}  {body}{shown}"


def came(letter: DeadLetter) -> str:
    """Why something is a dead letter, and where it comes from."""
    reason = letter.reason.replace("_", " ")
    group = f" (group {letter.group})" if letter.group else ""
    return f"{reason} in {letter.source}{group} after {human_count(letter.attempts, 'attempt')}"


def peeked_json(message: PeekedMessage) -> dict[str, Any]:
    """A message as `--output json` prints it: text as `body`, anything else as `body_base64`."""
    try:
        body = {"body": message.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(message.body).decode()}
    return {
        "sequence": message.sequence,
        "attempts": message.attempts,
        "leased": message.leased,
        "publish_time": message.publish_time,
        "key": message.key,
        "priority": message.priority,
        "headers": message.headers,
        "dead_letter": message.dead_letter,
        **body,
    }


def redrive(
    name: QueueName,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="QUEUE", help="Where they go; else each to where it comes from."),
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only those of that reason.")] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="QUEUE", help="Only those that come from that queue.")
    ] = "",
    key: KeyFilter = "",
    header: HeaderFilter = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Move so many at most; else all there are.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, metavar="N", help="Move so many per second at most.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move dead letters back to where they came from, or to another queue. What is delivered at the moment stays.

    Examples:

    `taskraft queue redrive orders-dead`

    `taskraft queue redrive orders-dead --reason max_attempts --rate 100 --target orders-again`
    """
    headers = parse_headers(header or [])
    moved = with_client(
        address,
        timeout,
        lambda client: client.queue(name).redrive(
            target, reason=reason, source=source, key=key, headers=headers, limit=count, rate=rate
        ),
    )
    emit(output, {"moved_messages": moved}, f"Moved {human_count(moved, 'message')}.")
