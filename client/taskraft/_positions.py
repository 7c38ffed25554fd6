"""Places in a queue, as they are said in a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from taskraft.v1 import queue_pb2

Position = int | datetime | Literal["beginning", "end"]
"""A sequence; the first message that came at that time or later (a time without a zone is local); the oldest message; after
the newest one."""


def position_of(given: Position) -> queue_pb2.Position:
    """The same as protobuf has it. ValueError for anything else."""
    if given == "beginning":
        return queue_pb2.Position(beginning=True)
    if given == "end":
        return queue_pb2.Position(end=True)
    if isinstance(given, datetime):
        position = queue_pb2.Position()
        position.time.FromDatetime(given.astimezone(UTC))
        return position
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 1 << 63:
        return queue_pb2.Position(sequence=given)
    raise ValueError(f"a position is a sequence, a time, 'beginning' or 'end', not {given!r}")
