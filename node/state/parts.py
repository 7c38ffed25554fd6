"""Messages on their way into a queue, or from one to another, and the chunks that they become there."""

import struct
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple

from node.state.rows import Encoded
from node.state.store import Execute

_ATTEMPT: Final = struct.Struct("<H")
_PIECE: Final = (
    "SELECT first_sequence, time_ms, attempts, acked, dead_letter, body, count, bytes, offset, estimated, moved, priority, ttl_ms"
    " FROM chunks"
)


class Part(NamedTuple):
    """Successive messages of one body on their way into a queue."""

    body: int  # as `schema.body_id` names it
    length: int  # how many, gone ones included
    bytes: int  # of them encoded, gone ones included
    offset: int = 0  # the place of the first among the messages of the body
    acked: int = 0  # bit i: the message at `offset + i` is none of them
    priority: int = 0
    ttl_ms: int = 0  # how long they live from when they come into the queue; 0: as long as they may
    due_ms: int = 0  # when they come into the queue; 0: at once
    dead_letter: Encoded = b""
    estimated: int = 0  # 1 if `bytes` is the share of what a longer chunk had
    moved: int = 0  # 1 if the body is in `bodies`

    @property
    def live(self) -> int:
        """How many messages they are."""
        return self.length - self.acked.bit_count()

    @property
    def live_bytes(self) -> int:
        """How many bytes count for them."""
        return self.bytes * self.live // self.length if self.acked else self.bytes


def add(execute: Execute, backlog: int, first: int, time_ms: int, part: Part, due_ms: int | None) -> None:
    """Append a chunk, whose first message has the sequence or number `first`. `due_ms`: when it expires, or is due."""
    assert part.live
    execute(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?)",
        (
            backlog,
            first,
            part.length,
            part.live,
            part.bytes,
            time_ms,
            part.body,
            part.moved,
            part.acked.to_bytes((part.length + 7) // 8, "little") if part.acked else None,
            part.offset,
            part.dead_letter or None,
            part.estimated,
            due_ms,
            part.priority,
            part.ttl_ms,
        ),
    )


def add_plain(
    execute: Execute, backlog: int, first: int, time_ms: int, body: int, length: int, size: int
) -> None:
    """The same for all that a publish brought, if nothing else is to be said of it."""
    execute(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, 0, NULL, NULL, 0, NULL, 0, NULL, 0, 0)",
        (backlog, first, length, length, size, time_ms, body),
    )


class Piece(NamedTuple):
    """Messages of one chunk of a backlog, and what was recorded of them there."""

    first: int  # sequence
    time_ms: int
    attempts: bytes  # two for each message; empty: none are recorded
    part: Part

    @property
    def last(self) -> int:
        return self.first + self.part.length - 1

    def cut(self, first: int, last: int) -> "Piece | None":
        """What of it lives in a range, from the first of these messages to the last; None if nothing does."""
        start, part = self.first, self.part
        begin, end = max(first, start) - start, min(last, self.last) - start
        lives = ~part.acked >> begin & (1 << end - begin + 1) - 1 if begin <= end else 0
        if not lives:
            return None
        gone = (lives & -lives).bit_length() - 1
        low, length = begin + gone, lives.bit_length() - gone
        if length == part.length:
            return self
        cut = part._replace(
            length=length,
            offset=part.offset + low,
            acked=part.acked >> low & (1 << length) - 1,
            bytes=max(1, part.bytes * length // part.length),
            estimated=1,
        )
        attempts = self.attempts[low * _ATTEMPT.size : (low + length) * _ATTEMPT.size]
        return Piece(start + low, self.time_ms, attempts, cut)

    def by_attempts(self, watermark: int) -> Iterator[tuple["Piece", int]]:
        """The same in pieces of as many deliveries each; all up to the watermark were delivered once at least."""
        if not self.attempts:  # the usual case needs no look at each message
            if once := self.cut(self.first, watermark):
                yield once, 1
            if never := self.cut(watermark + 1, self.last):
                yield never, 0
            return
        recorded: list[int] = [attempt for (attempt,) in _ATTEMPT.iter_unpack(self.attempts)]

        def deliveries(sequence: int) -> int:
            return max(recorded[sequence - self.first], 1 if sequence <= watermark else 0)

        live = (
            sequence
            for sequence in range(self.first, self.last + 1)
            if not self.part.acked >> sequence - self.first & 1
        )
        for attempts, group in groupby(live, deliveries):
            some = list(group)
            piece = self.cut(some[0], some[-1])
            assert piece is not None
            yield piece, attempts


def between(execute: Execute, backlog: int, first: int, last: int) -> list[Piece]:
    """What lives in a range of a backlog, in order."""
    rows = execute(
        f"{_PIECE} WHERE backlog = :backlog AND first_sequence BETWEEN ifnull((SELECT max(first_sequence) FROM chunks"
        " WHERE backlog = :backlog AND first_sequence <= :first), 0) AND :last ORDER BY first_sequence",
        {"backlog": backlog, "first": first, "last": last},
    )
    found = (piece.cut(first, last) for piece in map(_piece, rows))
    return [piece for piece in found if piece]


def due(execute: Execute, backlog: int, by_ms: int, limit: int) -> list[Piece]:
    """Chunks that are due by then, those that are due first before others; whole."""
    rows = execute(
        f"{_PIECE} WHERE backlog = ? AND due_ms <= ? ORDER BY due_ms, first_sequence LIMIT ?",
        (backlog, by_ms, limit),
    )
    return [*map(_piece, rows)]


def oldest(execute: Execute, backlog: int, after: int, limit: int) -> list[Piece]:
    """The oldest chunks that begin after that sequence, whole."""
    rows = execute(
        f"{_PIECE} WHERE backlog = ? AND first_sequence > ? ORDER BY first_sequence LIMIT ?",
        (backlog, after, limit),
    )
    return [*map(_piece, rows)]


def next_due_ms(execute: Execute, backlog: int) -> int | None:
    """When the first chunk of a backlog is due."""
    row = execute(
        "SELECT due_ms FROM chunks WHERE backlog = ? AND due_ms IS NOT NULL ORDER BY due_ms LIMIT 1",
        (backlog,),
    ).fetchone()
    return None if row is None else int(row[0])


def oldest_ms(execute: Execute, backlog: int) -> int | None:
    """When the oldest chunk of a backlog came."""
    row = execute(
        "SELECT time_ms FROM chunks WHERE backlog = ? ORDER BY first_sequence LIMIT 1", (backlog,)
    ).fetchone()
    return None if row is None else int(row[0])


def put_off(execute: Execute, backlog: int, first: int, due_ms: int) -> None:
    """The chunk that begins with that sequence is due then."""
    execute("UPDATE chunks SET due_ms = ? WHERE backlog = ? AND first_sequence = ?", (due_ms, backlog, first))


def delete(execute: Execute, backlog: int, first: int) -> None:
    """The chunk that begins with that number is there no more."""
    execute("DELETE FROM chunks WHERE backlog = ? AND first_sequence = ?", (backlog, first))


def _piece(row: tuple[Any, ...]) -> Piece:
    (
        first,
        time_ms,
        attempts,
        acked,
        dead_letter,
        body,
        count,
        size,
        offset,
        estimated,
        moved,
        priority,
        ttl_ms,
    ) = row
    part = Part(
        body,
        count,
        size,
        offset=offset,
        acked=int.from_bytes(acked or b"", "little"),
        priority=priority,
        ttl_ms=ttl_ms,
        dead_letter=dead_letter or b"",
        estimated=estimated,
        moved=moved,
    )
    return Piece(first, time_ms, attempts or b"", part)
