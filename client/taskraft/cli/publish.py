"""`taskraft queue publish` and `taskraft topic publish`: messages from arguments, a pipe or a file."""

import asyncio
import base64
import binascii
import json
import os
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taskraft import Client, OutgoingMessage, Receipt, TaskraftError
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_duration,
    parse_headers,
    parse_moment,
)
from taskraft.terminal.report import emit, err, human_bytes, human_count, progress
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0
CHUNK_BYTES = 1 << 20
CHUNKS_AHEAD = 4


class Input(StrEnum):
    """What one message is."""

    LINES = "lines"
    JSON = "json"
    WHOLE = "whole"


@dataclass(slots=True)
class Published:
    """What was acknowledged so far."""

    messages: int = 0
    bytes: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    delayed: int = 0
    queues: int = 0


Store = Callable[[list[OutgoingMessage]], Awaitable[list[Receipt]]]
"""Publishes and waits until all is acknowledged."""

Bodies = Annotated[
    list[str] | None,
    typer.Argument(metavar="BODY", help="One message each; none: read a file or stdin."),
]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", dir_okay=False, exists=True, help="Read messages from a file."),
]
InputOption = Annotated[
    Input,
    typer.Option(
        "--input",
        "-i",
        help="What one message is: a line; a line of JSON as `queue consume --output json` writes it; the whole input.",
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="KEY=VALUE", help="A header for every message."),
]
Key = Annotated[str, typer.Option("--key", "-k", help="What the messages are about; keys may order them.")]
Priority = Annotated[
    int, typer.Option("--priority", "-p", min=0, max=9, help="Higher ones are delivered first.")
]
Ttl = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration, metavar="DURATION", help="How long they are worth delivering; up to 366d."
    ),
]
Delay = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration, metavar="DURATION", help="How long it is until they come into the queue."
    ),
]
DeliverAt = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_moment,
        metavar="TIME",
        help="The same as a time: 2026-03-01T12:00, local without offset.",
    ),
]


