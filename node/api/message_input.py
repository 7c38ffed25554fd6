"""What the messages of a publish may be.

A publish can bring 10,000 messages while everything else waits: single ones are only looked at if one of them could
break a limit, or has more than a body.
"""

from __future__ import annotations

from node import limits, wire
from node.api import validate
from node.errors import InvalidField, PayloadTooLarge
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


def messages(
    chunk: command_pb2.Chunk, encoded: bytes, message_bytes_max: int, kind: int, wall_ms: int
) -> tuple[int, bool]:
    """How many messages a publish has, and whether any of them has a key, priority, ttl, deliver_time or delay.

    Checks them for a queue of that kind, UNSPECIFIED for a topic. Raises InvalidField, PayloadTooLarge.
    """
    count = len(chunk.messages)
    if not 1 <= count <= limits.PUBLISH_MESSAGES_MAX:
        raise InvalidField("messages", f"1 to {limits.PUBLISH_MESSAGES_MAX} messages")
    if len(encoded) > limits.PUBLISH_BYTES_MAX:
        raise PayloadTooLarge(
            "messages", f"at most {limits.PUBLISH_BYTES_MAX} bytes together", bytes=len(encoded)
        )
    if len(encoded) > message_bytes_max:
        for place, message in enumerate(chunk.messages):
            if (size := _size(message)) > message_bytes_max:
                raise PayloadTooLarge(f"messages[{place}]", f"at most {message_bytes_max} bytes", bytes=size)
    may_be_marked, may_have_headers = wire.may_be_marked(encoded), wire.HEADERS_KEY in encoded
    if not (may_be_marked or may_have_headers) or (not chunk.messages[0].headers and wire.is_bare(encoded)):
        return count, False
    if may_have_headers:
        for place, message in enumerate(chunk.messages):
            if message.headers:
                _headers(message, place)
    return count, may_be_marked and _are_marked(chunk, kind, wall_ms)


def _are_marked(chunk: command_pb2.Chunk, kind: int, wall_ms: int) -> bool:
    """True if one of the messages at least is; what they say is checked."""
    marked, place = False, 0
    try:
        for message in chunk.messages:
            fields = message.ListFields()
            if fields and fields[-1][0].number in wire.MARK_NUMBERS:
                _marks(message, kind, wall_ms)
                marked = True
            place += 1
    except InvalidField as error:
        raise error.within(f"messages[{place}].") from None
    return marked


def _size(message: queue_pb2.Message) -> int:
    """Body and headers in bytes."""
    size = len(message.body)
    if message.headers:
        size += sum(len(key.encode()) + len(value.encode()) for key, value in message.headers.items())
    return size


def _headers(message: queue_pb2.Message, place: int) -> None:
    for key in message.headers:
        if not 1 <= len(key.encode()) <= limits.HEADER_KEY_BYTES_MAX:
            validate.header_key(key, f"messages[{place}].headers")


def _marks(message: queue_pb2.Message, kind: int, wall_ms: int) -> None:
    """Check what a message says about its way."""
    validate.message_key(message.key, "key")
    if message.priority > limits.MESSAGE_PRIORITY_MAX:
        raise InvalidField("priority", f"0 to {limits.MESSAGE_PRIORITY_MAX}")
    if message.priority and kind == queue_pb2.QUEUE_KIND_STREAM:
        raise InvalidField("priority", "0 in a queue of kind STREAM")
    if message.HasField("ttl"):
        validate.duration_ms(message.ttl, "ttl", limits.TTL_MS_MIN, limits.TTL_MS_MAX)
    if message.HasField("delay"):
        if message.HasField("deliver_time"):
            raise InvalidField("delay", "unset beside deliver_time")
        validate.duration_ms(message.delay, "delay", 0, limits.DELAY_MS_MAX)
    if message.HasField("deliver_time"):
        ahead_ms = validate.timestamp_ms(message.deliver_time, "deliver_time") - wall_ms
        if ahead_ms > limits.DELAY_MS_MAX:
            raise InvalidField("deliver_time", f"at most {validate.shown(limits.DELAY_MS_MAX)} ahead")
