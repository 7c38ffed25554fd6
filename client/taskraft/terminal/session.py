"""Runs a command's asynchronous part: one event loop, one client, Ctrl-C."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
import uvloop

from taskraft import Client

T = TypeVar("T")
INTERRUPTED = 130


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a fresh loop. Ctrl-C cancels it and ends the command with 130."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def ctrl_c(cancel: Callable[[], object]) -> Iterator[None]:
    """Within the block Ctrl-C only calls `cancel`; after it, it interrupts again."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)  # uvloop does not do it when the loop is closed
        signal.signal(signal.SIGINT, signal.default_int_handler)


def with_client(address: str, timeout_s: float, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client of that cluster."""

    async def session() -> T:
        async with Client(address, timeout=timeout_s) as client:
            return await work(client)

    return run_async(session())
