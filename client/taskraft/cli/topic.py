"""`taskraft topic`: publish to all queues that are bound to a topic."""

from typing import Annotated

import typer

from taskraft import Client, OutgoingMessage, Receipt
from taskraft.cli.publish import (
    TIMEOUT_S,
    Bodies,
    Delay,
    DeliverAt,
    File,
    Header,
    Input,
    InputOption,
    Key,
    Priority,
    Published,
    Store,
    Ttl,
    publish_input,
    timed,
)
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    Timeout,
    parse_headers,
)
from taskraft.terminal.report import emit, human_bytes, human_count

topic = typer.Typer(help="Publish to all queues that are bound to a topic.", no_args_is_help=True)


@topic.callback()
def topics() -> None:
    """Publish to all queues that are bound to a topic; `taskraft queue create --bind` binds them."""


@topic.command("publish")
def publish(
    name: Annotated[str, typer.Argument(metavar="TOPIC", help="Words and dots, such as orders.eu.created.")],
    bodies: Bodies = None,
    file: File = None,
    input_: InputOption = Input.LINES,
    header: Header = None,
    key: Key = "",
    priority: Priority = 0,
    ttl: Ttl = None,
    delay: Delay = None,
    deliver_at: DeliverAt = None,
    allow_unroutable: Annotated[
        bool, typer.Option("--allow-unroutable", help="It is no error if no queue is bound to the topic.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish messages to all queues that are bound to the topic, or to none of them.

    Examples:

    `taskraft topic publish orders.eu.created '{"id": 1}' --header country=pt`

    `tail -F access.log | taskraft topic publish logs.web --allow-unroutable`
    """
    like = OutgoingMessage(b"", parse_headers(header or []), key, priority, ttl, delay or 0.0, deliver_at)
    done = Published()

    def to(client: Client) -> Store:
        async def store(messages: list[OutgoingMessage]) -> list[Receipt]:
            return await client.topic(name).publish_many(messages, allow_unroutable=allow_unroutable)

        return store

    with timed(done) as clock:
        publish_input(to, address, timeout, bodies, file, input_, like, done)
    emit(
        output,
        {
            "topic": name,
            "messages": done.messages,
            "bytes": done.bytes,
            "queues": done.queues,
            "delayed": done.delayed,
            "seconds": clock.seconds,
        },
        f"Published {human_count(done.messages, 'message')}, {human_bytes(done.bytes)}, "
        f"in {clock.seconds:.2f} s, to {human_count(done.queues, 'queue')}.",
    )
