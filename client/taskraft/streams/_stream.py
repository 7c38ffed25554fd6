"""How a topology is written down: `stream(...)`, step by step, to `to(...)`. Nothing runs before `run`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskraft.streams._cluster import ClusterLog
from taskraft.streams._lengths import milliseconds
from taskraft.streams._plan import Plan, Record, Result
from taskraft.streams._runtime import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskraft._client import Client
    from taskraft.streams._aggregations import Aggregation
    from taskraft.streams._lengths import Length, Moment
    from taskraft.streams._windows import Windows

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
R = TypeVar("R")


def stream(source: str, *, failed_to: str = "") -> Stream[Record]:
    """The messages of a queue of kind "stream", in its order.

    A record for which a function of the topology raises ends the processor with StepFailed; with `failed_to` it goes to
    that queue instead, as it was published and with the header `taskraft-error`, and changes nothing else.
    """
    return Stream(Plan(source=_name(source), target="", failed_to=_name(failed_to)))


@dataclass(frozen=True, slots=True)
class Stream(Generic[T_co]):
    """Values, one after the other. Functions are pure: a record may be processed again before its results are stored."""

    _plan: Plan

    def map(self, function: Callable[[T_co], U]) -> Stream[U]:
        """Each value becomes another one."""
        return self._then(lambda values: [function(value) for value in values])

    def filter(self, function: Callable[[T_co], bool]) -> Stream[T_co]:
        """Only values for which the function is true go on."""
        return self._then(lambda values: [value for value in values if function(value)])

    def flat_map(self, function: Callable[[T_co], Iterable[U]]) -> Stream[U]:
        """Each value becomes none, one or many."""
        return self._then(lambda values: [one for value in values for one in function(value)])

    def key_by(self, function: Callable[[T_co], str]) -> Keyed[T_co]:
        """What values belong together: text of 1 to 200 bytes."""
        return Keyed(replace(self._plan, key_of=function))

    def to(self, queue: str, *, encode: Callable[[T_co], Any] | None = None) -> Topology:
        """Publish the values: bytes as they are, a record with its headers and key, anything else as JSON."""
        return Topology(replace(self._plan, target=_name(queue), encode=encode))

    def _then(self, step: Callable[[Iterable[Any]], Iterable[Any]]) -> Stream[Any]:
        return Stream(replace(self._plan, steps=(*self._plan.steps, step)))


@dataclass(frozen=True, slots=True)
class Keyed(Generic[T_co]):
    """Values that have a key."""

    _plan: Plan

    def window(
        self,
        windows: Windows,
        *,
        time: Callable[[T_co], Moment] | None = None,
        allowed_lateness: Length = 0,
        out_of_orderness: Length = 0,
        max_ahead: Length | None = None,
        idle_after: Length | None = None,
        late_to: str = "",
    ) -> Windowed[T_co]:
        """Cut the values of each key by event time: `tumbling("1m")` or `sliding("5m", every="1m")`.

        `time` finds the event time of a value, a datetime with its zone or seconds since 1970 UTC; without it, it is
        when the message was published. The watermark is `out_of_orderness` behind the latest event time. What comes
        for a window after the watermark has reached its end changes its result, for as long as `allowed_lateness`; what
        comes later still is counted, and its message goes to the queue `late_to` if there is one.

        A message whose event time is more than `max_ahead` after its publishing counts as failed: one clock that is
        wrong would end all windows. If nothing comes for `idle_after`, event time goes on at the speed of the clock here.
        """
        plan = replace(
            self._plan,
            windows=windows,
            time_of=time,
            allowed_lateness_ms=milliseconds("allowed_lateness", allowed_lateness, least=0),
            out_of_orderness_ms=milliseconds("out_of_orderness", out_of_orderness, least=0),
            max_ahead_ms=None if max_ahead is None else milliseconds("max_ahead", max_ahead, least=0),
            idle_after_ms=None if idle_after is None else milliseconds("idle_after", idle_after, least=1),
            late_to=_name(late_to),
        )
        return Windowed(plan)

    def aggregate(self, aggregation: Aggregation[T_co, R]) -> Results[R]:
        """Running totals: each value changes the result of its key, which is published again."""
        return Results(replace(self._plan, aggregation=aggregation))

    def to(self, queue: str, *, encode: Callable[[T_co], Any] | None = None) -> Topology:
        """Publish the values as `Stream.to` does, with their keys as message keys."""
        return Topology(replace(self._plan, target=_name(queue), encode=encode))


@dataclass(frozen=True, slots=True)
class Windowed(Generic[T_co]):
    """Values by key and window."""

    _plan: Plan

    def aggregate(self, aggregation: Aggregation[T_co, R]) -> Results[R]:
        """One result for each key and window with a value, when the watermark has reached the window's end."""
        return Results(replace(self._plan, aggregation=aggregation))


@dataclass(frozen=True, slots=True)
class Results(Generic[R]):
    """What the aggregation makes."""

    _plan: Plan

    def to(self, queue: str, *, encode: Callable[[Result[R]], Any] | None = None) -> Topology:
        """Publish the results: what `encode` makes of them, or else as JSON with key, start, end, value and update.

        The message key is the result's key, with a window `key@start`: a queue with compaction keeps the newest result.
        """
        return Topology(replace(self._plan, target=_name(queue), encode=encode))


@dataclass(frozen=True, slots=True)
class Topology:
    """What is to be done, ready to run."""

    plan: Plan

    async def run(self, client: Client, *, group: str, until_idle: float | None = None) -> None:
        """Process the source until it is cancelled, or until nothing has come for `until_idle` seconds.

        `group` (1 to 64 letters, digits, `.`, `_`, `-`) names what goes on where it was, whoever runs it: its position
        is that of the consumer group of the source, its state is in the queue `{group}-state`. A new group begins where
        a Seek has put it, or else at the beginning. Of several processors of one group one works, and another one takes
        its place within seconds of its end.

        Failures of the cluster are waited for. Raises StepFailed if a function of the topology does, StateMismatch,
        StateTooLarge, and QueueNotFound or another error if the cluster would refuse it every time.
        """
        log = ClusterLog(client, source=self.plan.source, group=group)
        try:
            await Runner(self.plan, log, now=time.monotonic, until_idle_s=until_idle).run()
        finally:
            await log.close()


def _name(queue: str) -> str:
    return queue.removeprefix("queues/")
