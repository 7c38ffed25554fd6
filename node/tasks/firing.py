"""The leader's clock work for schedules: fires each tick once, and settles those that nobody could fire in time.

The next tick of each schedule is part of the replicated state, and a FireSchedule does nothing unless it is about that
very tick. So a tick is neither lost nor fired twice, whoever leads; here is only decided when and whether.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Final, NamedTuple, Protocol

from node import limits
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.listener import Silence
from node.state.schedule_rows import ScheduleRow
from node.tasks.cron import BadTimesError, Times, jitter_ms
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import schedule_pb2

_log = logging.getLogger(__name__)

LOOK_MS: Final = 1_000  # the wall clock may be set meanwhile
AGAIN_MS: Final = 1_000  # after a tick was refused, because its queue is full for instance
LOADED_AT_ONCE: Final = 500  # schedules read when leadership begins: each step holds the event loop
DECIDED_AT_ONCE: Final = 100  # schedules, and ticks to fire of one
SETTLED_AT_ONCE: Final = 500  # ticks of one schedule that are left out
VOID_MAX: Final = 64  # entries that may be void, beside as many as there are valid ones


class Step(NamedTuple):
    """What is to be done about `tick_ms`, or about so many missed ticks from there on; `next_tick_ms` is then next."""

    tick_ms: int
    missed: bool
    ticks: int
    next_tick_ms: int


def due_ms(row: ScheduleRow) -> int:
    """When the next tick of a schedule is to be fired; there must be one."""
    assert row.next_tick_ms
    return row.next_tick_ms + jitter_ms(row.name, row.next_tick_ms, row.config.jitter.ToMilliseconds())


def steps(row: ScheduleRow, now_ms: int) -> list[Step]:
    """What is to be done now, first things first; a bounded part of it after a long outage. BadTimesError if this node
    cannot tell when the schedule ticks.

    A tick is missed when even the longest jitter ended MISSED_AFTER_MS ago: ticks are fired in order, so one may have
    to wait for the jitter of the one before. One that was settled already, because the settings changed meanwhile, is a
    step of its own: it is passed over as a whole.
    """
    config = row.config
    longest_ms, window_ms = config.jitter.ToMilliseconds(), config.missed_window.ToMilliseconds()
    ahead = chain((row.next_tick_ms,), Times(config, row.next_tick_ms).after(row.next_tick_ms))
    ready: list[int] = []
    next_ms = 0
    for tick_ms in ahead:
        if tick_ms + jitter_ms(row.name, tick_ms, longest_ms) > now_ms or len(ready) == _LOOKED_AT:
            next_ms = tick_ms
            break
        ready.append(tick_ms)
    found: list[Step] = []
    certain = ready if len(ready) < _LOOKED_AT else ready[:SETTLED_AT_ONCE]
    for place, tick_ms in enumerate(certain):
        following_ms = ready[place + 1] if place + 1 < len(ready) else next_ms
        late_ms = now_ms - tick_ms - longest_ms
        fired = late_ms < limits.MISSED_AFTER_MS or (
            late_ms <= window_ms and len(ready) - place <= _FIRED_OF_MISSED[config.missed_policy]
        )
        if found and found[-1].missed and not fired and found[-1].tick_ms > row.last_tick_ms:
            found[-1] = found[-1]._replace(ticks=found[-1].ticks + 1, next_tick_ms=following_ms)
        else:
            found.append(Step(tick_ms, not fired, 1, following_ms))
        if len(found) == DECIDED_AT_ONCE:
            break
    return found


_FIRED_OF_MISSED: Final[dict[int, int]] = {
    schedule_pb2.MISSED_POLICY_NONE: 0,
    schedule_pb2.MISSED_POLICY_LATEST: 1,
    schedule_pb2.MISSED_POLICY_ALL: limits.MISSED_FIRED_MAX,
}
"""How many of the latest ticks are fired if they were missed."""
_LOOKED_AT: Final = SETTLED_AT_ONCE + limits.MISSED_FIRED_MAX


class State(Protocol):
    """The part of the state machine that firing reads."""

    @property
    def time_ms(self) -> int:
        """The latest time that an applied batch carried."""
        ...

    def schedule(self, name: str) -> ScheduleRow | None:
        """The schedule of the full name."""
        ...

    def schedules(self, after_name: str = "", limit: int = -1) -> list[ScheduleRow]:
        """Schedules by name, after one."""
        ...


class Firing(Silence):
    """Knows when each schedule is due. Invariant: there is something only while `term` is set.

    `touch` is called whenever `pump` has something to do, `wake` when there are commands for the broker.
    """

    def __init__(
        self, state: State, *, clock: Clock, touch: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self.term: int | None = None
        self._state, self._clock = state, clock
        self._touch, self._wake = touch, wake
        self._due: dict[str, int] = {}
        """When each schedule is to be looked at, on the wall clock; those in flight and those without a tick are not."""
        self._heap: list[tuple[int, str]] = []
        """The same, and what it was before: an entry that differs from `_due` is void."""
        self._changed: dict[str, None] = {}
        self._commands: deque[tuple[str, Command]] = deque()
        self._in_flight: Counter[str] = Counter()
        self._loaded_to: str | None = None

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        assert not self._due
        self.term, self._loaded_to = term, ""
        self._touch()

    def follow(self) -> None:
        self.term = None
        for forgotten in (self._due, self._heap, self._changed, self._commands, self._in_flight):
            forgotten.clear()

    # What the state machine says ----------------------------------------------------------------------------------

    def schedule_changed(self, name: str) -> None:
        if self.term is not None:
            self._changed[name] = None
            self._touch()

    # Pumping ------------------------------------------------------------------------------------------------------

    def pump(self) -> int | None:
        """Decide what is due; returns when to be called again at the latest, monotonic; None if there is no schedule."""
        if self.term is None:
            return None
        self._load()
        changed, self._changed = self._changed, {}
        for name in changed:
            if not self._in_flight[name]:  # looked at when that is answered
                self._plan(name, self._state.schedule(name))
        now_ms = self._now_ms()
        for _ in range(DECIDED_AT_ONCE):
            if not self._heap or self._heap[0][0] > now_ms:
                break
            at_ms, name = heappop(self._heap)
            if self._due.get(name) == at_ms:
                del self._due[name]
                self._decide(name, now_ms)
        if self._commands:
            self._wake()
        if self._loaded_to is not None:
            return self._clock.now_ms()
        return self._clock.now_ms() + min(LOOK_MS, max(0, self._heap[0][0] - now_ms)) if self._heap else None

    def _now_ms(self) -> int:
        """The wall clock, which for the log never goes back."""
        return max(self._clock.wall_ms(), self._state.time_ms)

    def _load(self) -> None:
        """Read some more of the schedules that there were when leadership began."""
        if self._loaded_to is None:
            return
        rows = self._state.schedules(self._loaded_to, LOADED_AT_ONCE)
        for row in rows:
            self._plan(row.name, row)
        self._loaded_to = rows[-1].name if len(rows) == LOADED_AT_ONCE else None

    def _plan(self, name: str, row: ScheduleRow | None) -> None:
        """Look at a schedule when its next tick is due, if it has one."""
        if row is None or row.config.paused or not row.next_tick_ms:
            self._due.pop(name, None)
        else:
            self._look_at(name, due_ms(row))

    def _look_at(self, name: str, at_ms: int) -> None:
        self._due[name] = at_ms
        heappush(self._heap, (at_ms, name))
        if len(self._heap) > 2 * len(self._due) + VOID_MAX:  # changed before they were due
            self._heap = [(due, each) for each, due in self._due.items()]
            heapify(self._heap)

    def _decide(self, name: str, now_ms: int) -> None:
        row = self._state.schedule(name)
        if row is None or row.config.paused or not row.next_tick_ms:
            return
        try:
            found = steps(row, now_ms)
        except BadTimesError as error:
            _log.warning("schedule_not_fired", extra={"fields": {"schedule": name, "why": str(error)}})
            return
        for step in found:
            command = command_pb2.FireSchedule(
                name=name,
                etag=row.etag,
                tick_ms=step.tick_ms,
                missed=step.missed,
                count=step.ticks,
                next_tick_ms=step.next_tick_ms,
            )
            self._commands.append((name, plain(command_pb2.Command(fire_schedule=command))))
        self._in_flight[name] = len(found)
        if not found:
            self._look_at(name, due_ms(row))

    # For the broker -----------------------------------------------------------------------------------------------

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """What was decided."""
        while self._commands:
            name, command = self._commands.popleft()
            yield command, partial(self._answered, self.term, name)

    def _answered(self, term: int | None, name: str, error: BaseException | None) -> None:
        if self.term is None or term != self.term:
            return
        self._in_flight[name] -= 1
        if self._in_flight[name] > 0:
            return
        del self._in_flight[name]
        if error is None:
            self._changed[name] = None
        else:
            self._look_at(name, self._now_ms() + AGAIN_MS)
        self._touch()
