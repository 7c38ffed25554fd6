"""What time brings to queues: delayed messages come, expired and old ones go, and what consumers hold stays."""

import json
import tracemalloc
from pathlib import Path

import pytest

from node.state.parts import Part, Piece
from node.state.results import Acked, Advanced, Published, Purged, Refused
from node.state.rows import duration
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
    publish,
    purge,
    send,
    update,
)

A, B, DEAD = "queues/a", "queues/b", "queues/dead"
EXPIRED = queue_pb2.DEAD_LETTER_REASON_EXPIRED
STREAM = queue_pb2.QUEUE_KIND_STREAM
NEVER = 1 << 60


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


def row_of(follower: Follower, name: str = A) -> queue_pb2.QueueStats:
    row = follower.machine.queue(name)
    assert row is not None
    return row.to_proto().stats


def letters(follower: Follower) -> list[queue_pb2.DeadLetter]:
    return [queue_pb2.DeadLetter.FromString(row.dead_letter) for row in follower.rows(DEAD)]


def test_a_delayed_message_has_no_sequence_until_its_time_has_come(follower: Follower) -> None:
    follower.do(create(A), time_ms=2_000_000)

    stored = follower.one(
        send(A, message(b"1"), message(b"later", delay_ms=500), message(b"2")), time_ms=2_000_000
    )

    assert stored == Published(1, 3, delayed=1)
    assert follower.bodies(A) == [b"1", b"2"]
    assert follower.machine.next_queue_due_ms(NEVER) == 2_000_500
    assert follower.one(publish(A, b"3"), time_ms=2_000_100) == Published(3, 1)
    assert follower.one(advance_queues(), time_ms=2_000_499) == Advanced(0)
    assert follower.one(advance_queues(), time_ms=2_000_500) == Advanced(1)
    assert [(seq, m.body) for seq, m in follower.messages(A)] == [
        (1, b"1"),
        (2, b"2"),
        (3, b"3"),
        (4, b"later"),
    ]
    assert follower.rows(A)[-1].time_ms == 2_000_500
    assert follower.machine.next_queue_due_ms(NEVER) is None


def test_a_publish_of_delayed_messages_only_has_no_sequence(follower: Follower) -> None:
    follower.do(create(A))

    assert follower.one(send(A, message(delay_ms=5), message(at_ms=9_000_000))) == Published(0, 2, delayed=2)


def test_a_time_that_has_passed_is_now(follower: Follower) -> None:
    follower.do(create(A), time_ms=2_000_000)

    assert follower.one(send(A, message(at_ms=2_000_000)), time_ms=2_000_000) == Published(1, 1)


def test_delayed_messages_come_in_the_order_of_their_times_with_their_priority_and_ttl(
    follower: Follower,
) -> None:
    follower.do(create(A), time_ms=2_000_000)
    follower.one(
        send(
            A,
            message(b"3", delay_ms=300, priority=4),
            message(b"1", delay_ms=100),
            message(b"2", at_ms=2_000_200, ttl_ms=1_000),
        ),
        time_ms=2_000_000,
    )

    follower.one(advance_queues(limit=2), time_ms=2_009_000)
    assert follower.bodies(A) == [b"1", b"2"]
    follower.one(advance_queues(), time_ms=2_009_100)

    row = follower.machine.queue(A)
    assert row is not None
    assert [c.first_sequence for c in follower.machine.chunks(row.id, 1, -1, priority=4)] == [3]
    assert follower.machine.next_queue_due_ms(NEVER) == 2_010_000
    follower.one(advance_queues(), time_ms=2_010_000)
    assert follower.bodies(A) == [b"1", b"3"]


def test_delayed_messages_count_for_the_limits_and_the_statistics(follower: Follower) -> None:
    follower.do(create(A, max_messages=2), send(A, message(b"x", delay_ms=500)), publish(A, b"y"))

    stats = row_of(follower)
    assert (stats.messages, stats.delayed_messages, stats.published_messages) == (1, 1, 1)
    assert stats.delayed_bytes == len(send(A, message(b"x", delay_ms=500)).publish.chunk)
    refused = follower.one(publish(A, b"z"))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.metadata["messages"]) == ("QUEUE_FULL", "2")
    follower.one(advance_queues(), time_ms=follower.log.time_ms + 500)
    stats = row_of(follower)
    assert (stats.messages, stats.delayed_messages, stats.delayed_bytes) == (2, 0, 0)


def test_what_is_delayed_makes_no_room(follower: Follower) -> None:
    drop = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
    follower.do(create(A, max_messages=3, overflow_policy=drop), send(A, message(delay_ms=500)))
    follower.do(publish(A, b"1", b"2"))

    assert follower.one(publish(A, b"3", b"4")) == Published(3, 2, dropped=2)
    assert isinstance(follower.one(publish(A, b"5", b"6", b"7")), Refused)
    assert row_of(follower).delayed_messages == 1


