"""What each command does to a queue, and what it refuses."""

from pathlib import Path

import pytest

from node import limits
from node.state.results import Acked, Done, Published, Purged, QueueResult, Refused, Result
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.state_log import (
    Follower,
    MemoryLog,
    ack,
    chunk_bytes,
    create,
    delete,
    delivered,
    publish,
    published,
    purge,
    update,
)

A = "queues/a"
DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


def queue_of(result: Result) -> queue_pb2.Queue:
    assert isinstance(result, QueueResult)
    return result.queue


def reason(result: Result) -> str:
    assert isinstance(result, Refused), result
    return result.reason


def test_a_new_queue_gets_the_defaults_for_what_is_not_said(follower: Follower) -> None:
    queue = queue_of(follower.one(create(A)))

    assert queue.name == A
    assert queue.kind == queue_pb2.QUEUE_KIND_MESSAGE
    assert queue.ack_deadline.ToMilliseconds() == limits.ACK_DEADLINE_MS_DEFAULT
    assert queue.max_message_bytes == limits.MESSAGE_BYTES_MAX
    assert queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_REJECT
    assert queue.uid
    assert queue.create_time.ToMilliseconds() == follower.log.time_ms


def test_creating_a_queue_again_answers_the_one_that_is_there(follower: Follower) -> None:
    first = queue_of(follower.one(create(A, max_messages=5)))

    again = queue_of(follower.one(create(A, max_messages=5, max_message_bytes=limits.MESSAGE_BYTES_MAX)))

    assert again == first


def test_creating_a_queue_with_other_settings_is_refused(follower: Follower) -> None:
    follower.one(create(A, max_messages=5))

    assert reason(follower.one(create(A, max_messages=6))) == "QUEUE_EXISTS"


def test_an_update_changes_what_it_names_and_the_etag(follower: Follower) -> None:
    before = queue_of(follower.one(create(A, max_messages=5, max_bytes=1_000)))

    after = queue_of(
        follower.one(update(A, ["max_messages", "paused"], max_messages=9, max_bytes=7, paused=True))
    )

    assert (after.max_messages, after.max_bytes, after.paused) == (9, 1_000, True)
    assert after.etag != before.etag
    assert after.uid == before.uid
    assert after.update_time.ToMilliseconds() == follower.log.time_ms
    follower.restart()
    row = follower.machine.queue(A)
    assert row is not None
    assert row.to_proto() == after


def test_an_update_that_changes_nothing_keeps_the_etag(follower: Follower) -> None:
    before = queue_of(follower.one(create(A, max_messages=5)))

    assert queue_of(follower.one(update(A, ["max_messages", "ack_deadline"], max_messages=5))) == before


@pytest.mark.parametrize("field", ["name", "kind", "uid", "no_such_field"])
def test_an_update_of_what_cannot_change_is_refused(follower: Follower, field: str) -> None:
    follower.one(create(A))

    assert reason(follower.one(update(A, ["paused", field], paused=True))) == "INVALID_FIELD"
    row = follower.machine.queue(A)
    assert row is not None
    assert not row.config.paused


def test_an_old_etag_is_refused_and_the_current_one_is_not(follower: Follower) -> None:
    old = queue_of(follower.one(create(A))).etag
    new = queue_of(follower.one(update(A, ["paused"], paused=True))).etag

    assert reason(follower.one(update(A, ["paused"], etag=old))) == "ETAG_MISMATCH"
    assert reason(follower.one(delete(A, etag=old))) == "ETAG_MISMATCH"
    assert follower.one(delete(A, etag=new)) == Done()


@pytest.mark.parametrize(
    "command",
    [update(A, ["paused"]), delete(A), purge(A), publish(A, b"x"), ack(A, (1, 1)), delivered(A, 1)],
    ids=lambda command: command.WhichOneof("kind"),
)
def test_a_queue_that_is_not_there_is_not_found(follower: Follower, command: command_pb2.Command) -> None:
    assert reason(follower.one(command)) == "QUEUE_NOT_FOUND"


def test_sequences_are_contiguous_and_begin_with_one(follower: Follower) -> None:
    results = follower.do(create(A), publish(A, b"x", b"y"), publish(A, b"z"))

    assert results[1:] == [Published(1, 2), Published(3, 1)]
    assert follower.bodies(A) == [b"x", b"y", b"z"]


def test_acknowledged_messages_are_gone_and_gone_ones_are_skipped(follower: Follower) -> None:
    follower.do(create(A), publish(A, *[b"x"] * 5), publish(A, *[b"y"] * 5), publish(A, *[b"z"] * 5))

    assert follower.one(ack(A, (4, 12))) == Acked(9)
    assert follower.one(ack(A, (1, 4), (12, 13), (14, 1 << 63))) == Acked(6)
    assert follower.one(ack(A, (1, 15))) == Acked(0)
    row = follower.machine.queue(A)
    assert row is not None
    assert (row.messages, row.bytes) == (0, 0)


def test_a_partly_acknowledged_chunk_weighs_its_share(follower: Follower) -> None:
    command = publish(A, *[b"x" * 100] * 3)
    follower.do(create(A), command)

    follower.one(ack(A, (2, 2)))

    row = follower.machine.queue(A)
    assert row is not None
    assert row.bytes == chunk_bytes(command) * 2 // 3
    (chunk,) = follower.machine.chunks(row.id, 1, 10)
    assert (chunk.live, chunk.acked, chunk.count) == (2, 0b010, 3)


