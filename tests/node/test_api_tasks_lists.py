import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import run, running
from tests.node.task_clients import QUEUED, RUNNING, Worker, a_task, listed, submit, task_queue

IN_ORDER = task_pb2.TASK_ORDER_SCHEDULE
FULL = task_pb2.TASK_VIEW_FULL
MIB = 1 << 20


def of(**fields: Any) -> task_pb2.TaskFilter:
    return task_pb2.TaskFilter(**fields)


def test_tasks_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}") for place in range(25)))

            assert await listed(node, page_size=10) == [f"t{place}" for place in reversed(range(25))]
            assert await listed(node, page_size=25) == [f"t{place}" for place in reversed(range(25))]

    run(story())


def test_pages_go_on_where_they_were_although_tasks_come_meanwhile(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}") for place in range(4)))
            first = await node.tasks.ListTasks(task_pb2.ListTasksRequest(page_size=2))
            await submit(node, a_task("new"))

            assert [task.name for task in first.tasks] == ["tasks/t3", "tasks/t2"]
            assert await listed(node, page_token=first.next_page_token) == ["t1", "t0"]

    run(story())


def test_a_filter_keeps_what_fits_in_all_respects(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await task_queue(node, "other")
            workflow = task_pb2.Workflow(name="workflows/w")
            await submit(
                node, a_task("a", labels={"k": "1", "l": "x"}), a_task("b", type="t", labels={"k": "1"})
            )
            await submit(node, a_task("c", queue="other"), workflow=workflow)
            await submit(node, a_task("d", labels={"k": "2"}))
            worker = Worker(node)
            await worker.start(credit=1)
            assert await worker.take() == ["a"]

            assert await listed(node, filter=of(queue="queues/q")) == ["d", "b", "a"]
            assert await listed(node, filter=of(states=[QUEUED])) == ["d", "c", "b"]
            assert await listed(node, filter=of(states=[RUNNING])) == ["a"]
            assert await listed(node, filter=of(type="t")) == ["b"]
            assert await listed(node, filter=of(labels={"k": "1"})) == ["b", "a"]
            assert await listed(node, filter=of(labels={"k": "1", "l": "x"})) == ["a"]
            assert await listed(node, filter=of(workflow="workflows/w")) == ["c"]
            assert await listed(node, filter=of(workflow="workflows/w", queue="queues/q")) == []
            assert await listed(node, filter=of(worker_id="w")) == ["a"]

    run(story())


def test_a_filter_by_time_has_its_first_moment_and_not_its_last(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            times: list[int] = []
            for name in ("a", "b", "c"):
                await submit(node, a_task(name))
                row = node.machine.task(f"tasks/{name}")
                assert row
                times.append(row.create_ms)
                await asyncio.sleep(0.002)

            def at(time_ms: int) -> Timestamp:
                found = Timestamp()
                found.FromMilliseconds(time_ms)
                return found

            assert await listed(node, filter=of(created_from=at(times[1]))) == ["c", "b"]
            assert await listed(node, filter=of(created_before=at(times[1]))) == ["a"]
            assert await listed(node, filter=of(created_from=at(times[0]), created_before=at(times[2]))) == [
                "b",
                "a",
            ]

    run(story())


def test_a_page_looks_at_a_bounded_number_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_ROWS_MAX", 1_000)

    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("first", labels={"rare": "1"}))
            await submit(node, *(a_task(f"t{place}") for place in range(3_000)))
            rare = of(labels={"rare": "1"})

            page = await node.tasks.ListTasks(task_pb2.ListTasksRequest(filter=rare))

            assert (len(page.tasks), page.next_page_token != "") == (0, True)
            assert await listed(node, filter=rare) == ["first"]

    run(story())


def test_a_page_of_large_tasks_ends_before_it_is_too_large(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            for place in range(5):
                await submit(node, a_task(f"t{place}", payload=bytes(MIB)))

            page = await node.tasks.ListTasks(task_pb2.ListTasksRequest(view=FULL))
            small = await node.tasks.ListTasks(task_pb2.ListTasksRequest())

            assert [task.name for task in page.tasks] == ["tasks/t4", "tasks/t3"]
            assert len(small.tasks) == 5
            assert await listed(node, view=FULL) == ["t4", "t3", "t2", "t1", "t0"]

    run(story())


# In scheduling order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_lanes_are_merged_in_the_order_of_the_policy(tmp_path: Path, page_size: int) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node, policy=queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST)
            sizes = [5, 3, 9, 1, 7, 3, 2, 8]
            await submit(
                node,
                *(
                    a_task(f"t{place}", size=Duration(seconds=size), limit_key=f"{place % 3}")
                    for place, size in enumerate(sizes)
                ),
            )

            assert await listed(node, filter=of(queue="queues/q"), order=IN_ORDER, page_size=page_size) == [
                "t3",
                "t6",
                "t1",
                "t5",
                "t0",
                "t4",
                "t7",
                "t2",
            ]

    run(story())


def test_the_listed_order_is_the_order_of_starts(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(
                node, policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, max_running=1, aging=Duration()
            )
            await submit(
                node,
                *(
                    a_task(f"t{place}", priority=place * 7 % 5, type=f"type{place % 2}")
                    for place in range(12)
                ),
            )
            expected = await listed(node, filter=of(queue="queues/q"), order=IN_ORDER)
            worker = Worker(node)
            await worker.start(credit=12)
            started: list[str] = []
            while len(started) < 12:
                started += await worker.take()
                await worker.succeed(started[-1])

            assert started == expected

    run(story())


@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_shares_are_listed_as_they_would_be_given(tmp_path: Path, page_size: int) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            policy = queue_pb2.SCHEDULING_POLICY_FAIR_SHARE
            await task_queue(node, policy=policy, tenant_weights={"gold": 2.0})
            second = Duration(seconds=1)
            await submit(node, *(a_task(f"s{place}", tenant="silver", size=second) for place in range(3)))
            await submit(node, *(a_task(f"g{place}", tenant="gold", size=second) for place in range(6)))

            order = await listed(node, filter=of(queue="queues/q"), order=IN_ORDER, page_size=page_size)

            assert sorted(order) == sorted(
                [*(f"s{place}" for place in range(3)), *(f"g{place}" for place in range(6))]
            )
            for part in range(3, 10, 3):
                assert [name[0] for name in order[part - 3 : part]].count("g") == 2
            assert [name for name in order if name[0] == "g"] == [f"g{place}" for place in range(6)]

    run(story())


def test_other_filters_hold_in_scheduling_order_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}", labels={"k": f"{place % 2}"}) for place in range(6)))

            odd = of(queue="queues/q", labels={"k": "1"})

            assert await listed(node, filter=odd, order=IN_ORDER, page_size=2) == ["t1", "t3", "t5"]
            assert await listed(node, filter=of(queue="queues/q", states=[RUNNING]), order=IN_ORDER) == []

    run(story())


def test_thousands_of_lanes_and_tasks_are_all_listed_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}", limit_key=f"{place % 900}") for place in range(4_000)))

            assert await listed(node, filter=of(queue="queues/q"), order=IN_ORDER, page_size=1_000) == [
                f"t{place}" for place in range(4_000)
            ]

    run(story())
