"""Lengths of time and moments, as people write them, in milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from taskraft import errors
from taskraft.streams import _limits

Length = str | float | timedelta
"""Seconds, a timedelta, or text such as "500ms", "30s", "1m", "2h", "1d"."""

Moment = datetime | float
"""A datetime with its zone, or seconds since 1970 UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TEXT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(name: str, length: Length, *, least: int) -> int:
    """The length in whole milliseconds, `least` to 366 days; InvalidArgument names the setting."""
    if isinstance(length, str):
        found = _TEXT.fullmatch(length)
        if found is None:
            raise _invalid(name, f'is a length such as "500ms", "30s", "1m", "2h" or "1d", not {length!r}')
        whole = round(float(found[1]) * _UNITS_MS[found[2]])
    else:
        seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
        if not abs(seconds) < _limits.LENGTH_MS_MAX:  # also for what is not a number
            raise _invalid(name, f"must be {least} ms to 366 days")
        whole = round(seconds * 1_000)
    if not least <= whole <= _limits.LENGTH_MS_MAX:
        raise _invalid(name, f"must be {least} ms to 366 days")
    return whole


def moment_ms(moment: Moment) -> int:
    """Milliseconds since 1970 UTC. ValueError for a datetime without a zone and outside of the years 1000 to 8999."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"an event time needs its time zone: {moment!r}")
        since_ms = (moment - _EPOCH) // _MILLISECOND
    else:
        since_ms = round(moment * 1_000_000) // 1_000  # cut to milliseconds, as a datetime is
    if not _limits.TIME_MS_MIN <= since_ms <= _limits.TIME_MS_MAX:
        raise ValueError(f"an event time is in the years 1000 to 8999: {moment!r}")
    return since_ms


def time_of(since_ms: int) -> datetime:
    return _EPOCH + since_ms * _MILLISECOND


def text_of(since_ms: int) -> str:
    """Such as 2026-01-01T00:00:00Z, with milliseconds only if there are any."""
    precision = "milliseconds" if since_ms % 1_000 else "seconds"
    return time_of(since_ms).isoformat(timespec=precision).replace("+00:00", "Z")


def _invalid(name: str, text: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"{name} {text}", metadata={"field": name})
