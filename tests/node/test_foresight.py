"""A task that is submitted to an idle worker is leased in the very entry that makes it, when nothing speaks against it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.results import Refused
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.scheduling import House, house


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def submitted(home: House, *tasks: task_pb2.Task) -> int:
    """Submit as the API does, in one entry; how many tasks were leased in it."""
    submit = plain(internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks)))
    following: list[tuple[Command, Answer]] = home.scheduler.foresight.leases(tasks)
    results = home.apply(submit, *(command for command, _ in following))
    for (_, answer), result in zip(following, results[1:], strict=True):
        assert not isinstance(result, Refused)
        answer(None)
    leased = sum(home.task(task.name[6:]).state == task_pb2.TASK_STATE_LEASED for task in tasks)
    home.settle()
    return leased


def task(name: str, **fields: object) -> task_pb2.Task:
    return task_pb2.Task(name=f"tasks/{name}", queue="queues/work", type="job", **fields)  # type: ignore[arg-type]


def test_tasks_for_an_idle_worker_are_leased_with_their_submit(home: House) -> None:
    home.queue()
    worker = home.worker(credit=3)

    assert submitted(home, task("a"), task("b")) == 2
    assert worker.receive() == ["a", "b"]
    worker.succeed()

    assert [home.state("a"), home.state("b")] == ["SUCCEEDED", "SUCCEEDED"]
    assert submitted(home, task("c")) == 1
    assert worker.receive() == ["c"]


def test_nothing_is_foreseen_when_not_all_can_start(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)

    assert submitted(home, task("a"), task("b")) == 0
    assert worker.receive() == ["a"]


@pytest.mark.parametrize(
    "scheduling",
    [
        {"max_running": 5},
        {"rate": queue_pb2.RateLimit(per_second=5)},
        {"policy": queue_pb2.SCHEDULING_POLICY_FAIR_SHARE},
    ],
)
def test_nothing_is_foreseen_where_limits_or_shares_have_to_be_kept(
    home: House, scheduling: dict[str, Any]
) -> None:
    home.queue(**scheduling)
    worker = home.worker(credit=5)

    assert submitted(home, task("a")) == 0
    assert worker.receive() == ["a"]


def test_what_waits_is_not_overtaken(home: House) -> None:
    home.queue()
    home.submit("first", resources={"gpu": 1})
    home.worker(credit=5)

    assert submitted(home, task("a")) == 0


def test_a_task_that_has_to_wait_for_its_time_is_not_foreseen(home: House) -> None:
    home.queue()
    home.worker(credit=5)

    assert submitted(home, task("a", not_before=Timestamp(seconds=1_800_000_000))) == 0


def test_a_task_that_exists_is_not_leased_again_and_costs_no_place(home: House) -> None:
    home.queue()
    worker = home.worker(credit=2, capacity={"cpu": 2})
    submitted(home, task("a", resources={"cpu": 1}))
    worker.receive()
    (lease_id,) = worker.held

    submitted(home, task("a", resources={"cpu": 1}))
    assert worker.receive() == ["a"]
    worker.succeed(lease_id)
    submitted(home, task("b", resources={"cpu": 1}))
    worker.receive()

    assert home.task("a").attempt == 1
    (seen,) = home.scheduler.pool
    assert (seen.held, seen.credit, seen.capacity.used) == (1, 0, {"cpu": 1.0})


def test_a_waiting_task_of_the_same_name_is_left_to_the_order_of_its_queue(home: House) -> None:
    home.queue()
    home.submit("a", resources={"gpu": 1})
    worker = home.worker(credit=2)
    home.command(cancel_tasks=internal.CancelTasks(names=["tasks/other"], limit=1))

    submitted(home, task("a"))

    assert worker.receive() == []
    assert home.state("a") == "QUEUED"


def test_a_worker_that_goes_before_the_commit_gets_nothing(home: House) -> None:
    home.queue()
    worker = home.worker("w1", credit=1)
    tasks = [task("a")]
    following = home.scheduler.foresight.leases(tasks)
    worker.cut()

    home.apply(
        plain(internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks))),
        *(command for command, _ in following),
    )
    for _, answer in following:
        answer(None)
    home.settle()

    assert (home.state("a"), home.task("a").attempt) == ("QUEUED", 0)
    assert home.worker("w2", credit=1).receive() == ["a"]