def test_delayed_messages_go_with_a_purge_and_with_their_queue(follower: Follower) -> None:
    follower.do(create(A), send(A, message(delay_ms=500), message()), create(B), send(B, message(delay_ms=7)))

    assert follower.one(purge(A)) == Purged(2)
    follower.one(delete(B))
    assert follower.machine.next_queue_due_ms(NEVER) is None
    assert follower.one(advance_queues(), time_ms=9_000_000) == Advanced(0)
    assert follower.live(A) == []
    assert follower.one(send(A, message(delay_ms=500))) == Published(0, 1, delayed=1)
    assert follower.machine.next_queue_due_ms(NEVER) == follower.log.time_ms + 500


def test_expired_messages_go_to_the_dead_letter_queue_and_only_they(follower: Follower) -> None:
    follower.do(create(DEAD), create(A, dead_letter_queue=DEAD), time_ms=2_000_000)
    follower.one(
        send(
            A, message(b"1"), message(b"2", ttl_ms=100), message(b"3", ttl_ms=100), message(b"4", ttl_ms=900)
        ),
        time_ms=2_000_000,
    )
    follower.one(delivered(A, 2, [(2, 2, 3)]), time_ms=2_000_000)

    follower.one(advance_queues(), time_ms=2_000_150)

    assert follower.bodies(A) == [b"1", b"4"]
    assert follower.bodies(DEAD) == [b"2", b"3"]
    first, second = letters(follower)
    assert (first.source, first.source_sequence, first.reason, first.attempts) == (A, 2, EXPIRED, 3)
    assert (second.source_sequence, second.attempts) == (3, 0)
    assert first.publish_time.ToMilliseconds() == 2_000_000
    assert first.dead_letter_time.ToMilliseconds() == 2_000_150
    assert follower.rows(DEAD)[0].time_ms == 2_000_150
    assert follower.machine.next_queue_due_ms(NEVER) == 2_000_900


def test_an_expired_message_of_a_queue_without_dead_letters_is_gone(follower: Follower) -> None:
    follower.do(create(A), send(A, message(b"1", ttl_ms=100)))

    follower.one(advance_queues(), time_ms=9_000_000)

    assert follower.live(A) == []
    assert (row_of(follower).messages, row_of(follower).bytes) == (0, 0)


def test_what_is_acknowledged_does_not_expire(follower: Follower) -> None:
    follower.do(
        create(DEAD), create(A, dead_letter_queue=DEAD), send(A, message(ttl_ms=1), message(ttl_ms=1))
    )

    assert follower.one(ack(A, (1, 1))) == Acked(1)
    follower.one(advance_queues(), time_ms=9_000_000)

    assert [letter.source_sequence for letter in letters(follower)] == [2]
    assert follower.machine.next_queue_due_ms(NEVER) is None


def test_what_consumers_hold_is_looked_at_again_a_second_later(follower: Follower) -> None:
    follower.do(create(A), time_ms=2_000_000)
    follower.one(send(A, *[message(bytes([n]), ttl_ms=100) for n in range(1, 6)]), time_ms=2_000_000)

    follower.one(advance_queues(a=[(2, 2), (4, 9)]), time_ms=2_000_100)

    assert follower.live(A) == [2, 4, 5]
    assert follower.machine.next_queue_due_ms(NEVER) == 2_001_100
    assert follower.one(advance_queues(), time_ms=2_001_099) == Advanced(0)
    follower.one(advance_queues(a=[(5, 5)]), time_ms=2_001_100)
    assert follower.live(A) == [5]
    follower.one(advance_queues(), time_ms=2_002_100)
    assert follower.live(A) == []


def test_messages_older_than_max_age_go_oldest_first_and_held_ones_stay(follower: Follower) -> None:
    follower.do(create(DEAD), create(A, max_age=duration(1_000), dead_letter_queue=DEAD), time_ms=2_000_000)
    for n in range(5):
        follower.one(publish(A, bytes([n]), bytes([n])), time_ms=2_000_000 + 100 * n)
    assert follower.machine.next_queue_due_ms(NEVER) == 2_001_000

    follower.one(advance_queues(a=[(1, 1), (4, 4)]), time_ms=2_001_200)

    assert follower.live(A) == [1, 4, 7, 8, 9, 10]
    assert [letter.source_sequence for letter in letters(follower)] == [2, 3, 5]
    assert follower.machine.next_queue_due_ms(NEVER) == 2_002_200
    assert follower.one(advance_queues(), time_ms=2_002_199) == Advanced(0)
    follower.one(advance_queues(), time_ms=2_002_200)
    assert follower.live(A) == []


def test_a_step_does_no_more_than_its_limit_and_the_next_goes_on(follower: Follower) -> None:
    follower.do(create(A, max_age=duration(1_000)), create(B))
    follower.do(*[publish(A, b"x")] * 5, *[send(B, message(delay_ms=10))] * 5)
    left: list[tuple[int, int]] = []

    while (due_ms := follower.machine.next_queue_due_ms(9_000_000)) is not None and due_ms <= 9_000_000:
        assert follower.one(advance_queues(limit=3), time_ms=9_000_000) == Advanced(3) or left
        left.append((len(follower.live(A)), len(follower.live(B))))

    assert left == [(2, 0), (0, 1), (0, 4), (0, 5)]


