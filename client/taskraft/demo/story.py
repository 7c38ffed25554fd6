"""The story: publish every source file, count tokens in other processes, kill the leader in the middle, compare."""

import asyncio
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taskraft import Client
from taskraft.demo.counting import (
    COUNTS,
    SOURCES,
    consumer_process,
    count_tokens,
    standard_library,
)
from taskraft.demo.verdict import Failover, Ledger, Result, Verdict, WorkflowVerdict
from taskraft.demo.workflow import WorkflowDemo
from taskraft.local import Layout, LocalCluster, LocalClusterError, free_port, wait_until_whole
from taskraft.terminal.graph import Drawing
from taskraft.terminal.layers import Step
from taskraft.terminal.report import out

NODES, CONSUMERS = 3, 3
MESSAGE_BYTES_MAX = 1 << 20  # the default limit of a queue
PUBLISHES_AT_ONCE = 32
FILES_AHEAD_MAX = 300  # of the consumers: so that the kill meets publishing, consuming and acknowledging
DEADLINE_S, CATCH_UP_TIMEOUT_S = 150.0, 30.0  # far above what it takes; a busy machine is no failure

T = TypeVar("T")
Condition = Callable[[], bool]


async def tell(files: list[Path]) -> bool:
    """The whole story with these files of the standard library; True if it ends well."""
    console = out()
    with tempfile.TemporaryDirectory(prefix="taskraft-demo-") as directory:
        layout = Layout.plan(Path(directory), nodes=NODES, port=free_port(NODES))
        console.print(f"Starting {NODES} nodes in {directory}")
        started = time.monotonic()
        async with LocalCluster(layout) as cluster, Client(cluster.address) as client:
            with running_consumers(cluster.address), bars(console) as progress:
                demo = Demo(cluster, client, files, progress)
                failover = await in_time(demo.run())
                cluster_s = time.monotonic() - started
            console.print(
                "The same as a workflow: tasks with dependencies, priorities and resources, two workers"
            )
            with bars(console) as progress:
                workflow = WorkflowDemo(cluster, client, files, Path(directory), progress)
                story = await in_time(workflow.run())
    console.print(Drawing([Step.of(task) for task in story.tasks]))
    console.print("Counting the same files in a single process, without a cluster")
    started = time.monotonic()
    expected = await asyncio.to_thread(count_in_one_process, files)
    verdict = Verdict(
        ledger=demo.ledger,
        failover=failover,
        expected=expected,
        cluster_s=cluster_s,
        single_process_s=time.monotonic() - started,
    )
    console.print(verdict.table())
    second = WorkflowVerdict(story=story, expected=expected)
    console.print()
    console.print(second.table())
    return verdict.good and second.good


async def in_time(story: Awaitable[T]) -> T:
    """Its result; LocalClusterError if there is none after so long that something must be wrong."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await story
    except TimeoutError:
        raise LocalClusterError(
            f"not every file was processed within {DEADLINE_S:.0f} s",
            "is the machine busy with something else?",
        ) from None


class Demo:
    """Publishing, gathering and killing, side by side. Everything it knows is in the ledger."""

    def __init__(self, cluster: LocalCluster, client: Client, files: list[Path], progress: Progress) -> None:
        self.ledger = Ledger()
        self._cluster, self._client, self._files = cluster, client, files
        self._moved = asyncio.Condition()
        self._killed_at: float | None = None
        self._first_ack_at: float | None = None
        self._progress = progress
        self._bars = {
            what: progress.add_task(what, total=len(files))
            for what in ("published", "acknowledged", "processed")
        }

    async def run(self) -> Failover:
        """Until every file is processed and the killed node is back."""
        await self._client.create_queue(SOURCES)
        await self._client.create_queue(COUNTS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_all())
            group.create_task(self._gather())
            kill = group.create_task(self._kill_the_leader())
        return kill.result()

    async def _publish_all(self) -> None:
        slots = asyncio.Semaphore(PUBLISHES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for path in self._files:
                await self._until(
                    lambda: len(self.ledger.published) - self.ledger.processed < FILES_AHEAD_MAX
                )
                await slots.acquire()
                group.create_task(self._publish(path)).add_done_callback(lambda _: slots.release())

    async def _publish(self, path: Path) -> None:
        """One file, one message: the path in a header, the content as the body."""
        body = (standard_library() / path).read_bytes()
        assert len(body) < MESSAGE_BYTES_MAX
        after_the_kill = self._killed_at is not None
        self.ledger.published.add(str(path))
        self.ledger.published_bytes += len(body)
        await self._client.queue(SOURCES).publish(body, headers={"path": str(path)})
        if after_the_kill and self._first_ack_at is None:
            self._first_ack_at = time.perf_counter()
        self.ledger.acknowledged.add(str(path))
        await self._move()

    async def _gather(self) -> None:
        """Take the consumers' results until there is one for every file."""
        async with self._client.queue(COUNTS).consume() as consumer:
            async for message in consumer:
                self.ledger.note(Result.parse(message.body))
                await message.ack()
                await self._move()
                if self.ledger.processed == len(self._files):
                    break
            await consumer.settle()

    async def _kill_the_leader(self) -> Failover:
        """When half of the files are acknowledged: kill -9, wait for the next acknowledgement, restart."""
        await self._until(lambda: len(self.ledger.acknowledged) >= len(self._files) // 2)
        leader = (await self._client.cluster()).leader_id
        self._killed_at = time.perf_counter()
        pid = self._cluster.kill(leader)
        self._say(f"[bold red]kill -9 {pid}[/]: {leader}, the leader, is dead")
        await self._until(lambda: self._first_ack_at is not None)
        assert self._first_ack_at is not None
        pause_s = self._first_ack_at - self._killed_at
        successor = (await self._client.cluster()).leader_id
        self._say(
            f"[bold green]{successor} leads[/]: publishes are acknowledged again after {pause_s * 1000:.0f} ms"
        )
        await self._cluster.restart(leader)
        self._say(f"{leader} is restarted")
        await self._until(lambda: self.ledger.processed == len(self._files))
        await wait_until_whole(self._client, CATCH_UP_TIMEOUT_S)
        return Failover(old_leader=leader, new_leader=successor, kill_to_ack_s=pause_s)

    async def _until(self, condition: Condition) -> None:
        async with self._moved:
            await self._moved.wait_for(condition)

    async def _move(self) -> None:
        ledger = self.ledger
        for what, count in (
            ("published", len(ledger.published)),
            ("acknowledged", len(ledger.acknowledged)),
            ("processed", ledger.processed),
        ):
            self._progress.update(self._bars[what], completed=count)
        async with self._moved:
            self._moved.notify_all()

    def _say(self, text: str) -> None:
        self._progress.console.print(text)


@contextmanager
def running_consumers(address: str) -> Iterator[None]:
    """Consumers in processes of their own, stopped at the end."""
    spawn = multiprocessing.get_context("spawn")  # gRPC and fork do not go together
    names = [f"consumer-{i + 1}" for i in range(CONSUMERS)]
    processes = [spawn.Process(target=consumer_process, args=(address, name), daemon=True) for name in names]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def bars(console: Console) -> Progress:
    """A bar for each number that grows."""
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
    )


def count_in_one_process(files: list[Path]) -> Counter[str]:
    """What the consumers must have counted together."""
    totals: Counter[str] = Counter()
    for path in files:
        totals += count_tokens((standard_library() / path).read_bytes())
    return totals
