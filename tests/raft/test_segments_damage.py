"""What the log says about bytes that it did not write: a torn tail is cut off, everything else is refused."""

import random

import pytest

from raft.records import RECORD_BYTES, Damaged
from raft.segments import Log
from tests.sim.disk import SimDisk
from tests.sim.logs import fill, flush, held

SEGMENT_BYTES = 2_000


def open_log(disk: SimDisk) -> Log:
    return Log.open(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)


def written(count: int = 10) -> tuple[SimDisk, Log]:
    """A log of one segment whose entries were synced one by one, and a marker behind the last."""
    disk = SimDisk(random.Random(1))
    log = open_log(disk)
    for _ in range(count):
        fill(log, 1)
        flush(log)
    log.mark()
    flush(log)
    return disk, log


def bytes_of(log: Log, index: int) -> range:
    segment = log._segments[log._number(index)]
    return range(segment.offset(index), segment.end(index))


def test_a_last_record_torn_at_any_byte_is_cut_off() -> None:
    disk, log = written()
    name = log._segments[-1].name
    expected = held(log)
    fill(log, 1)
    flush(log)
    whole = disk.read(name)
    torn = bytes_of(log, 12)

    for end in torn:
        disk.write(name, 0, [whole[:end] + bytes(len(whole) - end)])
        opened = open_log(disk)
        assert held(opened) == expected
        assert opened.durable == 11
        assert not any(disk.read(name)[torn.start :])
        fill(opened, 2, term=2)
        flush(opened)
        assert held(open_log(disk)) == held(opened)


@pytest.mark.parametrize("rest", ["zeros", "records"])
def test_unsynced_records_behind_a_torn_one_do_not_come_back(rest: str) -> None:
    disk, log = written()
    name = log._segments[-1].name
    fill(log, 10)
    flush(log)
    lost = bytes_of(log, 12)
    disk.write(name, lost.start, [bytes(len(lost))])
    if rest == "zeros":
        disk.truncate(name, lost.stop)

    opened = open_log(disk)

    assert opened.last == (11, 1)
    fill(opened, 1, size=20)
    flush(opened)
    assert open_log(disk).last == (12, 1)
    assert len(disk.read(name)) == SEGMENT_BYTES


@pytest.mark.parametrize("index", [2, 6, 11])
def test_every_flipped_bit_of_a_durable_record_is_damage_with_its_place(index: int) -> None:
    disk, log = written()
    name = log._segments[-1].name
    place = bytes_of(log, index)
    end = place.start + RECORD_BYTES + len(log.entry(index).payload)

    for bit in range(place.start * 8, end * 8):
        disk.flip(name, bit)
        with pytest.raises(Damaged) as damage:
            open_log(disk)
        assert (damage.value.name, damage.value.offset, damage.value.index) == (name, place.start, index)
        assert name in str(damage.value)
        assert f"byte {place.start}" in str(damage.value)
        disk.flip(name, bit)

    assert held(open_log(disk)) == held(log)


@pytest.mark.parametrize("number", [0, 1])
def test_every_flipped_bit_of_a_header_is_damage(number: int) -> None:
    disk, log = written(50)
    name = log._segments[[0, -1][number]].name

    for bit in range(40 * 8):
        disk.flip(name, bit)
        with pytest.raises(Damaged, match="header") as damage:
            open_log(disk)
        assert (damage.value.name, damage.value.offset) == (name, 0)
        disk.flip(name, bit)

    assert held(open_log(disk)) == held(log)


def test_a_flip_anywhere_in_a_sealed_segment_is_damage_even_without_any_claim() -> None:
    disk = SimDisk(random.Random(1))
    log = open_log(disk)
    fill(log, 40)
    flush(log)
    sealed = log._segments[0]
    for byte in range(sealed.tail):
        disk.flip(sealed.name, byte * 8 + byte % 8)
        with pytest.raises(Damaged) as damage:
            open_log(disk)
        assert damage.value.name == sealed.name
        disk.flip(sealed.name, byte * 8 + byte % 8)

    assert held(open_log(disk)) == held(log)


