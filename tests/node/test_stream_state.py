from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import limits
from node.state.results import Acked, Code, GroupResult, Refused
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.state_log import Follower, MemoryLog, ack, create, delete, purge, update
from tests.sim.stream_commands import (
    ack_in,
    create_stream,
    delete_group,
    delivered_to,
    position,
    publish_keyed,
    seek,
)

S = "queues/s"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.one(create_stream(S))
    return follower


def publish_one(follower: Follower, key: str = "", body: bytes = b"x", time_ms: int | None = None) -> None:
    follower.one(publish_keyed(S, [(key, body)]), time_ms)


def group(follower: Follower, name: str = "g") -> queue_pb2.ConsumerGroup:
    row = follower.machine.queue(S)
    assert row is not None
    return next(each for each in follower.machine.groups(row.id) if each.name == name)


def refusal(answer: object) -> tuple[Code, str]:
    assert isinstance(answer, Refused)
    return answer.code, answer.reason


def test_a_stream_drops_its_oldest_messages_unless_it_says_otherwise(follower: Follower) -> None:
    follower.one(update(S, ["max_messages"], max_messages=2))

    for _ in range(3):
        publish_one(follower)

    assert follower.live(S) == [2, 3]


def test_messages_of_a_stream_stay_after_they_were_acknowledged(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"1"), ("", b"2"), ("", b"3")]))
    follower.do(seek(S, "g"), seek(S, "h"))

    assert follower.one(ack_in(S, "g", (1, 2))) == Acked(2)

    assert follower.live(S) == [1, 2, 3]
    assert (group(follower).position, group(follower).pending_messages) == (3, 1)
    assert (group(follower, "h").position, group(follower, "h").pending_messages) == (1, 3)


def test_what_is_acknowledged_twice_or_out_of_order_counts_once(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 10))
    follower.one(seek(S, "g"))

    answers = [follower.one(ack_in(S, "g", one)) for one in ((4, 6), (5, 8), (1, 3), (1, 10))]

    assert answers == [Acked(3), Acked(2), Acked(3), Acked(2)]
    assert (group(follower).position, group(follower).pending_messages) == (11, 0)


def test_a_strict_acknowledgement_is_refused_if_any_of_it_is_done(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 5))
    follower.one(seek(S, "g"))
    follower.one(ack_in(S, "g", (2, 2)))

    refused = [follower.one(ack_in(S, "g", one, strict=True)) for one in ((1, 2), (5, 6), (2, 2))]
    accepted = follower.one(ack_in(S, "g", (3, 4), (1, 1), strict=True))

    assert [refusal(each) for each in refused] == [(Code.ABORTED, "LEASE_LOST")] * 3
    assert accepted == Acked(3)


def test_what_the_limits_removed_is_not_pending(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 5))
    follower.one(seek(S, "g"))
    follower.one(update(S, ["max_messages"], max_messages=3))

    publish_one(follower)

    assert follower.live(S) == [4, 5, 6]
    assert (group(follower).position, group(follower).pending_messages) == (4, 3)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("beginning", 0, 3),
        ("end", 0, 7),
        ("sequence", 5, 5),
        ("sequence", 1, 3),
        ("sequence", 7, 7),
        ("time", 0, 3),
        ("time", 2_000_004, 4),
        ("time", 2_000_005, 6),
        ("time", 2_000_050, 6),
        ("time", 2_000_051, 7),
    ],
)
def test_a_position_is_the_first_message_there_or_after_it(
    follower: Follower, place: str, value: int, expected: int
) -> None:
    follower.one(update(S, ["max_messages"], max_messages=4))
    for time_ms in (2_000_001, 2_000_002, 2_000_003):
        publish_one(follower, time_ms=time_ms)
    follower.one(publish_keyed(S, [("", b"")] * 2), 2_000_004)
    publish_one(follower, time_ms=2_000_050)

    answer = follower.one(seek(S, "g", place, value))

    assert isinstance(answer, GroupResult)
    assert answer.group.position == expected


def test_a_group_that_is_moved_has_done_nothing_beyond_its_position(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 6))
    follower.one(seek(S, "g"))
    follower.do(ack_in(S, "g", (1, 2), (4, 5)), delivered_to(S, "g", 6, [(3, 6, 2)]))

    follower.one(seek(S, "g", "sequence", 2))

    assert (group(follower).position, group(follower).pending_messages) == (2, 5)
    row = follower.machine.queue(S)
    assert row is not None
    held = follower.machine.group(row.id, "g")
    assert held is not None
    assert held.watermark == 1
    assert follower.machine.group_attempts(held.id, 1, 9) == {}


def test_a_group_that_is_there_stays_where_it_is_when_it_is_only_to_be_created(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 3))
    follower.one(seek(S, "g", "sequence", 2))

    follower.one(seek(S, "g", "end", create_only=True))

    assert group(follower).position == 2