def test_a_shorter_max_age_holds_for_what_is_there(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"), time_ms=2_000_000)
    assert follower.machine.next_queue_due_ms(NEVER) is None

    follower.one(update(A, ["max_age"], max_age=duration(1_000)))
    assert follower.machine.next_queue_due_ms(NEVER) == 2_001_000
    follower.one(update(A, ["max_age"]))
    assert follower.machine.next_queue_due_ms(NEVER) is None


def test_old_messages_of_a_stream_are_gone(follower: Follower) -> None:
    follower.do(create(DEAD), create(A, kind=STREAM, max_age=duration(1_000), dead_letter_queue=DEAD))
    follower.do(publish(A, b"x"), send(A, message(b"y", ttl_ms=5)))

    follower.one(advance_queues(), time_ms=9_000_000)

    assert follower.live(A) == follower.live(DEAD) == []


def test_what_is_ahead_is_known_after_a_restart(follower: Follower) -> None:
    follower.do(create(A), create(B, max_age=duration(1_000)), time_ms=2_000_000)
    follower.do(send(A, message(delay_ms=9_000), message(ttl_ms=5_000)), time_ms=2_000_000)
    follower.do(publish(B, b"x"), time_ms=2_000_000)
    seen = []
    for _ in range(4):
        follower.restart()
        seen.append(follower.machine.next_queue_due_ms(NEVER))
        follower.one(advance_queues(), time_ms=(seen[-1] or 0) + 1)

    assert seen == [2_001_000, 2_005_000, 2_009_000, None]


def test_many_pending_messages_cost_no_memory_and_no_work_per_publish(follower: Follower) -> None:
    follower.do(create(A))
    later = [message(b"x", at_ms=100_000_000 + n) for n in range(1_000)]
    follower.do(send(A, *later))
    statements: list[str] = []
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(20):
        follower.do(send(A, *later))
        follower.log.entries.clear()
        follower.machine.commit_now()
        follower.machine.flush()
    follower.machine._store.connection.set_trace_callback(statements.append)
    follower.do(publish(A, b"now"))
    follower.machine._store.connection.set_trace_callback(None)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert row_of(follower).delayed_messages == 21_000
    recent = 20 * len(send(A, *later).publish.chunk)
    assert grown - recent < 200_000, "ten bytes for each, beside the bounded cache of recent chunks"
    assert [statement.split()[0] for statement in statements if "chunks" in statement] == ["INSERT"]
    plan = follower.machine._store.execute(
        "EXPLAIN QUERY PLAN SELECT due_ms FROM chunks WHERE backlog = 1 AND due_ms IS NOT NULL ORDER BY due_ms LIMIT 1"
    ).fetchall()
    assert "chunks_due" in json.dumps(plan)


def test_a_delayed_message_replaces_the_earlier_ones_of_its_key_when_it_comes(follower: Follower) -> None:
    follower.do(create(A, kind=STREAM, compaction=True))
    follower.do(send(A, message(b"plain"), message(b"new", key="k", delay_ms=500), message(b"old", key="k")))
    assert follower.bodies(A) == [b"plain", b"old"]
    follower.restart()

    follower.one(advance_queues(), time_ms=9_000_000)

    assert follower.bodies(A) == [b"plain", b"new"]


def test_what_a_filter_keeps_out_replaces_nothing(follower: Follower) -> None:
    only_de = queue_pb2.Binding(pattern=">", headers={"country": "de"})
    follower.do(create(A, kind=STREAM, compaction=True, bindings=[only_de]))
    follower.do(send(A, message(b"first", key="k"), message(b"second", key="l")))

    follower.do(
        send(
            "topics/t",
            message(b"0", key="x", country="de"),
            message(b"1", key="k"),
            message(b"2", key="l", country="de"),
        )
    )

    assert follower.bodies(A) == [b"first", b"0", b"2"]


def test_keys_of_what_grew_too_old_are_forgotten(follower: Follower) -> None:
    follower.do(create(A, kind=STREAM, compaction=True, max_age=duration(1_000)))
    follower.do(send(A, message(b"x", key="k")))

    follower.one(advance_queues(), time_ms=9_000_000)

    assert follower.live(A) == []
    assert follower.machine._store.execute("SELECT count(*) FROM keys").fetchone() == (0,)


def test_keys_of_what_has_expired_are_forgotten(follower: Follower) -> None:
    follower.do(create(A, kind=STREAM, compaction=True), time_ms=2_000_000)
    follower.do(send(A, message(key="stays")), send(A, message(key="goes", ttl_ms=500)), time_ms=2_000_000)

    follower.do(advance_queues(), time_ms=2_000_500)

    assert follower.machine._store.execute("SELECT key FROM keys").fetchall() == [(b"stays",)]


def test_a_long_run_of_messages_that_goes_is_not_looked_at_one_by_one() -> None:
    count = 1_000_000
    whole = Piece(1, 0, b"", Part(body=1, length=count, bytes=2 * count))
    tracemalloc.start()

    found = [(piece.first, piece.last, attempts) for piece, attempts in whole.by_attempts(10)]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == [(1, 10, 1), (11, count, 0)]
    assert peak_bytes < count * 2