def test_a_durable_record_overwritten_with_zeros_is_damage() -> None:
    disk, log = written()
    place = bytes_of(log, 11)

    disk.write(log._segments[-1].name, place.start, [bytes(RECORD_BYTES)])

    with pytest.raises(Damaged, match="was durable"):
        open_log(disk)


def test_a_missing_segment_is_damage() -> None:
    disk, log = written(200)
    disk.unlink(log._segments[1].name)

    with pytest.raises(Damaged):
        open_log(disk)


def test_a_segment_of_another_log_is_damage() -> None:
    disk, log = written(60)
    other, other_log = written(60)
    name, foreign = log._segments[1].name, other_log._segments[1].name
    assert name == foreign

    disk.truncate(name, 0)
    disk.write(name, 0, [other.read(name)])

    with pytest.raises(Damaged, match="does not continue"):
        open_log(disk)


def test_a_record_that_rots_while_the_log_is_open_is_damage_when_it_is_read() -> None:
    disk, log = written()
    name = log._segments[-1].name
    place = bytes_of(log, 5)

    disk.flip(name, 8 * (place.stop - 1))

    assert log.entry(6).index == 6
    for read in (lambda: log.entry(5), lambda: log.slice(2, 1 << 20)):
        with pytest.raises(Damaged) as damage:
            read()
        assert (damage.value.offset, damage.value.index) == (place.start, 5)


def test_damage_tells_how_to_go_on() -> None:
    disk, log = written()
    disk.flip(log._segments[-1].name, 0)

    with pytest.raises(Damaged, match="refuses to start") as damage:
        open_log(disk)

    assert "move the data directory away" in str(damage.value)
    assert "copies the log from the others" in str(damage.value)


def test_an_opening_that_is_refused_changes_nothing() -> None:
    disk, log = written(60)
    disk.flip(log._segments[0].name, 8 * 100)
    before = {name: disk.read(name) for name in disk.names()}

    with pytest.raises(Damaged):
        open_log(disk)

    assert {name: disk.read(name) for name in disk.names()} == before


def test_stale_records_of_a_cut_log_never_come_back_even_if_the_cut_left_them_there() -> None:
    disk, log = written()
    name = log._segments[-1].name
    fill(log, 10, term=5)
    flush(log)
    before = disk.read(name)
    log.truncate(12)
    fill(log, 1, term=4)  # as long as the entry it replaces, so a stale record of the next index follows
    flush(log)
    tail = log._segments[-1].tail
    stale_index = int.from_bytes(before[tail + 8 : tail + 16], "little")
    assert stale_index == 13

    disk.write(name, tail, [before[tail:]])

    assert open_log(disk).last == (12, 4)


def test_a_mark_after_a_truncation_guards_the_new_last_entry() -> None:
    disk, log = written()
    log.truncate(8)
    flush(log)

    log.mark()
    flush(log)

    place = bytes_of(log, 7)
    disk.flip(log._segments[-1].name, 8 * (place.start + 50))
    with pytest.raises(Damaged, match="says that 7 was durable"):
        open_log(disk)


def test_a_payload_that_looks_like_a_log_is_only_a_payload() -> None:
    disk, log = written()
    other = SimDisk(random.Random(2))
    foreign = open_log(other)
    for _ in range(13):
        fill(foreign, 1, size=0)
        flush(foreign)
    copy = other.read(foreign._segments[0].name)[: foreign._segments[0].tail]
    log.append(12, 1, 1, copy)
    flush(log)
    assert len(log.segments()) == 1

    disk.flip(log._segments[0].name, 8 * (bytes_of(log, 12).start + 8))

    assert open_log(disk).last == (11, 1)


@pytest.mark.parametrize("version", [0, 2])
def test_a_segment_of_another_format_is_refused(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    disk = SimDisk(random.Random(1))
    with monkeypatch.context() as patched:
        patched.setattr("raft.records.VERSION", version)
        open_log(disk)

    with pytest.raises(Damaged, match="format"):
        open_log(disk)
