"""A program that is a worker: ADDRESS DIRECTORY. It begins tasks that wait for files in the directory."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from taskraft import App, current_task
from taskraft.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

app = App(sys.argv[1])
directory = Path(sys.argv[2])


@app.task(queue="q")
def slow(name: str) -> str:
    (directory / f"{name}.began").touch()
    while not (directory / name).exists():
        time.sleep(0.01)
    return name


@app.task(queue="q")
async def sleepy() -> None:
    (directory / "sleepy.began").touch()
    await asyncio.sleep(60)


@app.task(queue="q")
def steps() -> Iterator[int]:
    at = current_task().checkpoint or 0
    while True:
        at += 1
        (directory / "steps.began").touch()
        time.sleep(0.01)
        yield at


if __name__ == "__main__":
    Worker(app, threads=2, grace=float(sys.argv[3])).run()
    print("left")