def publish(
    name: QueueName,
    bodies: Bodies = None,
    file: File = None,
    input_: InputOption = Input.LINES,
    header: Header = None,
    key: Key = "",
    priority: Priority = 0,
    ttl: Ttl = None,
    delay: Delay = None,
    deliver_at: DeliverAt = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish messages and wait until a majority of the nodes has them on disk.

    Examples:

    `taskraft queue publish orders '{"id": 1}' '{"id": 2}' --header source=shop`

    `taskraft queue publish reminders 'call back' --delay 2h --priority 9`

    `tail -F access.log | taskraft queue publish log-lines`

    `taskraft queue publish photos --file cat.jpg --input whole`

    `taskraft queue consume a --output json | taskraft queue publish b --input json`
    """
    like = OutgoingMessage(b"", parse_headers(header or []), key, priority, ttl, delay or 0.0, deliver_at)
    done = Published()
    with timed(done) as clock:
        publish_input(
            lambda client: client.queue(name).publish_many, address, timeout, bodies, file, input_, like, done
        )
    emit(
        output,
        {
            "queue": name,
            "messages": done.messages,
            "bytes": done.bytes,
            "first_sequence": done.first_sequence,
            "last_sequence": done.last_sequence,
            "delayed": done.delayed,
            "seconds": clock.seconds,
        },
        f"Published {human_count(done.messages, 'message')}, {human_bytes(done.bytes)}, "
        f"in {clock.seconds:.2f} s{sequences(done)}.",
    )


@dataclass(slots=True)
class Clock:
    """How long something took."""

    seconds: float = 0.0


@contextmanager
def timed(done: Published) -> Iterator[Clock]:
    """Take the time; if it fails, tell what was acknowledged before."""
    clock, started = Clock(), time.monotonic()
    try:
        yield clock
    except (TaskraftError, ValueError, typer.Exit) as error:
        stored = done.messages + sum(receipt.count for receipt in getattr(error, "receipts", ()))
        if stored:
            err().print(f"Acknowledged before this: {human_count(stored, 'message')}", style="yellow")
        raise
    clock.seconds = round(time.monotonic() - started, 3)


def publish_input(
    to: Callable[[Client], Store],
    address: str,
    timeout: float,
    bodies: list[str] | None,
    file: Path | None,
    input_: Input,
    like: OutgoingMessage,
    done: Published,
) -> None:
    """Publish what is given, from wherever it comes; `like` has all that the messages have in common."""
    if bodies and file:
        raise typer.BadParameter("give messages as arguments or as --file, not both")
    if like.delay and like.deliver_at is not None:
        raise typer.BadParameter("give --delay or --deliver-at, not both")
    messages = [replace(like, body=body.encode()) for body in bodies or []]

    async def work(client: Client) -> None:
        if messages:
            await send(to(client), messages, done)
        else:
            await send_stream(to(client), file, input_, like, done)

    with_client(address, timeout, work)


def sequences(done: Published) -> str:
    """Where the messages are in the queue, for people."""
    if done.delayed:
        return f" ({human_count(done.delayed)} delayed)"
    if done.messages > 1:
        return f" (sequences {done.first_sequence} to {done.last_sequence})"
    return f" (sequence {done.first_sequence})" if done.messages else ""


async def send(store: Store, messages: list[OutgoingMessage], done: Published) -> None:
    """Publish and note what was acknowledged."""
    receipts = await store(messages)
    done.first_sequence = done.first_sequence or receipts[0].first_sequence
    done.last_sequence = receipts[-1].last_sequence or done.last_sequence
    done.messages += len(messages)
    done.delayed += sum(receipt.delayed for receipt in receipts)
    done.queues = max(done.queues, *(receipt.queues for receipt in receipts))
    done.bytes += sum(len(message.body) for message in messages)


async def send_stream(
    store: Store, file: Path | None, input_: Input, like: OutgoingMessage, done: Published
) -> None:
    """Publish what comes, as it comes: a slow pipe's messages do not wait for later ones."""
    descriptor = os.open(file, os.O_RDONLY) if file else sys.stdin.fileno()
    typed = os.isatty(descriptor)
    if typed:
        err().print("One message per line; end with Ctrl-D.", style="dim")
    total = file_size(descriptor)
    read = 0
    with progress(of_bytes=True, wanted=not typed) as bar:
        task = bar.add_task("publishing", total=total, note="")
        async for chunk, messages in split(
            read_chunks(descriptor), parser(input_, like), whole=input_ is Input.WHOLE
        ):
            if messages:
                await send(store, messages, done)
            read += chunk
            bar.update(task, completed=read, note=human_count(done.messages, "message"))


def file_size(descriptor: int) -> int | None:
    """Bytes of a regular file; None for a pipe or a terminal."""
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


async def read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    """What a file or pipe has, as soon as it has it.

    A daemon thread reads, so that Ctrl-C never waits for a pipe; it uses the bare descriptor, because a
    thread inside sys.stdin would abort the interpreter's exit.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(CHUNKS_AHEAD)

    def pump() -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody reads any more
            while True:
                try:
                    chunk: bytes | OSError = os.read(descriptor, CHUNK_BYTES)
                except OSError as error:
                    chunk = error
                asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
                if not chunk or isinstance(chunk, OSError):
                    return

    threading.Thread(target=pump, daemon=True).start()
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise chunk
        yield chunk


async def split(
    chunks: AsyncIterator[bytes], parse: Callable[[bytes], OutgoingMessage], *, whole: bool = False
) -> AsyncIterator[tuple[int, list[OutgoingMessage]]]:
    """The bytes of each chunk, and the messages that are complete with it.

    A message is a line without its line end (the last line may lack one), or with `whole` everything.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = [rest + chunk] if whole else (rest + chunk).split(b"\n")
        yield len(chunk), parse_all(lines, parse)
    if rest or whole:
        yield 0, [parse(rest)]


def parse_all(lines: Iterable[bytes], parse: Callable[[bytes], OutgoingMessage]) -> list[OutgoingMessage]:
    return [parse(line.removesuffix(b"\r")) for line in lines]


def parser(input_: Input, like: OutgoingMessage) -> Callable[[bytes], OutgoingMessage]:
    """Makes a message of a piece of input; what `like` says, it says too."""
    if input_ is Input.JSON:
        return lambda line: parse_json_message(line, like)
    return lambda line: replace(like, body=line)


def parse_json_message(line: bytes, like: OutgoingMessage) -> OutgoingMessage:
    """A message from `{"body": TEXT}` or `{"body_base64": ...}`, with optional `headers`, `key` and `priority`; other keys
    are ignored.

    Raises ValueError, with the line, for anything else. What `like` says is added and wins.
    """
    shown = line[:80].decode(errors="replace")
    try:
        fields = json.loads(line)
        if "body_base64" in fields:
            body = base64.b64decode(fields["body_base64"], validate=True)
        else:
            body = fields["body"].encode()
        own = {str(key): str(value) for key, value in (fields.get("headers") or {}).items()}
        key, priority = str(fields.get("key") or ""), int(fields.get("priority") or 0)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise ValueError(
            f'not a message: {shown!r}; expected {{"body": "text", "headers": {{...}}}} or body_base64'
        ) from None
    headers = {**own, **like.headers}
    return replace(like, body=body, headers=headers, key=like.key or key, priority=like.priority or priority)
