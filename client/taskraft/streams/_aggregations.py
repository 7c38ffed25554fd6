"""What is made of the values of one key, or of one key in one window.

Between two values an accumulator is JSON: so it is stored, and so a processor that takes over finds exactly what the one
before had. An accumulator begins with the first value, so there is no result of nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskraft import errors
from taskraft.streams import _limits

if TYPE_CHECKING:
    from collections.abc import Callable

write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""A value as JSON. TypeError or ValueError for what is none: NaN, bytes, a datetime."""

read = json.JSONDecoder().decode
"""A value of its JSON."""

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
A = TypeVar("A")
Number = TypeVar("Number", int, float)
Ordered = TypeVar("Ordered", int, float, str)


@dataclass(frozen=True, slots=True)
class Aggregation(Generic[T_contra, R_co]):
    """`add` makes the next accumulator of one and a value, `result` what is published of it.

    `initial` is the first accumulator as JSON text; `add` gets one that is its own, also to change. `name` tells stored
    states apart.
    """

    name: str
    initial: str
    add: Callable[[Any, T_contra], Any]
    result: Callable[[Any], R_co]


def count() -> Aggregation[object, int]:
    """How many values there were."""
    return Aggregation("count", "0", lambda so_far, _: so_far + 1, _itself)


def sum_of(number: Callable[[T], Number]) -> Aggregation[T, Number]:
    """The sum of a number of each value."""
    return Aggregation("sum", "0", lambda so_far, value: so_far + number(value), _itself)


def min_of(measure: Callable[[T], Ordered]) -> Aggregation[T, Ordered]:
    """The smallest of what `measure` finds in the values."""

    def add(so_far: Any, value: T) -> Any:
        found = measure(value)
        return found if so_far is None or found < so_far else so_far

    return Aggregation("min", "null", add, _itself)


def max_of(measure: Callable[[T], Ordered]) -> Aggregation[T, Ordered]:
    """The largest of what `measure` finds in the values."""

    def add(so_far: Any, value: T) -> Any:
        found = measure(value)
        return found if so_far is None or found > so_far else so_far

    return Aggregation("max", "null", add, _itself)


def mean_of(number: Callable[[T], float]) -> Aggregation[T, float]:
    """The mean of a number of each value."""
    return Aggregation(
        "mean",
        "[0,0]",
        lambda so_far, value: [so_far[0] + number(value), so_far[1] + 1],
        lambda so_far: so_far[0] / so_far[1],
    )


def collect(limit: int) -> Aggregation[T, list[T]]:
    """The first values in the order in which they came, up to `limit` (1 to 10,000); they have to be JSON."""
    if not 1 <= limit <= _limits.COLLECT_MAX:
        raise errors.InvalidArgument(f"limit must be 1 to {_limits.COLLECT_MAX}", metadata={"field": "limit"})
    return Aggregation(
        f"collect {limit}",
        "[]",
        lambda so_far, value: so_far if len(so_far) >= limit else [*so_far, value],
        _itself,
    )


def reduce(function: Callable[[A, T], A], initial: A) -> Aggregation[T, A]:
    """`function(accumulator, value)` makes the next accumulator, beginning with `initial`; both have to be JSON."""
    return Aggregation("reduce", write(initial), function, _itself)


def _itself(so_far: Any) -> Any:
    return so_far
