"""Credit and places at workers: none is lost, and none is given twice, whatever becomes of a lease."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskraft.v1 import worker_pb2
from tests.node.scheduling import House, cancelled, house, submitted


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def test_a_task_that_is_leased_and_cancelled_in_one_entry_costs_no_credit(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.apply(submitted("a"))

    home.commit(home.propose(), then=[cancelled("a")])
    assert worker.receive() == []
    home.submit("b")

    assert worker.receive() == ["b"]


def test_a_lease_that_is_refused_gives_all_its_credit_back(home: House) -> None:
    home.queue()
    worker = home.worker(capacity={"cpu": 1})
    worker.say(credit=worker_pb2.WorkCredit(tasks=2, bytes=1_000))
    home.submit("keep")
    worker.receive()
    home.apply(submitted("a", payload=b"x" * 600, resources={"cpu": 1}))
    proposed = home.propose()

    home.apply(cancelled("a"))
    home.commit(proposed)
    home.submit("b", payload=b"x" * 600, resources={"cpu": 1})

    assert worker.receive() == ["keep", "b"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_lease_that_an_earlier_stream_has_paid_for_takes_and_gives_no_credit_on_the_next_one(
    home: House, refused: bool
) -> None:
    home.queue()
    worker = home.worker(credit=2)
    home.submit("keep")
    worker.receive()
    home.apply(submitted("a"))
    proposed = home.propose()

    again = worker.connect_again()
    if refused:
        home.apply(cancelled("a"))
    home.commit(proposed)
    home.submit("b")
    assert again.receive() == []
    again.credit(1)

    assert again.receive() == ["b" if refused else "a"]


def test_a_lease_that_is_committed_after_another_run_has_come_takes_no_place_there(home: House) -> None:
    home.queue()
    worker = home.worker(credit=2, capacity={"cpu": 1})
    home.submit("keep")
    worker.receive()
    home.apply(submitted("a", resources={"cpu": 1}))
    proposed = home.propose()

    again = worker.connect_again(instance_id="another")
    home.commit(proposed)
    again.credit(5)

    assert again.receive() == ["a"]


def test_a_lease_that_is_committed_when_its_stream_is_gone_comes_over_the_next_one(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1, capacity={"cpu": 1})
    home.apply(submitted("a", "b", resources={"cpu": 1}))
    proposed = home.propose()

    worker.cut()
    again = worker.connect_again()
    home.commit(proposed)
    again.credit(2)
    assert again.receive() == ["a"]
    again.succeed()

    assert again.receive() == ["b"]


def test_an_assignment_that_is_withdrawn_before_it_is_sent_costs_no_credit(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    with home.slow(worker):
        home.submit("a")
        home.apply(cancelled("a"))
        home.settle()

    home.submit("b")

    assert worker.receive() == ["b"]


def test_assignments_that_wait_long_for_a_slow_stream_cost_no_credit(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    with home.slow(worker):
        home.submit("a")
        for _ in range(40):
            home.tick(100)
            worker.heartbeat()

    assert worker.receive() == ["a"]
    assert [one.attempt for one in worker.held.values()] == [1]


def test_a_stream_that_is_about_to_end_is_given_nothing(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1_000)
    home.submit("a")
    worker.receive()
    worker.send_results()
    worker.session.end(None)
    home.apply(submitted("b", "c"))
    before = home.machine.applied

    home.settle()

    assert [home.state(name) for name in "abc"] == ["SUCCEEDED", "QUEUED", "QUEUED"]
    assert home.machine.applied == before + 1, "only the outcome is committed"
