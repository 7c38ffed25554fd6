"""Dead letters and their way back: what moves, where to, and what no setting may do."""

from pathlib import Path
from typing import Any

import pytest

from node.state.results import Acked, Done, Moved, Published, Refused, Result
from node.state.rows import duration
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.state_log import (
    Follower,
    MemoryLog,
    ack,
    advance_queues,
    create,
    delete,
    delivered,
    message,
    move,
    publish,
    send,
    update,
)

A, B, DEAD, WORSE = "queues/a", "queues/b", "queues/dead", "queues/worse"
REJECTED = queue_pb2.DEAD_LETTER_REASON_REJECTED
TOO_OFTEN = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS
EXPIRED = queue_pb2.DEAD_LETTER_REASON_EXPIRED
TASK, STREAM = queue_pb2.QUEUE_KIND_TASK, queue_pb2.QUEUE_KIND_STREAM


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(DEAD), create(A, dead_letter_queue=DEAD))
    return follower


def reason(result: Result) -> str:
    assert isinstance(result, Refused), result
    return result.reason


def letters(follower: Follower, name: str = DEAD) -> list[queue_pb2.DeadLetter]:
    return [queue_pb2.DeadLetter.FromString(row.dead_letter) for row in follower.rows(name)]


def held(follower: Follower, name: str) -> tuple[int, int]:
    row = follower.machine.queue(name)
    assert row is not None
    return row.messages, row.bytes


def test_messages_are_moved_with_where_they_come_from_and_why(follower: Follower) -> None:
    follower.do(publish(A, b"1", b"2", b"3"), publish(A, b"4"), time_ms=2_000_000)
    before = held(follower, A)

    assert follower.one(move(A, (2, 3, 5), (4, 4, 1), reason=TOO_OFTEN), time_ms=2_000_700) == Moved(3)

    assert (follower.bodies(A), follower.bodies(DEAD)) == ([b"1"], [b"2", b"3", b"4"])
    first, second = letters(follower)
    assert (first.source, first.source_sequence, first.reason, first.attempts) == (A, 2, TOO_OFTEN, 5)
    assert first.publish_time.ToMilliseconds() == 2_000_000
    assert first.dead_letter_time.ToMilliseconds() == 2_000_700
    assert (second.source_sequence, second.attempts, second.group) == (4, 1, "")
    assert [(row.first_sequence, row.count, row.offset) for row in follower.rows(DEAD)] == [
        (1, 2, 1),
        (3, 1, 0),
    ]
    assert held(follower, A)[0] + held(follower, DEAD)[0] == before[0]
    follower.restart()
    assert follower.bodies(DEAD) == [b"2", b"3", b"4"]


def test_what_is_gone_is_skipped_or_refuses_everything_if_that_is_asked(follower: Follower) -> None:
    follower.do(publish(A, *[b"x"] * 5), ack(A, (3, 3)))

    assert reason(follower.one(move(A, (2, 4, 1), reason=REJECTED, strict=True))) == "LEASE_LOST"
    assert reason(follower.one(move(A, (5, 6, 1), reason=REJECTED, strict=True))) == "LEASE_LOST"
    assert follower.live(A) == [1, 2, 4, 5]
    assert follower.one(move(A, (2, 4, 1), reason=REJECTED)) == Moved(2)
    assert follower.one(move(A, (1, 9, 1), reason=REJECTED)) == Moved(2)
    assert follower.one(move(A, (1, 9, 1), reason=REJECTED)) == Moved(0)
    assert [(row.count, row.acked) for row in follower.rows(DEAD)] == [(3, 0b010), (5, 0b01110)]


def test_an_ack_is_strict_if_asked(follower: Follower) -> None:
    follower.do(send(A, message(), message(priority=3), message()))

    assert follower.one(ack(A, (1, 2), strict=True)) == Acked(2)
    assert reason(follower.one(ack(A, (2, 3), strict=True))) == "LEASE_LOST"
    assert reason(follower.one(ack(A, (3, 4), strict=True))) == "LEASE_LOST"
    assert follower.live(A) == [3]


def test_without_a_dead_letter_queue_they_are_gone(follower: Follower) -> None:
    follower.do(create(B), publish(B, b"x", b"y"))

    assert follower.one(move(B, (1, 1, 1), reason=REJECTED)) == Moved(1)
    assert follower.live(B) == [2]


def test_dead_letters_are_not_refused_by_limits(follower: Follower) -> None:
    follower.do(update(DEAD, ["max_messages"], max_messages=1), publish(A, b"x", b"y"))

    assert follower.one(move(A, (1, 2, 1), reason=REJECTED)) == Moved(2)
    assert reason(follower.one(publish(DEAD, b"z"))) == "QUEUE_FULL"


