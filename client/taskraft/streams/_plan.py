"""What flows through a topology, and the topology itself as a frozen value."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from taskraft.streams._aggregations import write
from taskraft.streams._lengths import text_of, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from taskraft.streams._aggregations import Aggregation
    from taskraft.streams._lengths import Moment
    from taskraft.streams._windows import Windows

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the source. `publish_ms` is when it was stored, in milliseconds since 1970 UTC."""

    sequence: int
    body: bytes
    publish_ms: int
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def publish_time(self) -> datetime:
        return time_of(self.publish_ms)

    def json(self) -> Any:
        """The body as JSON says it; ValueError if it is none."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Window:
    """[start_ms, end_ms) in milliseconds since 1970 UTC."""

    start_ms: int
    end_ms: int

    @property
    def start(self) -> datetime:
        return time_of(self.start_ms)

    @property
    def end(self) -> datetime:
        return time_of(self.end_ms)


@dataclass(frozen=True, slots=True)
class Result(Generic[R_co]):
    """What became of the values of a key, or of a key in a window.

    `update` is True if a result for the same was published before, which this one replaces.
    """

    key: str
    value: R_co
    window: Window | None
    update: bool

    def json(self) -> dict[str, Any]:
        """What is published if `to` does not say otherwise."""
        if self.window is None:
            return {"key": self.key, "value": self.value, "update": self.update}
        start, end = text_of(self.window.start_ms), text_of(self.window.end_ms)
        return {"key": self.key, "start": start, "end": end, "value": self.value, "update": self.update}

    def message_key(self) -> str:
        """Tells what is replaced: the key, and with a window `key@start`."""
        return self.key if self.window is None else f"{self.key}@{text_of(self.window.start_ms)}"


class Output(NamedTuple):
    """A message that is to be published."""

    queue: str
    body: bytes
    key: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A topology: where from, through which steps, what is kept, where to. Times are in milliseconds.

    Invariants: `windows` only with `aggregation`, `aggregation` only with `key_of`; the step functions are pure.
    """

    source: str
    target: str
    steps: tuple[Callable[[Iterable[Any]], Iterable[Any]], ...] = ()
    key_of: Callable[[Any], str] | None = None
    windows: Windows | None = None
    time_of: Callable[[Any], Moment] | None = None  # of an event; None: when its message was published
    aggregation: Aggregation[Any, Any] | None = None
    encode: Callable[[Any], Any] | None = None
    allowed_lateness_ms: int = 0
    out_of_orderness_ms: int = 0
    max_ahead_ms: int | None = None
    idle_after_ms: int | None = None
    late_to: str = ""
    failed_to: str = ""

    def shape(self) -> list[Any]:
        """What stored state depends on: a topology with another shape cannot go on with it."""
        windows = self.windows and [self.windows.size_ms, self.windows.every_ms]
        return [self.source, self.aggregation.name if self.aggregation else "", windows or []]

    def values(self, record: Record) -> list[Any]:
        values: Iterable[Any] = (record,)
        for step in self.steps:
            values = step(values)
        return list(values)

    def output(self, value: Any, key: str) -> Output:
        """A value, or a Result, as it is published."""
        out = value if self.encode is None else self.encode(value)
        if isinstance(out, Record):
            return Output(self.target, out.body, key or out.key, out.headers)
        if isinstance(out, Result):
            out = out.json()
        return Output(self.target, out if isinstance(out, bytes) else write(out).encode(), key, {})
