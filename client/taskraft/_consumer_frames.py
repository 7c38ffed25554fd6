"""What a consumer writes to its stream, of what its leases owe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskraft import _limits
from taskraft._times import duration
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskraft._leases import Leases
    from taskraft._ranges import Range


def requests(leases: Leases, *, closing: bool, starved: bool) -> Iterator[queue_pb2.ConsumeRequest]:
    """All that is to be written now."""
    acks = leases.take_acks(closing=closing)
    for start in range(0, len(acks), _limits.RANGES_MAX):
        part = ranges_of(acks[start : start + _limits.RANGES_MAX])
        yield queue_pb2.ConsumeRequest(ack=queue_pb2.ConsumeAck(ranges=part))
    for delay, ranges in leases.take_nacks():
        for start in range(0, len(ranges), _limits.RANGES_MAX):
            part = ranges_of(ranges[start : start + _limits.RANGES_MAX])
            nack = queue_pb2.ConsumeNack(ranges=part, delay=duration(delay or 0.0), dead_letter=delay is None)
            yield queue_pb2.ConsumeRequest(nack=nack)
    if not closing:
        messages, size_bytes = leases.take_credit(starved=starved)
        if messages or size_bytes:
            yield queue_pb2.ConsumeRequest(credit=queue_pb2.Credit(messages=messages, bytes=size_bytes))


def pairs_of(ranges: Iterable[queue_pb2.SequenceRange]) -> list[Range]:
    return [(one.first, one.last) for one in ranges]


def ranges_of(pairs: Iterable[Range]) -> list[queue_pb2.SequenceRange]:
    return [queue_pb2.SequenceRange(first=first, last=last) for first, last in pairs]
