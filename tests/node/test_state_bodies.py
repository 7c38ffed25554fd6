"""Where the bytes of chunks are found, and how many of them are kept at hand."""

from pathlib import Path

import pytest

from node.state.bodies import Bodies
from node.state.schema import body_id
from node.state.store import Store
from tests.sim.state_log import Follower, ManualClock, MemoryLog, create, publish

A = "queues/a"


class CountingLog:
    """Says which entries were read."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.read: list[int] = []

    def body(self, index: int) -> bytes:
        self.read.append(index)
        return self.log.body(index)


def test_recent_chunks_are_at_hand_and_older_ones_are_read_once_per_entry(tmp_path: Path) -> None:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(A), publish(A, b"x"), publish(A, b"y"), create("queues/b"))
    follower.do(publish(A, b"z"))
    counting = CountingLog(follower.log)
    follower.machine.log_body = counting.body
    assert follower.bodies(A) == [b"x", b"y", b"z"]
    assert counting.read == []

    follower.restart()
    follower.machine.log_body = counting.body

    assert follower.bodies(A) == [b"x", b"y", b"z"]
    assert follower.bodies(A) == [b"x", b"y", b"z"]
    assert counting.read == [2, 3]


def test_the_chunks_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", clock_ms=ManualClock().now_ms)
    read: list[int] = []

    def log_body(index: int) -> bytes:
        read.append(index)
        raise KeyError(index)

    bodies = Bodies(store, log_body, cache_bytes_max=10_000)
    for index in range(9):
        bodies.keep(index, 0, bytes(1_000))
        assert bodies.chunk(0, 0) == bytes(1_000)

    with pytest.raises(KeyError):
        bodies.chunk(1, 0)
    assert read == [1]
    for index in (0, 3, 4, 5, 6, 7, 8):
        assert bodies.chunk(index, 0) == bytes(1_000)
    store.close()


def test_what_is_read_does_not_push_out_what_was_just_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", clock_ms=ManualClock().now_ms)
    log = MemoryLog()
    for _ in range(20):
        log.append(publish(A, bytes(1_000)))
    counting = CountingLog(log)
    bodies = Bodies(store, counting.body, cache_bytes_max=10_000, read_bytes_max=5_000)
    bodies.keep(1, 0, b"hot")

    for index in range(2, 22):
        assert len(bodies.chunk(index, 0)) > 1_000

    assert bodies.chunk(1, 0) == b"hot"
    assert counting.read == list(range(2, 22))
    store.close()


def test_a_chunk_larger_than_the_room_for_all_is_at_hand_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", clock_ms=ManualClock().now_ms)
    bodies = Bodies(store, MemoryLog().body, cache_bytes_max=100)

    bodies.keep(1, 0, bytes(50))
    bodies.keep(2, 0, bytes(5_000))

    assert bodies.chunk(2, 0) == bytes(5_000)
    with pytest.raises(KeyError):
        bodies.chunk(1, 0)
    store.close()


def test_a_moved_body_is_read_from_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", clock_ms=ManualClock().now_ms)
    store.begin()
    store.execute("INSERT INTO bodies VALUES (?, ?)", (body_id(5, 2), b"moved"))

    bodies = Bodies(store, MemoryLog(released=10).body)

    assert bodies.chunk(5, 2) == b"moved"
    store.close()