def test_acks_and_deliveries_of_an_earlier_queue_of_the_name_touch_nothing(follower: Follower) -> None:
    uid = queue_of(follower.one(create(A))).uid
    follower.do(delete(A), create(A), publish(A, b"x"))

    assert reason(follower.one(ack(A, (1, 1), uid=uid))) == "QUEUE_NOT_FOUND"
    assert reason(follower.one(delivered(A, 1, uid=uid))) == "QUEUE_NOT_FOUND"
    assert follower.live(A) == [1]


def test_a_purge_removes_everything_and_sequences_go_on(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x", b"y"), ack(A, (1, 1)), delivered(A, 2, [(2, 2, 3)]))

    assert follower.one(purge(A)) == Purged(1)
    assert follower.live(A) == []
    assert follower.one(publish(A, b"z")) == Published(3, 1)
    assert follower.one(purge(A)) == Purged(1)
    assert follower.one(purge(A)) == Purged(0)


def test_a_deleted_queue_leaves_nothing_to_the_next_one_of_its_name(follower: Follower) -> None:
    first = queue_of(follower.one(create(A)))
    follower.do(publish(A, b"x"), delivered(A, 1, [(1, 1, 4)]))

    follower.do(delete(A))
    second = queue_of(follower.one(create(A)))

    assert second.uid != first.uid
    assert follower.live(A) == []
    follower.do(publish(A, b"y"))
    row = follower.machine.queue(A)
    assert row is not None
    assert follower.machine.attempts(row.id, 1, 1) == {}
    assert row.watermark == 0


def test_a_full_queue_refuses_all_of_a_publish(follower: Follower) -> None:
    follower.do(create(A, max_messages=3), publish(A, b"x", b"y"))

    refused = follower.one(publish(A, b"z", b"z"))

    assert reason(refused) == "QUEUE_FULL"
    assert follower.live(A) == [1, 2]
    assert follower.one(publish(A, b"z")) == Published(3, 1)


def test_the_limit_of_bytes_is_exact(follower: Follower) -> None:
    command = publish(A, b"x" * 50)
    follower.do(create(A, max_bytes=2 * chunk_bytes(command)))

    results = follower.do(command, command, publish(A, b""))

    assert results[:2] == [Published(1, 1), Published(2, 1)]
    assert reason(results[2]) == "QUEUE_FULL"


def test_the_oldest_messages_make_room_and_no_more_of_them_than_needed(follower: Follower) -> None:
    follower.do(
        create(A, max_messages=6, overflow_policy=DROP_OLDEST), publish(A, *[b"x"] * 4), ack(A, (2, 2))
    )
    follower.do(publish(A, b"y", b"y"))

    assert follower.one(publish(A, b"z", b"z", b"z")) == Published(7, 3, dropped=2)
    assert follower.live(A) == [4, 5, 6, 7, 8, 9]


def test_what_is_larger_than_the_limit_alone_is_refused_by_a_queue_that_drops(follower: Follower) -> None:
    follower.do(create(A, max_messages=2, overflow_policy=DROP_OLDEST), publish(A, b"x"))

    assert reason(follower.one(publish(A, b"y", b"y", b"y"))) == "QUEUE_FULL"
    assert follower.live(A) == [1]


def test_a_publish_of_nothing_is_refused(follower: Follower) -> None:
    follower.do(create(A))

    assert reason(follower.one(publish(A))) == "INVALID_FIELD"


def test_deliveries_are_remembered_for_live_messages(follower: Follower) -> None:
    follower.do(create(A), publish(A, *[b"x"] * 4), publish(A, *[b"y"] * 4))

    follower.do(delivered(A, 6, [(3, 6, 2)]), delivered(A, 2, [(4, 4, 3), (8, 99, 2)]))

    row = follower.machine.queue(A)
    assert row is not None
    assert row.watermark == 6
    assert follower.machine.attempts(row.id, 1, 1 << 40) == {3: 2, 4: 3, 5: 2, 6: 2, 8: 2}
    assert follower.machine.attempts(row.id, 4, 5) == {4: 3, 5: 2}


def test_the_watermark_never_passes_what_was_published(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"), delivered(A, 1_000))

    row = follower.machine.queue(A)
    assert row is not None
    assert row.watermark == 1


def test_chunks_are_found_from_any_sequence(follower: Follower) -> None:
    follower.do(
        create(A), publish(A, *[b"x"] * 3), publish(A, *[b"y"] * 3), publish(A, *[b"z"] * 3), ack(A, (4, 6))
    )
    row = follower.machine.queue(A)
    assert row is not None

    found = {
        start: [c.first_sequence for c in follower.machine.chunks(row.id, start, 10)]
        for start in range(1, 11)
    }

    assert found == {1: [1, 7], 2: [1, 7], 3: [1, 7]} | {start: [7] for start in range(4, 10)} | {10: []}
    assert [c.first_sequence for c in follower.machine.chunks(row.id, 3, 1)] == [1]
    assert [c.first_sequence for c in follower.machine.chunks(row.id, 4, 1)] == [7]


def test_queues_are_listed_by_name_from_anywhere(follower: Follower) -> None:
    follower.do(*(create(f"queues/{name}") for name in "dbca"))

    assert [row.name for row in follower.machine.queues()] == [f"queues/{name}" for name in "abcd"]
    assert [row.name for row in follower.machine.queues("queues/a", 2)] == ["queues/b", "queues/c"]
    assert published(follower.one(publish("queues/d", b"x"))).first_sequence == 1
