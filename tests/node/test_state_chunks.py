"""Removing ranges from chunks, against a set of sequences."""

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.state import chunks, parts
from node.state.schema import SCHEMA, body_id, body_place

BACKLOG = 3


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    yield connection
    connection.close()


def fill(connection: sqlite3.Connection, counts: list[int], size: int) -> None:
    connection.execute("DELETE FROM chunks")
    first = 1
    for ordinal, count in enumerate(counts):
        for backlog, body in ((BACKLOG, body_id(9, ordinal)), (BACKLOG + 1, body_id(8, ordinal))):
            parts.add_plain(connection.execute, backlog, first, 0, body, count, size)
        first += count


def live(connection: sqlite3.Connection, backlog: int = BACKLOG) -> list[int]:
    rows = chunks.select(connection.execute, backlog, 1, 1_000, -1)
    return [row.first_sequence + i for row in rows for i in range(row.count) if not row.acked >> i & 1]


def live_bytes(connection: sqlite3.Connection) -> int:
    return sum(r.bytes * r.live // r.count for r in chunks.select(connection.execute, BACKLOG, 1, 1_000, -1))


COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=8)
RANGES = st.lists(st.tuples(st.integers(1, 70), st.integers(0, 60)), max_size=6)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(counts=COUNTS, size=st.integers(1, 50), ranges=RANGES)
def test_a_removed_range_takes_what_lives_in_it_and_nothing_else(
    connection: sqlite3.Connection, counts: list[int], size: int, ranges: list[tuple[int, int]]
) -> None:
    fill(connection, counts, size)
    expected = set(range(1, sum(counts) + 1))
    for first, length in ranges:
        weight = live_bytes(connection)
        asked = set(range(first, first + length + 1))

        removed = chunks.remove(connection.execute, BACKLOG, first, first + length)

        assert removed.messages == len(expected & asked)
        expected -= asked
        assert live(connection) == sorted(expected)
        assert live_bytes(connection) == weight - removed.bytes
    assert live(connection, BACKLOG + 1) == list(range(1, sum(counts) + 1))


@QUICK
@given(counts=COUNTS, size=st.integers(1, 50), ranges=RANGES, data=st.data())
def test_the_oldest_are_freed_as_if_one_by_one(
    connection: sqlite3.Connection,
    counts: list[int],
    size: int,
    ranges: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    fill(connection, counts, size)
    for first, length in ranges:
        chunks.remove(connection.execute, BACKLOG, first, first + length)
    sequences, weight = live(connection), live_bytes(connection)
    messages = data.draw(st.integers(0, len(sequences)))
    to_free = data.draw(st.integers(0, weight))
    if not messages and not to_free:
        return

    last, *missing = chunks.oldest_to_free(connection.execute, BACKLOG, messages, to_free)

    assert missing == [0, 0]

    connection.execute("SAVEPOINT one_less")
    less = chunks.remove(connection.execute, BACKLOG, 1, last - 1)
    connection.execute("ROLLBACK TO one_less")
    connection.execute("RELEASE one_less")
    freed = chunks.remove(connection.execute, BACKLOG, 1, last)
    assert freed.messages >= messages
    assert freed.bytes >= to_free
    assert last in sequences
    assert less.messages < messages or less.bytes < to_free


@given(log_index=st.integers(1, 1 << 40), ordinal=st.integers(0, (1 << 20) - 1))
def test_a_body_is_named_by_its_place(log_index: int, ordinal: int) -> None:
    assert body_place(body_id(log_index, ordinal)) == (log_index, ordinal)
    assert body_id(log_index, ordinal) < 1 << 63


def test_attempts_are_counted_to_a_bound() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    fill(connection, [3], 10)

    chunks.record_attempt(connection.execute, BACKLOG, 2, 2, 1 << 31)

    assert chunks.attempts(connection.execute, BACKLOG, 1, 3) == {2: (1 << 16) - 1}
    connection.close()
