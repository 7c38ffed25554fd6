"""What a queue's settings may be. Accepted settings have all defaults filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

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

MESSAGE_SETTINGS: Final = (
    "max_attempts",
    "dead_letter_queue",
    "max_age",
    "bindings",
    "max_in_flight_per_key",
    "hold_key",
)
"""Those of every queue that holds messages; one of kind STREAM also has `compaction`."""

STREAM_SETTINGS: Final = ("compaction",)


def kind(given: queue_pb2.Queue) -> queue_pb2.QueueKind:
    """Raises InvalidField."""
    if given.kind not in queue_pb2.QueueKind.values():
        raise InvalidField("queue.kind", "a known kind")
    if given.kind != queue_pb2.QUEUE_KIND_TASK and given.HasField("scheduling"):
        raise InvalidField("queue.scheduling", "unset unless the queue is of kind TASK")
    kind = given.kind or queue_pb2.QUEUE_KIND_MESSAGE
    known = settings_of(kind)
    for name in (*MESSAGE_SETTINGS, *STREAM_SETTINGS):
        if name not in known and _is_set(given, name):
            raise InvalidField(f"queue.{name}", f"unset in a queue of kind {KIND_NAMES[kind]}")
    return kind


KIND_NAMES: Final = {value: name.removeprefix("QUEUE_KIND_") for name, value in queue_pb2.QueueKind.items()}


def _is_set(given: queue_pb2.Queue, name: str) -> bool:
    return any(field.name == name for field, _ in given.ListFields())


def settings_of(kind: int) -> tuple[str, ...]:
    """All settings of a queue of that kind."""
    if kind == queue_pb2.QUEUE_KIND_TASK:
        return (*SETTINGS, scheduling_input.FIELD)
    if kind == queue_pb2.QUEUE_KIND_STREAM:
        return (*SETTINGS, *MESSAGE_SETTINGS, *STREAM_SETTINGS)
    return (*SETTINGS, *MESSAGE_SETTINGS)


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
    for name in names:
        if check := CHECKS.get(name):
            check(given, checked, name)
    if "max_message_bytes" in names:
        if given.max_message_bytes > message_bytes_max:
            raise InvalidField("queue.max_message_bytes", f"at most {message_bytes_max}")
        checked.max_message_bytes = given.max_message_bytes or message_bytes_max
    if "overflow_policy" in names:
        checked.overflow_policy = _overflow_policy(given, kind)
    if chosen := scheduling_input.names_of(names):
        prefix = f"queue.{scheduling_input.FIELD}."
        checked.scheduling.CopyFrom(scheduling_input.scheduling(given.scheduling, chosen, prefix))
    return checked


def _overflow_policy(given: queue_pb2.Queue, kind: int) -> queue_pb2.OverflowPolicy:
    if given.overflow_policy not in queue_pb2.OverflowPolicy.values():
        raise InvalidField("queue.overflow_policy", "a known policy")
    default = queue_pb2.OVERFLOW_POLICY_REJECT
    if kind == queue_pb2.QUEUE_KIND_STREAM:
        default = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
    chosen = given.overflow_policy or default
    if kind == queue_pb2.QUEUE_KIND_TASK and chosen != queue_pb2.OVERFLOW_POLICY_REJECT:
        raise InvalidField("queue.overflow_policy", "OVERFLOW_POLICY_REJECT for a queue of kind TASK")
    return chosen


def changed(before: queue_pb2.Queue, given: queue_pb2.Queue, names: Sequence[str]) -> queue_pb2.Queue:
    """A queue with those settings of `given`."""
    after = queue_pb2.Queue()
    after.CopyFrom(before)
    FieldMask(paths=[name for name in names if name in MESSAGE_SETTINGS]).MergeMessage(
        given, after, replace_message_field=True, replace_repeated_field=True
    )
    return after


def consistent(queue: queue_pb2.Queue) -> None:
    """Check settings that depend on each other, of a queue as it will be. Raises InvalidField."""
    if queue.hold_key and not queue.max_in_flight_per_key:
        raise InvalidField("queue.hold_key", "unset without max_in_flight_per_key")


# Single settings --------------------------------------------------------------------------------------------------

Check = Callable[[queue_pb2.Queue, queue_pb2.Queue, str], None]


def _ack_deadline(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
    length_ms = limits.ACK_DEADLINE_MS_DEFAULT
    if given.HasField("ack_deadline"):
        low_ms, high_ms = limits.ACK_DEADLINE_MS_MIN, limits.ACK_DEADLINE_MS_MAX
        length_ms = validate.duration_ms(given.ack_deadline, f"queue.{name}", low_ms, high_ms)
    checked.ack_deadline.CopyFrom(duration(length_ms))


def _max_age(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
    if given.HasField("max_age"):
        low_ms, high_ms = limits.MAX_AGE_MS_MIN, limits.MAX_AGE_MS_MAX
        checked.max_age.CopyFrom(
            duration(validate.duration_ms(given.max_age, f"queue.{name}", low_ms, high_ms))
        )


def _number(high: int) -> Check:
    def check(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
        if getattr(given, name) > high:
            raise InvalidField(f"queue.{name}", f"at most {high}")
        setattr(checked, name, getattr(given, name))

    return check


def _as_it_is(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
    setattr(checked, name, getattr(given, name))


def _dead_letter_queue(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
    if given.dead_letter_queue:
        checked.dead_letter_queue = validate.queue_name(given.dead_letter_queue, f"queue.{name}")


def _bindings(given: queue_pb2.Queue, checked: queue_pb2.Queue, name: str) -> None:
    if len(given.bindings) > limits.BINDINGS_MAX:
        raise InvalidField(f"queue.{name}", f"at most {limits.BINDINGS_MAX} bindings")
    for place, binding in enumerate(given.bindings):
        field = f"queue.{name}[{place}]"
        checked.bindings.add(
            pattern=validate.pattern(binding.pattern, f"{field}.pattern"),
            headers=validate.headers(binding.headers, f"{field}.headers", limits.BINDING_VALUE_BYTES_MAX),
        )


CHECKS: Final[dict[str, Check]] = {
    "ack_deadline": _ack_deadline,
    "max_messages": _number(limits.SEQUENCE_MAX),
    "max_bytes": _number(limits.SEQUENCE_MAX),
    "paused": _as_it_is,
    "max_attempts": _number(limits.DELIVERY_ATTEMPTS_MAX),
    "dead_letter_queue": _dead_letter_queue,
    "max_age": _max_age,
    "bindings": _bindings,
    "max_in_flight_per_key": _number(limits.KEY_IN_FLIGHT_MAX),
    "hold_key": _as_it_is,
    "compaction": _as_it_is,
}
"""What is checked of the settings that need nothing but themselves."""
