"""What may be said about how a queue schedules its tasks. Accepted settings have all defaults filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Final

from node import limits
from node.api import validate
from node.errors import InvalidField
from node.state.rows import duration
from taskraft.v1 import queue_pb2

FIELD: Final = "scheduling"
SETTINGS: Final = tuple(field.name for field in queue_pb2.Scheduling.DESCRIPTOR.fields)
PATHS: Final = (FIELD, *(f"{FIELD}.{name}" for name in SETTINGS))
"""What an update mask may name."""


def names_of(paths: Sequence[str]) -> list[str]:
    """The settings that these paths of an update mask name."""
    if FIELD in paths:
        return list(SETTINGS)
    return [path.partition(".")[2] for path in paths if path in PATHS]


def scheduling(given: queue_pb2.Scheduling, names: Sequence[str], prefix: str) -> queue_pb2.Scheduling:
    """Those settings of `given`, defaults filled in, and nothing else. InvalidField names the field behind `prefix`."""
    checked = queue_pb2.Scheduling()
    try:
        for name in names:
            CHECKS[name](given, checked, name)
    except InvalidField as error:
        raise error.within(prefix) from None
    return checked


# Kinds of settings ------------------------------------------------------------------------------------------------

Check = Callable[[queue_pb2.Scheduling, queue_pb2.Scheduling, str], None]


def _choice(known: Sequence[int], default: int) -> Check:
    def check(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
        if getattr(given, name) not in known:
            raise InvalidField(name, "a known one")
        setattr(checked, name, getattr(given, name) or default)

    return check


def _length(low_ms: int, high_ms: int, default_ms: int) -> Check:
    def check(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
        length_ms = default_ms
        if given.HasField(name):
            length_ms = validate.duration_ms(getattr(given, name), name, low_ms, high_ms)
        getattr(checked, name).CopyFrom(duration(length_ms))

    return check


def _number(high: int, default: int) -> Check:
    def check(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
        if getattr(given, name) > high:
            raise InvalidField(name, f"at most {high}")
        setattr(checked, name, getattr(given, name) or default)

    return check


def _as_it_is(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
    setattr(checked, name, getattr(given, name))


def _rate(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
    if not given.HasField(name):
        return
    rate: queue_pb2.RateLimit = getattr(given, name)
    if not 0 < rate.per_second <= limits.RATE_MAX:
        raise InvalidField(f"{name}.per_second", f"above 0, up to {limits.RATE_MAX:.0f}")
    if rate.burst > limits.RATE_MAX:
        raise InvalidField(f"{name}.burst", f"1 to {limits.RATE_MAX:.0f}")
    getattr(checked, name).CopyFrom(queue_pb2.RateLimit(per_second=rate.per_second, burst=rate.burst or 1))


def _weights(given: queue_pb2.Scheduling, checked: queue_pb2.Scheduling, name: str) -> None:
    if len(given.tenant_weights) > limits.TENANTS_MAX:
        raise InvalidField(name, f"at most {limits.TENANTS_MAX} tenants")
    for tenant in given.tenant_weights:
        weight = given.tenant_weights[tenant]
        if len(tenant) > limits.TENANT_CHARS_MAX:
            raise InvalidField(name, f"tenants of at most {limits.TENANT_CHARS_MAX} characters")
        if not (isfinite(weight) and 0 < weight <= limits.WEIGHT_MAX):
            raise InvalidField(
                f"{name}[{validate.quoted(tenant)}]", f"above 0, up to {limits.WEIGHT_MAX:.0f}"
            )
        checked.tenant_weights[tenant] = weight


CHECKS: Final[dict[str, Check]] = {
    "policy": _choice(queue_pb2.SchedulingPolicy.values(), queue_pb2.SCHEDULING_POLICY_FIFO),
    "aging": _length(0, limits.AGING_MS_MAX, limits.AGING_MS_DEFAULT),  # zero: waiting does not count
    "time_slice": _length(limits.SLICE_MS_MIN, limits.SLICE_MS_MAX, limits.SLICE_MS_DEFAULT),
    "refuse_infeasible": _as_it_is,
    "tenant_weights": _weights,
    "placement": _choice(queue_pb2.Placement.values(), queue_pb2.PLACEMENT_LEAST_LOADED),
    "preemption": _as_it_is,
    "max_running": _as_it_is,
    "max_running_per_key": _as_it_is,
    "rate": _rate,
    "rate_per_key": _rate,
    "lease": _length(limits.LEASE_MS_MIN, limits.LEASE_MS_MAX, limits.LEASE_MS_DEFAULT),
    "max_attempts": _number(limits.ATTEMPTS_MAX, limits.ATTEMPTS_DEFAULT),
    "backoff": _length(limits.BACKOFF_MS_MIN, limits.BACKOFF_MS_MAX, limits.BACKOFF_MS_DEFAULT),
    "backoff_max": _length(
        limits.BACKOFF_MS_MIN, limits.BACKOFF_LONGEST_MS_MAX, limits.BACKOFF_LONGEST_MS_DEFAULT
    ),
    "retain_succeeded": _length(0, limits.RETAIN_MS_MAX, limits.RETAIN_SUCCEEDED_MS_DEFAULT),
    "retain_failed": _length(0, limits.RETAIN_MS_MAX, limits.RETAIN_FAILED_MS_DEFAULT),
    "max_ended": _number(limits.ENDED_MAX, limits.ENDED_DEFAULT),
}

assert CHECKS.keys() == set(SETTINGS), "each setting is checked"
