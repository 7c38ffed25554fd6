"""The log as its user sees it: what goes in comes out, before and after it is opened again."""

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from raft.disk import Disk, OsDisk
from raft.records import Entry, SegmentInfo
from raft.segments import Log
from tests.sim.disk import SimDisk
from tests.sim.logs import fill, flush, held

SEGMENT_BYTES = 1_000
Reopen = Callable[[], Log]


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


@pytest.fixture
def log(disk: SimDisk) -> Log:
    return open_log(disk)


def open_log(disk: Disk) -> Log:
    return Log.open(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=2_000)


def reopened(disk: SimDisk) -> Log:
    """The log after a power cut: only what was synced is sure to be there."""
    disk.crash(power_loss=True, torn=False)
    return open_log(disk)


def test_a_new_log_begins_after_index_one_of_term_zero(log: Log) -> None:
    assert log.base == log.last == (1, 0)
    assert log.durable == 1
    assert not log.dirty
    assert log.take() is None
    assert log.slice(2, 100) == []
    assert [log.term_at(index) for index in (0, 1, 2)] == [None, 0, None]


def test_entries_come_back_as_they_were_appended(disk: SimDisk, log: Log) -> None:
    entries = [Entry(2, 1, 0, b""), Entry(3, 1, 1, b"x" * 5_000), Entry(4, 7, 254, b"y")]
    for entry in entries:
        log.append(entry.index, entry.term, entry.kind, entry.payload)
    flush(log)

    for seen in (log, reopened(disk)):
        assert held(seen) == entries
        assert seen.last == (4, 7)
        assert [seen.term_at(index) for index in range(1, 6)] == [0, 1, 1, 7, None]


def test_an_entry_is_durable_when_its_batch_is_written_and_not_before(log: Log) -> None:
    fill(log, 3)
    batch = log.take()
    assert batch is not None
    fill(log, 2)
    log.write(batch)
    assert log.durable == 1

    log.written(batch)

    assert log.durable == 4
    assert log.dirty


def test_an_entry_can_be_read_before_it_is_written(log: Log) -> None:
    fill(log, 100)

    assert [entry.index for entry in held(log)] == list(range(2, 102))
    assert log.slice(2, 1 << 20) == held(log)


@pytest.mark.parametrize("index", [0, 1, 8])
def test_an_entry_that_is_not_held_is_a_key_error(log: Log, index: int) -> None:
    fill(log, 6)

    with pytest.raises(KeyError):
        log.entry(index)


def test_a_full_segment_is_sealed_and_the_next_begins(disk: SimDisk, log: Log) -> None:
    fill(log, 30)
    flush(log)

    for seen in (log, reopened(disk)):
        segments = seen.segments()
        assert len(segments) > 1
        assert [s.sealed for s in segments] == [True] * (len(segments) - 1) + [False]
        assert [i for s in segments for i in range(s.first, s.last + 1)] == list(range(2, 32))
        assert all(s.bytes <= SEGMENT_BYTES for s in segments)
        assert seen.size_bytes == sum(s.bytes for s in segments)
        assert len(held(seen)) == 30


def test_an_entry_larger_than_a_segment_gets_one_of_its_own(disk: SimDisk, log: Log) -> None:
    fill(log, 1)
    fill(log, 1, size=3 * SEGMENT_BYTES)
    fill(log, 1)
    flush(log)

    for seen in (log, reopened(disk)):
        assert [(s.first, s.last) for s in seen.segments()] == [(2, 2), (3, 3), (4, 4)]
        assert len(seen.entry(3).payload) > 3 * SEGMENT_BYTES


@pytest.mark.parametrize("opened_again", [False, True])
def test_a_slice_holds_as_many_entries_as_fit_and_at_least_one(
    disk: SimDisk, log: Log, opened_again: bool
) -> None:
    fill(log, 60)
    flush(log)
    log.mark()
    fill(log, 10)
    flush(log)
    log = open_log(disk) if opened_again else log
    entries = held(log)

    for first in range(2, 72):
        for max_bytes in (0, 100, 300, 1_000, 2_500, 1 << 20):
            found = log.slice(first, max_bytes)
            assert found == entries[first - 2 : first - 2 + len(found)]
            size = sum(len(entry.payload) for entry in found)
            assert len(found) == 1 or size <= max_bytes
            more = entries[first - 2 + len(found) : first - 1 + len(found)]
            room_for_markers_and_headers = 50 * (len(found) + 2)
            assert found
            assert not more or size + len(more[0].payload) + room_for_markers_and_headers > max_bytes


