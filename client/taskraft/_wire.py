"""Messages as protobuf wire bytes, built by hand.

`repeated Message messages = 15` of a thousand small messages costs 0.5 us a message through protobuf objects and
0.05 to 0.1 us through a join of bytes. The layout is fixed by the .proto: key and length of the message, then key
and length of its body.
"""

from __future__ import annotations

from datetime import UTC
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NoReturn, cast

from taskraft import _limits, errors
from taskraft._times import duration
from taskraft._values import OutgoingMessage
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MESSAGES_KEY = bytes([15 << 3 | 2])
_BODY_KEY = bytes([1 << 3 | 2])


@lru_cache(maxsize=4096)  # lengths, which are few
def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Prefixes(dict[int, bytes]):
    """What stands before a body of a given length."""

    def __missing__(self, length: int) -> bytes:
        inner = _BODY_KEY + varint(length) if length else b""
        prefix = _MESSAGES_KEY + varint(len(inner) + length) + inner
        if len(self) < 4096:
            self[length] = prefix
        return prefix


_PREFIXES = _Prefixes()


def message(body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """One message as an element of the field `messages`."""
    try:
        if headers:
            content = queue_pb2.Message(body=body, headers=headers).SerializeToString()
            wire = _MESSAGES_KEY + varint(len(content)) + content
        else:
            wire = _PREFIXES[len(body)] + body
    except TypeError as error:
        raise TypeError("a message has a body of bytes, and headers of str by str") from error
    if len(wire) > _limits.MESSAGE_BYTES_MAX:
        _refuse(wire)
    return wire


def _refuse(wire: bytes) -> NoReturn:
    raise errors.PayloadTooLarge(
        f"a message has {len(wire)} bytes, a request holds {_limits.MESSAGE_BYTES_MAX}",
        metadata={"bytes": str(len(wire)), "limit": str(_limits.MESSAGE_BYTES_MAX)},
    )


def outgoing(one: OutgoingMessage) -> bytes:
    """The same of a message with all that it says. ValueError for a length of time that is none."""
    if not is_marked(one):
        return message(one.body, one.headers)
    content = queue_pb2.Message(body=one.body, headers=one.headers, key=one.key, priority=one.priority)
    if one.ttl is not None:
        content.ttl.CopyFrom(duration(one.ttl))
        content.ttl.SetInParent()
    if one.delay:
        content.delay.CopyFrom(duration(one.delay))
    if one.deliver_at is not None:
        content.deliver_time.FromDatetime(one.deliver_at.astimezone(UTC))
    encoded = content.SerializeToString()
    wire = _MESSAGES_KEY + varint(len(encoded)) + encoded
    if len(wire) > _limits.MESSAGE_BYTES_MAX:
        _refuse(wire)
    return wire


def is_marked(one: OutgoingMessage) -> bool:
    """True if the message has more than content."""
    return bool(one.key or one.priority or one.ttl is not None or is_timed(one))


def is_timed(one: OutgoingMessage) -> bool:
    """True if the message may be delayed."""
    return bool(one.delay) or one.deliver_at is not None


def pieces(messages: Sequence[bytes | OutgoingMessage]) -> Iterator[tuple[bytes, int, bool]]:
    """All messages, in order, in pieces of at most one frame each: (wire bytes, messages, whether one may be delayed)."""
    for start in range(0, len(messages), _limits.FRAME_MESSAGES_MAX):
        part = messages[start : start + _limits.FRAME_MESSAGES_MAX]
        if set(map(type, part)) == {bytes}:
            for wire, count in _bodies(cast("Sequence[bytes]", part)):
                yield wire, count, False
        else:
            timed = any(isinstance(one, OutgoingMessage) and is_timed(one) for one in part)
            for wire, count in _cut([_one(one) for one in part]):
                yield wire, count, timed


def _one(one: bytes | OutgoingMessage) -> bytes:
    return outgoing(one) if isinstance(one, OutgoingMessage) else message(one)


def _bodies(bodies: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Pieces of bodies without headers; those of one size, the usual case, are a single join."""
    sizes = set(map(len, bodies))
    if max(sizes) > _limits.FRAME_BYTES_SOFT // 2:
        yield from _cut([message(body) for body in bodies])
    elif len(sizes) > 1:
        prefixes = _PREFIXES
        yield from _cut([prefixes[len(body)] + body for body in bodies])
    else:
        [size] = sizes
        prefix = _PREFIXES[size]
        step = _limits.FRAME_BYTES_SOFT // (len(prefix) + size)
        for start in range(0, len(bodies), step):
            part = bodies[start : start + step]
            yield prefix + prefix.join(part), len(part)


def _cut(wires: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join elements until the next one would make the frame too large."""
    if sum(map(len, wires)) <= _limits.FRAME_BYTES_SOFT:
        yield b"".join(wires), len(wires)
        return
    start = base = 0
    for end, total in enumerate(accumulate(map(len, wires))):
        if total - base > _limits.FRAME_BYTES_SOFT and end > start:
            yield b"".join(wires[start:end]), end - start
            start, base = end, total - len(wires[end])
    yield b"".join(wires[start:]), len(wires) - start


def publish_head(target: str, producer_id: str, *, allow_unroutable: bool = False) -> bytes:
    """The fields of a PublishStreamRequest that stay the same for a producer."""
    return queue_pb2.PublishStreamRequest(
        queue=target, producer_id=producer_id, allow_unroutable=allow_unroutable
    ).SerializeToString()


_SEQUENCE_KEY = bytes([4 << 3])


def publish_frame(head: bytes, producer_sequence: int, payloads: list[bytes]) -> bytes:
    """A PublishStreamRequest."""
    return b"".join([head, _SEQUENCE_KEY, varint(producer_sequence), *payloads])
