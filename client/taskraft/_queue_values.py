"""What queues of messages are said to be and to hold: frozen values without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from taskraft._times import seconds_of, time_of
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

DeadLetterReason = Literal["unknown", "max_attempts", "expired", "overflow", "rejected"]

REASONS: dict[DeadLetterReason, queue_pb2.DeadLetterReason] = {
    "max_attempts": queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS,
    "expired": queue_pb2.DEAD_LETTER_REASON_EXPIRED,
    "overflow": queue_pb2.DEAD_LETTER_REASON_OVERFLOW,
    "rejected": queue_pb2.DEAD_LETTER_REASON_REJECTED,
}
_WORDS: dict[int, DeadLetterReason] = {number: word for word, number in REASONS.items()}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What 50, 90 and 99 of a hundred did not exceed, in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Binding:
    """Topics that a queue gets messages of, such as `orders.*.created` or `orders.>`.

    `*` stands for one word, `>` at the end for one or more. With `headers` only messages that have all of them.
    """

    pattern: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Where a dead letter comes from, and why. `source` is the id of the queue in which it became one."""

    source: str
    source_sequence: int
    reason: DeadLetterReason
    attempts: int
    publish_time: datetime | None
    """When it came into that queue."""
    dead_letter_time: datetime | None
    group: str = ""
    """The consumer group that could not do it; empty for a work queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeekedMessage:
    """A message that was looked at, and is where it was."""

    sequence: int
    body: bytes
    headers: Mapping[str, str]
    key: str
    priority: int
    publish_time: datetime | None
    attempts: int
    """How often it was delivered, as far as is known."""
    leased: bool
    """True if it is delivered and not acknowledged."""
    dead_letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """A consumer group of a stream: all messages before `position` are acknowledged or were skipped."""

    name: str
    position: int
    pending_messages: int
    leased_messages: int
    consumers: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRates:
    """Latency and throughput of a queue of messages over the last `window` seconds, as its leader has seen it.

    `throughput` is messages acknowledged per second; `latency` the mean time that a message spent outside its
    processing; `waiting` is from stored to delivered, `processing` from delivered to acknowledged, `end_to_end` from
    stored to acknowledged, all in seconds.
    """

    window: float
    published: int
    delivered: int
    acknowledged: int
    throughput: float
    latency: float
    waiting: Percentiles
    processing: Percentiles
    end_to_end: Percentiles


def percentiles(of: queue_pb2.Percentiles) -> Percentiles:
    return Percentiles(seconds_of(of.p50), seconds_of(of.p90), seconds_of(of.p99))


def bindings(given: Iterable[str | tuple[str, Mapping[str, str]] | Binding]) -> list[queue_pb2.Binding]:
    """Patterns, patterns with headers, or bindings, as protobuf has them."""
    out = []
    for one in given:
        if isinstance(one, str):
            out.append(queue_pb2.Binding(pattern=one))
        elif isinstance(one, Binding):
            out.append(queue_pb2.Binding(pattern=one.pattern, headers=one.headers))
        else:
            pattern, headers = one
            out.append(queue_pb2.Binding(pattern=pattern, headers=headers))
    return out


def dead_letter(found: queue_pb2.DeadLetter) -> DeadLetter:
    return DeadLetter(
        source=found.source.removeprefix("queues/"),
        source_sequence=found.source_sequence,
        reason=_WORDS.get(found.reason, "unknown"),
        attempts=found.attempts,
        publish_time=time_of(found.publish_time),
        dead_letter_time=time_of(found.dead_letter_time),
        group=found.group,
    )


def peeked_message(found: queue_pb2.PeekedMessage) -> PeekedMessage:
    return PeekedMessage(
        sequence=found.sequence,
        body=found.message.body,
        headers=dict(found.message.headers),
        key=found.message.key,
        priority=found.message.priority,
        publish_time=time_of(found.publish_time),
        attempts=found.attempts,
        leased=found.leased,
        dead_letter=dead_letter(found.dead_letter) if found.HasField("dead_letter") else None,
    )


def group_info(group: queue_pb2.ConsumerGroup) -> GroupInfo:
    return GroupInfo(
        name=group.name,
        position=group.position,
        pending_messages=group.pending_messages,
        leased_messages=group.leased_messages,
        consumers=group.consumers,
        create_time=time_of(group.create_time),
    )


def message_rates(rates: queue_pb2.MessageRates) -> MessageRates:
    return MessageRates(
        window=seconds_of(rates.window),
        published=rates.published,
        delivered=rates.delivered,
        acknowledged=rates.acknowledged,
        throughput=rates.throughput,
        latency=seconds_of(rates.latency),
        waiting=percentiles(rates.waiting),
        processing=percentiles(rates.processing),
        end_to_end=percentiles(rates.end_to_end),
    )