def test_a_body_lives_where_its_last_message_does(follower: Follower) -> None:
    follower.do(publish(A, b"1", b"2", b"3"))
    follower.do(move(A, (2, 2, 1), reason=REJECTED))
    follower.do(update(A, ["paused"], paused=True))
    follower.reclaim(entries_each=1, log_bytes_max=0)

    follower.do(move(A, (3, 3, 1), reason=REJECTED))
    follower.do(ack(A, (1, 1)))

    assert follower.bodies(DEAD) == [b"2", b"3"]
    follower.do(move(DEAD, (1, 2, 0)))
    assert follower.bodies(A) == [b"2", b"3"]
    follower.do(ack(A, (1, 99)))
    assert follower.machine._store.execute("SELECT count(*) FROM bodies").fetchone() == (0,)


def test_a_redrive_sends_each_back_to_where_it_comes_from(follower: Follower) -> None:
    follower.do(create(B, dead_letter_queue=DEAD), publish(A, b"a1", b"a2"), publish(B, b"b1"))
    follower.do(move(A, (1, 1, 9), reason=REJECTED), move(B, (1, 1, 9), reason=REJECTED))
    follower.do(publish(DEAD, b"no letter"), move(A, (2, 2, 9), reason=REJECTED))
    follower.do(delivered(DEAD, 4, [(1, 4, 7)]))

    assert follower.one(move(DEAD, (1, 4, 0))) == Moved(3)

    assert (follower.bodies(A), follower.bodies(B), follower.bodies(DEAD)) == (
        [b"a1", b"a2"],
        [b"b1"],
        [b"no letter"],
    )
    row = follower.machine.queue(A)
    assert row is not None
    assert follower.live(A) == [3, 4]
    assert follower.machine.attempts(row.id, 1, 9) == {}
    assert all(not row.dead_letter for row in follower.rows(A))


def test_a_redrive_leaves_what_comes_from_a_queue_that_is_gone(follower: Follower) -> None:
    follower.do(publish(A, b"x"), move(A, (1, 1, 1), reason=REJECTED), delete(A))

    assert follower.one(move(DEAD, (1, 1, 0))) == Moved(0)
    assert follower.live(DEAD) == [1]
    follower.do(create(A, kind=TASK))
    assert follower.one(move(DEAD, (1, 1, 0))) == Moved(0)
    follower.do(create(B))
    assert follower.one(move(DEAD, (1, 1, 0), target=B)) == Moved(1)
    assert follower.bodies(B) == [b"x"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (move(DEAD, (1, 1, 0), target="queues/none"), "QUEUE_NOT_FOUND"),
        (move(DEAD, (1, 1, 0), target="queues/tasks"), "WRONG_QUEUE_KIND"),
        (move(DEAD, (1, 1, 0), target=DEAD), "INVALID_FIELD"),
        (move("queues/none", (1, 1, 0)), "QUEUE_NOT_FOUND"),
        (move("queues/tasks", (1, 1, 0), reason=REJECTED), "WRONG_QUEUE_KIND"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    follower: Follower, command: command_pb2.Command, expected: str
) -> None:
    follower.do(create("queues/tasks", kind=TASK), publish(DEAD, b"x"))

    assert reason(follower.one(command)) == expected
    assert follower.live(DEAD) == [1]


def test_a_repeated_redrive_answers_what_it_answered(follower: Follower) -> None:
    follower.do(publish(A, b"x"), move(A, (1, 1, 1), reason=REJECTED))

    assert follower.one(move(DEAD, (1, 9, 0), request_id="r")) == Moved(1)
    follower.do(move(A, (2, 2, 1), reason=REJECTED))
    assert follower.one(move(DEAD, (1, 9, 0), request_id="r")) == Moved(1)
    assert follower.live(DEAD) == [2]


def test_dead_letters_that_grow_old_go_on_to_the_next_queue(follower: Follower) -> None:
    follower.do(create(WORSE), update(DEAD, ["dead_letter_queue"], dead_letter_queue=WORSE))
    follower.do(update(DEAD, ["max_age"], max_age=duration(1_000)), publish(A, b"x", b"y"), time_ms=2_000_000)
    follower.do(move(A, (1, 2, 3), reason=REJECTED), time_ms=2_000_000)

    follower.do(advance_queues(), time_ms=2_001_000)

    assert follower.bodies(WORSE) == [b"x", b"y"]
    (letter,) = letters(follower, WORSE)
    assert (letter.source, letter.source_sequence, letter.reason, letter.attempts) == (DEAD, 1, EXPIRED, 0)


def test_dead_letters_never_come_back_by_settings(follower: Follower) -> None:
    def points(name: str, target: str) -> Result:
        return follower.one(update(name, ["dead_letter_queue"], dead_letter_queue=target))

    assert reason(follower.one(create(B, dead_letter_queue=B))) == "DEAD_LETTER_LOOP"
    assert reason(follower.one(create(B, dead_letter_queue="queues/none"))) == "QUEUE_NOT_FOUND"
    follower.do(create("queues/tasks", kind=TASK), create(B, dead_letter_queue=A))
    assert reason(points(DEAD, "queues/tasks")) == "WRONG_QUEUE_KIND"
    assert reason(points(DEAD, "queues/none")) == "QUEUE_NOT_FOUND"
    assert reason(points(DEAD, DEAD)) == "DEAD_LETTER_LOOP"
    assert reason(points(DEAD, B)) == "DEAD_LETTER_LOOP"
    row = follower.machine.queue(DEAD)
    assert row is not None
    assert row.config.dead_letter_queue == ""


def test_a_dead_letter_queue_in_use_is_not_deleted(follower: Follower) -> None:
    refused = follower.one(delete(DEAD))
    assert reason(refused) == "QUEUE_IN_USE"
    assert isinstance(refused, Refused)
    assert refused.metadata == {"queue": DEAD, "user": A}

    follower.restart()
    assert reason(follower.one(delete(DEAD))) == "QUEUE_IN_USE"
    follower.do(update(A, ["dead_letter_queue"]))
    assert follower.one(delete(DEAD)) == Done()


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": TASK, "max_attempts": 3},
        {"kind": TASK, "dead_letter_queue": DEAD},
        {"kind": TASK, "max_age": duration(5_000)},
        {"kind": TASK, "bindings": [queue_pb2.Binding(pattern="a")]},
        {"hold_key": True},
        {"compaction": True},
    ],
    ids=lambda settings: list(settings)[-1],
)
def test_settings_that_do_not_go_together_are_refused(follower: Follower, settings: dict[str, Any]) -> None:
    refused = follower.one(create(B, **settings))

    assert reason(refused) == "INVALID_FIELD"
    assert isinstance(refused, Refused)
    assert refused.metadata == {"field": list(settings)[-1]}


