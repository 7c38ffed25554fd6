"""The second part of the story: count the same tokens as a workflow, while a worker and then the leader are killed."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from taskraft import Client, Handle, TaskInfo
from taskraft.demo.executions import Comparison, compare, read_executions
from taskraft.demo.tasks import (
    LOG_VARIABLE,
    MERGE_PRIORITY,
    WORKER_VARIABLE,
    app,
    merge,
    tokenize,
    total_size,
)
from taskraft.local import LocalCluster, LocalClusterError, wait_until_whole
from taskraft.local.worker import WorkerProcess

WORKERS, PROCESSES = ("worker-1", "worker-2"), 2
MAP_TASKS, MERGE_TASKS = 72, 8
CATCH_UP_TIMEOUT_S, WORKERS_TIMEOUT_S, POLL_S = 30.0, 30.0, 0.05
KILL_WORKER_AT, KILL_LEADER_AT = 0.25, 0.5  # shares of the tasks that have ended


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStory:
    """What happened: the tasks at the end, the tokens counted, and the two deaths.

    `kill_to_end_s` is from the kill of the leader to the end of the next task.
    """

    tasks: tuple[TaskInfo, ...]
    totals: Counter[str]
    comparison: Comparison
    seconds: float
    killed_worker: str
    old_leader: str
    new_leader: str
    kill_to_end_s: float


class WorkflowDemo:
    """The workflow, its workers and the kills, side by side. Invariant: `_ended` has each task that has ended once."""

    def __init__(
        self, cluster: LocalCluster, client: Client, files: list[Path], folder: Path, progress: Progress
    ) -> None:
        self._cluster, self._client, self._files, self._folder = cluster, client, files, folder
        self._log = folder / "executions"
        self._progress = progress
        self._bar = progress.add_task("tasks ended", total=None)
        self._moved = asyncio.Condition()
        self._ended: set[str] = set()
        self._tasks = 0
        self._killed_at = datetime.max.replace(tzinfo=UTC)
        self._first_end_at: float | None = None

    async def run(self) -> WorkflowStory:
        """Until the workflow has ended and the killed node is back."""
        app.addresses = self._cluster.address
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                workers = [await stack.enter_async_context(self._worker(name)) for name in WORKERS]
                await app.create_queues(self._client)
                await self._both_are_there(workers)
                return await self._tell(workers, started)
        finally:
            await asyncio.to_thread(app.close)

    async def _tell(self, workers: Sequence[WorkerProcess], started: float) -> WorkflowStory:
        workflow_id, total = await self._submit()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(workflow_id))
            await self._until(lambda: len(self._ended) >= KILL_WORKER_AT * self._tasks)
            self._say(
                f"[bold red]kill -9 {workers[0].kill()}[/]: {WORKERS[0]} is dead, in the middle of its tasks"
            )
            await self._until(lambda: len(self._ended) >= KILL_LEADER_AT * self._tasks)
            old, new, seconds = await self._kill_the_leader()
            totals = Counter(await total.aresult())
            watching.cancel()
        workers[1].check()
        ended_s = time.monotonic() - started
        await wait_until_whole(self._client, CATCH_UP_TIMEOUT_S)
        tasks = [task async for task in self._client.tasks.list(workflow=workflow_id, full=True)]
        return WorkflowStory(
            tasks=tuple(reversed(tasks)),
            totals=totals,
            comparison=compare(tasks, read_executions(self._log), WORKERS[0]),
            seconds=ended_s,
            killed_worker=WORKERS[0],
            old_leader=old,
            new_leader=new,
            kill_to_end_s=seconds,
        )

    def _worker(self, name: str) -> WorkerProcess:
        arguments = [
            "taskraft.demo.tasks:app",
            "--name",
            name,
            "--threads",
            "0",
            "--processes",
            str(PROCESSES),
        ]
        return WorkerProcess(
            [*arguments, "--capacity", f"cpu={PROCESSES}", "--address", self._cluster.address],
            log=self._folder / f"{name}.log",
            environment={LOG_VARIABLE: str(self._log), WORKER_VARIABLE: name},
        )

    async def _both_are_there(self, workers: Sequence[WorkerProcess]) -> None:
        deadline = time.monotonic() + WORKERS_TIMEOUT_S
        while len([one async for one in self._client.workers.list()]) < len(workers):
            for worker in workers:
                worker.check()
            if time.monotonic() > deadline:
                raise LocalClusterError("the workers do not connect", f"their logs are in {self._folder}")
            await asyncio.sleep(POLL_S)

    async def _submit(self) -> tuple[str, Handle[dict[str, int]]]:
        """Map over batches of files, larger ones first, merge in groups, then merge what comes of that: one commit."""
        per_batch = max(1, len(self._files) // MAP_TASKS)
        batches = [self._files[i : i + per_batch] for i in range(0, len(self._files), per_batch)]
        sizes = [total_size(batch) for batch in batches]
        async with app.workflow() as workflow:
            parts = [
                workflow.add(
                    tokenize.options(priority=round((MERGE_PRIORITY - 1) * size / max(sizes))),
                    [str(path) for path in batch],
                )
                for batch, size in zip(batches, sizes, strict=True)
            ]
            sums = [
                workflow.add(merge, [part.output for part in parts[i::MERGE_TASKS]])
                for i in range(min(MERGE_TASKS, len(parts)))
            ]
            total = workflow.add(merge, [one.output for one in sums])
        self._tasks = len(workflow.tasks)
        self._progress.update(self._bar, total=self._tasks)
        return workflow.id, total

    async def _watch(self, workflow_id: str) -> None:
        """Learn of every end, whoever leads."""
        async for task in self._client.tasks.watch(include_current=True, workflow=workflow_id):
            if not task.ended or task.id in self._ended:
                continue
            self._ended.add(task.id)
            if self._first_end_at is None and task.end_time is not None and task.end_time > self._killed_at:
                self._first_end_at = time.perf_counter()
            self._progress.update(self._bar, completed=len(self._ended))
            async with self._moved:
                self._moved.notify_all()

    async def _kill_the_leader(self) -> tuple[str, str, float]:
        """Kill -9, wait for the next task to end, restart: the old leader, the new one, and the seconds between."""
        leader = (await self._client.cluster()).leader_id
        killed = time.perf_counter()
        self._killed_at = datetime.now(UTC)
        pid = self._cluster.kill(leader)
        self._say(f"[bold red]kill -9 {pid}[/]: {leader}, the leader, is dead")
        await self._until(lambda: self._first_end_at is not None)
        assert self._first_end_at is not None
        seconds = self._first_end_at - killed
        successor = (await self._client.cluster()).leader_id
        self._say(f"[bold green]{successor} leads[/]: the next task has ended after {seconds * 1000:.0f} ms")
        await self._cluster.restart(leader)
        self._say(f"{leader} is restarted")
        return leader, successor, seconds

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._moved:
            await self._moved.wait_for(condition)

    def _say(self, text: str) -> None:
        self._progress.console.print(text)
