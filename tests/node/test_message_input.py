from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits, wire
from node.api import message_input
from node.errors import InvalidField, PayloadTooLarge
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

NOW_S = 1_800_000_000
DAY_S = 86_400
MESSAGE, STREAM = queue_pb2.QUEUE_KIND_MESSAGE, queue_pb2.QUEUE_KIND_STREAM


def accepted(
    *messages: queue_pb2.Message, kind: int = MESSAGE, message_bytes_max: int = limits.MESSAGE_BYTES_MAX
) -> tuple[int, bool]:
    encoded = command_pb2.Chunk(messages=messages).SerializeToString()
    chunk = command_pb2.Chunk.FromString(encoded)
    return message_input.messages(chunk, encoded, message_bytes_max, kind, NOW_S * 1000)


def plain(body: bytes = b"x", **headers: str) -> queue_pb2.Message:
    return queue_pb2.Message(body=body, headers=headers)


@pytest.mark.parametrize("size", [*range(300), 16_383, 16_384, 16_385])
def test_no_length_of_a_body_is_taken_for_a_mark(size: int) -> None:
    assert accepted(plain(bytes(size)), plain(bytes(size), country="pt")) == (2, False)


@pytest.mark.parametrize("first", [0x82, 0x88, 0x92, 0x9A, 0xA2])
def test_no_content_is_taken_for_a_mark(first: int) -> None:
    looks_like_a_key = bytes([0x12, first, 0x01, 0x01])

    assert accepted(plain(looks_like_a_key), plain(looks_like_a_key * 50, country="pt")) == (2, False)


MARKS: dict[str, dict[str, Any]] = {
    "a key": {"key": "k"},
    "the longest key": {"key": "é" * 128},
    "the lowest priority": {"priority": 1},
    "the highest priority": {"priority": 9},
    "the shortest ttl": {"ttl": Duration(nanos=1)},
    "the longest ttl": {"ttl": Duration(seconds=366 * DAY_S)},
    "no delay": {"delay": Duration()},
    "the longest delay": {"delay": Duration(seconds=366 * DAY_S)},
    "a time long ago": {"deliver_time": Timestamp()},
    "the latest time": {"deliver_time": Timestamp(seconds=NOW_S + 366 * DAY_S)},
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS.keys())
def test_a_single_message_with_a_mark_marks_the_publish(mark: dict[str, Any]) -> None:
    marked = queue_pb2.Message(body=b"x", **mark)

    assert accepted(*[plain()] * 50, marked, *[plain(country="pt")] * 50) == (101, True)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a long key": ({"key": "é" * 128 + "k"}, "key"),
    "a high priority": ({"priority": 10}, "priority"),
    "no time to live": ({"ttl": Duration()}, "ttl"),
    "a negative ttl": ({"ttl": Duration(seconds=-1)}, "ttl"),
    "a ttl beyond the limit": ({"ttl": Duration(seconds=366 * DAY_S, nanos=1)}, "ttl"),
    "a negative delay": ({"delay": Duration(seconds=-1)}, "delay"),
    "a delay beyond the limit": ({"delay": Duration(seconds=366 * DAY_S, nanos=1)}, "delay"),
    "a time too far ahead": (
        {"deliver_time": Timestamp(seconds=NOW_S + 366 * DAY_S, nanos=1_000_000)},
        "deliver_time",
    ),
    "a time that is none": ({"deliver_time": Timestamp(nanos=-1)}, "deliver_time"),
    "a time and a delay": ({"deliver_time": Timestamp(), "delay": Duration()}, "delay"),
    "a header without a name": ({"headers": {"": "x"}, "priority": 1}, "headers"),
}


@pytest.mark.parametrize(("fields", "field"), BAD.values(), ids=BAD.keys())
def test_what_a_message_must_not_say_is_refused_with_its_place_and_its_limit(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        accepted(plain(), queue_pb2.Message(**fields))

    assert caught.value.metadata["field"] == f"messages[1].{field}"
    assert caught.value.metadata["limit"]


def test_a_stream_takes_no_priorities() -> None:
    with pytest.raises(InvalidField) as caught:
        accepted(queue_pb2.Message(priority=1), kind=STREAM)

    assert caught.value.metadata["field"] == "messages[0].priority"
    assert accepted(queue_pb2.Message(key="k"), kind=STREAM) == (1, True)


def test_body_and_headers_together_must_not_be_too_large() -> None:
    assert accepted(plain(b"x" * 5, abc="de"), message_bytes_max=10) == (1, False)
    with pytest.raises(PayloadTooLarge) as caught:
        accepted(plain(b"x" * 5), plain(b"x" * 6, abc="de"), message_bytes_max=10)

    assert caught.value.metadata["field"] == "messages[1]"
    assert caught.value.metadata["bytes"] == "11"


def test_a_chunk_is_bare_if_its_messages_have_nothing_but_bodies() -> None:
    def encoded(*messages: queue_pb2.Message) -> bytes:
        return command_pb2.Chunk(messages=messages).SerializeToString()

    assert wire.is_bare(encoded(plain(b""), plain(b"\x12\x01"), plain(b"\x01" * 200)))
    assert not wire.is_bare(encoded(plain(), plain(a="b")))
    assert not wire.is_bare(encoded(plain(), queue_pb2.Message(delay=Duration())))
