"""`taskraft queue`: create, look at, change and remove queues; publish and consume are in their own files."""

from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from taskraft import Client, QueueInfo
from taskraft.cli.consume import consume
from taskraft.cli.publish import publish
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_duration,
    parse_size,
)
from taskraft.terminal.report import (
    emit,
    human_age,
    human_bytes,
    human_count,
    human_duration,
    human_limit,
    pairs,
    table,
)
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0
Overflow = Literal["reject", "drop_oldest"]

queue = typer.Typer(help="Create queues, publish to them, consume from them.", no_args_is_help=True)
queue.command("publish")(publish)
queue.command("consume")(consume)

AckDeadline = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long a delivered message may stay unacknowledged before it is delivered again, 1s to 12h; 0 or "
        "nothing at creation: 30s.",
    ),
]
MaxMessages = Annotated[int | None, typer.Option(min=0, help="Most messages held; 0: no limit.")]
MaxBytes = Annotated[
    int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Most bytes held; 0: no limit.")
]
MaxMessageBytes = Annotated[
    int | None,
    typer.Option(
        parser=parse_size, metavar="SIZE", help="Largest message; at most 1MiB, which 0 stands for."
    ),
]
OverflowOption = Annotated[
    Overflow | None,
    typer.Option(help="At a limit: refuse the publish, or drop the oldest messages to make room."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@queue.command("create")
def create(
    name: QueueName,
    ack_deadline: AckDeadline = None,
    max_messages: MaxMessages = None,
    max_bytes: MaxBytes = None,
    max_message_bytes: MaxMessageBytes = None,
    overflow: OverflowOption = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a queue. The same settings again are fine; other settings are refused.

    Examples:

    `taskraft queue create orders`

    `taskraft queue create thumbnails --ack-deadline 5m --max-bytes 1GiB --overflow drop_oldest`
    """
    changes = given(
        ack_deadline=ack_deadline,
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_message_bytes=max_message_bytes,
        overflow=overflow,
    )
    info = with_client(address, timeout, lambda client: client.create_queue(name, **changes))
    emit(output, info, f"Created {info.name}.", details(info))


@queue.command("list")
def list_(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all queues.

    Example:

    `taskraft queue list --output json | jq -r '.[] | select(.stats.messages > 1000) | .name'`
    """

    async def work(client: Client) -> list[QueueInfo]:
        return [info async for info in client.list_queues()]

    infos = with_client(address, timeout, work)
    emit(
        output, infos, overview(infos) if infos else "There are no queues; `taskraft queue create` makes one."
    )


@queue.command("show")
def show(
    name: QueueName,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a queue's settings and what is in it.

    Example:

    `taskraft queue show orders`
    """
    info = with_client(address, timeout, lambda client: client.get_queue(name))
    emit(output, info, details(info))


@queue.command("update")
def update(
    name: QueueName,
    ack_deadline: AckDeadline = None,
    max_messages: MaxMessages = None,
    max_bytes: MaxBytes = None,
    max_message_bytes: MaxMessageBytes = None,
    overflow: OverflowOption = None,
    paused: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Stop deliveries, or go on with them.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change the settings that are given, and no others.

    Examples:

    `taskraft queue update orders --max-messages 100000`

    `taskraft queue update orders --pause`
    """
    changes = given(
        ack_deadline=ack_deadline,
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_message_bytes=max_message_bytes,
        overflow=overflow,
        paused=paused,
    )
    if not changes:
        raise typer.BadParameter("say what to change; `taskraft queue update --help` lists the settings")
    info = with_client(address, timeout, lambda client: client.update_queue(name, **changes))
    emit(output, info, f"Updated {info.name}.", details(info))


@queue.command("delete")
def delete(
    name: QueueName,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete a queue with all its messages.

    Example:

    `taskraft queue delete orders --yes`
    """
    if not yes:
        typer.confirm(f"Delete {name} with all its messages?", abort=True, err=True)
    with_client(address, timeout, lambda client: client.delete_queue(name))
    emit(output, {"deleted": name}, f"Deleted {name}.")


@queue.command("purge")
def purge(
    name: QueueName,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove all messages of a queue, the delivered but unacknowledged ones included.

    Example:

    `taskraft queue purge orders --yes`
    """
    if not yes:
        typer.confirm(f"Remove all messages of {name}?", abort=True, err=True)
    purged = with_client(address, timeout, lambda client: client.purge_queue(name))
    emit(output, {"purged_messages": purged}, f"Removed {human_count(purged, 'message')} of {name}.")


def given(**settings: Any) -> dict[str, Any]:
    """The settings that were named on the command line."""
    return {name: value for name, value in settings.items() if value is not None}


def overview(infos: list[QueueInfo]) -> Table:
    numbers = ["messages", "delivered", "bytes", "consumers", "oldest", "published"]
    grid = table("queue", *numbers, "state", right=numbers)
    for info in infos:
        grid.add_row(
            info.name,
            human_count(info.stats.messages),
            human_count(info.stats.leased_messages),
            human_bytes(info.stats.bytes),
            human_count(info.stats.consumers),
            human_age(info.stats.oldest_publish_time),
            human_count(info.stats.published_messages),
            "[yellow]paused[/]" if info.paused else "",
        )
    return grid


def details(info: QueueInfo) -> Table:
    stats = info.stats
    return pairs(
        {
            "queue": f"{info.name}{' [yellow](paused)[/]' if info.paused else ''}",
            "messages": f"{human_count(stats.messages)}, {human_bytes(stats.bytes)}; "
            f"{human_count(stats.leased_messages)} delivered and not acknowledged",
            "oldest": human_age(stats.oldest_publish_time) or "none",
            "published": f"{human_count(stats.published_messages, 'message')} ever",
            "consumers": human_count(stats.consumers),
            "ack deadline": human_duration(info.ack_deadline),
            "max messages": human_limit(info.max_messages, human_count(info.max_messages)),
            "max bytes": human_limit(info.max_bytes, human_bytes(info.max_bytes)),
            "max message": human_bytes(info.max_message_bytes),
            "overflow": info.overflow,
            "created": info.create_time.isoformat(timespec="seconds") if info.create_time else "",
            "etag": info.etag,
        }
    )
