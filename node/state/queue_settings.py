"""The settings of queues as the state keeps them: with all defaults filled in, and none that do not go together."""

from typing import Final

from node import limits
from node.state.results import Code, Refused, wrong_queue_kind
from node.state.rows import duration
from node.state.scheduling import FIELDS as SCHEDULING_FIELDS
from node.state.scheduling import scheduling_of, take_over
from taskraft.v1 import queue_pb2

_PLAIN: Final = frozenset(
    {
        "max_messages",
        "max_bytes",
        "max_message_bytes",
        "overflow_policy",
        "paused",
        "max_attempts",
        "dead_letter_queue",
        "max_in_flight_per_key",
        "hold_key",
        "compaction",
    }
)
_LENGTHS: Final = frozenset({"ack_deadline", "max_age"})
_NOT_OF_TASKS: Final = (
    "max_attempts",
    "dead_letter_queue",
    "max_age",
    "bindings",
    "max_in_flight_per_key",
    "hold_key",
    "compaction",
)


def settings_of(queue: queue_pb2.Queue) -> queue_pb2.Queue:
    """The name and the settings of a queue with all defaults filled in, and nothing else."""
    settings = queue_pb2.Queue(
        name=queue.name,
        kind=queue.kind or queue_pb2.QUEUE_KIND_MESSAGE,
        max_messages=queue.max_messages,
        max_bytes=queue.max_bytes,
        max_message_bytes=queue.max_message_bytes or limits.MESSAGE_BYTES_MAX,
        overflow_policy=queue.overflow_policy or _overflow_policy(queue.kind),
        paused=queue.paused,
        max_attempts=queue.max_attempts,
        dead_letter_queue=queue.dead_letter_queue,
        bindings=queue.bindings,
        max_in_flight_per_key=queue.max_in_flight_per_key,
        hold_key=queue.hold_key,
        compaction=queue.compaction,
    )
    if settings.kind == queue_pb2.QUEUE_KIND_TASK:
        settings.scheduling.CopyFrom(scheduling_of(queue.scheduling))
    if queue.HasField("max_age"):
        settings.max_age.CopyFrom(queue.max_age)
    given = queue.HasField("ack_deadline")
    settings.ack_deadline.CopyFrom(queue.ack_deadline if given else duration(limits.ACK_DEADLINE_MS_DEFAULT))
    return settings


def _overflow_policy(kind: int) -> queue_pb2.OverflowPolicy:
    if kind == queue_pb2.QUEUE_KIND_STREAM:
        return queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
    return queue_pb2.OVERFLOW_POLICY_REJECT


def max_age_ms(config: queue_pb2.Queue) -> int:
    """How long a message stays; 0: no limit."""
    return config.max_age.ToMilliseconds() if config.HasField("max_age") else 0


def set_one(changed: queue_pb2.Queue, given: queue_pb2.Queue, field: str) -> Refused | None:
    """Give `changed` one setting of `given`."""
    if field == "scheduling" or field in SCHEDULING_FIELDS:
        if changed.kind != queue_pb2.QUEUE_KIND_TASK:
            return wrong_queue_kind(changed.name, "tasks")
        if field == "scheduling":
            changed.scheduling.CopyFrom(given.scheduling)
        else:
            take_over(changed.scheduling, given.scheduling, field.partition(".")[2])
    elif field in _PLAIN:
        setattr(changed, field, getattr(given, field))
    elif field in _LENGTHS:
        changed.ClearField(field)
        if given.HasField(field):
            getattr(changed, field).CopyFrom(getattr(given, field))
    elif field == "bindings":
        del changed.bindings[:]
        changed.bindings.extend(given.bindings)
    else:
        return _invalid(field, f"{field} is not a setting that can change")
    return None


def misfit(config: queue_pb2.Queue) -> Refused | None:
    """The refusal of settings that do not go together."""
    if config.kind == queue_pb2.QUEUE_KIND_TASK:
        if config.overflow_policy != queue_pb2.OVERFLOW_POLICY_REJECT:
            return _invalid(
                "overflow_policy", "a queue of tasks drops none: its overflow_policy must be REJECT"
            )
        set_fields = {field.name for field, _ in config.ListFields()}
        for field in _NOT_OF_TASKS:
            if field in set_fields:
                return _invalid(field, f"a queue of tasks has no {field}")
    if config.hold_key and not config.max_in_flight_per_key:
        return _invalid("hold_key", "hold_key needs max_in_flight_per_key")
    if config.compaction and config.kind != queue_pb2.QUEUE_KIND_STREAM:
        return _invalid("compaction", "only a stream has compaction")
    return None


def _invalid(field: str, message: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": field})
