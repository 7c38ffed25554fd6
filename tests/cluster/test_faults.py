"""The faults of these tests do what they claim: a fault that does nothing would prove nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clocks import Clock
from tests.cluster.cluster import free_ports
from tests.cluster.processes import NotInTime, end, start, wait_for
from tests.cluster.rooms import Disk, MemoryDisk, Network, PowerDisk, Room, both_ways

pytestmark = pytest.mark.cluster

ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as me:
    me.bind((sys.argv[1], 5000))
    while True:
        print(me.recv(100).decode(), flush=True)
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as me:
    me.sendto(sys.argv[2].encode(), (sys.argv[1], 5000))
"""
CLOCKS = (
    "import time; input(); print(time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)"
)


@pytest.fixture
def room(root: None) -> Iterator[Room]:
    room = Room(network=False)
    yield room
    room.close()


@pytest.fixture
def network(root: None) -> Iterator[Network]:
    network = Network(2)
    yield network
    network.close()


@pytest.mark.root
def test_a_cut_link_drops_what_one_side_sends_and_nothing_else(network: Network, tmp_path: Path) -> None:
    heard = [tmp_path / "first", tmp_path / "second"]
    listeners = [
        start([sys.executable, "-uc", ECHO, network.host(i)], prefix=network.rooms[i].prefix, log=heard[i])
        for i in (0, 1)
    ]

    def arrives(sender: int, text: str, timeout_s: float = 5.0) -> bool:
        def sent_and_heard() -> bool:
            network.rooms[sender].run(sys.executable, "-c", SEND, network.host(1 - sender), text)
            return text in heard[1 - sender].read_text()

        try:
            return wait_for(sent_and_heard, text, timeout_s=timeout_s)
        except NotInTime:
            return False

    try:
        assert arrives(0, "before")
        assert arrives(1, "before")
        network.cut([(0, 1)])
        assert not arrives(0, "during", timeout_s=0.5)
        assert arrives(1, "during")
        network.heal()
        assert arrives(0, "after")
        network.cut(both_ways([0], [1]))
        assert not arrives(0, "both", timeout_s=0.3)
        assert not arrives(1, "both", timeout_s=0.3)
    finally:
        for listener in listeners:
            end(listener)


@pytest.mark.root
def test_a_power_cut_keeps_what_was_synced_and_loses_what_was_not(room: Room, tmp_path: Path) -> None:
    disk = PowerDisk(room, tmp_path / "disk", size_bytes=32 << 20)
    with (disk.outside / "file").open("wb", buffering=0) as file:
        file.write(b"s" * 4096)
        os.fsync(file.fileno())
        folder = os.open(disk.outside, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        file.write(b"u" * 4096)
        (disk.outside / "new").write_bytes(b"never synced")

        disk.cut_power()

        with pytest.raises(OSError, match=r"Input/output|shut|Cannot"):
            os.fsync(file.fileno())
    disk.restore_power()
    assert (disk.outside / "file").read_bytes() == b"s" * 4096
    assert not (disk.outside / "new").exists()


@pytest.mark.root
@pytest.mark.parametrize("make", [MemoryDisk, PowerDisk])
def test_a_full_disk_takes_nothing_more_until_its_ballast_is_gone(
    room: Room, tmp_path: Path, make: type[MemoryDisk] | type[PowerDisk]
) -> None:
    disk: Disk = make(room, tmp_path / "disk", size_bytes=32 << 20)
    disk.fill(leave_bytes=1 << 20)

    assert disk.free_bytes() <= 1 << 20
    with pytest.raises(OSError, match="No space"):
        (disk.outside / "more").write_bytes(b"x" * (2 << 20))
    (disk.outside / "more").unlink()
    disk.empty()

    (disk.outside / "more").write_bytes(b"x" * (2 << 20))


@pytest.mark.root
def test_nothing_of_a_room_stays_behind_when_it_is_closed(root: None, tmp_path: Path) -> None:
    room = Room(network=True)
    PowerDisk(room, tmp_path / "disk", size_bytes=32 << 20)

    def loops() -> str:
        return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout

    assert str(tmp_path) in loops()
    room.close()

    wait_for(lambda: str(tmp_path) not in loops(), "the loop device is free again")
    assert not Path(f"/proc/{room.pid}").exists()


def test_a_moved_clock_moves_the_wall_clock_only(clock_shim: Path, tmp_path: Path) -> None:
    clock = Clock(clock_shim, tmp_path / "offset")

    def read() -> tuple[float, float]:
        """How far the process's wall and monotonic clocks are from ours, in seconds."""
        process = start([sys.executable, "-c", CLOCKS], env=clock.env, talk=True)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = map(int, process.stdout.readline().split())
            return wall / 1e9 - time.time(), monotonic / 1e9 - time.monotonic()
        finally:
            end(process)

    for offset_s in (0.0, 3600.0, -86400.5):
        clock.set(offset_s)
        wall, monotonic = read()
        assert wall == pytest.approx(offset_s, abs=0.5)
        assert monotonic == pytest.approx(0, abs=0.5)


def test_ports_of_one_run_are_handed_out_once() -> None:
    handed_out = [port for _ in range(5) for port in free_ports()]

    assert len(set(handed_out)) == 15
