"""A disk that is full or fails: an error from `write`, nothing promised, and never a second try."""

import random

import pytest

from raft.segments import Log
from tests.sim.disk import SimDisk
from tests.sim.logs import fill, flush, held


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


@pytest.fixture
def log(disk: SimDisk) -> Log:
    return open_log(disk)


def open_log(disk: SimDisk) -> Log:
    return Log.open(disk, segment_bytes=1_000, cache_bytes=2_000)


@pytest.mark.parametrize("room_bytes", [0, 10, 500, 1_000, 1_700])
def test_a_full_disk_is_an_error_before_anything_is_promised(
    disk: SimDisk, log: Log, room_bytes: int
) -> None:
    fill(log, 5)
    flush(log)
    disk.full_after = disk.used_bytes + room_bytes
    fill(log, 40)
    batch = log.take()
    assert batch is not None

    with pytest.raises(OSError, match="full"):
        log.write(batch)

    assert log.durable == 6
    assert_is_dead(log, disk)
    disk.full_after = None
    disk.crash(power_loss=True, torn=False)
    assert open_log(disk).last[0] >= 6


def test_a_failed_sync_is_never_tried_again(disk: SimDisk, log: Log) -> None:
    fill(log, 5)
    batch = log.take()
    assert batch is not None
    disk.fail_sync = True

    with pytest.raises(OSError, match="cannot write back"):
        log.write(batch)

    disk.fail_sync = False
    with pytest.raises(AssertionError):
        log.write(batch)
    assert_is_dead(log, disk)


def assert_is_dead(log: Log, disk: SimDisk) -> None:
    syncs = disk.syncs
    batch = log._taken
    assert batch is not None
    with pytest.raises(AssertionError):
        log.written(batch)
    with pytest.raises(AssertionError):
        log.take()
    assert disk.syncs == syncs


def test_a_new_log_on_a_full_disk_does_not_open(disk: SimDisk) -> None:
    disk.full_after = 500

    with pytest.raises(OSError, match="full"):
        open_log(disk)

    disk.full_after = None
    assert open_log(disk).last == (1, 0)


def test_a_log_opens_on_a_full_disk(disk: SimDisk, log: Log) -> None:
    fill(log, 15)
    flush(log)
    disk.full_after = 0

    assert held(open_log(disk)) == held(log)
