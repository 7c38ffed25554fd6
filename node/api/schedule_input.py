"""What a schedule may say. Accepted settings have all defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node import limits
from node.api import task_input, validate
from node.errors import ApiError, InvalidField
from node.state.rows import duration
from node.tasks.cron import BadTimesError, Times, is_cron
from taskraft.v1 import schedule_pb2

SETTINGS: Final = (
    "cron",
    "interval",
    "time_zone",
    "task",
    "overlap_policy",
    "missed_policy",
    "missed_window",
    "jitter",
    "start_time",
    "end_time",
    "paused",
)


ZONE_LIMIT: Final = "an IANA name such as Europe/Lisbon"
CRON_FIELDS: Final = {
    "second": ("second", 0, 59),
    "minute": ("minute", 0, 59),
    "hour": ("hour", 0, 23),
    "day-of-month": ("day", 1, 31),
    "month": ("month", 1, 12),
    "day-of-week": ("weekday", 0, 7),
}
"""As cronsim names the fields, in their order: our word, the least and the greatest number."""


class InvalidTimes(InvalidField):
    """The times of a schedule make no sense; `limit` is the sentence about it."""

    def __init__(self, field: str, limit: str, **metadata: object) -> None:
        ApiError.__init__(self, f"{field} {limit}", field=field, limit=limit, **metadata)


def update_mask(paths: Sequence[str], given: schedule_pb2.Schedule) -> list[str]:
    """Settings that change; without a mask all that `given` sets."""
    if "*" in paths:
        return list(SETTINGS)
    unknown = [path for path in paths if path not in SETTINGS]
    if unknown:
        raise InvalidField("update_mask", f"some of {', '.join(SETTINGS)}", path=unknown[0])
    names = list(dict.fromkeys(paths)) or [
        field.name for field, _ in given.ListFields() if field.name in SETTINGS
    ]
    if not names:
        raise InvalidField("update_mask", f"some of {', '.join(SETTINGS)}")
    return names


def settings(
    given: schedule_pb2.Schedule, names: Sequence[str], prefix: str = "schedule."
) -> schedule_pb2.Schedule:
    """A schedule with those settings of `given`, defaults filled in, and nothing else. Its times are not yet judged."""
    checked = schedule_pb2.Schedule()
    try:
        for name in names:
            CHECKS.get(name, _plain)(given, checked, name)
    except InvalidField as error:
        raise error.within(prefix) from None
    return checked


def times(schedule: schedule_pb2.Schedule, anchor_ms: int, prefix: str = "schedule.") -> Times:
    """When a schedule with all these settings ticks. Raises InvalidField if the times make no sense."""
    if schedule.WhichOneof("times") is None:
        raise InvalidField(f"{prefix}cron", "set, or else interval")
    start_ms, end_ms = schedule.start_time.ToMilliseconds(), schedule.end_time.ToMilliseconds()
    if schedule.HasField("end_time") and end_ms <= start_ms:
        raise InvalidField(f"{prefix}end_time", "after start_time")
    try:
        return Times(schedule, anchor_ms)
    except BadTimesError as error:
        field, said = f"{prefix}{error.field}", str(error)
        if error.field == "time_zone":
            raise InvalidTimes(field, f"{schedule.time_zone!r} must be {ZONE_LIMIT}", why=said) from None
        raise InvalidTimes(field, _bad_cron(schedule.cron, said), why=said) from None


def first_tick_ms(schedule: schedule_pb2.Schedule, *, anchor_ms: int, after_ms: int) -> int:
    """The first tick later than `after_ms`; 0 if `end_time` is before it. InvalidField if there is none at all."""
    found = times(schedule, anchor_ms)
    tick_ms = found.next(after_ms)
    if tick_ms or (schedule.HasField("end_time") and schedule.end_time.ToMilliseconds() <= after_ms):
        return tick_ms
    if schedule.HasField("end_time"):
        raise InvalidField("schedule.end_time", "such that a tick comes")
    raise InvalidTimes("schedule.cron", f"{schedule.cron!r} never comes")


def _bad_cron(cron: str, why: str) -> str:
    """What is wrong with an expression of which cronsim says `why`: for people."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        return f"{cron!r} has {count}, it needs 5 (minute hour day month weekday) or 6 with seconds first"
    name, low, high = CRON_FIELDS.get(why.removeprefix("Bad "), ("", 0, 0))
    if not name:
        return f"{cron!r} must be a cron expression"
    place = [known for known, _, _ in CRON_FIELDS.values()].index(name)
    value = fields[place + len(fields) - len(CRON_FIELDS)]
    if name == "day" and is_cron(f"0 0 {value} * *"):
        return f"{cron!r} never comes: no such month has a day {value}"
    return f"{cron!r} has {value!r} as {name}, which takes {low} to {high}"


# Single settings --------------------------------------------------------------------------------------------------


def _plain(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    setattr(checked, name, getattr(given, name))


def _cron(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    if given.WhichOneof("times") == name:
        checked.cron = validate.text(given.cron, name, limits.CRON_CHARS_MAX, 1)


def _interval(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    if given.WhichOneof("times") == name:
        length_ms = validate.duration_ms(given.interval, name, limits.INTERVAL_MS_MIN, limits.INTERVAL_MS_MAX)
        checked.interval.CopyFrom(duration(length_ms))


def _time_zone(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    checked.time_zone = validate.text(given.time_zone, name, limits.TIME_ZONE_CHARS_MAX)


def _task(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    checked.task.CopyFrom(given.task)
    for ignored in ("name", "dependencies"):
        checked.task.ClearField(ignored)
    checked.task.DiscardUnknownFields()
    try:
        task_input.content(checked.task, task_input.Known())
    except InvalidField as error:
        raise error.within("task.") from None


def _choice(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    known, default = POLICIES[name]
    if getattr(given, name) not in known:
        raise InvalidField(name, "a known policy")
    setattr(checked, name, getattr(given, name) or default)


def _missed_window(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    length_ms = limits.MISSED_WINDOW_MS_DEFAULT
    if given.HasField("missed_window"):
        length_ms = validate.duration_ms(given.missed_window, name, 0, limits.MISSED_WINDOW_MS_MAX)
    checked.missed_window.CopyFrom(duration(length_ms))


def _jitter(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    if given.HasField("jitter"):
        checked.jitter.CopyFrom(duration(validate.duration_ms(given.jitter, name, 0, limits.JITTER_MS_MAX)))


def _start_time(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    if given.HasField("start_time"):
        checked.start_time.FromMilliseconds(validate.timestamp_ms(given.start_time, name))


def _end_time(given: schedule_pb2.Schedule, checked: schedule_pb2.Schedule, name: str) -> None:
    if given.HasField("end_time"):
        checked.end_time.FromMilliseconds(validate.timestamp_ms(given.end_time, name))


CHECKS: Final = {
    "cron": _cron,
    "interval": _interval,
    "time_zone": _time_zone,
    "task": _task,
    "overlap_policy": _choice,
    "missed_policy": _choice,
    "missed_window": _missed_window,
    "jitter": _jitter,
    "start_time": _start_time,
    "end_time": _end_time,
}
POLICIES: Final = {
    "overlap_policy": (schedule_pb2.OverlapPolicy.values(), schedule_pb2.OVERLAP_POLICY_SKIP),
    "missed_policy": (schedule_pb2.MissedPolicy.values(), schedule_pb2.MISSED_POLICY_LATEST),
}
