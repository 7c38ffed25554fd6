"""A publish to a topic: which queues get it, and that all do or none."""

from pathlib import Path

import pytest

from node.state.results import Published, Refused, Result
from taskraft.v1 import queue_pb2
from tests.sim.state_log import (
    Follower,
    MemoryLog,
    ack,
    advance_queues,
    create,
    delete,
    message,
    publish,
    purge,
    send,
    update,
)

A, B, C = "queues/a", "queues/b", "queues/c"
TOPIC = "topics/orders.eu.created"
DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


def bound(pattern: str, **headers: str) -> queue_pb2.Binding:
    return queue_pb2.Binding(pattern=pattern, headers=headers)


def reason(result: Result) -> str:
    assert isinstance(result, Refused), result
    return result.reason


def bodies_moved(follower: Follower) -> int:
    return int(follower.machine._store.execute("SELECT count(*) FROM bodies").fetchone()[0])


def test_all_queues_that_are_bound_get_the_messages_and_the_body_is_stored_once(follower: Follower) -> None:
    follower.do(
        create(A, bindings=[bound("orders.*.created"), bound("orders.>")]),
        create(B, bindings=[bound("orders.eu.>")]),
        create(C, bindings=[bound("orders.us.>")]),
        publish(B, b"before"),
    )

    assert follower.one(publish(TOPIC, b"x", b"y")) == Published(0, 2, queues=2)

    assert (follower.bodies(A), follower.bodies(B), follower.bodies(C)) == (
        [b"x", b"y"],
        [b"before", b"x", b"y"],
        [],
    )
    follower.do(purge(C))
    follower.reclaim(entries_each=1, log_bytes_max=0)
    assert bodies_moved(follower) == 2
    follower.do(ack(A, (1, 2)))
    assert follower.bodies(B) == [b"before", b"x", b"y"]
    assert bodies_moved(follower) == 2
    follower.do(delete(B))
    for _ in range(3):  # rows of buried backlogs, a few thousand each
        follower.machine.reclaim([], 0)
    assert bodies_moved(follower) == 0


def test_a_topic_that_no_queue_is_bound_to_is_refused_unless_that_is_allowed(follower: Follower) -> None:
    follower.do(create(A, bindings=[bound("orders.us.*")]))

    refused = follower.one(publish(TOPIC, b"x"))
    assert reason(refused) == "UNROUTABLE"
    assert isinstance(refused, Refused)
    assert refused.metadata == {"topic": TOPIC}
    assert follower.one(send(TOPIC, message(b"x"), allow_unroutable=True)) == Published(0, 0, queues=0)


def test_a_filter_lets_messages_with_all_its_headers_through(follower: Follower) -> None:
    follower.do(
        create(A, bindings=[bound("orders.>", country="de", kind="x"), bound(">", country="fr")]),
        create(B, bindings=[bound(">")]),
        create(C, bindings=[bound(">", country="it")]),
    )
    sent = [
        message(b"0", country="de"),
        message(b"1", country="de", kind="x", more="y"),
        message(b"2", country="us"),
        message(b"3", country="fr"),
        message(b"4"),
    ]

    assert follower.one(send(TOPIC, *sent)) == Published(0, 5, queues=2)

    assert follower.bodies(A) == [b"1", b"3"]
    assert follower.bodies(B) == [b"0", b"1", b"2", b"3", b"4"]
    row = follower.machine.queue(A)
    assert row is not None
    (chunk,) = follower.rows(A)
    assert (row.messages, row.bytes) == (2, chunk.bytes * 2 // 3)
    assert chunk.bytes == len(send(TOPIC, *sent[1:4]).publish.chunk)


def test_a_topic_of_which_all_messages_are_filtered_out_is_unroutable(follower: Follower) -> None:
    follower.do(create(A, bindings=[bound(">", country="it")]))

    assert reason(follower.one(send(TOPIC, message(country="de")))) == "UNROUTABLE"
    assert follower.live(A) == []


def test_one_full_queue_refuses_the_publish_for_all(follower: Follower) -> None:
    follower.do(
        create(A, bindings=[bound(">")], max_messages=9, overflow_policy=DROP_OLDEST),
        create(B, bindings=[bound(">")], max_messages=2),
        publish(A, *[b"old"] * 9),
        publish(B, b"old"),
    )

    refused = follower.one(publish(TOPIC, b"x", b"y"))

    assert reason(refused) == "QUEUE_FULL"
    assert isinstance(refused, Refused)
    assert refused.metadata["queue"] == B
    assert (len(follower.live(A)), follower.live(B)) == (9, [1])
    assert follower.one(publish(TOPIC, b"x")) == Published(0, 1, dropped=1, queues=2)


def test_bindings_are_those_of_now(follower: Follower) -> None:
    follower.do(create(A, bindings=[bound("orders.>")]), publish(TOPIC, b"1"))
    follower.do(update(A, ["bindings"], bindings=[bound("invoices.>")]))
    assert reason(follower.one(publish(TOPIC, b"2"))) == "UNROUTABLE"
    assert follower.one(publish("topics/invoices.eu", b"3")) == Published(0, 1, queues=1)
    assert [row.name for row in follower.machine.routes("invoices.eu")] == [A]

    follower.restart()
    assert follower.one(publish("topics/invoices.eu", b"4")) == Published(0, 1, queues=1)
    follower.one(delete(A))
    assert reason(follower.one(publish("topics/invoices.eu", b"5"))) == "UNROUTABLE"
    follower.one(create(A, bindings=[bound("invoices.>")]))
    assert follower.one(publish("topics/invoices.eu", b"6")) == Published(0, 1, queues=1)
    assert follower.bodies(A) == [b"6"]


def test_a_repeated_publish_to_a_topic_stores_nothing_and_answers_the_same(follower: Follower) -> None:
    follower.do(create(A, bindings=[bound(">")]), create(B, bindings=[bound(">")]))
    sent = [message(b"x"), message(b"y", delay_ms=50)]

    first = follower.do(send(TOPIC, *sent, request_id="r"), send(TOPIC, *sent, producer=("p", 1)))
    again = follower.do(send(TOPIC, *sent, request_id="r"), send(TOPIC, *sent, producer=("p", 1)))

    assert first == [Published(0, 2, delayed=1, queues=2)] * 2
    assert again == [Published(0, 2, duplicate=True, delayed=1, queues=2)] * 2
    assert follower.bodies(A) == follower.bodies(B) == [b"x", b"x"]


def test_delay_and_priority_hold_in_every_queue_and_a_stream_knows_no_priority(follower: Follower) -> None:
    follower.do(
        create(A, bindings=[bound(">")]),
        create(B, bindings=[bound(">")], kind=queue_pb2.QUEUE_KIND_STREAM),
    )

    stored = follower.one(send(TOPIC, message(b"high", priority=5), message(b"late", delay_ms=100)))

    assert stored == Published(0, 2, delayed=1, queues=2)
    follower.one(advance_queues(), time_ms=9_000_000)
    assert follower.bodies(A) == follower.bodies(B) == [b"high", b"late"]
    a, b = follower.machine.queue(A), follower.machine.queue(B)
    assert a is not None
    assert b is not None
    assert (follower.machine.priorities(a.id), follower.machine.priorities(b.id)) == ({5: 0}, {})
