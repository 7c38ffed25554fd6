from __future__ import annotations

import random

import pytest

from taskraft import OutgoingMessage, _limits, _wire, errors
from taskraft.v1 import queue_pb2


def parsed(wire: bytes) -> queue_pb2.PublishStreamRequest:
    return queue_pb2.PublishStreamRequest.FromString(wire)


@pytest.mark.parametrize("size", [0, 1, 99, 125, 126, 127, 128, 16_380, 16_384, 70_000])
def test_hand_built_messages_are_what_protobuf_writes(size: int) -> None:
    body = bytes(size)

    built = _wire.message(body), _wire.message(body, {"kind": "x"})

    one = queue_pb2.PublishStreamRequest(messages=[queue_pb2.Message(body=body)])
    other = queue_pb2.PublishStreamRequest(messages=[queue_pb2.Message(body=body, headers={"kind": "x"})])
    assert built == (one.SerializeToString(), other.SerializeToString())


@pytest.mark.parametrize("seed", range(20))
def test_pieces_hold_all_messages_in_order_within_the_limits_of_a_frame(seed: int) -> None:
    rng = random.Random(seed)
    largest = rng.choice([0, 100, 20_000, 300_000])
    bodies = [b"%d" % n + bytes(rng.randrange(largest + 1)) for n in range(rng.choice([1, 20, 90]))]
    messages = [OutgoingMessage(b, {"n": "1"}) if rng.random() < 0.1 else b for b in bodies]

    pieces = list(_wire.pieces(messages if seed % 2 else bodies))

    found = [message.body for wire, _, _ in pieces for message in parsed(wire).messages]
    assert found == bodies
    assert all(len(parsed(wire).messages) == count for wire, count, _ in pieces)
    assert all(len(wire) <= _limits.FRAME_BYTES_SOFT for wire, _, _ in pieces)


def test_more_messages_than_a_frame_holds_become_several_pieces() -> None:
    pieces = list(_wire.pieces([b"x"] * 25_000))

    assert [count for _, count, _ in pieces] == [10_000, 10_000, 5_000]


def test_a_frame_names_queue_producer_and_number_before_its_messages() -> None:
    head = _wire.publish_head("queues/q", "p")

    request = parsed(_wire.publish_frame(head, 300, [_wire.message(b"a"), _wire.message(b"b")]))

    assert (request.queue, request.producer_id, request.producer_sequence) == ("queues/q", "p", 300)
    assert [message.body for message in request.messages] == [b"a", b"b"]


def test_a_message_that_fits_no_frame_is_refused_before_it_is_sent() -> None:
    with pytest.raises(errors.PayloadTooLarge) as refusal:
        _wire.message(bytes(_limits.MESSAGE_BYTES_MAX))

    assert refusal.value.metadata["limit"] == str(_limits.MESSAGE_BYTES_MAX)
