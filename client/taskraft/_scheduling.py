"""Settings of queues as keyword arguments, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from taskraft import errors
from taskraft._queue_values import bindings
from taskraft._settings import check_names
from taskraft._times import duration
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from taskraft._values import Overflow

QueueKind = Literal["message", "task", "stream"]
Policy = Literal["fifo", "priority", "shortest_job_first", "round_robin", "earliest_deadline", "fair_share"]
PlacementPolicy = Literal["least_loaded", "pack", "spread"]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `per_second` tasks are started per second, evenly, after up to `burst` at once."""

    per_second: float
    burst: int = 1


class Scheduling(TypedDict, total=False):
    """How a queue of tasks works; all of it can be changed at any time. Lengths of time are in seconds."""

    policy: Policy
    """Which task is next; fifo if not said."""
    aging: float
    """priority: waiting this long counts as much as one priority more; 0: waiting does not count. Default 60."""
    time_slice: float
    """round_robin: the slice, 0.01 to 86,400. Default 1."""
    refuse_infeasible: bool
    """earliest_deadline: refuse what is not expected to meet its deadline with DeadlineInfeasible."""
    tenant_weights: Mapping[str, float]
    """fair_share: weight by tenant; 1 for those not named."""
    placement: PlacementPolicy
    """Which of the workers that can run a task gets it; least_loaded if not said."""
    preemption: bool
    """True: a running preemptible task is stopped if one of higher priority cannot run otherwise."""
    max_running: int
    """Most tasks running at once; 0 = no limit."""
    max_running_per_key: int
    """Most tasks of one limit_key running at once; 0 = no limit."""
    rate: Rate | float | None
    """How fast tasks may start: per second, or a Rate; None = no limit."""
    rate_per_key: Rate | float | None
    """How fast tasks of one limit_key may start."""
    lease: float
    """For tasks that do not say, 1 to 43,200. Default 10."""
    max_attempts: int
    """For tasks that do not say, 1 to 1000. Default 3. For messages: how often one is delivered at most; 0 = no limit."""
    backoff: float
    """For tasks that do not say. Default 1."""
    backoff_max: float
    """The longest pause between attempts. Default 300."""
    retain_succeeded: float
    """How long a task is remembered that succeeded. Default 3,600."""
    retain_failed: float
    """How long one is remembered that ended otherwise. Default 604,800."""
    max_ended: int
    """Most ended tasks remembered, oldest forgotten first. Default 100,000."""


_OVERFLOW: dict[Overflow, queue_pb2.OverflowPolicy] = {
    "reject": queue_pb2.OVERFLOW_POLICY_REJECT,
    "drop_oldest": queue_pb2.OVERFLOW_POLICY_DROP_OLDEST,
}
_KINDS: dict[QueueKind, queue_pb2.QueueKind] = {
    "message": queue_pb2.QUEUE_KIND_MESSAGE,
    "task": queue_pb2.QUEUE_KIND_TASK,
    "stream": queue_pb2.QUEUE_KIND_STREAM,
}
_POLICIES: dict[Policy, queue_pb2.SchedulingPolicy] = {
    "fifo": queue_pb2.SCHEDULING_POLICY_FIFO,
    "priority": queue_pb2.SCHEDULING_POLICY_PRIORITY,
    "shortest_job_first": queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST,
    "round_robin": queue_pb2.SCHEDULING_POLICY_ROUND_ROBIN,
    "earliest_deadline": queue_pb2.SCHEDULING_POLICY_EARLIEST_DEADLINE,
    "fair_share": queue_pb2.SCHEDULING_POLICY_FAIR_SHARE,
}
_PLACEMENTS: dict[PlacementPolicy, queue_pb2.Placement] = {
    "least_loaded": queue_pb2.PLACEMENT_LEAST_LOADED,
    "pack": queue_pb2.PLACEMENT_PACK,
    "spread": queue_pb2.PLACEMENT_SPREAD,
}
_LENGTHS = {"aging", "time_slice", "lease", "backoff", "backoff_max", "retain_succeeded", "retain_failed"}
_PLAIN = (
    "max_messages",
    "max_bytes",
    "max_message_bytes",
    "paused",
    "max_attempts",
    "max_in_flight_per_key",
    "hold_key",
    "compaction",
)
_QUEUE_LENGTHS = ("ack_deadline", "max_age")  # zero: as if it were not said
_OTHERS = ("overflow", "dead_letter_queue", "bindings")
_CHOICES: dict[str, dict[Any, Any]] = {
    "policy": _POLICIES,
    "placement": _PLACEMENTS,
    "overflow_policy": _OVERFLOW,
    "kind": _KINDS,
}


