import random
from dataclasses import replace

import pytest

from node.api import browsing
from node.state.rows import ChunkRow, QueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

QUEUE = QueueRow(
    id=1,
    name="queues/q",
    uid="1.0",
    etag="1.0",
    config=queue_pb2.Queue(),
    create_ms=0,
    update_ms=0,
    backlog=1,
)


class Lines:
    """The chunks of a queue by priority, each a part of a chunk of ten messages, as a state machine has them."""

    def __init__(self, rng: random.Random) -> None:
        self.lines: dict[int, list[ChunkRow]] = {0: []}
        self.reads = 0
        at = 1
        for _ in range(rng.randrange(40)):
            at += rng.choice([0, 0, 0, 7])
            count = rng.randrange(1, 6)
            row = ChunkRow(at, count, count, at, 0, 100, 0, 0, offset=rng.randrange(5))
            gone = rng.choice([None, None, at, at + count - 1])
            if gone is not None and count > 1:
                row = row.without(gone, gone)
            self.lines.setdefault(rng.choice([0, 0, 3, 9]), []).append(row)
            at += count

    def live(self) -> list[tuple[int, int]]:
        """(sequence, priority) of all messages that are there, in order."""
        return sorted(
            (row.first_sequence + place, priority)
            for priority, rows in self.lines.items()
            for row in rows
            for place in range(row.count)
            if not row.acked >> place & 1
        )

    def priorities(self, queue_id: int) -> dict[int, int]:
        return {priority: 0 for priority in self.lines if priority}

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> list[ChunkRow]:
        return [row for row in self.lines[priority] if row.last_sequence >= from_sequence][:limit]

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        self.reads += 1
        messages = [queue_pb2.Message(body=b"%d of %d" % (place, log_index)) for place in range(10)]
        return command_pb2.Chunk(messages=messages).SerializeToString()


@pytest.mark.parametrize("seed", range(60))
def test_pages_show_every_message_that_is_there_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(browsing, "PAGE_ROWS", rng.choice([1, 2, 5, 64]))
    lines = Lines(rng)
    first = start = rng.choice([1, 1, 20])
    seen: list[tuple[int, int]] = []

    while first:
        page = browsing.page(lines, QUEUE, first)
        for row, priority in page.chunks:
            for low, high in browsing.runs(row, first, page.end):
                seen += [(sequence, priority) for sequence in range(low, high + 1)]
        assert page.end == 0 or page.end > first, "each page is further on"
        first = page.end

    assert seen == [one for one in lines.live() if one[0] >= start]


def test_a_body_is_read_once_for_all_its_parts_in_a_row() -> None:
    lines = Lines(random.Random(1))
    contents = browsing.Contents(lines)
    one = ChunkRow(5, 2, 2, 7, 0, 10, 0, 0, offset=3)
    other = replace(one, first_sequence=20, offset=8)

    bodies = [contents.message(one, 6).body, contents.message(other, 20).body]

    assert bodies == [b"4 of 7", b"8 of 7"]
    assert lines.reads == 1
    assert contents.read_bytes == len(lines.chunk(7, 0))
