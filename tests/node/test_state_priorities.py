"""Messages of several priorities in one queue: each in a line of its own, all with sequences of the queue."""

from pathlib import Path

import pytest

from node.state.results import Acked, Moved, Published, Purged, Refused
from taskraft.v1 import queue_pb2
from tests.sim.state_log import (
    Follower,
    MemoryLog,
    ack,
    create,
    delete,
    delivered,
    message,
    move,
    publish,
    purge,
    send,
)

A, DEAD = "queues/a", "queues/dead"
REJECTED = queue_pb2.DEAD_LETTER_REASON_REJECTED
OVERFLOW = queue_pb2.DEAD_LETTER_REASON_OVERFLOW
DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


def lines(follower: Follower, name: str = A) -> dict[int, list[int]]:
    """The sequences of the live messages of each priority."""
    row = follower.machine.queue(name)
    assert row is not None
    return {
        priority: [
            chunk.first_sequence + place
            for chunk in follower.machine.chunks(row.id, 1, -1, priority)
            for place in range(chunk.count)
            if not chunk.acked >> place & 1
        ]
        for priority in (0, *follower.machine.priorities(row.id))
    }


def mixed(*priorities: int) -> list[queue_pb2.Message]:
    return [message(bytes([place]), priority=priority) for place, priority in enumerate(priorities)]


def test_messages_go_into_the_line_of_their_priority_with_the_sequences_of_their_publish(
    follower: Follower,
) -> None:
    results = follower.do(create(A), send(A, *mixed(0, 5, 5, 9, 0)), publish(A, b"x"), send(A, *mixed(5)))

    assert results[1:] == [Published(1, 5), Published(6, 1), Published(7, 1)]
    assert lines(follower) == {0: [1, 5, 6], 5: [2, 3, 7], 9: [4]}
    assert [m.body for _, m in follower.messages(A)] == [*map(bytes, ([0], [1], [2], [3], [4])), b"x", b"\0"]
    follower.restart()
    assert lines(follower) == {0: [1, 5, 6], 5: [2, 3, 7], 9: [4]}


def test_the_bytes_of_a_queue_are_those_of_all_its_lines(follower: Follower) -> None:
    command = send(A, message(b"x" * 100), message(b"y" * 10, priority=1), message(b"z"))
    follower.do(create(A), command)

    row = follower.machine.queue(A)
    assert row is not None
    assert (row.messages, row.bytes) == (3, len(command.publish.chunk))
    follower.do(ack(A, (1, 2)))
    row = follower.machine.queue(A)
    assert row is not None
    assert (row.messages, row.bytes) == (1, len(send(A, message(b"z")).publish.chunk))


def test_acks_attempts_and_purges_reach_all_priorities(follower: Follower) -> None:
    follower.do(create(A), send(A, *mixed(0, 5, 9, 5, 0)))
    row = follower.machine.queue(A)
    assert row is not None

    follower.do(delivered(A, 1, [(1, 4, 3)], priorities={5: 2, 9: 99, 3: 7}))

    assert follower.machine.attempts(row.id, 1, 5) == {1: 3, 2: 3, 3: 3, 4: 3}
    assert follower.machine.priorities(row.id) == {5: 2, 9: 5}
    assert follower.one(ack(A, (2, 3))) == Acked(2)
    assert lines(follower) == {0: [1, 5], 5: [4], 9: []}
    assert follower.one(purge(A)) == Purged(3)
    assert lines(follower) == {0: [], 5: [], 9: []}
    assert follower.machine.priorities(row.id) == {5: 2, 9: 5}
    assert follower.one(send(A, *mixed(9))) == Published(6, 1)


def test_a_deleted_queue_leaves_no_line(follower: Follower) -> None:
    follower.do(create(A), send(A, *mixed(0, 5, 9)), delete(A), create(A))

    assert lines(follower) == {0: []}
    assert follower.machine._store.execute("SELECT count(*) FROM queue_lines").fetchone() == (0,)
    while follower.machine._store.execute("SELECT count(*) FROM chunks").fetchone() != (0,):
        follower.machine.reclaim([], 0)


def test_a_stream_has_no_priorities(follower: Follower) -> None:
    follower.do(create(A, kind=queue_pb2.QUEUE_KIND_STREAM))

    refused = follower.one(send(A, *mixed(0, 1)))

    assert isinstance(refused, Refused)
    assert (refused.reason, refused.metadata) == ("INVALID_FIELD", {"field": "messages"})
    assert follower.live(A) == []


def test_the_lowest_priority_makes_room_first_and_the_oldest_of_it(follower: Follower) -> None:
    follower.do(
        create(DEAD),
        create(A, max_messages=6, overflow_policy=DROP_OLDEST, dead_letter_queue=DEAD),
        send(A, *mixed(9, 0, 1, 0, 1, 9)),
        delivered(A, 2, [(2, 2, 4)], priorities={1: 3}),
    )

    assert follower.one(send(A, *mixed(0, 0, 0))) == Published(7, 3, dropped=3)
    assert lines(follower) == {0: [7, 8, 9], 1: [5], 9: [1, 6]}

    letters = [queue_pb2.DeadLetter.FromString(row.dead_letter) for row in follower.rows(DEAD)]
    assert [(each.source_sequence, each.attempts, each.reason) for each in letters] == [
        (2, 4, OVERFLOW),
        (4, 0, OVERFLOW),
        (3, 1, OVERFLOW),
    ]
    assert lines(follower, DEAD) == {0: [1, 2], 1: [3]}


def test_a_message_keeps_its_priority_as_a_dead_letter_and_on_its_way_back(follower: Follower) -> None:
    follower.do(create(DEAD), create(A, dead_letter_queue=DEAD), send(A, *mixed(0, 7, 0)))

    assert follower.one(move(A, (1, 3, 2), reason=REJECTED)) == Moved(3)
    assert lines(follower, DEAD) == {0: [1, 3], 7: [2]}
    assert follower.one(move(DEAD, (1, 3, 0))) == Moved(3)

    assert lines(follower) == {0: [4, 6], 7: [5]}
    assert [m.body for _, m in follower.messages(A)] == [b"\0", b"\1", b"\2"]
    assert all(not row.dead_letter for row in follower.rows(A))


def test_the_oldest_message_is_the_oldest_of_all_priorities(follower: Follower) -> None:
    follower.do(create(A), time_ms=2_000_000)
    row = follower.machine.queue(A)
    assert row is not None
    assert follower.machine.oldest_ms(row.id) is None
    follower.do(send(A, *mixed(9)), time_ms=2_000_100)
    follower.do(send(A, *mixed(0)), time_ms=2_000_200)

    assert follower.machine.oldest_ms(row.id) == 2_000_100
    follower.do(ack(A, (1, 1)))
    assert follower.machine.oldest_ms(row.id) == 2_000_200