def queue_settings(
    name: str, settings: Mapping[str, Any], kind: QueueKind = "task"
) -> tuple[queue_pb2.Queue, list[str]]:
    """A Queue with these settings, and the names of its fields that were set. InvalidArgument for unknown words."""
    queue, paths = queue_pb2.Queue(name=name), []
    for given, value in settings.items():
        key = "overflow_policy" if given == "overflow" else given
        if key in Scheduling.__annotations__ and (kind == "task" or key != "max_attempts"):
            try:
                _schedule(queue.scheduling, key, value)
            except (TypeError, AttributeError) as error:
                raise TypeError(f"{given}={value!r} is not what the setting takes: {error}") from None
            paths.append(f"scheduling.{key}")
        else:
            _set(queue, given, key, value)
            paths.append(key)
    return queue, paths


def _set(queue: queue_pb2.Queue, given: str, key: str, value: Any) -> None:
    if key in _QUEUE_LENGTHS:
        if value:
            getattr(queue, key).CopyFrom(duration(value))
    elif key in ("kind", "overflow_policy"):
        setattr(queue, key, _choice(key, value))
    elif key == "dead_letter_queue":
        queue.dead_letter_queue = f"queues/{value.removeprefix('queues/')}" if value else ""
    elif key == "bindings":
        queue.bindings.extend(bindings(value))
    elif key in _PLAIN:
        setattr(queue, key, value)
    else:
        check_names("a queue", [given], [*Scheduling.__annotations__, *_PLAIN, *_QUEUE_LENGTHS, *_OTHERS])


def _schedule(scheduling: queue_pb2.Scheduling, key: str, value: Any) -> None:
    if key in _CHOICES:
        setattr(scheduling, key, _choice(key, value))
    elif key in _LENGTHS:
        length: Duration = getattr(scheduling, key)
        length.CopyFrom(duration(value))
        length.SetInParent()  # zero is a value too
    elif key in ("rate", "rate_per_key"):
        if value is not None:
            rate = value if isinstance(value, Rate) else Rate(value)
            getattr(scheduling, key).CopyFrom(
                queue_pb2.RateLimit(per_second=rate.per_second, burst=rate.burst)
            )
    elif key == "tenant_weights":
        scheduling.tenant_weights.update(value)
    else:
        setattr(scheduling, key, value)


def _choice(key: str, value: Any) -> Any:
    choices = _CHOICES[key]
    if value not in choices:
        field = f"scheduling.{key}" if key in Scheduling.__annotations__ else key
        known = ", ".join(choices)
        raise errors.InvalidArgument(f"{key} is one of {known}, not {value!r}", metadata={"field": field})
    return choices[value]


def _word(choices: Mapping[Any, Any], number: int, default: str) -> Any:
    return next((word for word, one in choices.items() if one == number), default)


def kind_of(queue: queue_pb2.Queue) -> QueueKind:
    return cast("QueueKind", _word(_KINDS, queue.kind, "message"))


def scheduling_of(queue: queue_pb2.Queue) -> Scheduling | None:
    """How the queue works, as `update_queue` takes it; None if it does not hold tasks."""
    if queue.kind != queue_pb2.QUEUE_KIND_TASK:
        return None
    settings = queue.scheduling
    out: dict[str, Any] = {}
    for key in Scheduling.__annotations__:
        if key == "policy":
            out[key] = _word(_POLICIES, settings.policy, "fifo")
        elif key == "placement":
            out[key] = _word(_PLACEMENTS, settings.placement, "least_loaded")
        elif key in _LENGTHS:
            if settings.HasField(key):
                out[key] = getattr(settings, key).ToNanoseconds() / 1e9
        elif key in ("rate", "rate_per_key"):
            limit = getattr(settings, key)
            out[key] = Rate(limit.per_second, limit.burst or 1) if limit.per_second else None
        elif key == "tenant_weights":
            out[key] = dict(settings.tenant_weights)
        else:
            out[key] = getattr(settings, key)
    return cast("Scheduling", out)
