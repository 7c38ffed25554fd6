"""Which messages of one queue and priority are ready, delayed, leased or being settled: no clock, no I/O.

A sequence at or above `cursor` was never dispatched by this leader, unless it is in `ahead`. Every other live
message is in exactly one of `returned` (ready again), `aside` (never dispatched, it waits for its key), the delayed
ones, one holder's leases, `over` (delivered too often to be delivered again), `settling` (its end is on its way to a
commit), or `reserved` (it is about to be moved).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

from node.dispatch.keys import Keys
from node.dispatch.spans import Span, Spans, merged

Range = tuple[int, int]
Reason = Literal["lease_expired", "rejected", "consumer_lost", "leader_changed"]


class Again(NamedTuple):
    """A message that will be delivered again: how often it was so far, and why it came back."""

    attempts: int
    reason: Reason


UNKNOWN: Final = Again(0, "leader_changed")  # an earlier leader delivered it: the store knows how often


FRESH: Final = Again(-1, "leader_changed")  # nobody delivered it yet, as far as is known


class Delay(NamedTuple):
    """A message that comes back later."""

    again: Again
    due_ms: int


class Turn(NamedTuple):
    """A lease. `expires_ms` (0: when its holder leaves) and `delivered_ms` are of the monotonic clock, `published_ms`
    of the wall clock. What an earlier leader delivered has attempt 0, which the store knows, and no times.
    """

    attempt: int
    expires_ms: int
    delivered_ms: int
    published_ms: int


def ignore(span: Span[Turn]) -> None:
    """Nobody wants to know."""


class Ledger:
    """The leader's books of one queue and priority. All methods keep the invariant of the module's docstring.

    `keys` is told where messages go, if the queue orders them by key. `attempts_max` (0: no limit) is how often a message
    is delivered at most. `on_back` is told of each lease that ended without being settled.
    """

    def __init__(self, *, first_live: int, watermark: int, priority: int = 0) -> None:
        """What a new leader knows: all up to `watermark` was delivered before, live messages begin at `first_live`."""
        self.priority = priority
        self.keys: Keys | None = None
        self.attempts_max = 0
        self.on_back: Callable[[Span[Turn]], None] = ignore
        self.cursor = watermark + 1
        self.ahead: Spans[None] = Spans()
        self.aside: Spans[None] = Spans()
        self.returned: Spans[Again] = Spans()
        self.over: Spans[Again] = Spans()
        self.reserved: Spans[Delay | None] = Spans()  # as what it is to be restored; None: never dispatched
        self.settling: Spans[Turn] = Spans()
        self._delayed: Spans[Delay] = Spans()
        self._due: list[tuple[int, int, int]] = []
        self._held: dict[str, Spans[Turn]] = {}
        if first_live <= watermark:
            self.returned.add(first_live, watermark, UNKNOWN)

    def leased(self, holder: str) -> int:
        """How many messages a holder has."""
        spans = self._held.get(holder)
        return spans.count if spans else 0

    def held(self, holder: str) -> list[Range]:
        """What a holder has."""
        return [(span.first, span.last) for span in self._held.get(holder, ())]

    @property
    def leased_total(self) -> int:
        """Messages delivered whose acknowledgement is not committed."""
        return sum(spans.count for spans in self._held.values()) + self.settling.count

    @property
    def delayed(self) -> int:
        """Messages that were given back with a delay which is not over."""
        return self._delayed.count

    @property
    def watermark(self) -> int:
        """All up to this sequence were delivered at least once."""
        fresh = next((span.first for span in self.reserved if span.value is None), self.cursor)
        aside = self.aside.first().first if self.aside else self.cursor
        return min(aside, fresh, self.cursor) - 1

    def with_holders(self) -> list[Range]:
        """What is leased, or on its way to its end."""
        spans: list[Spans[Any]] = [*self._held.values(), self.settling, self.reserved]
        return merged((first, last) for each in spans for first, last, _ in each)

    def waiting_for_time(self) -> list[Range]:
        """What was given back with a delay which is not over."""
        return [(first, last) for first, last, _ in self._delayed]

    def ready(self, next_sequence: int) -> int:
        """An upper bound of the messages that can be delivered now: some may be gone."""
        before = self.returned.count + self.aside.count
        return before + max(0, next_sequence - self.cursor - self.ahead.count)

    # Delivering ---------------------------------------------------------------------------------------------------

    def fresh(self, next_sequence: int) -> Range | None:
        """The next sequences that were never dispatched; the cursor moves over those tracked elsewhere."""
        while self.ahead and self.ahead.first().first <= self.cursor:
            span = self.ahead.first()
            self.cursor = max(self.cursor, span.last + 1)
            self.ahead.take(span.first, span.last)
        if self.cursor >= next_sequence:
            return None
        last = self.ahead.first().first - 1 if self.ahead else next_sequence - 1
        return self.cursor, min(last, next_sequence - 1)

    def skip(self, last: int) -> None:
        """No message from the cursor to `last` is live, or all of them were just dispatched."""
        assert last >= self.cursor
        assert not self.ahead or last < self.ahead.first().first
        self.cursor = last + 1

    def set_aside(self, first: int, last: int) -> None:
        """The messages next at the cursor wait for their keys."""
        assert first == self.cursor
        self.skip(last)
        self.aside.add(first, last, None)

    def remember(self, sequence: int, attempts: int) -> None:
        """A message that was set aside was delivered so often by an earlier leader."""
        if self.aside.take(sequence, sequence):
            self._return(sequence, sequence, Again(attempts, "leader_changed"))

    def recall(self, first: int, last: int, attempts: int) -> None:
        """Messages that came back were delivered so often, as the store knows."""
        for span in self.returned.take(first, last):
            self._return(span.first, span.last, Again(attempts, span.value.reason))

    def lease(self, holder: str, first: int, last: int, turn: Turn) -> list[Span[Again]]:
        """Messages that are ready, or next at the cursor, go to `holder`; returns what came back before."""
        if taken := self.returned.take(first, last):
            assert sum(span.messages for span in taken) == last - first + 1, "half of a lease is not ready"
        elif self.aside and (waited := self.aside.take(first, last)):
            assert sum(span.messages for span in waited) == last - first + 1, "half of a lease is not ready"
        else:
            assert first == self.cursor, "a lease on messages that are not ready"
            self.skip(last)
        self._holding(holder).add(first, last, turn)
        if self.keys:
            self.keys.start(first, last)
        return taken

    def claim(self, holder: str, live: Iterable[Range], expires_ms: int) -> list[Range]:
        """Lease what `holder` says it works on and nobody else has; `live` are ranges of live messages."""
        granted: list[Range] = []
        for first, last in live:
            for span in self._unclaimed(first, last):
                for spans in self._without_holder:
                    spans.take(span.first, span.last)
                turn = Turn(max(0, span.value.attempts), expires_ms, 0, 0)
                self._holding(holder).add(span.first, span.last, turn)
                granted.append((span.first, span.last))
        return granted

    def _unclaimed(self, first: int, last: int) -> list[Span[Again]]:
        """What of a range no holder has and no acknowledgement is on its way for."""
        found = self.returned.within(first, last)
        found += [Span(low, high, FRESH) for low, high, _ in self.aside.within(first, last)]
        found += [Span(low, high, delay.again) for low, high, delay in self._delayed.within(first, last)]
        if last >= self.cursor:
            for low, high in self.ahead.gaps(max(first, self.cursor), last):
                found.append(Span(low, high, FRESH))
                self.ahead.add(low, high, None)
        return found

    def reserve(self, live: Iterable[Range]) -> list[Range]:
        """Take out of delivery what nobody has, until `restore`; returns that."""
        granted: list[Range] = []
        for first, last in live:
            later = self._delayed.take(first, last)
            free = self._unclaimed(first, last)
            for spans in self._without_holder:
                spans.take(first, last)
            for low, high, delay in later:
                self.reserved.add(low, high, delay)
            for low, high, again in free:
                self.reserved.add(low, high, None if again == FRESH else Delay(again, 0))
            granted += [(each[0], each[1]) for each in (*later, *free)]
        return granted

    def restore(self, ranges: Iterable[Range]) -> None:
        """What is still there of what was reserved is as it was before."""
        for first, last, before in [span for each in ranges for span in self.reserved.take(*each)]:
            if before is None:
                self._restore_fresh(first, last)
            elif before.due_ms:
                self._delay(first, last, *before)
                if self.keys:
                    self.keys.delay(self.priority, first, last)
            else:
                self._return(first, last, before.again)

    def _restore_fresh(self, first: int, last: int) -> None:
        """Messages come in their turn, or wait aside if the cursor has passed them."""
        if last >= self.cursor:
            self.ahead.take(max(first, self.cursor), last)
        if first < self.cursor:
            self.aside.add(first, min(last, self.cursor - 1), None)
        if self.keys:
            self.keys.back(self.priority, first, last)

    def extend(self, holder: str, ranges: Iterable[Range], expires_ms: int) -> list[Range]:
        """Move the end of leases; returns what `holder` does not have."""
        lost: list[Range] = []
        for span in self._taken(holder, ranges, lost):
            turn = span.value._replace(expires_ms=expires_ms)
            self._holding(holder).add(span.first, span.last, turn)
        return lost

    # Settling -----------------------------------------------------------------------------------------------------

    def settle(self, holder: str, ranges: Iterable[Range]) -> tuple[list[Span[Turn]], list[Range]]:
        """Acknowledgements of `holder` are on their way: (what it had, what it did not have)."""
        lost: list[Range] = []
        settled = self._taken(holder, ranges, lost)
        for span in settled:
            self.settling.add(*span)
        return settled, lost

    def unsettle(self, ranges: Iterable[Range]) -> list[Range]:
        """These acknowledgements came to nothing: what is still there is ready again; returns that."""
        back = [span for first, last in ranges for span in self.settling.take(first, last)]
        for span in back:
            self._again(span, "leader_changed")
        return [(span.first, span.last) for span in back]

    def keep(self, holder: str, settled: Iterable[Span[Turn]]) -> None:
        """These acknowledgements of `holder` were refused: what is still there is leased to it as before."""
        for first, last, _ in settled:
            for span in self.settling.take(first, last):
                self._holding(holder).add(*span)

    def give_back(self, holder: str, ranges: Iterable[Range], due_ms: int | None) -> list[Range]:
        """Messages go back, ready at once or at `due_ms`; returns what `holder` does not have."""
        lost: list[Range] = []
        for span in self._taken(holder, ranges, lost):
            if due_ms is None:
                self._again(span, "rejected")
            else:
                self.on_back(span)
                self._delay(span.first, span.last, Again(span.value.attempt, "rejected"), due_ms)
                if self.keys:
                    self.keys.delay(self.priority, span.first, span.last)
        return lost

    def give_up(self) -> list[Span[Turn]]:
        """What was delivered too often is on its way to its end; returns it."""
        spans = [Span(first, last, Turn(again.attempts, 0, 0, 0)) for first, last, again in self.over.clear()]
        for span in spans:
            self.settling.add(*span)
        return spans

    def put_off(self, ranges: Iterable[Range], due_ms: int) -> None:
        """These came to nothing on their way to an end that is not an acknowledgement: they come back at `due_ms`."""
        for first, last in ranges:
            for span in self.settling.take(first, last):
                self._delay(span.first, span.last, Again(span.value.attempt, "leader_changed"), due_ms)

    def release(self, holder: str) -> None:
        """A holder is gone: all it had is ready again."""
        for span in self._held.pop(holder, Spans()):
            self._again(span, "consumer_lost")

    def removed(self, ranges: Iterable[Range]) -> None:
        """These messages are gone for good."""
        for first, last in ranges:
            gaps = self.settling.gaps(first, last)
            self.settling.take(first, last)
            for low, high in gaps:
                for spans in (*self._without_holder, self.over, self.reserved, *self._held.values()):
                    spans.take(low, high)
            if self.keys:
                self.keys.gone(first, last)
        self._held = {holder: spans for holder, spans in self._held.items() if spans}

    # Time ---------------------------------------------------------------------------------------------------------

    def wake(self, now_ms: int) -> None:
        """Delayed messages whose time has come are ready."""
        while self._due and self._due[0][0] <= now_ms:
            _, first, last = heapq.heappop(self._due)
            for span in self._delayed.within(first, last):
                if span.value.due_ms <= now_ms:
                    self._delayed.take(span.first, span.last)
                    self._return(span.first, span.last, span.value.again)

    def next_due_ms(self) -> int | None:
        """When `wake` has something to do, at the earliest."""
        return self._due[0][0] if self._due else None

    def expire(self, holder: str, now_ms: int) -> int | None:
        """Leases of `holder` that have ended are ready again; returns when the next one ends."""
        ends: list[int] = []
        for span in list(self._held.get(holder, ())):
            if span.value.expires_ms and span.value.expires_ms <= now_ms:
                self._holding(holder).take(span.first, span.last)
                self._again(span, "lease_expired")
            elif span.value.expires_ms:
                ends.append(span.value.expires_ms)
        self._tidy(holder)
        return min(ends, default=None)

    @property
    def _without_holder(self) -> tuple[Spans[Any], ...]:
        """Where messages are that anybody may have."""
        return self.returned, self.aside, self._delayed

    # Holders ------------------------------------------------------------------------------------------------------

    def _again(self, span: Span[Turn], reason: Reason) -> None:
        self.on_back(span)
        self._return(span.first, span.last, Again(span.value.attempt, reason))

    def _return(self, first: int, last: int, again: Again) -> None:
        """Messages would be delivered again: the one place where it is decided whether they are."""
        if self.attempts_max and again.attempts >= self.attempts_max:
            self.over.add(first, last, again)
            if self.keys:
                self.keys.start(first, last)
            return
        self.returned.add(first, last, again)
        if self.keys:
            self.keys.back(self.priority, first, last)

    def _delay(self, first: int, last: int, again: Again, due_ms: int) -> None:
        self._delayed.add(first, last, Delay(again, due_ms))
        heapq.heappush(self._due, (due_ms, first, last))

    def limit_attempts(self, attempts_max: int) -> None:
        """Messages are delivered so often at most from now on, 0 = as often as it takes."""
        self.attempts_max = attempts_max
        back = self.over.clear()
        for span in list(self.returned):
            if attempts_max and span.value.attempts >= attempts_max:
                back += self.returned.take(span.first, span.last)
        for first, last, again in back:
            self._return(first, last, again)

    def _holding(self, holder: str) -> Spans[Turn]:
        return self._held.setdefault(holder, Spans())

    def _tidy(self, holder: str) -> None:
        if not self._held.get(holder, True):
            del self._held[holder]

    def _taken(self, holder: str, ranges: Iterable[Range], lost: list[Range]) -> list[Span[Turn]]:
        """Remove ranges from a holder's leases; what it does not have is appended to `lost`."""
        taken: list[Span[Turn]] = []
        spans: Spans[Turn] = self._held.get(holder, Spans())
        for first, last in merged(ranges):
            lost.extend(spans.gaps(first, last))
            taken.extend(spans.take(first, last))
        self._tidy(holder)
        return taken
