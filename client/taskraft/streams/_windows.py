"""Windows over event time: which ones hold a moment, and which are still open.

A window is [start, start + size): its start belongs to it, its end to the next one. Starts are the multiples of `every`
since 1970 UTC, so all processors cut time at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskraft import errors
from taskraft.streams import _limits
from taskraft.streams._lengths import Length, milliseconds


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `size_ms` that begin every `every_ms`. Invariant: 0 < every_ms <= size_ms, so no moment is in none."""

    size_ms: int
    every_ms: int

    def starts(self, time_ms: int) -> range:
        """The starts of all windows that hold this moment, ascending."""
        return range(self.first_open(time_ms), time_ms + 1, self.every_ms)

    def first_open(self, watermark_ms: int) -> int:
        """The start of the first window that ends after this moment."""
        return ((watermark_ms - self.size_ms) // self.every_ms + 1) * self.every_ms


def tumbling(size: Length) -> Windows:
    """Windows one after the other: each event is in one of them."""
    size_ms = milliseconds("size", size, least=1)
    return Windows(size_ms, size_ms)


def sliding(size: Length, *, every: Length) -> Windows:
    """Windows of `size` that begin every `every` and overlap: an event is in about size / every of them, up to 1000."""
    size_ms = milliseconds("size", size, least=1)
    every_ms = milliseconds("every", every, least=1)
    if not every_ms <= size_ms <= every_ms * _limits.WINDOWS_PER_EVENT_MAX:
        raise errors.InvalidArgument(
            f"every must be between size / {_limits.WINDOWS_PER_EVENT_MAX} and size",
            metadata={"field": "every"},
        )
    return Windows(size_ms, every_ms)
