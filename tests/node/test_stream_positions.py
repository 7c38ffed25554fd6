"""A time in a stream is found by halving, whatever the gaps in it."""

import math
import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from node.state import chunks, parts
from node.state.schema import SCHEMA

BACKLOG = 7


class Counting:
    """A store in memory; says how often it was asked."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        for statement in SCHEMA:
            self._connection.execute(statement)
        self.asked = 0

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        self.asked += 1
        return self._connection.execute(*statement)


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 3)), max_size=40),
    time_ms=st.integers(0, 120),
)
def test_the_first_chunk_since_a_time_is_the_one_that_looking_at_all_would_find(
    steps: list[tuple[int, int, int]], time_ms: int
) -> None:
    """`steps` is (milliseconds later, messages, messages gone before them) each."""
    store, first, now_ms = Counting(), 1, 0
    found = []
    for later_ms, count, gone in steps:
        first, now_ms = first + gone, now_ms + later_ms
        parts.add_plain(store.execute, BACKLOG, first, now_ms, first, count, count)
        found.append((now_ms, first))
        first += count
    store.asked = 0

    at = chunks.first_since(store.execute, BACKLOG, time_ms, first - 1)

    assert at == next((sequence for came_ms, sequence in found if came_ms >= time_ms), first)
    assert store.asked <= math.log2(first + 1) + 3
