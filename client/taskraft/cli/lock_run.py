"""`taskraft lock run`: a command that runs while a lock is held, and is ended before anyone else can have it."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Annotated

import typer

from taskraft import Client, Lock
from taskraft._lock_keeper import margin_s
from taskraft.terminal.options import DEFAULT_ADDRESS, Address, Timeout, parse_duration, parse_headers
from taskraft.terminal.report import err
from taskraft.terminal.session import with_client

TIMEOUT_S = 30.0
KILL_S = 0.1
"""So long before the TTL can have ended the command is killed, if it has not ended when it was asked to."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lock's name.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run.")],
    ttl: Annotated[
        float,
        typer.Option(parser=parse_duration, metavar="DURATION", help="How long it outlives a lost holder."),
    ] = "10s",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    wait: Annotated[
        float | None,
        typer.Option(
            parser=parse_duration,
            metavar="DURATION",
            help="How long to wait for it, 0 for not at all; as long as it takes if not given.",
        ),
    ] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Hold it with others that are shared.")] = False,
    permits: Annotated[
        int, typer.Option(min=0, help="Hold it with so many in all; the same number for everyone.")
    ] = 0,
    lock_delay: Annotated[
        float,
        typer.Option(
            parser=parse_duration,
            metavar="DURATION",
            help="If this command is lost, and does not end, nobody gets the lock before.",
        ),
    ] = "0",  # type: ignore[assignment]
    holder: Annotated[
        str, typer.Option(help="What others see of it; this machine and process if not given.")
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="More of that; may be repeated."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Run a command while a lock is held. It finds the fencing token of the lock in TASKRAFT_LOCK_TOKEN.

    If the lock is lost, the command and all that it has started are ended before anyone else can have it: SIGTERM first,
    then SIGKILL. Exit code: that of the command; 1 if the lock was not granted in time, or was lost. A command that goes on
    because this one was killed, or that was paused, is told apart by its token only: check that wherever it matters.

    Examples:

    `taskraft lock run nightly-import -- python import.py`

    `taskraft lock run deploy --wait 0 --label who=$USER -- ./deploy.sh`
    """
    if shared and permits:
        raise typer.BadParameter("a lock is shared or has permits, not both", param_hint="--permits")
    labels = parse_headers(label or [])

    async def work(client: Client) -> int:
        lock = client.lock(
            name,
            ttl=ttl,
            wait=wait,
            shared=shared,
            permits=permits,
            lock_delay=lock_delay,
            holder_id=holder,
            labels=labels,
            cancel=False,
        )
        async with lock:
            return await _run(lock, ttl, command)

    code = with_client(address, timeout, work)
    if code:
        raise typer.Exit(code)


async def _run(lock: Lock, ttl_s: float, command: list[str]) -> int:
    """Run it to its end, or to that of the lock; its exit code."""
    variables = {"TASKRAFT_LOCK_NAME": lock.name, "TASKRAFT_LOCK_TOKEN": str(lock.token)}
    try:
        process = subprocess.Popen(  # noqa: ASYNC220  asyncio would fork, which gRPC does not like
            command, env=os.environ | variables, start_new_session=True
        )
    except FileNotFoundError:
        err().print(f"{command[0]}: not found", markup=False)
        return NOT_FOUND
    except PermissionError:
        err().print(f"{command[0]}: not executable", markup=False)
        return NOT_EXECUTABLE
    ended = asyncio.create_task(asyncio.to_thread(process.wait))
    lost = asyncio.create_task(lock.lost.wait())
    try:
        with _forwarding(process.pid):
            await asyncio.wait([ended, lost], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await _end(process.pid, ended, ttl_s)
            code = await ended
    finally:
        lost.cancel()
        if not ended.done():
            _signal(process.pid, signal.SIGKILL)
            await ended
    return code if code >= 0 else SIGNALLED - code


async def _end(process_id: int, ended: asyncio.Task[int], ttl_s: float) -> None:
    """The lock is lost: ask the command and all that it has started to end, and kill them when the margin is over."""
    _signal(process_id, signal.SIGTERM)
    await asyncio.wait([ended], timeout=margin_s(ttl_s) - KILL_S)
    _signal(process_id, signal.SIGKILL)  # also those that are left when the command itself has ended


def _signal(process_id: int, number: int) -> None:
    """To the command and all that it has started, which are in a session of their own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, number)


@contextmanager
def _forwarding(process_id: int) -> Iterator[None]:
    """Within the block signals that would end us go to the command instead: it decides, and the lock is held until then."""
    loop = asyncio.get_running_loop()
    for number in FORWARDED:
        loop.add_signal_handler(number, partial(_signal, process_id, number))
    try:
        yield
    finally:
        for number in FORWARDED:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
