"""One queue in plain Python, for `queue_model.py`: messages one by one, and the chunks by which their bytes are counted.

A message weighs its share of those that it came with, and a part that moves to another queue, from its first message to
its last, weighs its share of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

Body = bytes
Letter = tuple[str, int, int, int]
"""Of a dead letter: source, its sequence there, reason, attempts."""


@dataclass(slots=True)
class ModelChunk:
    """Messages `first` to `first + count - 1`. `due_ms`: when they come while they are delayed, and then when they expire."""

    first: int
    count: int
    size: int
    live: set[int]
    bodies: list[Body] = field(default_factory=list)
    priority: int = 0
    came_ms: int = 0
    due_ms: int | None = None
    ttl_ms: int = 0
    letter: Letter | None = None

    def bytes(self) -> int:
        return self.size * len(self.live) // self.count

    def part(self, wanted: Iterable[int]) -> ModelChunk | None:
        """From the first of these sequences that lives to the last, without the others."""
        live = self.live & set(wanted)
        if not live:
            return None
        first, count = min(live), max(live) - min(live) + 1
        if count == self.count:
            return replace(self, live=live)
        letter = self.letter and (self.letter[0], self.letter[1] + first - self.first, *self.letter[2:])
        place = first - self.first
        return replace(
            self,
            first=first,
            count=count,
            size=max(1, self.size * count // self.count),
            live=live,
            bodies=self.bodies[place : place + count],
            letter=letter,
        )

    def at(self, first: int, **changes: object) -> ModelChunk:
        """The same with other sequences."""
        live = {sequence - self.first + first for sequence in self.live}
        return replace(self, first=first, live=live, **changes)  # type: ignore[arg-type]


@dataclass(slots=True)
class ModelQueue:
    """Invariant: chunks of one priority are in the order of their sequences and none is empty."""

    name: str
    max_messages: int = 0
    max_bytes: int = 0
    drop_oldest: bool = False
    dead_letter_queue: str = ""
    max_age_ms: int = 0
    bindings: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    chunks: list[ModelChunk] = field(default_factory=list)
    delayed: list[ModelChunk] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)
    next_sequence: int = 1
    next_delayed: int = 1
    watermarks: dict[int, int] = field(default_factory=lambda: {0: 0})  # by priority, of those ever in use
    age_ms: int = 0

    @property
    def watermark(self) -> int:
        return self.watermarks[0]

    def live(self) -> list[int]:
        return sorted(sequence for chunk in self.chunks for sequence in chunk.live)

    def bytes(self) -> int:
        return sum(chunk.bytes() for chunk in self.chunks)

    def delayed_messages(self) -> int:
        return sum(len(chunk.live) for chunk in self.delayed)

    def delayed_bytes(self) -> int:
        return sum(chunk.bytes() for chunk in self.delayed)

    def bodies(self) -> list[Body]:
        """Those of the live messages, by sequence."""
        found = {
            sequence: chunk.bodies[sequence - chunk.first] for chunk in self.chunks for sequence in chunk.live
        }
        return [found[sequence] for sequence in sorted(found)]

    def letters(self) -> dict[int, Letter]:
        """Of the live messages that are dead letters."""
        return {
            sequence: (chunk.letter[0], chunk.letter[1] + sequence - chunk.first, *chunk.letter[2:])
            for chunk in self.chunks
            for sequence in chunk.live
            if chunk.letter
        }

    def fits(self, count: int, size: int) -> bool:
        held = len(self.live()) + self.delayed_messages()
        messages_fit = not self.max_messages or held + count <= self.max_messages
        bytes_fit = not self.max_bytes or self.bytes() + self.delayed_bytes() + size <= self.max_bytes
        return messages_fit and bytes_fit

    def makes_room(self, count: int, size: int) -> bool:
        """True if it fits when all that can be delivered has gone."""
        return self.drop_oldest and replace(self, chunks=[]).fits(count, size)

    def remove(self, sequences: set[int]) -> int:
        before = len(self.live())
        for chunk in self.chunks:
            chunk.live -= sequences
        self.chunks = [chunk for chunk in self.chunks if chunk.live]
        return before - len(self.live())

    def arrive(self, chunk: ModelChunk, now_ms: int, letter: Letter | None = None) -> None:
        due_ms = now_ms + chunk.ttl_ms if chunk.ttl_ms else None
        new = chunk.at(self.next_sequence, came_ms=now_ms, due_ms=due_ms, letter=letter, ttl_ms=0)
        self.watermarks.setdefault(chunk.priority, 0)
        self.chunks.append(new)
        self.next_sequence += chunk.count

    def attempts_of(self, chunk: ModelChunk, sequence: int) -> int:
        delivered = 1 if sequence <= self.watermarks[chunk.priority] else 0
        return max(self.attempts.get(sequence, 0), delivered)

    def by_attempts(self, chunk: ModelChunk) -> Iterator[tuple[ModelChunk, int]]:
        """In parts of as many deliveries each."""
        for attempts, group in groupby(sorted(chunk.live), lambda s: self.attempts_of(chunk, s)):
            some = list(group)
            part = chunk.part(range(some[0], some[-1] + 1))
            assert part is not None
            yield part, attempts

    def oldest_first(self) -> list[ModelChunk]:
        """The lowest priority before others, the oldest of each before younger ones."""
        return sorted(self.chunks, key=lambda chunk: (chunk.priority, chunk.first))

    def next_due_ms(self) -> int | None:
        times = [chunk.due_ms for chunk in [*self.chunks, *self.delayed] if chunk.due_ms is not None]
        for priority in self.watermarks if self.max_age_ms else ():
            came = [chunk.came_ms for chunk in self.chunks if chunk.priority == priority]
            times += [max(self.age_ms, min(came) + self.max_age_ms)] if came else []
        return min(times, default=None)