def test_a_slice_reads_a_range_with_one_read_per_segment(disk: SimDisk) -> None:
    log = Log.open(disk, segment_bytes=100_000, cache_bytes=0)
    fill(log, 100)
    flush(log)
    reads = 0
    pread = disk.pread

    def counted(name: str, offset: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return pread(name, offset, size)

    disk.pread = counted  # type: ignore[method-assign]

    assert len(log.slice(2, 1 << 20)) == 100
    assert reads == 1


def test_released_segments_are_gone_and_the_active_one_stays(disk: SimDisk, log: Log) -> None:
    fill(log, 20)
    fill(log, 20, term=2)
    flush(log)
    segments = log.segments()

    log.release(segments[1].last - 1)
    assert log.base == (segments[0].last, 1)
    log.release(10_000)
    flush(log)

    for seen in (log, reopened(disk)):
        assert seen.base == (segments[-1].first - 1, 2)
        assert seen.segments() == segments[-1:]
        assert [entry.index for entry in held(seen)] == list(range(segments[-1].first, 42))
        assert seen.term_at(segments[-1].first - 2) is None
    assert len(disk.names()) == 1


def test_a_segment_that_is_not_yet_durable_is_not_released(log: Log) -> None:
    fill(log, 40)

    log.release(40)

    assert log.base == (1, 0)


@pytest.mark.parametrize("flushed_before", [False, True])
@pytest.mark.parametrize("index", [2, 5, 11, 12, 13, 14, 15, 16, 17, 18, 40, 41, 42])
def test_truncated_entries_are_replaced_by_what_follows(
    disk: SimDisk, log: Log, index: int, flushed_before: bool
) -> None:
    fill(log, 40)
    if flushed_before:
        flush(log)
    kept = held(log)[: index - 2]

    log.truncate(index)
    assert log.last[0] == min(index, 42) - 1
    assert log.durable <= log.last[0]
    fill(log, 5, term=3)
    expected = held(log)
    assert expected[: len(kept)] == kept
    flush(log)

    for seen in (log, reopened(disk)):
        assert held(seen) == expected
        assert seen.durable == seen.last[0] == expected[-1].index


def test_truncating_lowers_durable_even_while_a_batch_is_in_flight(disk: SimDisk, log: Log) -> None:
    fill(log, 10)
    flush(log)
    fill(log, 10)
    batch = log.take()
    assert batch is not None
    log.truncate(15)
    fill(log, 3, term=2)
    assert log.durable == 11

    log.write(batch)
    log.written(batch)

    assert log.durable == 14
    assert [entry.term for entry in held(log)] == [1] * 13 + [2] * 3
    flush(log)
    assert log.durable == 17
    assert held(reopened(disk)) == held(log)


def test_a_truncated_term_can_be_followed_by_an_older_one_than_it(log: Log) -> None:
    fill(log, 3, term=1)
    fill(log, 3, term=5)

    log.truncate(5)
    fill(log, 1, term=2)

    assert [log.term_at(index) for index in range(1, 7)] == [0, 1, 1, 1, 2, None]


def test_a_reset_log_holds_nothing_but_its_new_base(disk: SimDisk, log: Log) -> None:
    fill(log, 40)
    flush(log)

    log.reset(1_000, 9)
    assert log.base == log.last == (1_000, 9)
    assert log.durable == 0
    flush(log)
    assert log.durable == 1_000
    fill(log, 1, term=9)
    flush(log)

    for seen in (log, reopened(disk)):
        assert seen.base == (1_000, 9)
        assert seen.last == (1_001, 9)
        assert seen.durable == 1_001
        assert len(seen.segments()) == 1
    assert len(disk.names()) == 1


def test_a_batch_in_flight_promises_nothing_after_a_reset(log: Log) -> None:
    fill(log, 5)
    batch = log.take()
    assert batch is not None
    log.reset(3, 1)

    log.write(batch)
    log.written(batch)

    assert log.durable == 0
    flush(log)
    assert log.durable == 3


def test_a_marker_is_written_once_and_costs_no_sync(disk: SimDisk, log: Log) -> None:
    fill(log, 2)
    flush(log)
    syncs = disk.syncs

    log.mark()
    assert log.dirty
    flush(log)
    log.mark()

    assert not log.dirty
    assert disk.syncs == syncs
    assert log.last == (3, 1)
    fill(log, 1)
    flush(log)
    assert held(open_log(disk)) == held(log)


def test_a_marker_always_finds_room_behind_the_last_entry(disk: SimDisk, log: Log) -> None:
    for _ in range(200):
        fill(log, 1, size=random.Random(log.last[0]).randrange(60))
        flush(log)
        log.mark()
        assert log.dirty
        flush(log)

    assert all(segment.bytes <= SEGMENT_BYTES for segment in log.segments())
    assert held(open_log(disk)) == held(log)


def test_the_cache_stays_within_its_bytes_however_long_the_log_grows(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    log = Log.open(disk, segment_bytes=4 << 20, cache_bytes=1 << 20)
    tracemalloc.start()
    for _ in range(64):
        fill(log, 100, size=2_000)
        flush(log)
    used_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used_bytes < 1.5 * (1 << 20)
    assert peak_bytes < 2.5 * (1 << 20)
    assert log.entry(2).payload.startswith(b"2/1 ")
    disk.close()


def test_what_is_not_yet_written_is_kept_whatever_its_size(log: Log) -> None:
    fill(log, 500, size=100)

    assert len(held(log)) == 500
    flush(log)
    assert log._cached_bytes <= 2_000


@pytest.mark.parametrize(("index", "term"), [(2, 1), (4, 1), (3, 0)])
def test_entries_out_of_order_are_our_own_mistake(log: Log, index: int, term: int) -> None:
    fill(log, 1)

    with pytest.raises(AssertionError):
        log.append(index, term, 1, b"")


def test_only_one_batch_is_in_flight(log: Log) -> None:
    fill(log, 1)
    log.take()
    fill(log, 1)

    with pytest.raises(AssertionError):
        log.take()


def test_other_files_in_the_directory_are_left_alone(disk: SimDisk, log: Log) -> None:
    disk.write("ballot", 0, [b"x"])
    disk.sync_dir()
    log.reset(5, 1)
    flush(log)

    open_log(disk)

    assert "ballot" in disk.names()


def test_a_segment_describes_itself(log: Log) -> None:
    assert log.segments() == [SegmentInfo(first=2, last=1, bytes=40, sealed=False)]
