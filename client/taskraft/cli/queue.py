"""`taskraft queue`: look at and remove queues; what changes them and what is done with messages is in other files."""

import typer

from taskraft import Client, QueueInfo
from taskraft.cli.consume import consume
from taskraft.cli.peek import peek, redrive
from taskraft.cli.publish import publish
from taskraft.cli.queue_change import create, update
from taskraft.cli.queue_view import details, overview
from taskraft.cli.stream import delete_group, read, seek
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    Yes,
)
from taskraft.terminal.report import emit, human_count
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0

queue = typer.Typer(
    help="Create queues, publish to them, consume from them, look into them.", no_args_is_help=True
)
queue.command("create")(create)
queue.command("update")(update)
queue.command("publish")(publish)
queue.command("consume")(consume)
queue.command("peek")(peek)
queue.command("redrive")(redrive)
queue.command("read")(read)
queue.command("seek")(seek)
queue.command("delete-group")(delete_group)


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
    """Show a queue's settings, what is in it, and how fast it went in the last minute.

    Example:

    `taskraft queue show orders`
    """
    info = with_client(address, timeout, lambda client: client.get_queue(name))
    emit(output, info, details(info))


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
