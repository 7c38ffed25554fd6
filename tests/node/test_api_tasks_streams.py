import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from node import limits
from node.api.forward import Context
from node.api.task_streams import TaskStreams
from node.api.task_views import Views
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running, run, running, until
from tests.node.task_clients import (
    CANCELLED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Worker,
    a_task,
    submit,
    task_queue,
)
from tests.node.task_streams import waiting, watchers, watching

MIB = 1 << 20
LEASED = task_pb2.TASK_STATE_LEASED


def test_a_watch_says_each_change_of_state(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            watch = await watching(node)
            worker = Worker(node)
            await worker.start(credit=1)

            await submit(node, a_task("a"))
            assert (await watch.tasks())[0][0] == "a"
            await worker.take()
            await watch.until("a", RUNNING)
            await worker.succeed("a", data=b"out")

            assert await watch.until("a", SUCCEEDED)

    run(story())


def test_a_watch_tells_only_of_what_is_wanted(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await task_queue(node, "other")
            by_queue = await watching(node, filter=task_pb2.TaskFilter(queue="queues/other"))
            by_type = await watching(node, filter=task_pb2.TaskFilter(type="t", labels={"k": "1"}))
            by_state = await watching(node, filter=task_pb2.TaskFilter(states=[CANCELLED]))

            await submit(node, a_task("a"), a_task("b", type="t"), a_task("c", type="t", labels={"k": "1"}))
            await submit(node, a_task("d", queue="other"))
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/b"]))

            assert await by_queue.tasks() == [("d", QUEUED)]
            assert await by_type.tasks() == [("c", QUEUED)]
            assert await by_state.tasks() == [("b", CANCELLED)]

    run(story())


def test_a_watch_of_a_workflow_hears_of_its_tasks(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            workflow = task_pb2.Workflow(name="workflows/w")
            await submit(node, a_task("a"), workflow=workflow)
            await submit(node, a_task("x"))
            watch = await watching(node, filter=task_pb2.TaskFilter(workflow="workflows/w"))

            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/x", "tasks/a"]))

            assert await watch.tasks() == [("a", CANCELLED)]

    run(story())


def test_a_watch_begins_with_what_is_there_and_misses_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}") for place in range(2_000)))
            watch = await watching(node, include_current=True)
            cancel = task_pb2.CancelTasksRequest(names=[f"tasks/t{place}" for place in range(1_000)])
            await node.tasks.CancelTasks(cancel)

            states: dict[str, int] = {}
            parts = 0
            while sum(state == CANCELLED for state in states.values()) < 1_000 or not parts:
                response = await watch.call.read()
                parts += response.current_sent
                states.update((task.name, task.state) for task in response.tasks)

            assert len(states) == 2_000
            assert parts == 1

    run(story())


def test_a_slow_reader_gets_each_task_once_as_it_is_then(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            context = SlowContext()
            request = task_pb2.WatchTasksRequest().SerializeToString()
            serving = asyncio.ensure_future(streams(node).WatchTasks(request, context.as_context))
            await until(lambda: context.written, "the watch has begun")
            context.free.clear()
            for place in range(20):
                await submit(node, a_task("a", priority=place), a_task(f"t{place}"))
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/a"]))
            context.free.set()
            await until(lambda: ("a", CANCELLED) in context.tasks, "all is told")
            serving.cancel()
            await asyncio.wait([serving])

            names = [name for name, _ in context.tasks]
            assert names.count("a") <= 2
            assert sorted(set(names)) == sorted(["a", *(f"t{place}" for place in range(20))])
            assert watchers(node) == 0

    run(story())


def test_a_reader_that_is_far_too_slow_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_CHANGED_MAX", 10)

    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            watch = await watching(node)

            await submit(node, *(a_task(f"t{place}") for place in range(11)))

            assert await watch.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_READER")
            assert watchers(node) == 0

    run(story())


def test_waiting_gives_each_result_once_and_ends_with_the_last(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"), a_task("b"), a_task("c"))
            worker = Worker(node)
            await worker.start(credit=2)
            await worker.take(2)
            await worker.succeed("a", data=b"one")

            wait = waiting(node, "a", "b", "c", "a")
            first = (await wait.call.read()).tasks
            await worker.succeed("b", data=b"two")
            second = (await wait.call.read()).tasks
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/c"]))
            third = (await wait.call.read()).tasks

            assert [(task.name, task.state, task.result.data) for task in (*first, *second, *third)] == [
                ("tasks/a", SUCCEEDED, b"one"),
                ("tasks/b", SUCCEEDED, b"two"),
                ("tasks/c", CANCELLED, b""),
            ]
            assert await wait.ended() == (grpc.StatusCode.OK, "")
            assert watchers(node) == 0

    run(story())


def test_large_results_come_one_by_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            names = [f"t{place}" for place in range(6)]
            await submit(node, *(a_task(name) for name in names))
            worker = Worker(node)
            await worker.start(credit=6)
            await worker.take(6)
            for name in names:
                await worker.succeed(name, data=bytes(MIB))

            wait = waiting(node, *names)
            sizes = []
            while (response := await wait.call.read()) is not grpc.aio.EOF:
                sizes.append([len(task.result.data) for task in response.tasks])

            assert sizes == [[MIB]] * 6

    run(story())


def test_waiting_for_a_task_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))

            assert await waiting(node, "a", "none").ended() == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
            assert await waiting(node).ended() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            too_many = waiting(node, *(f"t{place}" for place in range(10_001)))
            assert await too_many.ended() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            assert watchers(node) == 0

    run(story())


@pytest.mark.parametrize("method", ["DeleteQueue", "PurgeQueue"])
def test_waiting_ends_when_the_queue_is_emptied_or_deleted(tmp_path: Path, method: str) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            wait = waiting(node, "a")
            await until(lambda: watchers(node), "it waits")

            request = getattr(queue_pb2, f"{method}Request")(name="queues/q")
            await getattr(node.queues, method)(request)

            assert await wait.ended() == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    run(story())


def test_thousands_are_waited_for_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            names = [f"t{place}" for place in range(5_000)]
            await submit(node, *(a_task(name) for name in names))
            wait = waiting(node, *names)
            await until(lambda: watchers(node) == 5_000, "it waits for all")

            everything = task_pb2.CancelTasksRequest(queue="queues/q")
            while (await node.tasks.CancelTasks(everything)).cancelled_tasks:
                pass
            ended: list[str] = []
            while (response := await wait.call.read()) is not grpc.aio.EOF:
                ended += [task.name.removeprefix("tasks/") for task in response.tasks]

            assert sorted(ended) == sorted(names)
            assert watchers(node) == 0

    run(story())


class SlowContext:
    """A client that reads when `free` is set."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.written = 0
        self.tasks: list[tuple[str, int]] = []

    async def write(self, data: bytes) -> None:
        await self.free.wait()
        self.written += 1
        response = task_pb2.WatchTasksResponse.FromString(data)
        self.tasks += [(task.name.removeprefix("tasks/"), task.state) for task in response.tasks]

    @property
    def as_context(self) -> Context:
        context: Any = self
        return context  # type: ignore[no-any-return]


def streams(node: Running) -> TaskStreams:
    """The node's streams, to be called without gRPC between."""
    tasking = node.node.tasking
    views = Views(node.machine, tasking.scheduler.received)
    return TaskStreams(state=node.machine, views=views, watchers=tasking.watchers, replica=node.replica)
