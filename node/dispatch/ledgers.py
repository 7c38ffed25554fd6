"""The books of one queue: a level for each priority in use, behind one interface.

A plain queue has one, that of priority 0. The highest priority that has something ready is served first, also with what
came back. What holders name may be of several priorities: each level takes what it has, and what no level has is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from node.dispatch.keys import Keys
from node.dispatch.ledger import Range, Turn
from node.dispatch.level import Found, Level
from node.dispatch.shelf import Chunks
from node.dispatch.spans import Span, Spans, merged
from node.state.rows import QueueRow


class Ledgers:
    """All that a queue has, highest priority first. Where several ranges are given, they may be of any priority.

    Until `grace_until_ms` only consumers that claim them get messages that an earlier leader delivered; of a queue with
    keys nobody gets anything else either, or it could go before what was delivered and not recorded.
    """

    def __init__(
        self,
        store: Chunks,
        row: QueueRow,
        *,
        watermark: int,
        grace_until_ms: int,
        on_back: Callable[[Span[Turn]], None],
    ) -> None:
        """`on_back` is told of each lease that ended without being settled."""
        self._store, self._queue_id = store, row.id
        self.grace_until_ms, self._on_back = grace_until_ms, on_back
        self._keys: Keys | None = None
        self._attempts_max = 0
        self._levels: list[Level] = []
        self._add(0, row.next_sequence, watermark)
        for priority, mark in store.priorities(row.id).items():
            self._add(priority, row.next_sequence, mark)
        self.configure(row)

    def configure(self, row: QueueRow) -> None:
        """The settings of the queue are these from now on."""
        config = row.config
        per_key, hold = config.max_in_flight_per_key, config.hold_key
        if per_key and self._keys:
            self._keys.change(per_key, hold=hold)
        elif per_key or self._keys:
            self._keys = Keys(per_key, hold=hold) if per_key else None
            for level in self._levels:
                level.order_by(self._keys)
        if config.max_attempts != self._attempts_max:
            self._attempts_max = config.max_attempts
            for level in self._levels:
                level.ledger.limit_attempts(self._attempts_max)

    def _add(self, priority: int, next_sequence: int, watermark: int) -> Level:
        level = Level(
            self._store,
            self._queue_id,
            priority,
            next_sequence=next_sequence,
            watermark=watermark,
            grace_until_ms=self.grace_until_ms,
        )
        level.ledger.on_back = self._on_back
        level.ledger.attempts_max = self._attempts_max
        level.order_by(self._keys)
        self._levels.append(level)
        self._levels.sort(key=lambda each: -each.priority)
        return level

    # What there is ------------------------------------------------------------------------------------------------

    def leased(self, holder: str) -> int:
        """How many messages a holder has."""
        if len(self._levels) == 1:
            return self._levels[0].ledger.leased(holder)
        return sum(level.ledger.leased(holder) for level in self._levels)

    def held(self, holder: str) -> list[Range]:
        """What a holder has."""
        return merged(each for level in self._levels for each in level.ledger.held(holder))

    @property
    def leased_total(self) -> int:
        """Messages delivered whose end is not committed."""
        return sum(level.ledger.leased_total for level in self._levels)

    @property
    def delayed(self) -> int:
        """Messages that were given back with a delay which is not over."""
        return sum(level.ledger.delayed for level in self._levels)

    @property
    def parked(self) -> int:
        """Messages that were read ahead of and wait for their key."""
        return self._keys.parked if self._keys else 0

    def spared(self) -> list[Range]:
        """What somebody holds, or is on its way to its end: it is not to be taken away because of its age."""
        return merged(each for level in self._levels for each in level.ledger.with_holders())

    def ready(self) -> int:
        """An estimate of the messages that can be delivered now, if there are any."""
        if len(self._levels) == 1:
            level = self._levels[0]
            return max(1, level.ledger.ready(level.next_sequence) - self.parked)
        return max(1, sum(level.ready() for level in self._levels) - self.parked)

    def waits(self, now_ms: int) -> bool:
        """True if something is not delivered only because consumers of the last leader may still claim it."""
        return now_ms < self.grace_until_ms and any(level.waits(now_ms) for level in self._levels)

    def next(self, now_ms: int) -> Found | None:
        """What to deliver next: nothing goes while something of a higher priority can."""
        in_grace = now_ms < self.grace_until_ms
        for level in self._levels:
            found = level.next(now_ms)
            if found or (in_grace and level.waits(now_ms)):
                return found
        return None

    def attempts(self, span: Span[Turn]) -> list[Span[int]]:
        """How often messages were delivered that somebody had; what is not known of a turn, the store knows."""
        if span.value.attempt:
            return [Span(span.first, span.last, span.value.attempt)]
        found: Spans[int] = Spans()
        known = self._levels[0].shelf.attempts(span.first, span.last)
        for sequence in range(span.first, span.last + 1):
            found.add(sequence, sequence, known.get(sequence, 1))
        return list(found)

    # Holders ------------------------------------------------------------------------------------------------------

    def claim(self, holder: str, ranges: Iterable[Range], expires_ms: int) -> list[Range]:
        """Lease what exists of `ranges`, `holder` says it works on, and nobody else has; returns that."""
        ranges, granted = list(ranges), []
        for level in self._levels:
            some = level.ledger.claim(holder, level.live(ranges), expires_ms)
            if self._keys:
                level.learn(self._keys, some)
            granted += some
        return merged(granted)

    def reserve(self, ranges: Iterable[Range]) -> list[Range]:
        """Take out of delivery what exists of `ranges` and nobody has, until `restore`; returns that."""
        ranges, granted = list(ranges), []
        for level in self._levels:
            some = level.ledger.reserve(level.live(ranges))
            if self._keys:
                level.learn(self._keys, some)
            granted += some
        return merged(granted)

    def restore(self, ranges: Iterable[Range]) -> None:
        """What is still there of what was reserved can be delivered."""
        ranges = list(ranges)
        for level in self._levels:
            level.ledger.restore(ranges)

    def extend(self, holder: str, ranges: Iterable[Range], expires_ms: int) -> list[Range]:
        """Move the end of leases; returns what `holder` does not have."""
        lost = list(ranges)
        for level in self._levels:
            lost = level.ledger.extend(holder, lost, expires_ms)
        return lost

    def settle(self, holder: str, ranges: Iterable[Range]) -> tuple[list[Span[Turn]], list[Range]]:
        """Messages of `holder` are on their way to their end: (what it had, what it did not have)."""
        settled: list[Span[Turn]] = []
        lost = list(ranges)
        for level in self._levels:
            some, lost = level.ledger.settle(holder, lost)
            settled += some
        return settled, lost

    def keep(self, holder: str, settled: list[Span[Turn]]) -> None:
        """These ends of messages of `holder` were refused: what is still there is leased to it as before."""
        for level in self._levels:
            level.ledger.keep(holder, settled)

    def give_back(self, holder: str, ranges: Iterable[Range], due_ms: int | None) -> list[Range]:
        """Messages go back, ready at once or at `due_ms`; returns what `holder` does not have."""
        lost = list(ranges)
        for level in self._levels:
            lost = level.ledger.give_back(holder, lost, due_ms)
        return lost

    def release(self, holder: str) -> None:
        """A holder is gone: all it had is ready again."""
        for level in self._levels:
            level.ledger.release(holder)

    # Ends ---------------------------------------------------------------------------------------------------------

    def unsettle(self, ranges: Iterable[Range]) -> list[Range]:
        """These ends came to nothing: what is still there is ready again; returns that."""
        ranges = list(ranges)
        return [back for level in self._levels for back in level.ledger.unsettle(ranges)]

    def give_up(self) -> list[Span[Turn]]:
        """What was delivered too often is on its way to its end; returns it."""
        if not self._attempts_max:
            return []
        return [span for level in self._levels for span in level.ledger.give_up()]

    def put_off(self, ranges: Iterable[Range], due_ms: int) -> None:
        """That came to nothing: it is tried again at `due_ms`."""
        ranges = list(ranges)
        for level in self._levels:
            level.ledger.put_off(ranges, due_ms)

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, first: int, last: int, priority: int) -> None:
        """There are new messages."""
        for level in self._levels:
            if level.priority == priority:
                level.next_sequence = last + 1
                level.shelf.published()
                return
        self._add(priority, last + 1, first - 1)

    def removed(self, ranges: Iterable[Range]) -> None:
        """These messages are gone for good."""
        ranges = list(ranges)
        for level in self._levels:
            level.shelf.removed(ranges)
            level.ledger.removed(ranges)

    # Time ---------------------------------------------------------------------------------------------------------

    def wake(self, now_ms: int) -> None:
        """Delayed messages whose time has come are ready."""
        for level in self._levels:
            level.ledger.wake(now_ms)

    def next_due_ms(self) -> int | None:
        """When `wake` has something to do, at the earliest."""
        return _earliest([level.ledger.next_due_ms() for level in self._levels])

    def expire(self, holder: str, now_ms: int) -> int | None:
        """Leases of `holder` that have ended are ready again; returns when the next one ends."""
        return _earliest([level.ledger.expire(holder, now_ms) for level in self._levels])

    # Records ------------------------------------------------------------------------------------------------------

    @property
    def has_marks(self) -> bool:
        """True if `marks` has something new to say."""
        if len(self._levels) == 1:
            return self._levels[0].ledger.watermark > self._levels[0].recorded
        return any(level.ledger.watermark > level.recorded for level in self._levels)

    def marks(self) -> tuple[int, dict[int, int]]:
        """Up to where all were delivered once: for priority 0, and for others where that has changed. Said once."""
        plain, others = 0, {}
        for level in self._levels:
            mark = level.ledger.watermark
            if level.priority == 0:
                plain = mark
            elif mark > level.recorded:
                others[level.priority] = mark
            level.recorded = max(level.recorded, mark)
        return plain, others


def _earliest(times: list[int | None]) -> int | None:
    if len(times) == 1:
        return times[0]
    return min((time for time in times if time is not None), default=None)
