"""`taskraft queue publish`: messages from arguments, a pipe or a file."""

import asyncio
import base64
import binascii
import json
import os
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taskraft import Client, OutgoingMessage, TaskraftError
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_headers,
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


def publish(
    name: QueueName,
    bodies: Annotated[
        list[str] | None,
        typer.Argument(metavar="BODY", help="One message each; none: read a file or stdin."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", dir_okay=False, exists=True, help="Read messages from a file."),
    ] = None,
    input_: Annotated[
        Input,
        typer.Option(
            "--input",
            "-i",
            help="What one message is: a line; a line of JSON as `queue consume --output json` writes it; the whole input.",
        ),
    ] = Input.LINES,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="KEY=VALUE", help="A header for every message."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish messages and wait until a majority of the nodes has them on disk.

    Examples:

    `taskraft queue publish orders '{"id": 1}' '{"id": 2}' --header source=shop`

    `tail -F access.log | taskraft queue publish log-lines`

    `taskraft queue publish photos --file cat.jpg --input whole`

    `taskraft queue consume a --output json | taskraft queue publish b --input json`
    """
    if bodies and file:
        raise typer.BadParameter("give messages as arguments or as --file, not both")
    headers = parse_headers(header or [])
    messages = [OutgoingMessage(body.encode(), headers) for body in bodies or []]
    done = Published()
    started = time.monotonic()

    async def work(client: Client) -> None:
        if messages:
            await send(client, name, messages, done)
        else:
            await send_stream(client, name, file, input_, headers, done)

    try:
        with_client(address, timeout, work)
    except (TaskraftError, ValueError, typer.Exit) as error:
        stored = done.messages + sum(receipt.count for receipt in getattr(error, "receipts", ()))
        if stored:
            err().print(f"Acknowledged before this: {human_count(stored, 'message')}", style="yellow")
        raise
    seconds = time.monotonic() - started
    emit(
        output,
        {
            "queue": name,
            "messages": done.messages,
            "bytes": done.bytes,
            "first_sequence": done.first_sequence,
            "last_sequence": done.last_sequence,
            "seconds": round(seconds, 3),
        },
        f"Published {human_count(done.messages, 'message')}, {human_bytes(done.bytes)}, in {seconds:.2f} s"
        f"{sequences(done)}.",
    )


def sequences(done: Published) -> str:
    """Where the messages are in the queue, for people."""
    if done.messages > 1:
        return f" (sequences {done.first_sequence} to {done.last_sequence})"
    return f" (sequence {done.first_sequence})" if done.messages else ""


async def send(client: Client, name: str, messages: list[OutgoingMessage], done: Published) -> None:
    """Publish and note what was acknowledged."""
    receipts = await client.queue(name).publish_many(messages)
    done.first_sequence = done.first_sequence or receipts[0].first_sequence
    done.last_sequence = receipts[-1].last_sequence
    done.messages += len(messages)
    done.bytes += sum(len(message.body) for message in messages)


async def send_stream(
    client: Client, name: str, file: Path | None, input_: Input, headers: dict[str, str], done: Published
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
            read_chunks(descriptor), parser(input_, headers), whole=input_ is Input.WHOLE
        ):
            if messages:
                await send(client, name, messages, done)
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


def parser(input_: Input, headers: dict[str, str]) -> Callable[[bytes], OutgoingMessage]:
    """Makes a message of a piece of input."""
    if input_ is Input.JSON:
        return lambda line: parse_json_message(line, headers)
    return lambda line: OutgoingMessage(line, headers)


def parse_json_message(line: bytes, headers: dict[str, str]) -> OutgoingMessage:
    """A message from `{"body": TEXT}` or `{"body_base64": ...}`, with optional `headers`; other keys are ignored.

    Raises ValueError, with the line, for anything else. `headers` are added and win.
    """
    shown = line[:80].decode(errors="replace")
    try:
        fields = json.loads(line)
        if "body_base64" in fields:
            body = base64.b64decode(fields["body_base64"], validate=True)
        else:
            body = fields["body"].encode()
        own = {str(key): str(value) for key, value in (fields.get("headers") or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise ValueError(
            f'not a message: {shown!r}; expected {{"body": "text", "headers": {{...}}}} or body_base64'
        ) from None
    return OutgoingMessage(body, own | headers)
