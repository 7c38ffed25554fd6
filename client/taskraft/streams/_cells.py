"""Accumulators by what they are for, and the numbered cells in which they are stored.

A stored cell is a message with the key `c7` in a queue that keeps the newest message of each key. Its number is used
again when its accumulator is dropped, so the queue holds as many cells as were ever in use at once, and dropping one
writes nothing: what the clock says is over is read as free.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple

from taskraft.streams import _limits
from taskraft.streams._aggregations import write
from taskraft.streams.errors import StateTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "c"


class Slot(NamedTuple):
    """A key in the window that begins at `start_ms`; without windows that is 0. Keys are not empty."""

    start_ms: int
    key: str


class Cells:
    """All accumulators of a processor, as JSON text. Invariant: each slot has a cell of its own."""

    def __init__(self) -> None:
        self._cells: dict[Slot, int] = {}
        self._texts: dict[Slot, str] = {}
        self._keys: dict[int, set[str]] = {}
        self._starts: list[int] = []  # ascending
        self._free: list[int] = []  # a heap
        self._numbers = 0  # so many numbers were ever used
        self._changed: dict[int, Slot] = {}
        self.changed_bytes = 0  # of what was changed since it was last taken

    @classmethod
    def load(cls, stored: Mapping[str, bytes], is_over: Callable[[Slot], bool]) -> Cells:
        """The cells as they were stored, without those of slots that are over."""
        cells, used = cls(), set[int]()
        for name, body in stored.items():
            number = int(name.removeprefix(PREFIX))
            cells._numbers = max(cells._numbers, number + 1)
            start_ms, key, accumulator = json.loads(body)
            slot = Slot(start_ms, key)
            if is_over(slot):
                continue
            assert slot not in cells._cells, "a slot has one cell"
            used.add(number)
            cells._enter(slot, number)
            cells._texts[slot] = write(accumulator)
        cells._free = sorted(set(range(cells._numbers)) - used)
        return cells

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def changes(self) -> int:
        """How many cells were changed since they were last taken."""
        return len(self._changed)

    def get(self, slot: Slot) -> str | None:
        return self._texts.get(slot)

    def put(self, slot: Slot, text: str) -> None:
        number = self._cells.get(slot)
        if number is None:
            if len(self._cells) >= _limits.CELLS_MAX:
                raise StateTooLarge(f"{_limits.CELLS_MAX} keys and windows are open at once")
            number = heapq.heappop(self._free) if self._free else self._numbers
            self._numbers = max(self._numbers, number + 1)
            self._enter(slot, number)
        if number in self._changed:
            self.changed_bytes -= size_of(slot, self._texts[slot])
        self._texts[slot] = text
        self._changed[number] = slot
        self.changed_bytes += size_of(slot, text)

    def first_start_from(self, start_ms: int) -> int | None:
        """The first window that begins there or later and has accumulators."""
        at = bisect_left(self._starts, start_ms)
        return self._starts[at] if at < len(self._starts) else None

    def keys_of(self, start_ms: int) -> list[str]:
        return sorted(self._keys[start_ms])

    def drop_before(self, start_ms: int) -> None:
        """Forget all windows that begin before that."""
        at = bisect_left(self._starts, start_ms)
        for start in self._starts[:at]:
            for key in self._keys.pop(start):
                slot = Slot(start, key)
                number = self._cells.pop(slot)
                text = self._texts.pop(slot)
                if self._changed.pop(number, None):
                    self.changed_bytes -= size_of(slot, text)
                heapq.heappush(self._free, number)
        del self._starts[:at]

    def take_changes(self) -> dict[str, bytes]:
        """What is to be stored, by its key in the state queue."""
        changed = {
            f"{PREFIX}{number}": write([*slot, None])[:-5].encode() + self._texts[slot].encode() + b"]"
            for number, slot in self._changed.items()
        }
        self._changed.clear()
        self.changed_bytes = 0
        return changed

    def _enter(self, slot: Slot, number: int) -> None:
        self._cells[slot] = number
        if slot.start_ms not in self._keys:
            self._keys[slot.start_ms] = set()
            insort(self._starts, slot.start_ms)
        self._keys[slot.start_ms].add(slot.key)


def size_of(slot: Slot, text: str) -> int:
    """Bytes that a stored cell takes, with its message key and what stands around it."""
    return bytes_of(slot.key) + bytes_of(text) + _limits.OVERHEAD_BYTES


def bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
