import asyncio
import errno
import sqlite3
from pathlib import Path

import pytest

from node import disk as disks
from node.api.server import WRITABLE
from node.disk import Disk, is_full
from node.state.machine import Machine
from node.upkeep import keep_up, reclaim
from raft.records import SegmentInfo
from raft.types import MemberStatus
from taskraft.internal.v1 import command_pb2
from tests.node.memory_replica import MemoryReplica
from tests.node.single_node import run, running, until

MIB = 1 << 20


def test_disk_space_is_low_until_there_is_clearly_enough(tmp_path: Path) -> None:
    free = [200]
    disk = Disk(tmp_path, 100, lambda _: free[0])
    seen = []
    for free[0] in (100, 99, 100, 109, 110, 99):
        changed = disk.look()
        seen.append((disk.low, changed))

    assert seen == [(False, False), (True, True), (True, False), (True, False), (False, True), (True, True)]


def test_a_reserve_is_set_aside_while_there_is_space_and_given_away_once(tmp_path: Path) -> None:
    free = [40 * MIB]
    disk = Disk(tmp_path, 8 * MIB, lambda _: free[0])
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 4 * MIB

    assert disk.release()
    assert disk.low
    assert not disk.release()
    free[0] = 0
    disk.look()
    assert not (tmp_path / "reserve").exists()

    free[0] = 40 * MIB
    disk.look()
    assert (tmp_path / "reserve").exists()
    assert not disk.low


def test_only_a_full_disk_is_waited_out() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("CREATE TABLE t AS SELECT randomblob(100000)")
    connection.close()
    assert is_full(caught.value)
    assert is_full(OSError(errno.ENOSPC, "no space"))
    wrapped = RuntimeError("the store failed")
    wrapped.__cause__ = caught.value
    assert is_full(wrapped)
    assert not is_full(OSError(errno.EIO, "fsync failed"))
    assert not is_full(sqlite3.OperationalError("disk I/O error"))
    assert not is_full(ValueError())


def test_a_leader_without_space_hands_over_to_a_node_that_has_some(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "1") as low, running(tmp_path / "2", node_id="n2", leads=False) as rich:
            low.replica.others = (
                MemberStatus(
                    id="n2",
                    address="127.0.0.1:1",
                    announce={"grpc": rich.address},
                    voter=True,
                    connected=True,
                    match=1,
                ),
            )
            await rich.node.grpc.say(WRITABLE, serving=False)
            low.node.disk.low = True
            low.node.disk._read = lambda _: 0
            low.node.disk._free_min_bytes = 1
            await disks._hand_over(low.replica, WRITABLE)
            assert low.node.leadership.term is not None

            await rich.node.grpc.say(WRITABLE, serving=True)
            watching = asyncio.create_task(low.node.watch_disk())
            await until(lambda: low.node.leadership.term is None, "leadership moved")

            watching.cancel()
            assert low.replica.leader_id == "n2"

    run(story())


class SegmentedLog(MemoryReplica):
    """A log in memory with one sealed segment that holds everything so far."""

    released = 0

    def segments(self) -> list[SegmentInfo]:
        return [SegmentInfo(first=2, last=self.index, bytes=8 * MIB, sealed=True)]

    def release(self, index: int) -> None:
        self.released = max(self.released, index)


def test_what_is_durable_by_itself_is_released_from_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        log = SegmentedLog(Machine.open(tmp_path, clock_ms=lambda: 0))
        log.lead()
        create = command_pb2.Command(create_queue=command_pb2.CreateQueue())
        create.create_queue.queue.name = "queues/q"
        await log.propose(command_pb2.Batch(time_ms=1, commands=[create]).SerializeToString())
        await reclaim(log.machine, log, 0)
        assert log.released == 0

        working = asyncio.create_task(keep_up(log.machine, log, checkpoint_ms=100, log_bytes_max=1))
        await until(lambda: log.released == log.index, "the log is released")

        working.cancel()
        assert log.machine.checkpointed() == log.index
        log.machine.close()

    run(story())
