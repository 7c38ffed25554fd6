"""A set of sequences, kept as ranges: ten thousand messages in a row cost as much as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class Ranges:
    """Sequences as disjoint ranges (first, last) that do not touch, in ascending order.

    Invariant: `count` is the number of sequences; `_firsts` and `_lasts` have the same length.
    """

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    def __contains__(self, sequence: int) -> bool:
        at = bisect_right(self._firsts, sequence) - 1
        return at >= 0 and sequence <= self._lasts[at]

    def overlaps(self, first: int, last: int) -> bool:
        at = bisect_left(self._lasts, first)
        return at < len(self._firsts) and self._firsts[at] <= last

    def add(self, first: int, last: int) -> None:
        """Add `first` to `last`; those that are in it already stay."""
        assert first <= last
        lasts, firsts = self._lasts, self._firsts
        if not lasts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            self.count += last - first + 1
            return
        low = bisect_left(lasts, first - 1)
        high = bisect_right(firsts, last + 1)
        if low < high:
            self.count -= sum(lasts[at] - firsts[at] + 1 for at in range(low, high))
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]
        self.count += last - first + 1

    def take(self, first: int, last: int) -> list[Range]:
        """Remove `first` to `last`; returns what of it was in the set."""
        assert first <= last
        firsts, lasts = self._firsts, self._lasts
        low = bisect_left(lasts, first)
        high = bisect_right(firsts, last)
        if low >= high:
            return []
        whole = [(firsts[at], lasts[at]) for at in range(low, high)]
        left = [(whole[0][0], first - 1)] if whole[0][0] < first else []
        right = [(last + 1, whole[-1][1])] if whole[-1][1] > last else []
        whole[0] = (max(whole[0][0], first), whole[0][1])
        whole[-1] = (whole[-1][0], min(whole[-1][1], last))
        firsts[low:high] = [one for one, _ in left + right]
        lasts[low:high] = [one for _, one in left + right]
        self.count -= sum(end - start + 1 for start, end in whole)
        return whole
