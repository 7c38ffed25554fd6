"""Which messages of a queue may go when no more than so many of one key may be in flight. No clock, no I/O.

The leader reads the keys of messages in the order of the queue, a bounded way ahead. A message whose key has no room
waits while others pass it. When there is room for a key, the first of its messages goes: that of the highest priority,
of these the oldest; so with one in flight they go one after the other, and one that came back goes before the later ones.
Messages without a key are not ordered.

A message is known here from when its key was read until it is gone: it waits, is in flight (with a holder, or on its way
to its end), or is delayed. One that comes back from beyond `read_to` is forgotten, it is read in its turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TypeVar

Place = tuple[int, int]
"""(minus priority, sequence): the order in which the messages of a key go."""
Item = TypeVar("Item", int, Place)


class _Key:
    """The messages of one key. `held` were given back with a delay and hold those behind them until they are done.

    Invariant: `offered` is the place of the message that may go next, if one may.
    """

    __slots__ = ("held", "in_flight", "messages", "name", "offered", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages = 0
        self.in_flight = 0
        self.waiting: list[Place] = []
        self.held: set[Place] = set()
        self.offered: Place | None = None

    def next(self, per_key: int) -> Place | None:
        """The message that may go."""
        if not self.waiting or self.in_flight >= per_key:
            return None
        first = self.waiting[0]
        return first if not self.held or min(self.held) >= first else None


class _Level:
    """The messages of one priority: those that may go, and how many are known that wait."""

    __slots__ = ("read_to", "ready", "waiting")

    def __init__(self) -> None:
        self.read_to = 0
        self.ready: list[int] = []
        self.waiting = 0


class Keys:
    """The messages of one queue whose keys are known."""

    def __init__(self, per_key: int, *, hold: bool) -> None:
        """At most `per_key` of a key are in flight. `hold`: what was given back with a delay holds those behind it."""
        self._per_key, self._hold = per_key, hold
        self._keys: dict[str, _Key] = {}
        self._known: dict[int, _Key | None] = {}
        self._waiting: dict[int, Place] = {}
        self._delayed: set[int] = set()
        self._levels: dict[int, _Level] = {}

    def change(self, per_key: int, *, hold: bool) -> None:
        """Other settings from now on."""
        if (per_key, hold) == (self._per_key, self._hold):
            return
        self._per_key, self._hold = per_key, hold
        for key in self._keys.values():
            if not hold:
                key.held.clear()
            self._offer(key)

    def waiting(self, priority: int) -> int:
        """How many messages of a priority wait or may go."""
        return self._level(priority).waiting

    @property
    def parked(self) -> int:
        """How many messages wait for their key."""
        return len(self._waiting) - sum(len(level.ready) for level in self._levels.values())

    @property
    def in_flight(self) -> int:
        """How many messages are with a holder, or on their way to their end."""
        return len(self._known) - len(self._waiting) - len(self._delayed)

    def read_to(self, priority: int) -> int:
        """All messages of a priority up to this sequence were read, or are elsewhere."""
        return self._level(priority).read_to

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._known

    # Deciding -----------------------------------------------------------------------------------------------------

    def next(self, priority: int) -> int | None:
        """The oldest message of a priority that may go; it may until something else is told."""
        ready = self._level(priority).ready
        return ready[0] if ready else None

    # What happened ------------------------------------------------------------------------------------------------

    def read(self, priority: int, first: int, keys: Iterable[str]) -> None:
        """These are the keys of successive messages that can be delivered: they wait."""
        last = first - 1
        for last, name in enumerate(keys, first):
            self._learn(last, name)
            self._wait(priority, last)
        self.skip(priority, last)

    def skip(self, priority: int, last: int) -> None:
        """All messages of a priority up to `last` were read, or are elsewhere."""
        level = self._level(priority)
        level.read_to = max(level.read_to, last)

    def claim(self, first: int, keys: Iterable[str]) -> None:
        """These are the keys of successive messages that are in flight."""
        for sequence, name in enumerate(keys, first):
            if sequence in self._known:
                self.start(sequence, sequence)
            elif key := self._learn(sequence, name):
                key.in_flight += 1
                self._offer(key)

    def start(self, first: int, last: int) -> None:
        """Messages go: those that are known are in flight."""
        for sequence in self._those_known(first, last):
            if sequence in self._waiting or sequence in self._delayed:
                if key := self._known[sequence]:
                    key.in_flight += 1
                self._leave(sequence)

    def back(self, priority: int, first: int, last: int) -> None:
        """Messages can be delivered again."""
        read_to = self._level(priority).read_to
        for sequence in self._those_known(first, last):
            if sequence in self._waiting:
                continue
            if sequence > read_to:
                self.gone(sequence, sequence)
                continue
            self._end_flight(sequence)
            self._wait(priority, sequence)

    def delay(self, priority: int, first: int, last: int) -> None:
        """Messages in flight were given back with a delay."""
        for sequence in self._those_known(first, last):
            self._end_flight(sequence)
            self._delayed.add(sequence)
            if key := self._known[sequence]:
                if self._hold:
                    key.held.add((-priority, sequence))
                self._offer(key)

    def gone(self, first: int, last: int) -> None:
        """Messages are gone for good, or not to be known any more."""
        for sequence in self._those_known(first, last):
            if not self._leave(sequence):
                self._end_flight(sequence)
            key = self._known.pop(sequence)
            if key:
                key.messages -= 1
                if key.held:
                    key.held = {place for place in key.held if place[1] != sequence}
                self._offer(key)
                if not key.messages:
                    del self._keys[key.name]

    # Inside -------------------------------------------------------------------------------------------------------

    def _level(self, priority: int) -> _Level:
        found = self._levels.get(priority)
        return found if found is not None else self._levels.setdefault(priority, _Level())

    def _those_known(self, first: int, last: int) -> list[int]:
        if last - first < len(self._known):
            return [sequence for sequence in range(first, last + 1) if sequence in self._known]
        return sorted(sequence for sequence in self._known if first <= sequence <= last)

    def _learn(self, sequence: int, name: str) -> _Key | None:
        """The key of a message that was not known, and is nowhere yet."""
        assert sequence not in self._known
        key = None
        if name:
            key = self._keys.get(name)
            if key is None:
                key = self._keys[name] = _Key(name)
            key.messages += 1
        self._known[sequence] = key
        return key

    def _wait(self, priority: int, sequence: int) -> None:
        key, place = self._known[sequence], (-priority, sequence)
        self._waiting[sequence] = place
        level = self._level(priority)
        level.waiting += 1
        if key is None:
            insort(level.ready, sequence)
        else:
            insort(key.waiting, place)
            self._offer(key)

    def _leave(self, sequence: int) -> bool:
        """A message waits no longer, or is not delayed any more; False if it is in flight."""
        key, place = self._known[sequence], self._waiting.pop(sequence, None)
        if place is None and sequence not in self._delayed:
            return False
        if place is None:
            self._delayed.remove(sequence)
        else:
            level = self._level(-place[0])
            level.waiting -= 1
            if key is None:
                _remove(level.ready, sequence)
            else:
                _remove(key.waiting, place)
        if key:
            self._offer(key)
        return True

    def _end_flight(self, sequence: int) -> None:
        """A message that does not wait is with nobody any more."""
        if sequence in self._delayed:
            self._delayed.remove(sequence)
        elif key := self._known[sequence]:
            key.in_flight -= 1
            assert key.in_flight >= 0
            self._offer(key)

    def _offer(self, key: _Key) -> None:
        """Let that message of a key be ready which may go."""
        place = key.next(self._per_key)
        if place == key.offered:
            return
        if key.offered:
            _remove(self._level(-key.offered[0]).ready, key.offered[1])
        if place:
            insort(self._level(-place[0]).ready, place[1])
        key.offered = place


def _remove(items: list[Item], item: Item) -> None:
    at = bisect_left(items, item)
    assert items[at] == item
    del items[at]
