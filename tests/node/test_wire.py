import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from node import commands, wire
from node.state.rows import timestamp
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

MESSAGES = st.lists(
    st.builds(
        queue_pb2.Message,
        body=st.binary(max_size=300),
        headers=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
    ),
    max_size=8,
)


def field(number: int, content: bytes) -> bytes:
    return wire.length_prefix(number, len(content)) + content


@given(MESSAGES)
def test_a_publish_is_cut_into_its_head_and_the_bytes_of_its_messages(
    messages: list[queue_pb2.Message],
) -> None:
    request = queue_pb2.PublishRequest(queue="queues/q", request_id="r", messages=messages)

    head, encoded, chunk = wire.cut(request.SerializeToString(), queue_pb2.PublishRequest)

    assert (head.queue, head.request_id, len(head.messages)) == ("queues/q", "r", 0)
    assert command_pb2.Chunk.FromString(encoded) == chunk == command_pb2.Chunk(messages=messages)


def test_the_bytes_of_an_ordinary_publish_are_kept_as_they_came() -> None:
    messages = [queue_pb2.Message(body=b"x" * 200), queue_pb2.Message()]
    request = queue_pb2.PublishStreamRequest(
        queue="queues/q", producer_id="p", producer_sequence=300, messages=messages
    )
    data = request.SerializeToString()

    head, encoded, _ = wire.cut(data, queue_pb2.PublishStreamRequest)

    assert data.endswith(encoded)
    assert head.producer_sequence == 300


def test_messages_before_the_other_fields_are_understood_all_the_same() -> None:
    message = queue_pb2.Message(body=b"x").SerializeToString()
    data = field(15, message) + field(1, b"queues/q") + field(15, message)

    head, encoded, chunk = wire.cut(data, queue_pb2.PublishRequest)

    assert head.queue == "queues/q"
    assert encoded == 2 * field(15, message)
    assert len(chunk.messages) == 2


def test_lengths_that_are_not_in_their_shortest_form_are_encoded_again() -> None:
    message = queue_pb2.Message(body=b"x").SerializeToString()
    data = field(1, b"queues/q") + bytes([wire.MESSAGES_KEY, len(message) | 0x80, 0]) + message

    _, encoded, _ = wire.cut(data, queue_pb2.PublishRequest)

    assert encoded == field(15, message)
    assert wire.message_ends(encoded) == [len(encoded)]


@pytest.mark.parametrize(
    "data", [b"\x7a", b"\x7a\xff\xff", b"\xff" * 40, b"\x0b", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"]
)
def test_garbage_is_refused_as_garbage(data: bytes) -> None:
    with pytest.raises(DecodeError):
        wire.cut(data, queue_pb2.PublishRequest)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_cut_fail_otherwise(data: bytes) -> None:
    try:
        _, encoded, chunk = wire.cut(data, queue_pb2.PublishRequest)
    except DecodeError:
        return
    assert len(wire.message_ends(encoded)) == len(chunk.messages)


@given(MESSAGES)
def test_messages_of_a_chunk_begin_where_the_last_one_ends(messages: list[queue_pb2.Message]) -> None:
    encoded = command_pb2.Chunk(messages=messages).SerializeToString()

    ends = wire.message_ends(encoded)

    parts = [encoded[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert [command_pb2.Chunk.FromString(part).messages[0] for part in parts] == messages


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    encoded = wire.varint(value)

    assert wire.read_varint(encoded, 0) == (value, len(encoded))


@given(MESSAGES, MESSAGES)
def test_a_pasted_delivery_is_what_the_stubs_would_have_written(
    some: list[queue_pb2.Message], more: list[queue_pb2.Message]
) -> None:
    head = queue_pb2.Delivery(first_sequence=7, attempt=2, publish_time=timestamp(1_234))
    chunks = [command_pb2.Chunk(messages=part).SerializeToString() for part in (some, more)]
    whole = queue_pb2.Delivery(
        first_sequence=7, attempt=2, publish_time=timestamp(1_234), messages=[*some, *more]
    )

    parts = [head.SerializeToString(), *chunks]

    assert queue_pb2.ConsumeResponse.FromString(wire.consume_response(parts)) == queue_pb2.ConsumeResponse(
        delivery=whole
    )
    assert queue_pb2.PullResponse.FromString(
        wire.pull_response("l", [parts, parts])
    ) == queue_pb2.PullResponse(lease_id="l", deliveries=[whole, whole])


def test_pasted_frames_are_the_very_bytes_of_the_stubs() -> None:
    messages = [queue_pb2.Message(body=b"x" * size) for size in (0, 1, 127, 128, 70_000)]
    head = queue_pb2.Delivery(first_sequence=1, attempt=1, publish_time=timestamp(5))
    chunk = command_pb2.Chunk(messages=messages).SerializeToString()
    whole = queue_pb2.Delivery(first_sequence=1, attempt=1, publish_time=timestamp(5), messages=messages)

    frame = wire.consume_response([head.SerializeToString(), memoryview(chunk)])

    assert frame == queue_pb2.ConsumeResponse(delivery=whole).SerializeToString()


@given(MESSAGES, st.text(max_size=5), st.integers(0, 1 << 40))
def test_an_entry_pasted_together_is_what_the_stubs_would_have_written(
    messages: list[queue_pb2.Message], request_id: str, sequence: int
) -> None:
    chunk = command_pb2.Chunk(messages=messages).SerializeToString()
    purge = command_pb2.Command(purge_queue=command_pb2.PurgeQueue(name="queues/q"))
    publish = command_pb2.Command(
        request_id=request_id,
        publish=command_pb2.Publish(
            queue="queues/q", producer_id="p", producer_sequence=sequence, count=len(messages), chunk=chunk
        ),
    )

    made = commands.publish(
        queue="queues/q",
        chunk=chunk,
        count=len(messages),
        request_id=request_id,
        producer_id="p",
        producer_sequence=sequence,
    )

    assert made.size == sum(map(len, made.parts))
    payload = commands.batch(5, [made, commands.plain(purge)])
    assert command_pb2.Batch.FromString(payload) == command_pb2.Batch(time_ms=5, commands=[publish, purge])
