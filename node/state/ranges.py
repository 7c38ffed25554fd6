"""Ranges of sequences, (first, last) with both included."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

Ranges: TypeAlias = Sequence[tuple[int, int]]
"""In ascending order; they do not overlap."""


def overlapping(ranges: Ranges, first: int, last: int) -> list[tuple[int, int]]:
    """What of first..last is in the ranges."""
    at = bisect_right(ranges, (first, 0))
    found = []
    for low, high in ranges[max(0, at - 1) :]:
        if low > last:
            break
        if high >= first:
            found.append((max(low, first), min(high, last)))
    return found


def without(ranges: Ranges, first: int, last: int) -> list[tuple[int, int]]:
    """What of first..last is in none of the ranges."""
    found = []
    for low, high in overlapping(ranges, first, last):
        if first < low:
            found.append((first, low - 1))
        first = high + 1
    if first <= last:
        found.append((first, last))
    return found