def test_a_group_of_a_stream_is_done_with_what_it_sends_to_the_dead_letters(follower: Follower) -> None:
    follower.do(create(B, kind=STREAM, dead_letter_queue=DEAD), publish(B, *[b"%d" % n for n in range(1, 7)]))
    seek = command_pb2.SeekGroup(queue=B, group="g")
    follower.do(command_pb2.Command(seek_group=seek))
    follower.do(_of_group(ack(B, (1, 1), (4, 4))))

    assert reason(follower.one(move(B, (2, 2, 1), reason=REJECTED))) == "GROUP_NOT_FOUND"
    assert reason(follower.one(_of_group(move(B, (3, 4, 1), reason=REJECTED, strict=True)))) == "LEASE_LOST"
    assert follower.one(_of_group(move(B, (1, 5, 3), reason=REJECTED))) == Moved(3)

    assert follower.live(B) == [1, 2, 3, 4, 5, 6]
    assert follower.bodies(DEAD) == [b"2", b"3", b"5"]
    assert [(letter.group, letter.attempts) for letter in letters(follower)] == [("g", 3)] * 2
    row = follower.machine.queue(B)
    assert row is not None
    group = follower.machine.group(row.id, "g")
    assert group is not None
    assert group.position == 6
    assert follower.one(_of_group(move(B, (1, 5, 3), reason=REJECTED))) == Moved(0)


def _of_group(command: command_pb2.Command) -> command_pb2.Command:
    """The same for the group g."""
    (command.ack if command.HasField("ack") else command.move_messages).group = "g"
    return command


def test_old_answers_of_producers_and_requests_are_still_read(follower: Follower) -> None:
    follower.do(
        publish(A, b"x", b"y", producer_id="p", producer_sequence=1), publish(A, b"z", request_id="r")
    )
    row = follower.machine._store.execute("SELECT results FROM producers").fetchone()
    assert row == (bytes([1, *[0] * 7, 2, 0, 0, 0]),), "as earlier versions wrote it"

    again = follower.do(
        publish(A, b"x", b"y", producer_id="p", producer_sequence=1), publish(A, b"z", request_id="r")
    )
    assert again == [Published(1, 2, duplicate=True), Published(3, 1, duplicate=True)]
