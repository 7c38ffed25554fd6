"""An app that spawned processes can load."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from taskraft import App, current_task

if TYPE_CHECKING:
    from collections.abc import Generator

app = App("127.0.0.1:1")


@app.task(queue="q", cpu_bound=True)
def square(n: int) -> list[int]:
    return [n * n, os.getpid()]


@app.task(queue="q", cpu_bound=True)
def addresses() -> list[str]:
    return list(app.addresses)


@app.task(queue="q", cpu_bound=True)
def crash(marker: str) -> str:
    """Kills its process the first time, if `marker` names a file that is not there yet."""
    if mark(marker):
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(queue="q", cpu_bound=True)
def spin(marker: str) -> str:
    """Computes for ever the first time."""
    if mark(marker):
        while True:
            pass
    return "done"


@app.task(queue="q", cpu_bound=True)
def count(marker: str) -> Generator[int, None, str]:
    """Yields 1, 2, 3 and waits after the first one until it is asked to leave, the first time."""
    first = mark(marker)
    for at in range(current_task().checkpoint or 0, 3):
        current_task().progress(at / 3, f"at {at}")
        while first and at == 1 and not current_task().should_yield:
            time.sleep(0.005)
        yield at + 1
    return "counted"


def mark(marker: str) -> bool:
    """True the first time."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
