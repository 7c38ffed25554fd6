"""Copies of the state, and putting them in place of another."""

import threading
from pathlib import Path

import pytest

from node.state.machine import Machine
from node.state.store import StoreDamagedError
from raft.types import Member, SnapshotMeta
from tests.sim.state_log import TERM, Follower, ManualClock, MemoryLog, ack, create, delete, publish, purge

A, B = "queues/a", "queues/b"
MEMBERS = (Member("n1", "h:1"), Member("n2", "h:2"))


@pytest.fixture
def source(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "source")
    follower.machine.record(2, 1, MEMBERS)
    follower.log.entries[2], follower.log.last = b"", 2
    return follower


@pytest.fixture
def target(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "target")
    follower.do(create("queues/old"), publish("queues/old", b"old"))
    return follower


def test_a_snapshot_is_of_what_was_committed_and_says_so(source: Follower, tmp_path: Path) -> None:
    source.do(create(A), publish(A, b"x"))
    source.machine.commit_now()
    source.do(publish(A, b"y"))

    meta = source.machine.snapshot(tmp_path / "snapshot")

    assert meta == SnapshotMeta(3, TERM, MEMBERS)


def test_a_snapshot_holds_every_live_body_and_no_others(
    source: Follower, target: Follower, tmp_path: Path
) -> None:
    source.do(
        create(A), create(B), *(publish(A, bytes([n]) * 50) for n in range(40)), publish(B, b"gone" * 100)
    )
    source.do(ack(A, (1, 20)), delete(B))
    source.machine.commit_now()

    meta = source.machine.snapshot(tmp_path / "snapshot")
    target.machine.install(tmp_path / "snapshot", meta)
    target.log.release(1_000)

    assert target.bodies(A) == [bytes([n]) * 50 for n in range(20, 40)]
    assert target.machine._store.execute("SELECT count(*) FROM bodies").fetchone() == (20,)
    assert target.machine.fingerprint() == source.machine.fingerprint()
    assert target.machine.members == MEMBERS


def test_an_installed_snapshot_replaces_everything_and_survives(
    source: Follower, target: Follower, tmp_path: Path
) -> None:
    source.do(create(A), publish(A, b"x"))
    source.machine.commit_now()
    meta = source.machine.snapshot(tmp_path / "snapshot")

    target.machine.install(tmp_path / "snapshot", meta)

    assert [row.name for row in target.machine.queues()] == [A]
    assert target.machine.checkpointed() == target.machine.applied == meta.index
    names = {path.name for path in target.directory.iterdir()}
    assert names == {"store-2.db", "store-2.db-wal", "store-2.db-shm"}
    target.crash()
    assert target.machine.fingerprint() == source.machine.fingerprint()


def test_an_interrupted_installation_is_completed_at_the_next_start(
    source: Follower, target: Follower, tmp_path: Path
) -> None:
    source.do(create(A), publish(A, b"x"))
    source.machine.commit_now()
    source.machine.snapshot(tmp_path / "snapshot")
    target.machine.commit_now()
    (tmp_path / "snapshot").rename(target.directory / "store-2.db")  # then the power fails

    target.crash()

    assert target.bodies(A) == [b"x"]
    assert {path.name for path in target.directory.iterdir()} == {
        "store-2.db",
        "store-2.db-wal",
        "store-2.db-shm",
    }


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_file_that_is_not_the_snapshot_is_refused_and_the_state_stays(
    source: Follower, target: Follower, tmp_path: Path, damage: str
) -> None:
    source.do(create(A))
    source.machine.commit_now()
    path = tmp_path / "snapshot"
    meta = source.machine.snapshot(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        meta = SnapshotMeta(meta.index + 1, meta.term, meta.members)
    before = target.machine.fingerprint()

    with pytest.raises(StoreDamagedError):
        target.machine.install(path, meta)

    assert target.machine.fingerprint() == before
    target.restart()
    assert target.machine.fingerprint() == before


def test_a_checkpoint_of_a_store_that_was_replaced_says_nothing_of_the_new_one(
    source: Follower, target: Follower, tmp_path: Path
) -> None:
    source.do(create(A))
    source.machine.commit_now()
    meta = source.machine.snapshot(tmp_path / "snapshot")
    target.do(*[create("queues/x")] * 3)
    for _ in range(30):
        target.do(purge("queues/x"))
    checkpoint = target.machine.begin_checkpoint()
    checkpoint.run()
    target.machine.install(tmp_path / "snapshot", meta)

    target.machine.end_checkpoint(checkpoint)

    assert target.machine.checkpointed() == meta.index


def test_applies_go_on_while_a_snapshot_is_written(source: Follower, tmp_path: Path) -> None:
    source.do(create(A), *(publish(A, b"x" * 10_000) for _ in range(50)))
    source.machine.commit_now()
    reached, go_on = threading.Event(), threading.Event()

    def held_body(index: int) -> bytes:
        reached.set()
        assert go_on.wait(10)
        return source.log.body(index)

    source.machine.log_body = held_body
    metas: list[SnapshotMeta] = []
    thread = threading.Thread(target=lambda: metas.append(source.machine.snapshot(tmp_path / "snapshot")))
    thread.start()
    assert reached.wait(10)
    source.do(ack(A, (1, 50)), publish(A, b"late"))
    source.reclaim(entries_each=1)
    assert source.log.released == 0  # the snapshot still needs it
    go_on.set()
    thread.join()
    assert source.reclaim(entries_each=1) == 3

    assert metas[0].index == 3
    copy = Follower(MemoryLog(last=source.log.last), tmp_path / "copy")
    copy.machine.install(tmp_path / "snapshot", metas[0])
    assert copy.bodies(A) == [b"x" * 10_000] * 50


def test_a_snapshot_replaces_an_older_one(source: Follower, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    source.do(create(A))
    source.machine.commit_now()
    source.machine.snapshot(path)
    source.do(publish(A, b"x"))
    source.machine.commit_now()

    meta = source.machine.snapshot(path)

    directory = tmp_path / "copy"
    directory.mkdir()
    path.rename(directory / "store-1.db")
    machine = Machine.open(directory, clock_ms=ManualClock().now_ms)
    assert machine.applied == meta.index == 4
    machine.close()
