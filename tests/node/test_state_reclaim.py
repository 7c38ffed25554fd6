"""Log segments are given back when nothing in them is needed, and never before."""

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from node import limits
from node.state.results import Refused
from tests.node.test_transactions import transaction
from tests.sim.state_log import Follower, MemoryLog, ack, create, delete, publish, purge

A, B, C = "queues/a", "queues/b", "queues/c"
NO_LIMIT = 1 << 40


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(A), create(B))
    return follower


def bodies_kept(follower: Follower) -> int:
    return int(follower.machine._store.execute("SELECT count(*) FROM bodies").fetchone()[0])


def fill(follower: Follower, entries: int, name: str = A) -> None:
    for _ in range(entries):
        follower.do(publish(name, *[b"x" * 100] * 10))


def test_segments_of_acknowledged_messages_go(follower: Follower) -> None:
    fill(follower, 19)  # entries 3 to 21
    follower.do(ack(A, (1, 100)))

    assert follower.reclaim(entries_each=5) == 11
    assert bodies_kept(follower) == 0
    assert len(follower.bodies(A)) == 90


def test_a_segment_of_which_much_lives_stays_while_there_is_room(follower: Follower) -> None:
    fill(follower, 19)

    assert follower.reclaim(entries_each=5) == 0
    assert bodies_kept(follower) == 0


def test_little_that_lives_is_moved_and_can_still_be_read(follower: Follower) -> None:
    fill(follower, 19)
    follower.do(ack(A, (1, 185)))

    assert follower.reclaim(entries_each=10) == 21
    assert bodies_kept(follower) == 1
    assert follower.bodies(A) == [b"x" * 100] * 5

    fill(follower, 1)
    follower.do(publish(B, b"slow"))
    fill(follower, 8)
    follower.do(ack(A, (186, 280)))
    assert follower.reclaim(entries_each=10) == 31
    assert bodies_kept(follower) == 1
    follower.restart()
    assert follower.bodies(B) == [b"slow"]


def test_the_oldest_segments_go_first_when_the_log_is_too_large(follower: Follower) -> None:
    fill(follower, 40)
    entry = len(follower.log.entries[5])

    index = follower.reclaim(entries_each=5, log_bytes_max=20 * entry)

    assert 20 <= index <= 26
    assert follower.bodies(A) == [b"x" * 100] * 400


def test_a_moved_body_goes_with_its_last_message(follower: Follower) -> None:
    fill(follower, 8)
    follower.reclaim(entries_each=3, log_bytes_max=0)
    moved = bodies_kept(follower)

    follower.do(ack(A, (1, 15)))
    assert bodies_kept(follower) == moved - 1
    follower.do(ack(A, (16, 20)))
    assert bodies_kept(follower) == moved - 2
    follower.do(purge(A))
    follower.machine.reclaim([], NO_LIMIT)

    assert bodies_kept(follower) == 0


def test_moving_changes_nothing_that_nodes_are_compared_by(follower: Follower) -> None:
    fill(follower, 20)
    before = follower.machine.fingerprint()

    assert follower.reclaim(entries_each=4, log_bytes_max=0) > 0

    assert follower.machine.fingerprint() == before


def test_nothing_is_released_before_it_is_durable_that_it_is_not_needed(follower: Follower) -> None:
    fill(follower, 20)
    follower.checkpoint()
    segments = follower.log.segments(entries_each=5)

    follower.machine.reclaim(segments, 0)
    while follower.machine.reclaiming:
        assert follower.machine.reclaim(segments, 0) == 0
    follower.machine.commit_now()
    assert follower.machine.reclaim(segments, 0) == 0
    follower.checkpoint()

    assert follower.machine.reclaim(segments, 0) == 21


def test_a_checkpoint_that_began_before_does_not_count(follower: Follower) -> None:
    fill(follower, 20)
    follower.checkpoint()
    segments = follower.log.segments(entries_each=5)
    checkpoint = follower.machine.begin_checkpoint()
    follower.machine.reclaim(segments, 0)
    while follower.machine.reclaiming:
        follower.machine.reclaim(segments, 0)

    checkpoint.run()
    follower.machine.end_checkpoint(checkpoint)

    assert follower.machine.reclaim(segments, 0) == 0


def test_what_is_not_checkpointed_or_not_sealed_is_not_touched(follower: Follower) -> None:
    fill(follower, 20)

    follower.machine.reclaim(follower.log.segments(entries_each=5), 0)
    assert not follower.machine.reclaiming
    assert bodies_kept(follower) == 0
    follower.checkpoint()
    follower.machine.reclaim(follower.log.segments(entries_each=100), 0)

    assert not follower.machine.reclaiming
    assert bodies_kept(follower) == 0


def test_steps_are_bounded(follower: Follower) -> None:
    follower.do(*(publish(A, b"x") for _ in range(3 * limits.RECLAIM_STEP_ROWS)))
    follower.do(purge(B))
    follower.checkpoint()
    segments = follower.log.segments(entries_each=2)
    steps = [bodies_kept(follower)]
    follower.machine.reclaim(segments, 0)
    while follower.machine.reclaiming:
        steps.append(bodies_kept(follower))
        follower.machine.reclaim(segments, 0)

    assert max(b - a for a, b in pairwise(steps)) == limits.RECLAIM_STEP_ROWS
    assert bodies_kept(follower) == 3 * limits.RECLAIM_STEP_ROWS


