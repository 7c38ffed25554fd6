"""Calls that come twice."""

from pathlib import Path

import pytest

from node import limits
from node.state import dedup
from node.state.results import Acked, Done, Published, Purged, QueueResult, Refused, Result
from node.state.store import Store
from taskraft.internal.v1 import command_pb2
from tests.sim.state_log import Follower, ManualClock, MemoryLog, ack, create, delete, publish, purge

A, B = "queues/a", "queues/b"
DAY_MS = 24 * 3_600_000


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(A), create(B))
    return follower


def batch(sequence: int, *bodies: bytes, producer: str = "p") -> command_pb2.Command:
    return publish(A, *(bodies or (b"x",)), producer_id=producer, producer_sequence=sequence)


def reason(result: Result) -> str:
    assert isinstance(result, Refused), result
    return result.reason


def test_a_repeated_publish_stores_nothing_and_says_so(follower: Follower) -> None:
    command = publish(A, b"x", b"y", request_id="r1")

    assert follower.one(command) == Published(1, 2)
    follower.restart()
    assert follower.do(command, command) == [Published(1, 2, duplicate=True)] * 2
    assert follower.live(A) == [1, 2]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (ack(A, (1, 2), request_id="r"), Acked(2)),
        (purge(A, request_id="r"), Purged(3)),
        (delete(A, request_id="r"), Done()),
    ],
    ids=["ack", "purge", "delete"],
)
def test_a_repeated_request_answers_what_it_answered_the_first_time(
    follower: Follower, command: command_pb2.Command, answer: Result
) -> None:
    follower.do(publish(A, b"x", b"y", b"z"))

    assert follower.one(command) == answer
    follower.do(create(A), publish(A, b"x"))
    assert follower.one(command) == answer


def test_a_repeated_creation_answers_the_queue_as_it_was_created(follower: Follower) -> None:
    first = follower.one(create("queues/c", request_id="r"))
    follower.do(publish("queues/c", b"x"))

    assert isinstance(first, QueueResult)
    assert follower.one(create("queues/c", request_id="r")) == first


def test_a_refused_request_may_be_tried_again(follower: Follower) -> None:
    follower.do(create("queues/c", max_messages=1), publish("queues/c", b"x"))
    command = publish("queues/c", b"y", request_id="r")
    assert reason(follower.one(command)) == "QUEUE_FULL"

    follower.do(ack("queues/c", (1, 1)))

    assert follower.one(command) == Published(2, 1)


@pytest.mark.parametrize(
    "other", [publish(B, b"x", request_id="r"), purge(A, request_id="r")], ids=["queue", "kind"]
)
def test_a_request_id_cannot_stand_for_something_else(follower: Follower, other: command_pb2.Command) -> None:
    follower.do(publish(A, b"x", request_id="r"))

    assert reason(follower.one(other)) == "REQUEST_ID_REUSED"
    assert follower.live(A) == [1]
    assert follower.live(B) == []


def test_a_request_is_forgotten_after_a_day(follower: Follower) -> None:
    command = publish(A, b"x", request_id="r")
    follower.one(command, time_ms=DAY_MS)

    assert follower.one(command, time_ms=2 * DAY_MS) == Published(1, 1, duplicate=True)
    assert follower.one(command, time_ms=2 * DAY_MS + 1) == Published(2, 1)


def test_only_so_many_requests_are_remembered_and_their_rows_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", clock_ms=ManualClock().now_ms)
    requests = dedup.Requests(store, requests_max=100)
    store.begin()

    for number in range(1_000):
        requests.remember(f"r{number}", "publish a", 0, Published(number, 1))

    assert requests.find("r899", "publish a", 0) is None
    assert requests.find("r900", "publish a", 0) == Published(900, 1, duplicate=True)
    assert len(requests.remembered(0)) == 100
    assert store.execute("SELECT count(*) FROM requests").fetchone()[0] < 100 + 3 * 64
    store.close()


def test_batches_of_a_producer_are_stored_once_and_in_order(follower: Follower) -> None:
    assert follower.do(batch(1, b"x"), batch(2, b"y", b"y")) == [Published(1, 1), Published(2, 2)]

    follower.restart()
    repeated = follower.do(batch(1, b"x"), batch(2, b"y", b"y"), batch(3, b"z"))

    assert repeated == [Published(1, 1, duplicate=True), Published(2, 2, duplicate=True), Published(4, 1)]
    assert follower.bodies(A) == [b"x", b"y", b"y", b"z"]


def test_a_gap_in_a_producers_batches_is_refused_with_what_was_expected(follower: Follower) -> None:
    follower.do(batch(1))

    refused = follower.one(batch(3))

    assert reason(refused) == "SEQUENCE_GAP"
    assert isinstance(refused, Refused)
    assert refused.metadata["expected_producer_sequence"] == "2"
    assert follower.one(batch(2)) == Published(2, 1)


def test_an_unknown_producer_may_start_anywhere_but_at_zero(follower: Follower) -> None:
    assert reason(follower.one(batch(0))) == "INVALID_FIELD"
    assert follower.one(batch(17)) == Published(1, 1)
    assert follower.one(batch(16)) == Published(0, 0, duplicate=True)
    assert follower.one(batch(18, producer="q")) == Published(2, 1)


def test_a_refused_batch_does_not_count(follower: Follower) -> None:
    missing = publish("queues/none", b"x", producer_id="p", producer_sequence=1)

    assert reason(follower.one(missing)) == "QUEUE_NOT_FOUND"
    assert follower.one(batch(1)) == Published(1, 1)


def test_the_results_of_the_latest_batches_are_kept(follower: Follower) -> None:
    kept = limits.PRODUCER_RESULTS_KEPT
    follower.do(*(batch(sequence) for sequence in range(1, kept + 9)))

    assert follower.one(batch(8)) == Published(0, 0, duplicate=True)
    assert follower.one(batch(9)) == Published(9, 1, duplicate=True)
    assert follower.one(batch(kept + 8)) == Published(kept + 8, 1, duplicate=True)


def test_an_idle_producer_is_forgotten_after_a_week_and_its_row_goes(follower: Follower) -> None:
    follower.one(batch(5), time_ms=DAY_MS)
    follower.one(batch(1, producer="q"), time_ms=DAY_MS)

    assert follower.one(batch(5), time_ms=8 * DAY_MS) == Published(1, 1, duplicate=True)
    assert follower.one(batch(5), time_ms=8 * DAY_MS + 1) == Published(3, 1)
    follower.one(batch(1, producer="r"), time_ms=9 * DAY_MS)
    rows = follower.machine._store.execute("SELECT id FROM producers ORDER BY id").fetchall()
    assert rows == [("p",), ("r",)]
