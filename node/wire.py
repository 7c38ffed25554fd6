"""Protobuf bytes cut and pasted by hand, where the messages of a queue must not be touched one by one.

`messages` is field 15 of PublishRequest, PublishStreamRequest, Chunk and Delivery alike, and encoders write
fields in ascending order, so the messages of a publish are the tail of its bytes: they are cut off, kept as
they are, and pasted into a Delivery later. What an unusual encoder wrote in another order is encoded again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.unknown_fields import UnknownFieldSet

from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
VARINT_BYTES_MAX = 10
MESSAGES_KEY = command_pb2.Chunk.MESSAGES_FIELD_NUMBER << 3 | LENGTH_DELIMITED
HEADERS_KEY = bytes([queue_pb2.Message.HEADERS_FIELD_NUMBER << 3 | LENGTH_DELIMITED])
MARK_FIELDS = ("key", "priority", "ttl", "deliver_time", "delay")
"""What makes a message more than content: it must be looked at by itself."""
MARK_NUMBERS = frozenset(queue_pb2.Message.DESCRIPTOR.fields_by_name[name].number for name in MARK_FIELDS)
_MARK_END = b"\x01"  # of all their keys; text seldom has it, so that it is searched first
_MARK = re.compile(_MARK_END + b"(?<=[\x82\x88\x92\x9a\xa2]\x01)")

assert command_pb2.Chunk.MESSAGES_FIELD_NUMBER == queue_pb2.Delivery.MESSAGES_FIELD_NUMBER
assert command_pb2.Chunk.MESSAGES_FIELD_NUMBER == queue_pb2.PublishRequest.MESSAGES_FIELD_NUMBER
assert command_pb2.Chunk.MESSAGES_FIELD_NUMBER == queue_pb2.PublishStreamRequest.MESSAGES_FIELD_NUMBER
assert command_pb2.Chunk.MESSAGES_FIELD_NUMBER == command_pb2.BareChunk.MESSAGES_FIELD_NUMBER
assert all(16 <= number < 32 for number in MARK_NUMBERS), "their keys end with _MARK_END"
assert MESSAGES_KEY < 0x80, "the key of a message must be one byte"

Publishing = TypeVar("Publishing", queue_pb2.PublishRequest, queue_pb2.PublishStreamRequest)


def varint(value: int) -> bytes:
    """`value` as a base-128 varint; it must not be negative."""
    assert value >= 0
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the position after it. IndexError if it is cut short, ValueError if too long."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for i in range(1, VARINT_BYTES_MAX):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("varint too long")


def length_prefix(field: int, size: int) -> bytes:
    """What stands before the `size` bytes of a length-delimited field."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(size)


def messages_at(data: bytes) -> int | None:
    """Where the first field 15 of an encoded publish begins; None if there is none or the bytes are malformed."""
    at, end = 0, len(data)
    try:
        while at < end and data[at] != MESSAGES_KEY:
            key, at = read_varint(data, at)
            kind = key & 7
            if kind == VARINT:
                _, at = read_varint(data, at)
            elif kind == LENGTH_DELIMITED:
                size, at = read_varint(data, at)
                at += size
            elif kind in FIXED_BYTES:
                at += FIXED_BYTES[kind]
            else:
                return None
    except (IndexError, ValueError):
        return None
    return at if at < end else None


def cut(data: bytes, kind: type[Publishing]) -> tuple[Publishing, bytes, command_pb2.Chunk]:
    """An encoded publish as its head without messages, the bytes of its chunk, and the chunk parsed.

    The bytes are canonical: nothing but field 15, lengths in their shortest form. Raises DecodeError.
    """
    at = messages_at(data)
    if at is not None:
        tail = data[at:]
        chunk = command_pb2.Chunk.FromString(tail)
        if not len(UnknownFieldSet(chunk)) and chunk.ByteSize() == len(tail):
            return kind.FromString(data[:at]), tail, chunk
    whole = kind.FromString(data)
    chunk = command_pb2.Chunk(messages=whole.messages)
    whole.ClearField("messages")
    return whole, chunk.SerializeToString(), chunk


def may_be_marked(encoded: bytes) -> bool:
    """False if no message of a canonical chunk has one of MARK_FIELDS; quick, and sometimes True for nothing."""
    return _MARK_END in encoded and _MARK.search(encoded) is not None


def is_bare(encoded: bytes) -> bool:
    """True if no message of a canonical chunk has anything but a body.

    The chunk is read as if bodies were all that there is, and what else there was is dropped: then it is as long as it was,
    or not.
    """
    chunk = command_pb2.BareChunk.FromString(encoded)
    chunk.DiscardUnknownFields()
    return chunk.ByteSize() == len(encoded)


def message_ends(chunk: bytes) -> list[int]:
    """Where each message of a canonical chunk ends; the first begins at 0, each other where the last ends."""
    ends = []
    at, end = 0, len(chunk)
    while at < end:
        assert chunk[at] == MESSAGES_KEY
        size = chunk[at + 1]
        at += 2
        if size >= 0x80:
            size, at = read_varint(chunk, at - 1)
        at += size
        ends.append(at)
    assert at == end
    return ends


def consume_response(parts: Sequence[bytes | memoryview]) -> bytes:
    """The bytes of a ConsumeResponse with that delivery."""
    size = sum(map(len, parts))
    return b"".join((length_prefix(queue_pb2.ConsumeResponse.DELIVERY_FIELD_NUMBER, size), *parts))


def pull_response(lease_id: str, deliveries: Sequence[Sequence[bytes | memoryview]]) -> bytes:
    """The bytes of a PullResponse with these deliveries."""
    parts: list[bytes | memoryview] = [queue_pb2.PullResponse(lease_id=lease_id).SerializeToString()]
    for one in deliveries:
        parts.append(length_prefix(queue_pb2.PullResponse.DELIVERIES_FIELD_NUMBER, sum(map(len, one))))
        parts.extend(one)
    return b"".join(parts)
