from collections.abc import Iterable
from pathlib import Path

import pytest

from node.state.task_rows import Counts
from node.web import task_metrics
from node.web.task_metrics import TaskQueueReading, task_queue_gauges
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running, run, running, until
from tests.node.task_clients import Worker, a_task, submit, task_queue

Found = dict[tuple[str, str], float]


def samples(node: Running) -> Found:
    """Values of the scraped page by name and labels."""
    page, _ = node.node.metrics.page(node.node.readings(), "")
    found: Found = {}
    for line in page.decode().splitlines():
        if line.startswith("taskraft_task"):
            name, _, value = line.rpartition(" ")
            name, _, labels = name.removesuffix("}").partition("{")
            found[name, labels] = float(value)
    return found


def q(state: str = "") -> str:
    return f'queue="queues/q",state="{state}"' if state else 'queue="queues/q"'


def test_what_happens_to_tasks_is_measured(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, *(a_task(f"t{place}") for place in range(5)))
            worker = Worker(node)
            await worker.start(credit=3)
            first, second, _ = await worker.take(3)
            await worker.succeed(first, second)
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/t4"]))

            found = samples(node)

            assert {
                state: found["taskraft_tasks", q(state)]
                for state in ("queued", "leased", "succeeded", "cancelled", "failed")
            } == {"queued": 1, "leased": 1, "succeeded": 2, "cancelled": 1, "failed": 0}
            assert found["taskraft_tasks_started_total", q()] == 3
            assert found["taskraft_tasks_ended_total", q("succeeded")] == 2
            assert found["taskraft_tasks_ended_total", q("cancelled")] == 1
            assert found["taskraft_task_waiting_seconds_count", q()] == 3
            assert found["taskraft_task_running_seconds_count", q()] == 2
            assert found["taskraft_task_end_to_end_seconds_count", q()] == 3
            assert found["taskraft_task_waiting_seconds_bucket", f'le="+Inf",{q()}'] == 3
            assert (found["taskraft_task_workers", q()], found["taskraft_task_credit", q()]) == (1, 0)
            assert "taskraft_queue_depth" not in {name for name, labels in found if labels == q()}

    run(story())


def test_a_task_that_ended_is_not_counted_again_for_what_depends_on_it_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/a"]))
            ended = task_pb2.DEPENDENCY_CONDITION_ENDED
            await submit(
                node, a_task("b", dependencies=[task_pb2.Dependency(task="tasks/a", condition=ended)])
            )

            assert samples(node)["taskraft_tasks_ended_total", q("cancelled")] == 1

    run(story())


def test_only_the_leader_counts(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            entries = list(node.replica.entries.values())
        async with running(tmp_path / "other", node_id="n2", leads=False) as follower:
            for index, entry in enumerate(entries, 1):
                follower.machine.apply(index, 1, entry)
            found = samples(follower)

            assert found["taskraft_tasks", q("queued")] == 1
            assert not [name for name, _ in found if "_total" in name]

    run(story())


def test_a_deleted_queue_is_not_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/a"]))
            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/q"))

            await until(lambda: samples(node) == {}, "nothing is left of it")

    run(story())


def test_queues_beyond_the_limit_share_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_metrics, "QUEUES_MAX", 1)

    async def story() -> None:
        async with running(tmp_path) as node:
            for name in ("q", "r", "s"):
                await task_queue(node, name)
                await submit(node, a_task(f"{name}-a", queue=name))
                names = [f"tasks/{name}-a"]
                await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=names))

            found = samples(node)

            other = 'queue="(other)",state="cancelled"'
            assert found["taskraft_tasks_ended_total", q("cancelled")] == 1
            assert found["taskraft_tasks_ended_total", other] == 2
            assert found["taskraft_tasks", other] == 2
            assert {labels for name, labels in found if name == "taskraft_task_workers"} == {
                q(),
                'queue="(other)"',
            }

    run(story())


def test_readings_of_no_queue_are_families_without_samples() -> None:
    nothing: Iterable[TaskQueueReading] = ()

    assert [family.samples for family in task_queue_gauges(nothing)] == [[], [], []]
    assert len(task_metrics.STATES) == len(Counts._fields) - 2