def test_what_is_buried_is_swept_little_by_little_and_survives_a_crash(follower: Follower) -> None:
    follower.do(*(publish(A, b"x") for _ in range(limits.RECLAIM_STEP_ROWS + 5)), publish(B, b"y"))
    follower.do(purge(A), delete(B))
    rows = "SELECT count(*) FROM chunks"

    follower.machine.reclaim([], NO_LIMIT)
    assert follower.machine._store.execute(rows).fetchone() == (6,)
    follower.crash()
    follower.catch_up()
    assert follower.live(A) == []
    while follower.machine.reclaim([], NO_LIMIT) == 0 and follower.machine.reclaiming:
        pass

    assert follower.machine._store.execute(rows).fetchone() == (0,)
    assert follower.machine._store.execute("SELECT count(*) FROM graveyard").fetchone() == (0,)


def test_a_step_that_finds_no_space_loses_nothing_and_can_be_repeated(follower: Follower) -> None:
    fill(follower, 20)
    follower.checkpoint()
    follower.do(ack(A, (1, 1)))
    before = follower.machine.fingerprint()
    execute = follower.machine._store.execute
    pages = execute("PRAGMA page_count").fetchone()[0]
    execute(f"PRAGMA max_page_count = {pages}")  # as if the disk were full

    with pytest.raises(sqlite3.OperationalError, match="full"):
        follower.machine.reclaim(follower.log.segments(entries_each=5), 0)

    assert not follower.machine.reclaiming
    assert bodies_kept(follower) == 0
    assert follower.machine.fingerprint() == before
    execute(f"PRAGMA max_page_count = {2 * pages}")
    follower.do(ack(A, (2, 2)))
    assert follower.reclaim(entries_each=5, log_bytes_max=0) == 21
    assert len(follower.bodies(A)) == 198


def test_the_file_shrinks_when_a_backlog_is_gone(follower: Follower) -> None:
    for _ in range(6):
        follower.do(publish(A, *[b"x" * 100_000] * 40))
    follower.reclaim(entries_each=1, log_bytes_max=0)
    follower.checkpoint()
    path = follower.directory / "store-1.db"
    assert path.stat().st_size > 20_000_000

    follower.do(ack(A, (1, 240)))
    follower.reclaim(entries_each=1)
    follower.restart()

    assert path.stat().st_size < 17_500_000


def share(follower: Follower, name: str, times: int) -> None:
    """Let all rows of a queue stand so many times more in backlogs of nobody: other rows of their bodies."""
    backlog = follower.machine._store.execute(
        "SELECT backlog FROM queues WHERE name = ?", (name,)
    ).fetchone()[0]
    follower.machine.commit_now()
    with follower.machine._store.aside() as execute:
        for other in range(1_000, 1_000 + times):
            execute(
                "INSERT INTO chunks SELECT ?, first_sequence, count, live, bytes, time_ms, body, moved, acked, attempts,"
                " offset, dead_letter, estimated, due_ms, priority, ttl_ms FROM chunks WHERE backlog = ?",
                (other, backlog),
            )
    follower.machine.commit_now()


def drop_shared(follower: Follower, backlog: int) -> None:
    with follower.machine._store.aside() as execute:
        execute("DELETE FROM chunks WHERE backlog = ?", (backlog,))
    follower.machine.commit_now()


def test_a_body_that_several_rows_name_is_moved_once_and_goes_with_the_last(follower: Follower) -> None:
    fill(follower, 3)
    share(follower, A, 2)
    follower.do(publish(B, b"in the segment that still grows"))

    follower.reclaim(entries_each=1, log_bytes_max=0)
    assert bodies_kept(follower) == 3
    assert len(follower.bodies(A)) == 30

    follower.do(ack(A, (1, 30)))
    drop_shared(follower, 1_000)
    follower.machine.commit_now()
    assert bodies_kept(follower) == 3
    drop_shared(follower, 1_001)
    assert bodies_kept(follower) == 0


def test_a_body_that_many_rows_name_counts_once_as_living(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECLAIM_LIVE_PERCENT_MAX", 30)
    fill(follower, 20)
    follower.do(ack(A, (21, 200)))  # a tenth lives, in ten rows each
    share(follower, A, 9)

    assert follower.reclaim(entries_each=20) > 20
    assert bodies_kept(follower) == 2


def test_what_was_moved_stays_moved_when_a_transaction_is_undone(follower: Follower) -> None:
    follower.do(create(C, max_messages=1), publish(C, b"full"))
    fill(follower, 19)
    follower.checkpoint()
    follower.machine.reclaim(follower.log.segments(10), log_bytes_max=0)

    refused = follower.one(transaction(publish(A, b"one more"), publish(C, b"one too many")))

    assert isinstance(refused, Refused)
    follower.log.release(follower.reclaim(entries_each=10, log_bytes_max=0))
    assert follower.log.released
    follower.restart()
    assert follower.bodies(A) == [b"x" * 100] * 190
