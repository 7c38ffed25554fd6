"""How a queue of kind TASK works, with everything that it leaves unsaid filled in."""

from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

from node import limits
from node.policies import Policy, policy
from node.state.rows import duration
from node.state.task_rows import SUCCEEDED
from taskraft.v1 import queue_pb2

_DURATIONS: Final = {
    "aging": limits.AGING_MS_DEFAULT,
    "time_slice": limits.SLICE_MS_DEFAULT,
    "lease": limits.LEASE_MS_DEFAULT,
    "backoff": limits.BACKOFF_MS_DEFAULT,
    "backoff_max": limits.BACKOFF_LONGEST_MS_DEFAULT,
    "retain_succeeded": limits.RETAIN_SUCCEEDED_MS_DEFAULT,
    "retain_failed": limits.RETAIN_FAILED_MS_DEFAULT,
}
"""What a duration is that is not set."""

_NUMBERS: Final = {
    "policy": int(queue_pb2.SCHEDULING_POLICY_FIFO),
    "placement": int(queue_pb2.PLACEMENT_LEAST_LOADED),
    "max_attempts": limits.ATTEMPTS_DEFAULT,
    "max_ended": limits.ENDED_DEFAULT,
}
"""What a number is that is 0."""

FIELDS: Final = frozenset(f"scheduling.{name}" for name in queue_pb2.Scheduling.DESCRIPTOR.fields_by_name)
"""Names of the settings that can change, each alone."""


def scheduling_of(given: queue_pb2.Scheduling) -> queue_pb2.Scheduling:
    """The same with all defaults."""
    filled = queue_pb2.Scheduling()
    filled.CopyFrom(given)
    for name, default_ms in _DURATIONS.items():
        if not filled.HasField(name):
            getattr(filled, name).CopyFrom(duration(default_ms))
    for name, default in _NUMBERS.items():
        if not getattr(filled, name):
            setattr(filled, name, default)
    for name in ("rate", "rate_per_key"):
        if filled.HasField(name) and not getattr(filled, name).burst:
            getattr(filled, name).burst = 1
    return filled


def take_over(changed: queue_pb2.Scheduling, given: queue_pb2.Scheduling, name: str) -> None:
    """Give `changed` that one setting of `given`; what is unset there gets its default by `scheduling_of`."""
    one = queue_pb2.Scheduling()
    one.CopyFrom(given)
    for field in one.DESCRIPTOR.fields_by_name:
        if field != name:
            one.ClearField(field)
    changed.ClearField(name)
    changed.MergeFrom(one)


class Rules(NamedTuple):
    """The settings that transitions need. `policy` gives keys and nothing else here."""

    queue: str  # its full name
    policy: Policy
    lease_ms: int
    max_attempts: int
    backoff_ms: int
    backoff_max_ms: int
    retain_succeeded_ms: int
    retain_failed_ms: int
    max_ended: int


def rules_of(config: queue_pb2.Queue) -> Rules:
    """The rules of a queue of kind TASK, whose defaults are filled in."""
    settings = config.scheduling
    return Rules(
        queue=config.name,
        policy=policy(settings),
        lease_ms=_ms(settings.lease),
        max_attempts=settings.max_attempts,
        backoff_ms=_ms(settings.backoff),
        backoff_max_ms=_ms(settings.backoff_max),
        retain_succeeded_ms=_ms(settings.retain_succeeded),
        retain_failed_ms=_ms(settings.retain_failed),
        max_ended=settings.max_ended,
    )


def _ms(length: Duration) -> int:
    return length.seconds * 1000 + length.nanos // 1_000_000


def retain_ms(rules: Rules, state: int) -> int:
    """How long a task is remembered that ended in that state."""
    return rules.retain_succeeded_ms if state == SUCCEEDED else rules.retain_failed_ms
