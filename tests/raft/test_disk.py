"""One contract, two disks: the operating system's and the simulated one."""

import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raft.disk import Disk, OsDisk
from tests.sim.disk import PowerCut, SimDisk


@pytest.fixture(params=["os", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    disk: Disk = OsDisk(tmp_path / "data") if request.param == "os" else SimDisk(random.Random(1))
    yield disk
    disk.close()


def test_parts_are_written_one_after_the_other(disk: Disk) -> None:
    disk.write("a", 0, [b"one ", memoryview(b"two "), b"", b"three"])
    disk.write("a", 4, [b"TWO"])

    assert disk.read("a") == b"one TWO three"
    assert disk.size("a") == 13


def test_thousands_of_parts_are_written_at_once(disk: Disk) -> None:
    parts = [b"%05d" % number for number in range(5_000)]

    disk.write("a", 3, parts)

    assert disk.read("a") == b"\0\0\0" + b"".join(parts)


def test_a_gap_before_a_write_is_filled_with_zeros(disk: Disk) -> None:
    disk.write("a", 5, [b"x"])

    assert disk.read("a") == b"\0\0\0\0\0x"


def test_reading_stops_at_the_end_of_the_file(disk: Disk) -> None:
    disk.write("a", 0, [b"0123456789"])

    assert disk.pread("a", 2, 3) == b"234"
    assert disk.pread("a", 8, 100) == b"89"
    assert disk.pread("a", 10, 1) == b""
    assert disk.pread("a", 99, 1) == b""


def test_allocating_adds_zeros_and_changes_nothing_else(disk: Disk) -> None:
    disk.write("a", 0, [b"abc"])
    disk.allocate("a", 6)
    disk.allocate("a", 2)
    disk.allocate("new", 4)

    assert disk.read("a") == b"abc\0\0\0"
    assert disk.read("new") == bytes(4)


def test_what_was_cut_off_reads_as_zeros_when_it_is_allocated_again(disk: Disk) -> None:
    disk.write("a", 0, [b"abcdef"])
    disk.truncate("a", 2)
    assert disk.read("a") == b"ab"

    disk.allocate("a", 6)

    assert disk.read("a") == b"ab\0\0\0\0"


def test_names_are_listed_in_order(disk: Disk) -> None:
    assert disk.names() == []

    disk.write("b", 0, [b""])
    disk.write("a", 0, [b""])

    assert disk.names() == ["a", "b"]
    assert disk.exists("a")
    assert not disk.exists("c")


def test_a_rename_replaces_the_file_of_that_name(disk: Disk) -> None:
    disk.write("a", 0, [b"new"])
    disk.write("b", 0, [b"old and long"])

    disk.rename("a", "b")
    disk.write("b", 3, [b"er"])

    assert disk.names() == ["b"]
    assert disk.read("b") == b"newer"


def test_a_name_can_be_used_again_after_it_was_unlinked(disk: Disk) -> None:
    disk.write("a", 0, [b"old and long"])
    disk.unlink("a")
    assert not disk.exists("a")

    disk.write("a", 0, [b"new"])

    assert disk.read("a") == b"new"


MISSING: list[Callable[[Disk], object]] = [
    lambda disk: disk.read("a"),
    lambda disk: disk.pread("a", 0, 1),
    lambda disk: disk.size("a"),
    lambda disk: disk.truncate("a", 0),
    lambda disk: disk.rename("a", "b"),
    lambda disk: disk.unlink("a"),
    lambda disk: disk.sync("a"),
]


@pytest.mark.parametrize(
    "use", MISSING, ids=["read", "pread", "size", "truncate", "rename", "unlink", "sync"]
)
def test_a_file_that_is_not_there_is_named_as_missing(disk: Disk, use: Callable[[Disk], object]) -> None:
    with pytest.raises(FileNotFoundError):
        use(disk)

    assert disk.names() == []


def test_what_is_synced_is_there_when_the_disk_is_opened_again(disk: Disk, tmp_path: Path) -> None:
    disk.write("a", 0, [b"kept"])
    disk.sync("a")
    disk.rename("a", "b")
    disk.sync_dir()

    if isinstance(disk, SimDisk):
        disk.crash(power_loss=True, torn=True)
    else:
        disk.close()
        disk = OsDisk(tmp_path / "data")

    assert disk.names() == ["b"]
    assert disk.read("b") == b"kept"


def test_a_write_that_does_not_fit_raises(disk: Disk) -> None:
    with limited(disk, 10_000), pytest.raises(OSError, match=r"File too large|full"):
        disk.write("a", 4_000, [bytes(5_000), bytes(5_000)])

    disk.write("a", 4_000, [b"x" * 5_000, b"y" * 5_000])
    assert disk.pread("a", 8_999, 2) == b"xy"


def test_an_allocation_that_does_not_fit_raises(disk: Disk) -> None:
    with limited(disk, 10_000), pytest.raises(OSError, match=r"File too large|full"):
        disk.allocate("a", 20_000)


class limited:  # noqa: N801  reads as a verb's form
    """No file grows beyond `size` bytes in here (the simulated disk: all files together)."""

    def __init__(self, disk: Disk, size: int) -> None:
        self._disk, self._size = disk, size
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> None:
        if isinstance(self._disk, SimDisk):
            self._disk.full_after = self._size
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._before[1]))

    def __exit__(self, *_: object) -> None:
        if isinstance(self._disk, SimDisk):
            self._disk.full_after = None
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def test_a_reader_keeps_its_file_while_the_name_goes_to_another(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.write("a", 0, [b"old"])
    reading = disk._open("a")
    disk.unlink("a")
    disk.write("b", 0, [b"new"])

    assert reading.fd != disk._open("b").fd


def test_unsynced_pages_survive_a_power_cut_in_any_combination() -> None:
    survived = set()
    for seed in range(200):
        disk = SimDisk(random.Random(seed))
        disk.allocate("a", 3 * 4096)
        disk.sync("a")
        disk.sync_dir()
        disk.write("a", 0, [b"x" * 3 * 4096])
        disk.crash(power_loss=True, torn=False)
        survived.add(tuple(disk.pread("a", page * 4096, 1) == b"x" for page in range(3)))

    assert len(survived) == 8


def test_a_torn_write_can_end_at_any_byte() -> None:
    lengths = set()
    for seed in range(400):
        disk = SimDisk(random.Random(seed))
        disk.write("a", 0, [b"xxxx"])
        disk.sync_dir()
        disk.crash(power_loss=True, torn=True)
        lengths.add(disk.size("a"))

    assert lengths == {0, 1, 2, 3, 4}


def test_unsynced_names_may_be_undone_by_a_power_cut() -> None:
    seen = set()
    for seed in range(100):
        disk = SimDisk(random.Random(seed))
        for name in "ab":
            disk.write(name, 0, [name.encode()])
            disk.sync(name)
        disk.sync_dir()
        disk.rename("a", "c")
        disk.unlink("b")
        disk.crash(power_loss=True, torn=False)
        seen.add("".join(disk.names()))

    assert seen == {"ab", "a", "bc", "c"}


def test_a_killed_process_leaves_what_it_wrote_but_a_later_power_cut_may_take_it() -> None:
    lost = 0
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        disk.write("a", 0, [b"x"])
        disk.crash(power_loss=False, torn=False)
        assert disk.read("a") == b"x"
        disk.crash(power_loss=True, torn=False)
        lost += not disk.exists("a") or disk.read("a") != b"x"

    assert lost > 0


def test_the_simulated_process_can_stop_after_any_change() -> None:
    disk = SimDisk(random.Random(1))
    disk.cut_after = 1
    disk.write("a", 0, [b"x"])

    with pytest.raises(PowerCut):
        disk.sync("a")


def test_a_failed_sync_makes_nothing_durable() -> None:
    lost = 0
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        disk.allocate("a", 1)
        disk.sync("a")
        disk.sync_dir()
        disk.write("a", 0, [b"x"])
        disk.fail_sync = True
        with pytest.raises(OSError, match="cannot write back"):
            disk.sync("a")
        disk.crash(power_loss=True, torn=False)
        lost += disk.read("a") != b"x"

    assert lost > 0
