"""Nobody starves, and nobody has to yield for nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from taskraft.v1 import queue_pb2, worker_pb2
from tests.node.scheduling import House, house, submitted

PRIORITY = queue_pb2.SCHEDULING_POLICY_PRIORITY
HOUR = Duration(seconds=3_600)
PREEMPTED = worker_pb2.REVOKE_REASON_PREEMPTED


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def test_many_lanes_that_nobody_can_run_starve_nobody(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1, types=["job"])
    home.apply(*(submitted(f"x{place}", kind=f"other{place}") for place in range(300)))
    home.settle()

    home.submit("mine")

    assert worker.receive() == ["mine"]


def test_a_second_task_has_its_way_although_another_one_had_it_just_before(home: House) -> None:
    home.queue(policy=PRIORITY, preemption=True)
    workers = [home.worker(name, credit=1) for name in ("w1", "w2")]
    home.submit("low1", "low2", preemptible=True)
    for worker in workers:
        worker.receive()

    home.submit("high1", priority=10)
    first, second = sorted(workers, key=lambda worker: not worker.revoked)
    (lease_id,) = first.revoked
    first.give_up(lease_id, PREEMPTED)
    first.credit(1)
    assert first.receive() == ["high1"]
    home.submit("high2", priority=10)
    home.tick(2_000)

    assert list(second.revoked.values()) == [PREEMPTED]


def test_nobody_yields_to_a_task_that_a_rate_limit_holds_back(home: House) -> None:
    home.queue(policy=PRIORITY, preemption=True, rate=queue_pb2.RateLimit(per_second=0.001, burst=1))
    worker = home.worker(credit=1)
    home.submit("low", preemptible=True)
    worker.receive()

    home.submit("high", priority=10)
    home.tick(3_000)

    assert worker.revoked == {}


def test_a_task_that_nobody_can_run_keeps_no_other_from_having_its_way(home: House) -> None:
    home.queue(policy=PRIORITY, preemption=True)
    worker = home.worker(credit=1, types=["job"])
    home.submit("low", preemptible=True)
    worker.receive()

    home.submit("nowhere", kind="other", priority=20)
    home.submit("high", priority=10)
    home.tick(2_000)

    assert list(worker.revoked.values()) == [PREEMPTED]


def test_a_task_is_not_held_back_by_a_worker_that_is_kept_for_one_behind_it(home: House) -> None:
    home.queue(policy=PRIORITY)
    worker = home.worker(credit=10, capacity={"cpu": 4})
    home.submit("long", resources={"cpu": 2}, size=HOUR)
    home.submit("huge", resources={"cpu": 4})
    home.tick(1_500)
    home.submit("late", resources={"cpu": 1}, size=HOUR)
    assert worker.receive() == ["long"]

    home.submit("urgent", resources={"cpu": 1}, size=HOUR, priority=9)

    assert worker.receive() == ["long", "urgent"]


def test_no_worker_is_kept_for_a_queue_that_may_run_no_more(home: House) -> None:
    home.queue("limited", policy=PRIORITY, max_running=2)
    home.queue("other")
    worker = home.worker("w1", credit=10, queues=("limited", "other"), capacity={"cpu": 4})
    home.submit("long", queue="limited", resources={"cpu": 2}, size=HOUR)
    home.submit("huge", queue="limited", resources={"cpu": 4})
    home.tick(1_500)
    worker.credit(1)
    home.submit("small", queue="other", resources={"cpu": 1}, size=HOUR)
    assert worker.receive() == ["long"]

    helper = home.worker("w2", credit=1, queues=("limited",), capacity={"gpu": 1})
    home.submit("urgent", queue="limited", resources={"gpu": 1}, priority=9)

    assert helper.receive() == ["urgent"]
    assert worker.receive() == ["long", "small"]
