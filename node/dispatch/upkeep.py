"""What the log has to be told because time passes: delayed messages come into their queues, those that are too old go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from node import limits
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.ledger import Range
from node.dispatch.queue import Answer
from node.dispatch.spans import merged
from node.state.listener import Silence
from node.state.rows import QueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

ADVANCED_RUNS: Final = 500
"""Runs of messages that one command looks at; applying it holds the event loop for some ten milliseconds."""
SPARED_RANGES_MAX: Final = 10_000
"""Ranges that one command spares; if there are more, what lies between some is spared, too."""
PAUSE_MS: Final = 1_000
"""After a step that could not be applied, which is a mistake of ours."""


class Ahead(Protocol):
    """What the state machine knows of what time brings to queues."""

    @property
    def time_ms(self) -> int:
        """The time of the log, which may be ahead of the clock."""
        ...

    def next_queue_due_ms(self, by_ms: int) -> int | None:
        """When AdvanceQueues has something to do, wall clock; exact if that is not above `by_ms`."""
        ...

    def queues_due(self, by_ms: int) -> list[QueueRow]:
        """All queues that it has something to do for at that time, and perhaps others."""
        ...


class Upkeep(Silence):
    """Proposes one step at a time, each when the last one is answered, and only when something is due.

    `spared` says what consumers hold of a queue. `touch` is called whenever `pump` has something to do, `wake` when there
    is a command for the broker.
    """

    def __init__(
        self,
        state: Ahead,
        *,
        clock: Clock,
        spared: Callable[[int], list[Range]],
        touch: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._clock, self._spared = state, clock, spared
        self._touch, self._wake = touch, wake
        self._leads = self._due = self._advancing = False
        self._resume_ms = self._grace_until_ms = 0

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        self._leads, self._due, self._advancing = True, False, False
        self._grace_until_ms = self._clock.now_ms() + limits.FAILOVER_GRACE_MS
        self._touch()

    def follow(self) -> None:
        self._leads = False

    # What the state machine says ----------------------------------------------------------------------------------

    def queue_due(self, queue_id: int) -> None:
        if self._leads:
            self._touch()

    # Doing --------------------------------------------------------------------------------------------------------

    def pump(self) -> int | None:
        """Say that there is a command if something is due; returns when that will be, monotonic."""
        if not self._leads or self._advancing:
            return None
        now_ms, by_ms = self._clock.now_ms(), self._by_ms()
        due_ms = self._state.next_queue_due_ms(by_ms)
        if due_ms is None:
            return None
        if due_ms > by_ms or now_ms < self._resume_ms:
            return max(self._resume_ms, now_ms + due_ms - by_ms)
        self._due = True
        self._wake()
        return None

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """The step that is due."""
        if not self._leads or not self._due:
            return
        self._due, self._advancing = False, True
        step = command_pb2.AdvanceQueues(limit=ADVANCED_RUNS)
        held = [
            (row.name, ranges)
            for row in self._state.queues_due(self._by_ms())
            if row.config.kind == queue_pb2.QUEUE_KIND_MESSAGE and (ranges := self._held(row))
        ]
        for name, ranges in held:
            spared = step.spared.add(queue=name)
            for first, last in at_most(ranges, max(1, SPARED_RANGES_MAX // len(held))):
                spared.ranges.add(first=first, last=last)
        yield plain(command_pb2.Command(advance_queues=step)), self._advanced

    def _held(self, row: QueueRow) -> list[Range]:
        """What consumers hold. Those of an earlier leader have some time to come back and say what that is."""
        ranges = self._spared(row.id)
        if self._clock.now_ms() < self._grace_until_ms:
            marks = [row.watermark, *(line.watermark for line in row.extra.lines.values())]
            ranges = merged([*ranges, (1, max(marks))]) if any(marks) else ranges
        return ranges

    def _advanced(self, error: BaseException | None) -> None:
        self._advancing = False
        if error is not None:
            self._resume_ms = self._clock.now_ms() + PAUSE_MS
        if self._leads:
            self._touch()

    def _by_ms(self) -> int:
        return max(self._clock.wall_ms(), self._state.time_ms)


def at_most(ranges: list[Range], count: int) -> list[Range]:
    """At most so many ranges with all that is in these, which are ascending; the last one may have more than that."""
    if len(ranges) <= count:
        return ranges
    return [*ranges[: count - 1], (ranges[count - 1][0], ranges[-1][1])]
