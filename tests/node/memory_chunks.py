"""The messages of one queue, in memory, as dispatch reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.state.rows import ChunkRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class Chunks:
    """A queue's chunks in memory; counts how often they are looked up."""

    def __init__(self) -> None:
        self.rows: list[ChunkRow] = []
        self.above: dict[int, list[ChunkRow]] = {}  # rows of priorities above 0
        self.marks: dict[int, int] = {}
        self.bodies: dict[tuple[int, int], bytes] = {}
        self.recorded: dict[int, int] = {}
        self.next_sequence = 1
        self.now_ms = 0  # when what is added comes
        self.lookups = 0

    def add(self, *sizes: int, keys: Sequence[str] = (), priority: int = 0, dead_letter: bytes = b"") -> None:
        first, self.next_sequence = self.next_sequence, self.next_sequence + len(sizes)
        body = command_pb2.Chunk(
            messages=[
                queue_pb2.Message(body=bytes([first + i & 0xFF]) * size, key=key)
                for i, (size, key) in enumerate(zip(sizes, keys or [""] * len(sizes), strict=True))
            ]
        ).SerializeToString()
        index = len(self.bodies)
        self.bodies[index, 0] = body
        count = len(sizes)
        row = ChunkRow(first, count, count, index, 0, len(body), self.now_ms, 0, dead_letter=dead_letter)
        self._rows(priority).append(row)

    def _rows(self, priority: int) -> list[ChunkRow]:
        if priority:
            self.marks.setdefault(priority, 0)
        return self.above.setdefault(priority, []) if priority else self.rows

    def remove(self, first: int, last: int) -> None:
        for rows in (self.rows, *self.above.values()):
            kept = [
                row if row.last_sequence < first or row.first_sequence > last else row.without(first, last)
                for row in rows
            ]
            rows[:] = [row for row in kept if row.live]

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> list[ChunkRow]:
        self.lookups += 1
        return [row for row in self._rows(priority) if row.last_sequence >= from_sequence][:limit]

    def priorities(self, queue_id: int) -> Mapping[int, int]:
        return self.marks

    def attempts(self, queue_id: int, first: int, last: int) -> Mapping[int, int]:
        return {seq: n for seq, n in self.recorded.items() if first <= seq <= last}

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        return self.bodies[log_index, ordinal]
