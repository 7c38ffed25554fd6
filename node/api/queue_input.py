"""What a queue's settings may be. Accepted settings have all defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node import limits
from node.api import scheduling_input, validate
from node.errors import InvalidField
from node.state.rows import duration
from taskraft.v1 import queue_pb2

SETTINGS: Final = (
    "ack_deadline",
    "max_messages",
    "max_bytes",
    "max_message_bytes",
    "overflow_policy",
    "paused",
)
"""Those of every queue; one of kind TASK also has `scheduling`."""

STREAM_SETTINGS: Final = ("compaction",)
"""Those that only a queue of kind STREAM has."""


def kind(given: queue_pb2.Queue) -> queue_pb2.QueueKind:
    """Raises InvalidField."""
    if given.kind not in queue_pb2.QueueKind.values():
        raise InvalidField("queue.kind", "a known kind")
    if given.kind != queue_pb2.QUEUE_KIND_TASK and given.HasField("scheduling"):
        raise InvalidField("queue.scheduling", "unset unless the queue is of kind TASK")
    if given.kind != queue_pb2.QUEUE_KIND_STREAM and given.compaction:
        raise InvalidField("queue.compaction", "unset unless the queue is of kind STREAM")
    return given.kind or queue_pb2.QUEUE_KIND_MESSAGE


def settings_of(kind: int) -> tuple[str, ...]:
    """All settings of a queue of that kind."""
    if kind == queue_pb2.QUEUE_KIND_STREAM:
        return (*SETTINGS, *STREAM_SETTINGS)
    return (*SETTINGS, scheduling_input.FIELD) if kind == queue_pb2.QUEUE_KIND_TASK else SETTINGS


def update_mask(paths: Sequence[str], given: queue_pb2.Queue, kind: int) -> list[str]:
    """Settings that change; without a mask all that `given` sets."""
    known = settings_of(kind)
    if "*" in paths:
        return list(known)
    accepted = (*known, *scheduling_input.PATHS) if kind == queue_pb2.QUEUE_KIND_TASK else known
    unknown = [path for path in paths if path not in accepted]
    if unknown:
        raise InvalidField("update_mask", f"some of {', '.join(known)}", path=unknown[0])
    names = list(dict.fromkeys(paths)) or [
        field.name for field, _ in given.ListFields() if field.name in known
    ]
    if not names:
        raise InvalidField("update_mask", f"some of {', '.join(known)}")
    return names


def settings(
    given: queue_pb2.Queue, names: Sequence[str], kind: int, message_bytes_max: int
) -> queue_pb2.Queue:
    """A queue with those settings of `given`, defaults filled in, and nothing else. InvalidField names the field."""
    checked = queue_pb2.Queue()
    if "ack_deadline" in names:
        length_ms = limits.ACK_DEADLINE_MS_DEFAULT
        if given.HasField("ack_deadline"):
            length_ms = validate.duration_ms(
                given.ack_deadline,
                "queue.ack_deadline",
                limits.ACK_DEADLINE_MS_MIN,
                limits.ACK_DEADLINE_MS_MAX,
            )
        checked.ack_deadline.CopyFrom(duration(length_ms))
    for name in ("max_messages", "max_bytes"):
        if name in names:
            if getattr(given, name) > limits.SEQUENCE_MAX:
                raise InvalidField(f"queue.{name}", f"at most {limits.SEQUENCE_MAX}")
            setattr(checked, name, getattr(given, name))
    if "max_message_bytes" in names:
        if given.max_message_bytes > message_bytes_max:
            raise InvalidField("queue.max_message_bytes", f"at most {message_bytes_max}")
        checked.max_message_bytes = given.max_message_bytes or message_bytes_max
    if "overflow_policy" in names:
        checked.overflow_policy = _overflow_policy(given, kind)
    if "paused" in names:
        checked.paused = given.paused
    if "compaction" in names:
        checked.compaction = given.compaction
    if chosen := scheduling_input.names_of(names):
        prefix = f"queue.{scheduling_input.FIELD}."
        checked.scheduling.CopyFrom(scheduling_input.scheduling(given.scheduling, chosen, prefix))
    return checked


def _overflow_policy(given: queue_pb2.Queue, kind: int) -> queue_pb2.OverflowPolicy:
    if given.overflow_policy not in queue_pb2.OverflowPolicy.values():
        raise InvalidField("queue.overflow_policy", "a known policy")
    stream = kind == queue_pb2.QUEUE_KIND_STREAM
    default = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST if stream else queue_pb2.OVERFLOW_POLICY_REJECT
    chosen = given.overflow_policy or default
    if kind == queue_pb2.QUEUE_KIND_TASK and chosen != queue_pb2.OVERFLOW_POLICY_REJECT:
        raise InvalidField("queue.overflow_policy", "OVERFLOW_POLICY_REJECT for a queue of kind TASK")
    return chosen
