"""How far a processor has come: one small record, stored with everything that it does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskraft.streams import _limits
from taskraft.streams._aggregations import write
from taskraft.streams.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOCK = "clock"  # its key in the state queue
_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Clock:
    """Invariants: `position` and `event_ms` never go back, and windows are published in order.

    All windows before `fired_start_ms` that have ended are published, and of that one the keys up to `fired_key`.
    """

    shape: Sequence[Any]
    position: int | None = None  # the sequence that was taken last
    event_ms: int | None = None  # the latest event time, and the idle time since then
    fired_start_ms: int = _limits.TIME_MS_MIN - _limits.LENGTH_MS_MAX  # before all windows
    fired_key: str = ""
    late: int = 0  # values that came after their windows were dropped
    failed: int = 0  # records that could not be processed

    @classmethod
    def load(cls, body: bytes | None, shape: Sequence[Any]) -> Clock:
        """The stored clock, or a new one. StateMismatch if it is of another topology."""
        if body is None:
            return cls(shape=shape)
        fields = json.loads(body)
        if fields.pop("version") != _VERSION or fields["shape"] != shape:
            raise StateMismatch(f"it is of {fields['shape']}, and this is {list(shape)}")
        return cls(**fields)

    def written(self) -> bytes:
        return write(
            {
                "version": _VERSION,
                "shape": self.shape,
                "position": self.position,
                "event_ms": self.event_ms,
                "fired_start_ms": self.fired_start_ms,
                "fired_key": self.fired_key,
                "late": self.late,
                "failed": self.failed,
            }
        ).encode()
