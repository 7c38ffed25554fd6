"""The messages of a backlog: chunks that shrink as their messages go.

Work here is per chunk, never per message: a chunk that is covered wholly is deleted by SQL together with all others
that are, and in a chunk that is covered in part bits are set in one integer.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

from node.state.rows import ChunkRow
from node.state.schema import body_place
from node.state.store import Execute

_ATTEMPT: Final = struct.Struct("<H")
_ATTEMPT_MAX: Final = (1 << 16) - 1
_CHUNK: Final = "first_sequence, count, live, body, bytes, time_ms, acked, offset, dead_letter, estimated"
_FROM: Final = (
    " FROM chunks WHERE backlog = :backlog AND first_sequence BETWEEN"
    " ifnull((SELECT max(first_sequence) FROM chunks WHERE backlog = :backlog AND first_sequence <= :first), 0)"
    " AND :last ORDER BY first_sequence"
)


@dataclass(frozen=True, slots=True)
class Removed:
    """How many messages went, and how many live bytes with them."""

    messages: int = 0
    bytes: int = 0


_NOTHING: Final = Removed()


def select(execute: Execute, backlog: int, first: int, last: int, limit: int) -> list[ChunkRow]:
    """Chunks with a sequence in the range, in order; a negative limit is none."""
    rows = execute(
        f"SELECT {_CHUNK}{_FROM} LIMIT :limit",
        {"backlog": backlog, "first": first, "last": last, "limit": limit + 1 if limit >= 0 else -1},
    )
    found = [_chunk_row(row) for row in rows if row[0] + row[1] > first]
    return found[:limit] if limit >= 0 else found


def _chunk_row(row: tuple[Any, ...]) -> ChunkRow:
    start, count, live, body, size, time_ms, acked, offset, dead_letter, estimated = row
    gone = int.from_bytes(acked or b"", "little")
    return ChunkRow(
        start,
        count,
        live,
        *body_place(body),
        size,
        time_ms,
        gone,
        offset,
        dead_letter or b"",
        bool(estimated),
    )


def remove(execute: Execute, backlog: int, first: int, last: int) -> Removed:
    """Remove the live messages among `first` to `last`; those that are gone already are skipped."""
    right = _chunk_at(execute, backlog, last)
    if right is None or right[0] + right[1] <= first:
        return _NOTHING
    start, count = right[0], right[1]
    if start == first and start + count - 1 == last:
        return _remove_chunk(execute, backlog, right)
    messages = size = 0
    if start < first or start + count - 1 > last:
        removed = _remove_part(execute, backlog, right, first, last)
        if start <= first:
            return removed
        messages, size, last = removed.messages, removed.bytes, start - 1
    left = _chunk_at(execute, backlog, first - 1)
    if left is not None and left[0] + left[1] > first:
        removed = _remove_part(execute, backlog, left, first, last)
        messages, size, first = messages + removed.messages, size + removed.bytes, left[0] + left[1]
    removed = _remove_whole(execute, backlog, first, last)
    return Removed(messages + removed.messages, size + removed.bytes)


def _chunk_at(
    execute: Execute, backlog: int, sequence: int
) -> tuple[int, int, int, int, bytes | None] | None:
    """(first_sequence, count, live, bytes, acked) of the last chunk that begins at or before `sequence`."""
    row: tuple[int, int, int, int, bytes | None] | None = execute(
        "SELECT first_sequence, count, live, bytes, acked FROM chunks"
        " WHERE backlog = ? AND first_sequence <= ? ORDER BY first_sequence DESC LIMIT 1",
        (backlog, sequence),
    ).fetchone()
    return row


def _remove_chunk(execute: Execute, backlog: int, row: tuple[int, int, int, int, bytes | None]) -> Removed:
    start, count, live, size, _ = row
    execute("DELETE FROM chunks WHERE backlog = ? AND first_sequence = ?", (backlog, start))
    return Removed(live, size * live // count)


def _remove_whole(execute: Execute, backlog: int, first: int, last: int) -> Removed:
    """Remove all chunks that begin in the range, which ends with one of them."""
    of = (backlog, first, last)
    chunks, messages, size = execute(
        "SELECT count(*), sum(live), sum(bytes * live / count) FROM chunks"
        " WHERE backlog = ? AND first_sequence BETWEEN ? AND ?",
        of,
    ).fetchone()
    if not chunks:
        return _NOTHING
    execute("DELETE FROM chunks WHERE backlog = ? AND first_sequence BETWEEN ? AND ?", of)
    return Removed(messages, size)


def _remove_part(
    execute: Execute, backlog: int, row: tuple[int, int, int, int, bytes | None], first: int, last: int
) -> Removed:
    """Remove those messages of one chunk that are in the range."""
    start, count, live, size, bits = row
    first, last = max(first, start), min(last, start + count - 1)
    acked = int.from_bytes(bits or b"", "little") | ((1 << (last - first + 1)) - 1) << (first - start)
    left = count - acked.bit_count()
    assert 0 <= left <= live
    if left == 0:
        return _remove_chunk(execute, backlog, row)
    if left < live:
        execute(
            "UPDATE chunks SET live = ?, acked = ? WHERE backlog = ? AND first_sequence = ?",
            (left, acked.to_bytes((count + 7) // 8, "little"), backlog, start),
        )
    return Removed(live - left, size * live // count - size * left // count)


def oldest_to_free(execute: Execute, backlog: int, messages: int, size: int) -> tuple[int, int, int]:
    """The last sequence to remove, oldest first, so that so many messages and live bytes at least are freed.

    Besides, how many messages and bytes are missing if the backlog does not hold as much; 0 as a sequence if it is empty.
    """
    last = 0
    rows = execute(
        "SELECT first_sequence, count, live, bytes, acked FROM chunks WHERE backlog = ? ORDER BY first_sequence",
        (backlog,),
    )
    for start, count, live, chunk_bytes, bits in rows:
        held = chunk_bytes * live // count
        if messages > live or size > held:
            messages, size, last = max(0, messages - live), max(0, size - held), start + count - 1
            continue
        # What stays of this chunk may be `held - size` bytes at most, rounded down.
        stays = min(live - messages, ((held - size + 1) * count - 1) // chunk_bytes)
        gone = live - max(0, stays)
        rows.close()
        return start + _place_of_live(int.from_bytes(bits or b"", "little"), count, gone), 0, 0
    return last, messages, size


def _place_of_live(acked: int, count: int, nth: int) -> int:
    """The place of the nth live message (1 = the first) in a chunk."""
    if acked == 0:
        return nth - 1
    places = f"{~acked & ((1 << count) - 1):b}"[::-1]
    place = -1
    for _ in range(nth):
        place = places.index("1", place + 1)
    return place


def count_live(execute: Execute, backlog: int, first: int, last: int) -> int:
    """How many messages of a range are there."""
    found = 0
    for row in select(execute, backlog, first, last, -1):
        low, high = max(first, row.first_sequence), min(last, row.last_sequence)
        gone = row.acked >> (low - row.first_sequence) & ((1 << (high - low + 1)) - 1)
        found += high - low + 1 - gone.bit_count()
    return found


def first_since(execute: Execute, backlog: int, time_ms: int, newest: int) -> int:
    """The first sequence of the first chunk that came at `time_ms` or later; `newest` + 1 if there is none.

    Times never go back along a backlog, so half of what is left is out of the question after each look.
    """
    low, high = 0, newest + 1
    while low < high:
        middle = (low + high) // 2
        found = execute(
            "SELECT first_sequence, time_ms FROM chunks WHERE backlog = ? AND first_sequence BETWEEN ? AND ?"
            " ORDER BY first_sequence LIMIT 1",
            (backlog, middle, high - 1),
        ).fetchone()
        if found is None or found[1] >= time_ms:
            high = middle
        else:
            low = found[0] + 1
    found = execute(
        "SELECT first_sequence FROM chunks WHERE backlog = ? AND first_sequence >= ? ORDER BY first_sequence LIMIT 1",
        (backlog, low),
    ).fetchone()
    return newest + 1 if found is None else int(found[0])


def record_attempt(execute: Execute, backlog: int, first: int, last: int, attempt: int) -> None:
    """The last delivery of these messages was their `attempt`; those that are gone are skipped."""
    packed = _ATTEMPT.pack(min(attempt, _ATTEMPT_MAX))
    rows = execute(
        "SELECT first_sequence, count, attempts" + _FROM, {"backlog": backlog, "first": first, "last": last}
    )
    for start, count, attempts in rows.fetchall():
        begin, end = max(first, start) - start, min(last + 1, start + count) - start
        if begin >= end:
            continue
        recorded = bytearray(attempts or bytes(_ATTEMPT.size * count))
        recorded[begin * _ATTEMPT.size : end * _ATTEMPT.size] = packed * (end - begin)
        execute(
            "UPDATE chunks SET attempts = ? WHERE backlog = ? AND first_sequence = ?",
            (bytes(recorded), backlog, start),
        )


def attempts(execute: Execute, backlog: int, first: int, last: int) -> dict[int, int]:
    """The recorded attempts in the range, by sequence; messages that were delivered at most once are not in it."""
    found: dict[int, int] = {}
    rows = execute(
        "SELECT first_sequence, count, attempts" + _FROM, {"backlog": backlog, "first": first, "last": last}
    )
    for start, count, recorded in rows:
        if recorded is None:
            continue
        begin, end = max(first, start) - start, min(last + 1, start + count) - start
        values = _ATTEMPT.iter_unpack(recorded[begin * _ATTEMPT.size : max(begin, end) * _ATTEMPT.size])
        found.update((start + begin + place, attempt) for place, (attempt,) in enumerate(values) if attempt)
    return found
