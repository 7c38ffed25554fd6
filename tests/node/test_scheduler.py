"""The scheduler chooses, assigns and takes back as the contract says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, worker_pb2
from tests.node.scheduling import House, house


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def test_a_task_goes_to_a_worker_with_credit_and_its_result_is_acknowledged(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)

    home.submit("a", payload=b"in")
    assert worker.receive() == ["a"]
    (assignment,) = worker.held.values()
    worker.succeed()

    assert (assignment.task.payload, assignment.attempt) == (b"in", 1)
    assert worker.acked == [assignment.lease_id]
    assert home.state("a") == "SUCCEEDED"


def test_credit_is_never_exceeded(home: House) -> None:
    home.queue()
    home.submit(*"abcde")

    worker = home.worker(credit=2)
    assert worker.receive() == ["a", "b"]
    worker.succeed()
    assert worker.receive() == []

    worker.credit(2)
    assert worker.receive() == ["c", "d"]


def test_each_lease_of_a_task_has_a_higher_id(home: House) -> None:
    home.queue(backoff=Duration(nanos=1_000_000))
    worker = home.worker(credit=3)
    home.submit("a", max_attempts=3)
    seen = []
    for _ in range(3):
        worker.receive()
        (assignment,) = worker.held.values()
        seen.append((assignment.attempt, assignment.lease_id))
        worker.fail()
        home.tick(200)

    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert sorted(lease_id for _, lease_id in seen) == [lease_id for _, lease_id in seen]
    assert home.state("a") == "DEAD_LETTERED"


def test_a_silent_worker_loses_its_leases_and_its_late_result_is_refused(home: House) -> None:
    home.queue(lease=Duration(seconds=2))
    first = home.worker("w1", credit=1)
    home.submit("a")
    first.receive()
    (lease_id,) = first.held

    home.tick(4_000, heartbeats=False)
    second = home.worker("w2", credit=1)
    assert second.receive() == ["a"]
    assert [one.attempt for one in second.held.values()] == [2]
    first.succeed()

    assert first.rejected == {lease_id: "LEASE_LOST"}
    assert home.state("a") == "LEASED"


def test_a_worker_that_says_nothing_but_heartbeats_keeps_its_lease(home: House) -> None:
    home.queue(lease=Duration(seconds=1))
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()
    (lease_id,) = worker.held

    home.tick(10_000)

    assert home.task("a").lease_id == lease_id


def test_an_assignment_that_is_not_received_goes_to_another_worker_and_does_not_count(home: House) -> None:
    home.queue()
    deaf = home.worker("w1", credit=1)
    home.submit("a")
    home.tick(3_500)
    deaf.session.withdraw(0)

    other = home.worker("w2", credit=1)
    assert other.receive() == ["a"]
    assert [one.attempt for one in other.held.values()] == [1]


def test_a_worker_that_comes_back_keeps_the_leases_that_it_names(home: House) -> None:
    home.queue()
    worker = home.worker(credit=2)
    home.submit("a", "b")
    worker.receive()
    kept = next(iter(worker.held))

    worker.cut()
    again = worker.back(held=[kept])

    assert list(again.welcome.held_lease_ids) == [kept]  # type: ignore[union-attr]
    again.succeed(kept)
    assert home.state("a") == "SUCCEEDED"
    assert home.state("b") == "QUEUED"
    assert home.task("b").attempt == 0


def test_another_run_of_a_worker_costs_an_attempt_of_what_the_last_one_had(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()
    worker.cut()

    worker.back(instance_id="another", held=[])

    assert (home.state("a"), home.task("a").attempt) == ("QUEUED", 1)


def test_after_an_election_workers_go_on_with_what_they_hold(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()
    (lease_id,) = worker.held

    home.elect()
    home.tick(3_000)
    again = worker.back()
    again.succeed()

    assert again.acked == [lease_id]
    assert (home.state("a"), home.task("a").attempt) == ("SUCCEEDED", 1)


def test_after_an_election_a_worker_that_does_not_come_back_loses_its_leases(home: House) -> None:
    home.queue(lease=Duration(seconds=2))
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()

    home.elect()
    home.tick(1_000)
    assert home.state("a") == "LEASED"
    home.tick(3_000)

    assert (home.state("a"), home.task("a").attempt) == ("QUEUED", 1)


def test_a_cancelled_task_is_revoked_and_keeps_its_place_until_the_worker_answers(home: House) -> None:
    home.queue()
    worker = home.worker(credit=5, capacity={"cpu": 1})
    home.submit("a", "b", resources={"cpu": 1})
    worker.receive()
    (lease_id,) = worker.held

    home.command(cancel_tasks=internal.CancelTasks(names=["tasks/a"], limit=10))
    worker.read()
    assert worker.revoked == {lease_id: worker_pb2.REVOKE_REASON_CANCELLED}
    assert list(worker.held) == [lease_id], "b has to wait for the place"
    worker.succeed(lease_id)

    assert worker.rejected == {lease_id: "LEASE_LOST"}
    assert home.state("a") == "CANCELLED"
    assert worker.receive() == ["b"]


def test_a_task_that_runs_too_long_fails_and_its_worker_is_told(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a", timeout=Duration(seconds=2), max_attempts=1)
    worker.receive()
    (lease_id,) = worker.held

    home.tick(2_500)

    assert worker.revoked == {lease_id: worker_pb2.REVOKE_REASON_TIMEOUT}
    assert home.state("a") == "DEAD_LETTERED"


def test_a_slice_ends_and_the_task_goes_to_the_back_with_its_checkpoint(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_ROUND_ROBIN, time_slice=Duration(seconds=1))
    worker = home.worker(credit=1)
    home.submit("a", "b")
    worker.receive()
    (lease_id,) = worker.held

    home.tick(1_200)
    assert worker.revoked == {lease_id: worker_pb2.REVOKE_REASON_SLICE_END}
    worker.give_up(lease_id, worker_pb2.REVOKE_REASON_SLICE_END, b"half")
    worker.credit(1)
    assert worker.receive() == ["b"]
    worker.succeed()
    worker.credit(1)

    assert worker.receive() == ["a"]
    (again,) = worker.held.values()
    assert (again.checkpoint, again.attempt) == (b"half", 1)


def test_a_lane_that_nobody_can_run_blocks_nobody(home: House) -> None:
    home.queue()
    home.submit(*(f"gpu{n}" for n in range(3_000)), resources={"gpu": 1})
    home.submit("plain")

    worker = home.worker(credit=5)

    assert worker.receive() == ["plain"]


def test_limits_hold_whatever_the_credit(home: House) -> None:
    home.queue(max_running=3, max_running_per_key=1)
    home.submit("a1", "a2", limit_key="a")
    home.submit("b1", "b2", limit_key="b")
    home.submit("c1", limit_key="c")
    home.submit("d1", limit_key="d")

    worker = home.worker(credit=10)
    assert worker.receive() == ["a1", "b1", "c1"]
    worker.succeed(next(iter(worker.held)))

    assert worker.receive() == ["b1", "c1", "a2"]


def test_a_rate_limit_spreads_starts_over_time(home: House) -> None:
    home.queue(rate=queue_pb2.RateLimit(per_second=10, burst=2))
    home.submit(*(f"t{n}" for n in range(8)))
    worker = home.worker(credit=100)

    assert len(worker.receive()) == 2
    home.tick(300)
    assert len(worker.receive()) == 5
    home.tick(300)
    assert len(worker.receive()) == 8


def test_a_paused_queue_starts_nothing_until_it_is_resumed(home: House) -> None:
    home.queue()
    home.change(paused=True)
    home.submit("a")
    worker = home.worker(credit=1)
    assert worker.receive() == []

    home.change(paused=False)

    assert worker.receive() == ["a"]


def test_a_changed_policy_puts_what_waits_in_another_order(home: House) -> None:
    home.queue()
    home.submit(*(f"low{n}" for n in range(4_000)), priority=1)
    home.submit("high", priority=9)

    home.change(policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, aging=Duration())
    worker = home.worker(credit=3)

    assert worker.receive() == ["high", "low0", "low1"]


def test_a_draining_worker_gets_nothing_more(home: House) -> None:
    home.queue()
    worker = home.worker(credit=5)
    worker.say(drain=worker_pb2.WorkerDrain())
    home.submit("a")

    assert worker.receive() == []


def test_queues_take_turns_at_a_worker_that_serves_both(home: House) -> None:
    home.queue("one")
    home.queue("two")
    home.submit("a", "b", "c", "d", queue="one")
    home.submit("w", "x", "y", "z", queue="two")

    worker = home.worker(credit=4, queues=("one", "two"))

    assert sorted(worker.receive()) == ["a", "b", "w", "x"]


def test_a_delayed_task_starts_when_it_is_time(home: House) -> None:
    home.queue(backoff=Duration(seconds=1))
    worker = home.worker(credit=5)
    home.submit("a")
    worker.receive()
    worker.fail()
    assert home.state("a") == "DELAYED"

    home.tick(500)
    assert worker.receive() == []
    home.tick(1_000)

    assert worker.receive() == ["a"]


def test_a_large_task_starts_although_small_ones_keep_coming(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1_000, capacity={"cpu": 4})
    home.submit(*(f"small{n}" for n in range(4)), resources={"cpu": 1}, size=Duration(seconds=1))
    worker.receive()
    home.submit("large", resources={"cpu": 4}, size=Duration(seconds=1))

    for n in range(12):
        home.submit(f"more{n}", resources={"cpu": 1}, size=Duration(seconds=60))
        home.tick(500)
        if "large" in worker.receive():
            return
        worker.succeed(next(iter(worker.held)))
    raise AssertionError("the large task was starved")


def test_a_running_task_yields_to_one_of_higher_priority_where_the_queue_allows_it(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, preemption=True)
    worker = home.worker(credit=1)
    home.submit("low", priority=1, preemptible=True)
    worker.receive()
    (lease_id,) = worker.held

    home.submit("high", priority=5)
    worker.read()
    assert worker.revoked == {lease_id: worker_pb2.REVOKE_REASON_PREEMPTED}
    worker.give_up(lease_id, worker_pb2.REVOKE_REASON_PREEMPTED, b"so far")
    worker.credit(1)
    assert worker.receive() == ["high"]
    worker.succeed()
    worker.credit(1)

    assert worker.receive() == ["low"]
    assert [(one.checkpoint, one.attempt) for one in worker.held.values()] == [(b"so far", 1)]


def test_a_task_that_is_not_preemptible_is_left_alone(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, preemption=True)
    worker = home.worker(credit=1)
    home.submit("low", priority=1)
    worker.receive()

    home.submit("high", priority=5)
    worker.read()

    assert worker.revoked == {}


def test_tenants_share_by_weight(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_FAIR_SHARE, tenant_weights={"a": 3, "b": 1})
    for tenant in "ab":
        home.submit(*(f"{tenant}{n}" for n in range(80)), tenant=tenant, size=Duration(seconds=1))
    worker = home.worker()
    seen = []
    for _ in range(80):
        worker.credit(1)
        seen += worker.receive()
        home.tick(1_000)
        worker.succeed()

    assert 57 <= sum(name.startswith("a") for name in seen) <= 63


def test_a_checkpoint_that_was_said_just_before_the_end_is_there_for_the_next_attempt(home: House) -> None:
    home.queue(backoff=Duration(nanos=1_000_000))
    worker = home.worker(credit=2)
    home.submit("a")
    worker.receive()
    (lease_id,) = worker.held

    said = worker_pb2.LeaseProgress(lease_id=lease_id, fraction=0.5, checkpoint=b"half")
    worker.say(progress=worker_pb2.ProgressReport(tasks=[said]))
    worker.fail()
    home.tick(200)
    worker.receive()

    assert [one.checkpoint for one in worker.held.values()] == [b"half"]
