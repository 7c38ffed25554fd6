"""Looking through the messages of a queue without delivering them: pages of chunks in the order of sequences, and filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from node.dispatch.ledger import Range
from node.state.rows import ChunkRow, QueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

PAGE_ROWS = 64


class Backlog(Protocol):
    """The part of the state machine that is looked at."""

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> list[ChunkRow]:
        """The chunks of one priority that end at `from_sequence` or later, in order."""
        ...

    def priorities(self, queue_id: int) -> dict[int, int]:
        """The priorities above 0 in use, and up to where their messages were delivered."""
        ...

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        """The encoded Chunk that messages came with."""
        ...


class Placed(NamedTuple):
    """A chunk and the priority of its messages."""

    row: ChunkRow
    priority: int


@dataclass(frozen=True, slots=True)
class Page:
    """Chunks in the order of sequences; what there is below `end` is all there, and `end` is 0 at the end of the queue."""

    chunks: list[Placed]
    end: int


def page(backlog: Backlog, queue: QueueRow, first: int) -> Page:
    """What begins with the message `first`, whatever its priority."""
    rows_max = PAGE_ROWS
    found: list[Placed] = []
    end = 0
    for priority in (0, *backlog.priorities(queue.id)):
        rows = backlog.chunks(queue.id, first, rows_max, priority)
        found += [Placed(row, priority) for row in rows]
        if (
            len(rows) == rows_max
        ):  # there may be more of that priority, and nothing is known of what lies behind
            last = rows[-1].last_sequence + 1
            end = min(end, last) if end else last
    found = [placed for placed in found if not end or placed.row.first_sequence < end]
    return Page(sorted(found, key=lambda placed: placed.row.first_sequence), end)


def runs(row: ChunkRow, first: int, end: int = 0) -> Iterator[Range]:
    """The live messages of a chunk from `first` on, before `end` if that is not 0."""
    at, last = max(first, row.first_sequence), min(row.last_sequence, end - 1) if end else row.last_sequence
    while at <= last and (run := row.live_run(at, last)):
        yield run
        at = run[1] + 1


class Contents:
    """Messages of chunks, parsed when one is asked for. Rows that are parts of one body follow each other: it is kept."""

    def __init__(self, backlog: Backlog) -> None:
        self.read_bytes = 0
        """Of all bodies so far."""
        self._backlog = backlog
        self._place = (0, 0)
        self._chunk = command_pb2.Chunk()

    def message(self, row: ChunkRow, sequence: int) -> queue_pb2.Message:
        place = (row.log_index, row.ordinal)
        if place != self._place:
            encoded = self._backlog.chunk(*place)
            self._place, self._chunk = place, command_pb2.Chunk.FromString(encoded)
            self.read_bytes += len(encoded)
        return self._chunk.messages[row.offset + sequence - row.first_sequence]


def dead_letter(row: ChunkRow, sequence: int) -> queue_pb2.DeadLetter | None:
    """Where a message comes from; None if it is no dead letter."""
    if not row.dead_letter:
        return None
    found = queue_pb2.DeadLetter.FromString(row.dead_letter)
    found.source_sequence += sequence - row.first_sequence
    return found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are meant: those that have all of this."""

    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: int = queue_pb2.DEAD_LETTER_REASON_UNSPECIFIED
    source: str = ""

    @property
    def looks_inside(self) -> bool:
        """True if it takes the messages themselves to tell."""
        return bool(self.key or self.headers)

    def takes(self, message: queue_pb2.Message) -> bool:
        """True if the message has the key and the headers."""
        if self.key and message.key != self.key:
            return False
        return all(message.headers.get(name) == value for name, value in self.headers.items())

    def takes_letter(self, letter: queue_pb2.DeadLetter) -> bool:
        """True if it comes from there, for that reason."""
        return self.reason in (0, letter.reason) and self.source in ("", letter.source)
