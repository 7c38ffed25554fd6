"""The worker's side of the benchmarks of tasks: an app whose tasks do next to nothing, and its process."""

import json
import os
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from taskraft import App, Client, NewTask
from taskraft.local.worker import WorkerProcess

NOOP, STARTED, NOTED = "noop", "started", "noted"
STARTS_VARIABLE = "TASKRAFT_BENCH_STARTS"  # the file to which `noted` adds when it began
STAMP = struct.Struct("<Q")  # nanoseconds of the clock that all processes of a machine share
WORKER_TIMEOUT_S = 60.0

app = App(queue="bench")


@app.task(name=NOOP)
async def noop(body: str = "") -> None:
    """Nothing."""


@app.task(name=STARTED)
async def started(body: str = "") -> int:
    """When it began: nanoseconds of the monotonic clock."""
    return time.monotonic_ns()


@app.task(name=NOTED)
async def noted(body: str = "") -> None:
    """Adds when it began to a file, where it can be seen before any outcome is stored."""
    stamp = STAMP.pack(time.monotonic_ns())
    descriptor = os.open(os.environ[STARTS_VARIABLE], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, stamp)
    finally:
        os.close(descriptor)


def task_batch(queue: str, type_: str, count: int, payload_bytes: int) -> list[NewTask]:
    """So many tasks, each with a call whose payload takes about `payload_bytes`."""
    empty = len(json.dumps({"args": [""]}))
    payload = json.dumps({"args": ["x" * max(0, payload_bytes - empty)]}).encode()
    return [NewTask(type=type_, queue=queue, payload=payload)] * count


@asynccontextmanager
async def running_worker(
    client: Client, queue: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[WorkerProcess]:
    """One worker process that takes tasks from `queue`; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="taskraft-bench-") as directory:
        arguments = [f"{__name__}:app", "--queues", queue, "--address", ",".join(client.addresses)]
        log = Path(directory) / "worker.log"
        async with WorkerProcess(arguments, log=log, environment=environment or {}) as worker:
            yield worker


async def wait_for_worker(client: Client, queue: str, worker: WorkerProcess) -> None:
    """Return when a task of the queue has been through the worker. The queue must not be paused."""
    submission = await client.tasks.submit(NewTask(type=NOOP, queue=queue))
    try:
        await client.tasks.ended(submission.id, WORKER_TIMEOUT_S)
    except TimeoutError:
        worker.check()
        raise
