"""Tasks per second: submitted in batches, run by one worker process, completed and committed."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskraft import Client
from taskraft.bench.figures import CpuMeter, Percentiles
from taskraft.bench.task_worker import NOOP, running_worker, task_batch, wait_for_worker
from taskraft.bench.throughput import Incomplete

LOOK_S = 0.1  # between two looks at how much is left; a look takes the cluster about as much as 15 tasks
END_S = 0.02  # the same when all is submitted: the end is to be seen soon
WARM_UP_TASKS = 2_000

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLoad:
    """Batches of `batch` no-op tasks with `payload_bytes` each, `outstanding` of them unacknowledged at any time.

    Submitting ends after `duration_s`, and waits while more than `ahead` tasks have not ended.
    """

    payload_bytes: int = 100
    batch: int = 500
    outstanding: int = 4
    duration_s: float = 5.0
    ahead: int = 4_000

    def __post_init__(self) -> None:
        assert self.batch >= 1
        assert self.outstanding >= 1
        assert self.ahead >= self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskThroughput:
    """One run: from the first submit to the last committed success.

    `batch_acknowledged` is from handing a batch over to its acknowledgement.
    """

    load: TaskLoad
    tasks: int
    seconds: float
    tasks_per_s: float
    batch_acknowledged: Percentiles
    client_cores: float | None
    worker_cores: float | None
    node_cores: float | None


class Submitting:
    """The submitting side of a run: so many loops, each with one batch outstanding."""

    def __init__(self, client: Client, queue: str, load: TaskLoad, progress: Progress) -> None:
        self._client, self._queue, self._load, self._progress = client, queue, load, progress
        self._room = asyncio.Event()
        self.submitted = 0
        self.left = 0
        self.seconds: list[float] = []

    async def run(self) -> None:
        """Submit until the time is up, then wait until everything has ended."""
        end = time.perf_counter() + self._load.duration_s
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look())
            submitting = [group.create_task(self._submit(end)) for _ in range(self._load.outstanding)]
            await asyncio.wait(submitting)
            looking.cancel()
            while await self._not_ended():  # noqa: ASYNC110  the broker is asked, nothing is shared
                await asyncio.sleep(END_S)

    async def _submit(self, end: float) -> None:
        while time.perf_counter() < end:
            while self.left > self._load.ahead:
                self._room.clear()
                await self._room.wait()
            self.left += self._load.batch
            batch = task_batch(self._queue, NOOP, self._load.batch, self._load.payload_bytes)
            start = time.perf_counter()
            await self._client.tasks.submit_many(batch)
            self.seconds.append(time.perf_counter() - start)
            self.submitted += len(batch)
            self._progress(self.submitted)

    async def _look(self) -> None:
        """Keep `left` near the truth: what is submitted meanwhile is counted when it is seen next."""
        while True:
            self.left = await self._not_ended()
            self._room.set()
            await asyncio.sleep(LOOK_S)

    async def _not_ended(self) -> int:
        return (await self._client.get_queue(self._queue)).stats.messages


async def measure_tasks(
    client: Client,
    queue: str,
    load: TaskLoad,
    *,
    node_pids: Sequence[int] = (),
    progress: Progress = lambda _: None,
) -> TaskThroughput:
    """Submit to a queue of tasks that is empty, with one worker process, and count what was completed."""
    before = (await client.get_queue(queue)).stats.published_messages
    async with running_worker(client, queue) as worker:
        await wait_for_worker(client, queue, worker)
        warm_up = task_batch(queue, NOOP, WARM_UP_TASKS, load.payload_bytes)
        submissions = await client.tasks.submit_many(warm_up)
        await client.tasks.ended(submissions[-1].id)
        submitting = Submitting(client, queue, load, progress)
        own, its, nodes = CpuMeter([os.getpid()]), CpuMeter([worker.pid]), CpuMeter(node_pids)
        start = time.perf_counter()
        await submitting.run()
        seconds = time.perf_counter() - start
        await check(client, queue, before + submitting.submitted + WARM_UP_TASKS + 1)
        return TaskThroughput(
            load=load,
            tasks=submitting.submitted,
            seconds=round(seconds, 3),
            tasks_per_s=round(submitting.submitted / seconds),
            batch_acknowledged=Percentiles.of_seconds(submitting.seconds),
            client_cores=own.cores(seconds),
            worker_cores=its.cores(seconds),
            node_cores=nodes.cores(seconds),
        )


async def check(client: Client, queue: str, submitted: int) -> None:
    """Raise Incomplete unless the broker took that many tasks, and each of them has ended well."""
    stats = (await client.get_queue(queue)).stats
    counts = stats.tasks
    if (
        stats.published_messages != submitted
        or stats.messages
        or counts is None
        or counts.ended != counts.succeeded
    ):
        raise Incomplete(
            f"{submitted} tasks were acknowledged; the queue had {stats.published_messages}: {counts}"
        )