def test_commands_about_groups_that_cannot_be_are_refused(follower: Follower) -> None:
    follower.do(create("queues/m"), seek(S, "g"))

    assert refusal(follower.one(seek(S, "g", "sequence", 2))) == (Code.OUT_OF_RANGE, "OUT_OF_RANGE")
    assert refusal(follower.one(ack(S, (1, 1)))) == (Code.NOT_FOUND, "GROUP_NOT_FOUND")
    assert refusal(follower.one(ack_in(S, "other", (1, 1)))) == (Code.NOT_FOUND, "GROUP_NOT_FOUND")
    assert refusal(follower.one(delivered_to(S, "other", 1))) == (Code.NOT_FOUND, "GROUP_NOT_FOUND")
    assert refusal(follower.one(delete_group(S, "other"))) == (Code.NOT_FOUND, "GROUP_NOT_FOUND")
    assert refusal(follower.one(seek("queues/m", "g"))) == (Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND")
    assert refusal(follower.one(ack_in("queues/m", "g", (1, 1)))) == (
        Code.FAILED_PRECONDITION,
        "WRONG_QUEUE_KIND",
    )


def test_a_stream_has_a_bounded_number_of_groups(follower: Follower) -> None:
    follower.do(*(seek(S, f"g{place}") for place in range(limits.GROUPS_MAX)))

    assert refusal(follower.one(seek(S, "more"))) == (Code.FAILED_PRECONDITION, "TOO_MANY_GROUPS")
    assert isinstance(follower.one(seek(S, "g7", "end")), GroupResult)
    follower.one(delete_group(S, "g7"))
    assert isinstance(follower.one(seek(S, "more")), GroupResult)


def test_a_purge_leaves_the_groups_at_the_end(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 4))
    follower.do(seek(S, "g"), ack_in(S, "g", (2, 3)))

    follower.one(purge(S))
    publish_one(follower)

    assert (group(follower).position, group(follower).pending_messages) == (5, 1)


def test_groups_and_keys_go_with_their_stream(follower: Follower) -> None:
    follower.one(update(S, ["compaction"], compaction=True))
    publish_one(follower, "k")
    follower.do(seek(S, "g"), ack_in(S, "g", (1, 1)), delete(S))

    follower.one(create_stream(S, compaction=True))
    follower.reclaim(entries_each=3)

    row = follower.machine.queue(S)
    assert row is not None
    assert follower.machine.groups(row.id) == []
    execute = follower.machine._store.execute
    assert execute("SELECT count(*) FROM keys").fetchone() == (0,)


def test_keys_of_messages_that_the_limits_removed_are_forgotten(follower: Follower) -> None:
    follower.one(update(S, ["compaction", "max_messages"], compaction=True, max_messages=2))

    for key in ("a", "b", "c", "b"):
        publish_one(follower, key)

    assert follower.live(S) == [3, 4]
    execute = follower.machine._store.execute
    assert execute("SELECT key, sequence FROM keys ORDER BY key").fetchall() == [(b"b", 4), (b"c", 3)]


def test_compaction_is_about_messages_that_come_while_it_is_on(follower: Follower) -> None:
    publish_one(follower, "k")
    follower.one(update(S, ["compaction"], compaction=True))

    publish_one(follower, "k")
    publish_one(follower, "k")

    assert follower.live(S) == [1, 3]


def test_a_delayed_message_replaces_others_when_it_comes(follower: Follower) -> None:
    follower.one(update(S, ["compaction"], compaction=True))
    publish_one(follower, "a", b"1")
    now, later = (
        queue_pb2.Message(key="a", body=b"2"),
        queue_pb2.Message(key="a", body=b"3", delay={"seconds": 1}),
    )
    chunk = command_pb2.Chunk(messages=[now, later]).SerializeToString()
    follower.one(command_pb2.Command(publish=command_pb2.Publish(queue=S, count=2, chunk=chunk, marked=True)))
    assert follower.bodies(S) == [b"2"]
    assert held(follower) == (1, 1)

    advance = command_pb2.AdvanceQueues(limit=10)
    follower.one(command_pb2.Command(advance_queues=advance), follower.log.time_ms + 1_000)

    assert follower.bodies(S) == [b"3"]
    assert held(follower) == (1, 0)


def held(follower: Follower) -> tuple[int, int]:
    """How many messages the statistics say that there are and wait."""
    row = follower.machine.queue(S)
    assert row is not None
    return row.messages, row.extra.delayed_messages


def test_a_position_in_a_stream_is_found_without_a_group(follower: Follower) -> None:
    follower.one(publish_keyed(S, [("", b"")] * 4))
    row = follower.machine.queue(S)
    assert row is not None

    assert follower.machine.sequence_at(row.id, position("sequence", 3)) == 3
    assert follower.machine.sequence_at(row.id, queue_pb2.Position()) == 1
    assert isinstance(follower.machine.sequence_at(row.id, position("sequence", 6)), Refused)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["", "a", "b", "ä", "\0"]), st.binary(max_size=3)),
            min_size=1,
            max_size=6,
        ),
        max_size=8,
    )
)
def test_a_compacted_stream_holds_the_last_value_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, publishes: list[list[tuple[str, bytes]]]
) -> None:
    follower = Follower(MemoryLog(), tmp_path_factory.mktemp("state"))
    follower.one(create_stream(S, compaction=True))
    expected: dict[object, bytes] = {}
    for messages in publishes:
        follower.one(publish_keyed(S, messages))
        for key, body in messages:
            expected.pop(key, None)  # its place is that of the last one
            expected[key or object()] = body

    assert follower.bodies(S) == list(expected.values())
