"""Streams that break or are slow, and workers that say what nobody expects."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from node import limits
from node.errors import SlowReader
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.node.scheduling import House, house


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def test_after_an_election_another_run_of_a_worker_costs_an_attempt(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a", max_attempts=1)
    worker.receive()

    home.elect()
    worker.back(instance_id="another", held=[])

    assert home.state("a") == "DEAD_LETTERED"


def test_a_preemption_that_was_lost_with_its_stream_is_said_again(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, preemption=True)
    worker = home.worker(credit=1)
    home.submit("low", preemptible=True)
    worker.receive()
    (lease_id,) = worker.held
    with home.slow(worker):
        home.submit("high", priority=10)
    worker.cut()

    again = worker.back()
    home.tick(3_000)

    assert again.revoked == {lease_id: worker_pb2.REVOKE_REASON_PREEMPTED}


def test_a_slice_that_ends_while_the_stream_is_broken_begins_anew_over_the_next_one(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_ROUND_ROBIN, time_slice=Duration(seconds=1))
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()
    (lease_id,) = worker.held
    home.submit("b")
    worker.cut()
    home.tick(1_500)

    again = worker.back()
    assert again.revoked == {}
    home.tick(1_100)

    assert again.revoked == {lease_id: worker_pb2.REVOKE_REASON_SLICE_END}


def test_an_outcome_that_comes_over_another_stream_while_the_lease_ends_is_answered(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a", timeout=Duration(seconds=1))
    worker.receive()
    (lease_id,) = worker.held
    home.now_ms += 1_100
    worker.say(heartbeat=worker_pb2.Heartbeat())
    timing_out = home.propose()
    assert timing_out

    again = worker.connect_again()
    again.held = worker.held
    again.send_results()
    home.commit(timing_out)
    again.session.end(None)

    assert again.rejected == {lease_id: "LEASE_LOST"}
    assert again.session.over


def test_an_assignment_that_has_to_yield_before_it_is_sent_is_never_sent(home: House) -> None:
    home.queue(policy=queue_pb2.SCHEDULING_POLICY_PRIORITY, preemption=True)
    worker = home.worker(credit=1)
    with home.slow(worker):
        home.submit("low", preemptible=True)
        home.submit("high", priority=10)

    assert worker.receive() == ["high"]
    assert worker.revoked == {}
    assert (home.state("low"), home.task("low").attempt) == ("QUEUED", 0)


def test_a_worker_that_is_to_drain_is_told_so_again_over_its_next_stream(home: House) -> None:
    home.queue()
    worker = home.worker(credit=2)
    home.submit("a")
    worker.receive()
    with home.slow(worker):
        home.scheduler.desk.drain("w1")
    worker.cut()

    again = worker.back()
    again.credit(5)
    home.submit("b")

    assert again.is_to_drain
    assert home.state("b") == "QUEUED"


def test_of_many_heartbeats_only_the_last_one_is_answered(home: House) -> None:
    home.queue()
    worker = home.worker()

    for sequence in range(100):
        worker.say(heartbeat=worker_pb2.Heartbeat(sequence=sequence))
    worker.read()

    assert worker.heartbeats == [99]


def test_a_worker_that_does_not_read_its_answers_is_cut_off(home: House) -> None:
    home.queue()
    worker = home.worker()
    with home.slow(worker):
        unknown = [worker_pb2.Outcome(lease_id=one) for one in range(1, limits.HELD_LEASES_MAX + 1)]
        worker.end(unknown)
        assert not worker.session.ended
        worker.end(unknown[:1])

    assert worker.session.over
    assert isinstance(worker.session.error, SlowReader)


def test_a_failure_with_an_impossible_delay_costs_other_outcomes_nothing(home: House) -> None:
    home.queue()
    worker = home.worker(credit=2)
    home.submit("a", "b")
    worker.receive()
    of_a, of_b = worker.held
    failure = worker_pb2.TaskFailure(
        error=task_pb2.TaskError(reason="Oops"), delay=Duration(seconds=10**17, nanos=-5)
    )

    worker.end(
        [
            worker_pb2.Outcome(lease_id=of_a, failure=failure),
            worker_pb2.Outcome(lease_id=of_b, result=task_pb2.TaskResult(data=b"x")),
        ]
    )

    assert (home.state("a"), home.state("b")) == ("DELAYED", "SUCCEEDED")
    assert worker.acked == [of_a, of_b]


def test_after_an_election_a_task_times_out_in_time_although_the_wall_clock_was_set_back(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a", timeout=Duration(seconds=10))
    worker.receive()
    (lease_id,) = worker.held

    home.wall_shift_ms = -3_600_000
    home.elect()
    again = worker.back()
    home.tick(10_500)

    assert again.revoked == {lease_id: worker_pb2.REVOKE_REASON_TIMEOUT}
