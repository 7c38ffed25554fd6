"""The messages of one queue and priority: who has which, where they are, and which of them is next.

Plainly they go in the order of the queue, what came back first. With keys they go in that order as far as their keys have
room: the level reads the keys of a bounded number of messages that are next, and `keys.py` says which of them may go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from node import limits
from node.dispatch.keys import Keys
from node.dispatch.ledger import Ledger, Range
from node.dispatch.shelf import Chunks, Run, Shelf
from node.dispatch.spans import merged


class Found(NamedTuple):
    """The next live messages to deliver, all of one chunk and one number of deliveries so far."""

    run: Run
    so_far: int
    level: Level


class Level:
    """The messages of one priority. `recorded` is the watermark as it was last put into the log."""

    def __init__(
        self,
        store: Chunks,
        queue_id: int,
        priority: int,
        *,
        next_sequence: int,
        watermark: int,
        grace_until_ms: int,
    ) -> None:
        self.shelf = Shelf(store, queue_id, priority)
        self.next_sequence = self._new_from = next_sequence
        run = self.shelf.run(1, next_sequence - 1)
        first_live = run.first if run else next_sequence
        self.ledger = Ledger(first_live=first_live, watermark=watermark, priority=priority)
        self.recorded = watermark
        self._grace_until_ms = grace_until_ms

    @property
    def priority(self) -> int:
        return self.ledger.priority

    def live(self, ranges: Iterable[Range]) -> list[Range]:
        """What of `ranges` exists."""
        found: list[Range] = []
        for first, last in merged(ranges):
            at, end = first, min(last, self.next_sequence - 1)
            while run := self.shelf.run(at, end):
                found.append((run.first, run.last))
                at = run.last + 1
        return merged(found)

    def ready(self) -> int:
        """How many messages can be delivered now, as far as is known."""
        ledger = self.ledger
        return ledger.returned.count + ledger.aside.count + self.shelf.live(ledger.cursor)

    def waits(self, now_ms: int) -> bool:
        """True if consumers of the last leader may still claim what would be next."""
        return now_ms < self._grace_until_ms and bool(self.ledger.keys or self.ledger.returned)

    # What is next -------------------------------------------------------------------------------------------------

    def next(self, now_ms: int) -> Found | None:
        """What to deliver next. It must be leased, at least its first message, before anything else is asked."""
        if self.ledger.keys:
            return self._next_in_order(self.ledger.keys, now_ms)
        ledger = self.ledger
        if ledger.returned and (found := self._next_returned(now_ms)):
            return found
        if ledger.aside and (found := self._next_aside()):
            return found
        return self._next_fresh(now_ms)

    def _next_returned(self, now_ms: int) -> Found | None:
        returned = self.ledger.returned
        while returned:
            span = returned.first()
            run = self.shelf.run(span.first, span.last)
            gone = run.first - 1 if run else span.last
            if gone >= span.first:
                returned.take(span.first, gone)
            if run is None:
                continue
            if span.value.attempts:
                return Found(run, span.value.attempts, self)
            if span.value.reason == "leader_changed" and now_ms < self._grace_until_ms:
                return None
            known = self._known(run)
            if known.so_far < self.ledger.attempts_max or not self.ledger.attempts_max:
                return known
            self.ledger.recall(known.run.first, known.run.last, known.so_far)
        return None

    def _next_aside(self) -> Found | None:
        """What waited for its key when the queue gave up ordering them."""
        aside = self.ledger.aside
        while aside:
            span = aside.first()
            run = self.shelf.run(span.first, span.last)
            gone = run.first - 1 if run else span.last
            if gone >= span.first:
                aside.take(span.first, gone)
            if run:
                return Found(run, 0, self)
        return None

    def _next_fresh(self, now_ms: int) -> Found | None:
        if self.ledger.returned:
            assert now_ms < self._grace_until_ms
            return None
        while fresh := self.ledger.fresh(self.next_sequence):
            run = self.shelf.run(*fresh)
            gone = run.first - 1 if run else fresh[1]
            if gone >= fresh[0]:
                self.ledger.skip(gone)
            if run:
                return Found(run, 0, self)
        return None

    def _known(self, run: Run) -> Found:
        """A run that an earlier leader delivered, cut where the number of its deliveries changes."""
        attempts = self.shelf.attempts(run.first, run.last)
        so_far = attempts.get(run.first, 1)
        last = run.first
        while last < run.last and attempts.get(last + 1, 1) == so_far:
            last += 1
        return Found(run._replace(last=last), so_far, self)

    # In the order of keys -----------------------------------------------------------------------------------------

    def _next_in_order(self, keys: Keys, now_ms: int) -> Found | None:
        if now_ms < self._grace_until_ms or keys.in_flight >= limits.KEYED_IN_FLIGHT_MAX:
            return None
        while True:
            sequence = keys.next(self.priority)
            if sequence is None:
                room = limits.KEY_PARKED_MAX - keys.waiting(self.priority)
                if room <= 0 or not self._read_on(keys, min(room, limits.KEYS_READ_MAX)):
                    return None
                continue
            run = self.shelf.run(sequence, sequence)
            assert run, "a message waits for its key and is gone"
            again = self.ledger.returned.within(sequence, sequence)
            if not again or again[0].value.attempts:
                return Found(run, again[0].value.attempts if again else 0, self)
            known = self._known(run)  # its holder had it of an earlier leader
            self.ledger.recall(sequence, sequence, known.so_far)

    def _read_on(self, keys: Keys, count: int) -> bool:
        """Read the keys of up to so many messages that are next; False if there are none."""
        ledger = self.ledger
        while True:
            back = self._next_back(keys.read_to(self.priority) + 1)
            fresh = ledger.fresh(self.next_sequence)
            if back and (fresh is None or back[0] < fresh[0]):
                run = self.shelf.run(*back)
                gone = run.first - 1 if run else back[1]
                if gone >= back[0]:
                    ledger.returned.take(back[0], gone)
                    ledger.aside.take(back[0], gone)
                    keys.skip(self.priority, gone)
                if run:
                    self._read(keys, _first(run, count))
                    return True
            elif fresh:
                run = self.shelf.run(*fresh)
                gone = run.first - 1 if run else fresh[1]
                if gone >= fresh[0]:
                    ledger.skip(gone)
                    keys.skip(self.priority, gone)
                if run:
                    run = _first(run, count)
                    ledger.set_aside(run.first, run.last)
                    if run.first < self._new_from:
                        for sequence, attempts in self.shelf.attempts(run.first, run.last).items():
                            ledger.remember(sequence, attempts)
                    self._read(keys, run)
                    return True
            else:
                return False

    def _next_back(self, first: int) -> Range | None:
        """The next messages from `first` on that came back, or were set aside while keys ordered them before."""
        found: list[Range] = []
        if span := self.ledger.returned.next_from(first):
            found.append((span.first, span.last))
        if waited := self.ledger.aside.next_from(first):
            found.append((waited.first, waited.last))
        return min(found, default=None)

    def _read(self, keys: Keys, run: Run) -> None:
        """Read the keys of messages that nobody has, and of those that an earlier leader delivered how often."""
        ledger = self.ledger
        for span in ledger.returned.within(run.first, run.last):
            at = span.first
            while not span.value.attempts and at <= span.last:
                known = self._known(run._replace(first=at, last=span.last))
                ledger.recall(at, known.run.last, known.so_far)
                at = known.run.last + 1
        waiting = [*ledger.returned.within(run.first, run.last), *ledger.aside.within(run.first, run.last)]
        for first, last, _ in waiting:
            keys.read(self.priority, first, self.shelf.keys(run._replace(first=first, last=last)))
        for first, last, _ in ledger.over.within(run.first, run.last):
            keys.claim(first, self.shelf.keys(run._replace(first=first, last=last)))
        keys.skip(self.priority, run.last)

    def order_by(self, keys: Keys | None) -> None:
        """From now on messages go in the order of their keys, or not any more."""
        ledger = self.ledger
        ledger.keys = keys
        if keys is None:
            return
        over = [(first, last) for first, last, _ in ledger.over]
        self.learn(keys, [*ledger.with_holders(), *over])
        delayed = ledger.waiting_for_time()
        self.learn(keys, delayed)
        for first, last in delayed:
            keys.delay(self.priority, first, last)

    def learn(self, keys: Keys, ranges: Iterable[Range]) -> None:
        """Read the keys of messages that somebody has."""
        for first, last in ranges:
            at = first
            while run := self.shelf.run(at, last):
                keys.claim(run.first, self.shelf.keys(run))
                at = run.last + 1


def _first(run: Run, count: int) -> Run:
    """The first `count` messages of a run at most."""
    return run._replace(last=min(run.last, run.first + count - 1))
