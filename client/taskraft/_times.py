"""Lengths of time in seconds and times in UTC, as protobuf has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


def duration(seconds: float) -> Duration:
    out = Duration()
    out.FromNanoseconds(round(seconds * 1e9))
    return out


def seconds_of(length: Duration) -> float:
    return length.ToNanoseconds() / 1e9


def time_of(stamp: Timestamp) -> datetime | None:
    """The time in UTC; None if the field is not set."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(UTC)
