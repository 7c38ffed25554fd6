"""What of the state survives, and what of a damaged file is accepted: nothing."""

import contextlib
import resource
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node import limits
from node.state.machine import Machine
from node.state.store import StoreDamagedError, StoreFailedError
from tests.node.old_stores import make_version_3
from tests.sim.state_log import Follower, ManualClock, MemoryLog, ack, create, publish, purge

A = "queues/a"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


def test_a_new_store_is_empty(follower: Follower) -> None:
    assert follower.machine.applied == 0
    assert follower.machine.checkpointed() == 0
    assert follower.machine.queues() == []


def test_applied_entries_are_committed_after_some_time(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"))
    follower.clock.ms += limits.COMMIT_INTERVAL_MS - 1
    follower.do(publish(A, b"y"))
    follower.crash()
    assert follower.machine.applied == 0

    follower.clock.ms += limits.COMMIT_INTERVAL_MS
    follower.catch_up()
    follower.crash()

    assert follower.machine.applied == 3
    assert follower.bodies(A) == [b"x", b"y"]


def test_applied_entries_are_committed_after_so_many_commands(follower: Follower) -> None:
    follower.do(create(A), *[purge(A)] * (limits.COMMIT_COMMANDS - 2))
    follower.crash()
    assert follower.machine.applied == 0
    follower.catch_up()

    follower.do(purge(A))
    follower.crash()

    assert follower.machine.applied == 3


def test_a_closed_store_has_everything(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"))
    before = follower.machine.fingerprint()

    follower.restart()

    assert follower.machine.fingerprint() == before
    assert follower.machine.checkpointed() == follower.machine.applied == 2


def test_a_checkpoint_covers_what_was_applied_when_it_began(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"))

    checkpoint = follower.machine.begin_checkpoint()
    follower.do(publish(A, b"y"))
    assert follower.machine.checkpointed() == 0
    checkpoint.run()
    follower.machine.end_checkpoint(checkpoint)

    assert follower.machine.checkpointed() == 2


def test_a_checkpoint_that_a_reader_cut_short_promises_nothing(follower: Follower) -> None:
    follower.do(create(A))
    follower.machine.commit_now()
    reader = sqlite3.connect(follower.machine._store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM queues").fetchall()
    follower.do(publish(A, b"x"))

    follower.checkpoint()
    assert follower.machine.checkpointed() == 0

    reader.close()
    follower.checkpoint()
    assert follower.machine.checkpointed() == 3


def test_what_a_checkpoint_covers_needs_no_write_ahead_log(follower: Follower) -> None:
    follower.do(create(A), publish(A, b"x"))
    follower.checkpoint()
    follower.do(publish(A, b"y"))
    follower.machine.commit_now()
    (database,) = follower.directory.glob("*.db")
    content = database.read_bytes()
    follower.machine.close()
    for path in follower.directory.iterdir():
        path.unlink()
    database.write_bytes(content)

    follower.machine = Machine.open(
        follower.directory, clock_ms=ManualClock().now_ms, log_body=follower.log.body
    )

    assert follower.machine.applied == 2
    assert follower.bodies(A) == [b"x"]


def test_the_write_ahead_log_starts_anew_although_there_is_always_a_writer(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAL_BYTES_MAX", 200_000)
    follower.do(create(A))
    for _ in range(100):
        follower.do(*[publish(A, b"x")] * 20, ack(A, (1, 1_000_000)))
        checkpoint = follower.machine.begin_checkpoint()
        follower.do(publish(A, b"x"))  # the writer never rests
        checkpoint.run()
        follower.machine.end_checkpoint(checkpoint)

    wal = follower.directory / "store-1.db-wal"
    assert wal.stat().st_size < 400_000
    assert follower.machine.checkpointed() >= follower.machine.applied - 2


@contextlib.contextmanager
def no_space_beyond(size_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_commit_that_fails_ends_the_node_and_the_log_brings_back_what_it_lost(follower: Follower) -> None:
    follower.do(create(A))
    follower.machine.commit_now()
    follower.do(publish(A, b"x"))
    with no_space_beyond(4_096), pytest.raises(StoreFailedError):
        follower.machine.commit_now()

    with pytest.raises(StoreFailedError, match="start again"):
        follower.do(publish(A, b"y"))
    with pytest.raises(StoreFailedError):
        follower.machine.commit_now()
    follower.restart()

    assert follower.machine.applied == 2
    follower.catch_up()
    assert follower.bodies(A) == [b"x", b"y"]


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_noise(path: Path) -> None:
    path.write_bytes(b"noise" * 2_000)


def make_foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.close()


def make_newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def make_headless(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM meta")
    connection.close()


@pytest.mark.parametrize("damage", [make_empty, make_noise, make_foreign, make_newer, make_headless])
def test_a_damaged_store_is_refused_with_the_way_out(
    follower: Follower, damage: Callable[[Path], None]
) -> None:
    follower.do(create(A))
    follower.machine.close()
    damage(follower.directory / "store-1.db")

    with pytest.raises(StoreDamagedError, match=r"store-1\.db: .*move its data directory away"):
        Machine.open(follower.directory, clock_ms=ManualClock().now_ms)


def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "store.new").write_bytes(b"half")
    (tmp_path / "store.new-journal").write_bytes(b"half")

    machine = Machine.open(tmp_path, clock_ms=ManualClock().now_ms)

    assert machine.applied == 0
    assert {path.name for path in tmp_path.iterdir()} == {"store-1.db", "store-1.db-wal", "store-1.db-shm"}
    machine.close()


def test_a_store_of_before_there_were_streams_is_taken_over_with_moved_and_unmoved_messages(
    tmp_path: Path,
) -> None:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(A), *[publish(A, bytes([number])) for number in range(6)])
    follower.do(publish(A, b"6", b"7"), ack(A, (2, 5), (7, 7)))
    follower.reclaim(entries_each=1, log_bytes_max=0)
    follower.do(publish(A, b"8"))
    bodies, before = follower.bodies(A), follower.machine.fingerprint()
    follower.machine.close()
    make_version_3(follower.directory / "store-1.db")

    follower = Follower(follower.log, tmp_path / "state")

    assert follower.bodies(A) == bodies == [b"\x00", b"\x05", b"7", b"8"]
    assert follower.machine.fingerprint() == before
    follower.do(ack(A, (1, 100)))
    assert follower.machine._store.execute("SELECT count(*) FROM bodies").fetchone() == (0,)
