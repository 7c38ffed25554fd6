"""Ranges of sequences with a value each: what dispatch remembers instead of single messages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")


class Span(NamedTuple, Generic[Value]):
    """Sequences `first` to `last`, both included."""

    first: int
    last: int
    value: Value

    @property
    def messages(self) -> int:
        """How many sequences it has."""
        return self.last - self.first + 1


class Spans(Generic[Value]):
    """Disjoint spans in ascending order; neighbours with equal values are one span.

    Invariant: `count` is the number of sequences in all spans.
    """

    __slots__ = ("_firsts", "_lasts", "_values", "count")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._values: list[Value] = []
        self.count = 0

    def __len__(self) -> int:
        return len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[Span[Value]]:
        return map(Span, self._firsts, self._lasts, self._values)

    def first(self) -> Span[Value]:
        """The lowest span; there must be one."""
        return Span(self._firsts[0], self._lasts[0], self._values[0])

    def add(self, first: int, last: int, value: Value) -> None:
        """Add sequences that are not in any span yet."""
        assert first <= last
        at = bisect_left(self._firsts, first)
        joins_left = at > 0 and self._lasts[at - 1] == first - 1 and self._values[at - 1] == value
        joins_right = at < len(self._firsts) and self._firsts[at] == last + 1 and self._values[at] == value
        assert at == 0 or self._lasts[at - 1] < first, "sequences are added twice"
        assert at == len(self._firsts) or last < self._firsts[at], "sequences are added twice"
        self.count += last - first + 1
        if joins_left and joins_right:
            self._lasts[at - 1] = self._lasts[at]
            del self._firsts[at], self._lasts[at], self._values[at]
        elif joins_left:
            self._lasts[at - 1] = last
        elif joins_right:
            self._firsts[at] = first
        else:
            self._firsts.insert(at, first)
            self._lasts.insert(at, last)
            self._values.insert(at, value)

    def next_from(self, first: int) -> Span[Value] | None:
        """What of the spans is at or above `first`, as far as it is one span; None if there is nothing."""
        at = bisect_left(self._lasts, first)
        if at == len(self._lasts):
            return None
        return Span(max(self._firsts[at], first), self._lasts[at], self._values[at])

    def within(self, first: int, last: int) -> list[Span[Value]]:
        """What of first..last is in spans, cut at both ends."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        return [
            Span(max(self._firsts[i], first), min(self._lasts[i], last), self._values[i])
            for i in range(low, high)
        ]

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """What of first..last is in no span."""
        found = []
        for span in self.within(first, last):
            if first < span.first:
                found.append((first, span.first - 1))
            first = span.last + 1
        if first <= last:
            found.append((first, last))
        return found

    def take(self, first: int, last: int) -> list[Span[Value]]:
        """Remove what of first..last is in spans, and return it."""
        taken = self.within(first, last)
        if not taken:
            return taken
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        rest: list[Span[Value]] = []
        if self._firsts[low] < first:
            rest.append(Span(self._firsts[low], first - 1, self._values[low]))
        if self._lasts[high - 1] > last:
            rest.append(Span(last + 1, self._lasts[high - 1], self._values[high - 1]))
        self._firsts[low:high] = [span.first for span in rest]
        self._lasts[low:high] = [span.last for span in rest]
        self._values[low:high] = [span.value for span in rest]
        self.count -= sum(span.last - span.first + 1 for span in taken)
        return taken

    def clear(self) -> list[Span[Value]]:
        """Remove everything, and return it."""
        taken = list(self)
        self._firsts, self._lasts, self._values, self.count = [], [], [], 0
        return taken


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same sequences in the fewest ranges, ascending; ranges may overlap."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
