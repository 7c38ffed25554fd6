"""The messages of one queue, in memory, as dispatch reads them."""

from __future__ import annotations

from collections.abc import Mapping

from node.state.rows import ChunkRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class Chunks:
    """A queue's chunks in memory; counts how often they are looked up."""

    def __init__(self) -> None:
        self.rows: list[ChunkRow] = []
        self.bodies: dict[tuple[int, int], bytes] = {}
        self.recorded: dict[int, int] = {}
        self.next_sequence = 1
        self.lookups = 0

    def add(self, *sizes: int) -> None:
        first, self.next_sequence = self.next_sequence, self.next_sequence + len(sizes)
        body = command_pb2.Chunk(
            messages=[
                queue_pb2.Message(body=bytes([first + i & 0xFF]) * size) for i, size in enumerate(sizes)
            ]
        ).SerializeToString()
        index = len(self.bodies)
        self.bodies[index, 0] = body
        self.rows.append(ChunkRow(first, len(sizes), len(sizes), index, 0, len(body), 0, 0))

    def remove(self, first: int, last: int) -> None:
        kept = [
            row if row.last_sequence < first or row.first_sequence > last else row.without(first, last)
            for row in self.rows
        ]
        self.rows = [row for row in kept if row.live]

    def chunks(self, queue_id: int, from_sequence: int, limit: int) -> list[ChunkRow]:
        self.lookups += 1
        return [row for row in self.rows if row.last_sequence >= from_sequence][:limit]

    def attempts(self, queue_id: int, first: int, last: int) -> Mapping[int, int]:
        return {seq: n for seq, n in self.recorded.items() if first <= seq <= last}

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        return self.bodies[log_index, ordinal]
