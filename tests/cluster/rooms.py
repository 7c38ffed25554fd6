"""Rooms: network and mount namespaces of their own, in which nodes run and faults happen.

A room lives as long as its holder, a process that dies with the test run, so that neither namespaces nor
mounts nor loop devices stay behind, however the run ends. Rooms need root; `missing` says what is not there.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.processes import end, start

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_NOWHERE = "02:00:00:00:de:ad"
_PROGRAMS = ("ip", "unshare", "nsenter", "mount", "umount", "mkfs.ext4", "losetup")


def missing() -> str:
    """Why rooms cannot be used here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces and mounts need root"
    if absent := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"not installed: {', '.join(absent)} (iproute2, util-linux, e2fsprogs)"
    probe = subprocess.run(
        ["unshare", "--net", "--mount", "true"], check=False, capture_output=True, text=True
    )
    return probe.stderr.strip() if probe.returncode else ""


class Room:
    """One pair of namespaces. `prefix` runs a command inside."""

    def __init__(self, *, network: bool) -> None:
        net = ["--net"] if network else []
        self._holder = start(
            ["unshare", "--mount", "--propagation", "private", *net, "sh", "-c", "echo ready; exec cat"],
            talk=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.pid = self._holder.pid
        self.prefix = ["nsenter", "--target", str(self.pid), "--mount", *net, "--"]

    def run(self, *command: str, text: str | None = None) -> str:
        """Runs a command inside and returns what it printed; it must succeed."""
        done = subprocess.run(
            [*self.prefix, *command], input=text, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def path(self, inside: Path) -> Path:
        """How a path of the room is reached from outside."""
        return Path(f"/proc/{self.pid}/root") / inside.relative_to("/")

    def close(self) -> None:
        """Ends the room; what was mounted in it goes once the last process inside is gone."""
        end(self._holder)


class Network:
    """Rooms on one bridge, which has a room of its own. Host `i` has the address `host(i)`.

    A link is cut by giving the sender a wrong hardware address for the receiver: its packets vanish in
    silence, the other direction is not touched, and nothing but `ip` is needed.
    """

    def __init__(self, count: int) -> None:
        self._bridge = Room(network=True)
        self.rooms: list[Room] = []
        self._cut: set[tuple[int, int]] = set()
        try:
            self._bridge.run("ip", "-batch", "-", text="link add br0 type bridge\nlink set br0 up\n")
            for number in range(count):
                self.rooms.append(Room(network=True))
                self._join(number)
        except BaseException:
            self.close()
            raise

    def _join(self, number: int) -> None:
        room = self.rooms[number]
        self._bridge.run(
            *("ip", "-batch", "-"),
            text=f"link add v{number} address {_mac(number, 0xB)} type veth "
            f"peer name eth0 address {_mac(number)} netns {room.pid}\nlink set v{number} master br0 up\n",
        )
        up = f"addr add {self.host(number)}/24 dev eth0\nlink set eth0 up\nlink set lo up\n"
        room.run("ip", "-batch", "-", text=up)

    @staticmethod
    def host(number: int) -> str:
        """The address of a room."""
        return f"10.86.0.{number + 1}"

    def cut(self, links: Iterable[tuple[int, int]]) -> None:
        """From now on nothing that the first of each pair sends reaches the second."""
        for sender, receiver in sorted(set(links) - self._cut):
            self._neighbour(sender, receiver, f"{_NOWHERE} dev eth0 nud permanent")
            self._cut.add((sender, receiver))

    def heal(self) -> None:
        """Every link works again."""
        for sender, receiver in sorted(self._cut):
            self._neighbour(sender, receiver, f"{_mac(receiver)} dev eth0 nud reachable")
        self._cut.clear()

    def _neighbour(self, sender: int, receiver: int, how: str) -> None:
        self.rooms[sender].run("ip", *f"neigh replace {self.host(receiver)} lladdr {how}".split())

    def close(self) -> None:
        """Ends all rooms."""
        for room in [*self.rooms, self._bridge]:
            room.close()


def _mac(number: int, side: int = 0xA) -> str:
    return f"02:00:00:00:{side:02x}:{number + 1:02x}"


def both_ways(ones: Iterable[int], others: Iterable[int]) -> list[tuple[int, int]]:
    """All links between two groups."""
    others = tuple(others)
    return [link for one in ones for other in others for link in ((one, other), (other, one))]


class Disk:
    """A small file system of its own, mounted at `path` inside a room."""

    def __init__(self, room: Room, path: Path) -> None:
        self.room, self.path = room, path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def outside(self) -> Path:
        """The mounted directory as this process reaches it."""
        return self.room.path(self.path)

    def free_bytes(self) -> int:
        """What an unprivileged writer may still use."""
        stat = os.statvfs(self.outside)
        return stat.f_bavail * stat.f_frsize

    def fill(self, *, leave_bytes: int) -> None:
        """Writes a ballast file until no more than `leave_bytes` are free."""
        with (self.outside / "ballast").open("ab") as ballast:
            while (size := self.free_bytes() - leave_bytes) > 0:
                os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), min(size, 1 << 20))

    def empty(self) -> None:
        """Deletes the ballast."""
        (self.outside / "ballast").unlink()


class MemoryDisk(Disk):
    """A tmpfs."""

    def __init__(self, room: Room, path: Path, *, size_bytes: int) -> None:
        super().__init__(room, path)
        room.run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(path))


class PowerDisk(Disk):
    """An ext4 file system in an image file, whose power can be cut: what was not synced is gone."""

    def __init__(self, room: Room, path: Path, *, size_bytes: int) -> None:
        super().__init__(room, path)
        self._image = path.with_suffix(".img")
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        room.run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(self._image))
        self._mount()

    def _mount(self) -> None:
        self.room.run("mount", "-o", "loop", str(self._image), str(self.path))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and what was not synced never will."""
        handle = os.open(self.outside, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)

    def restore_power(self) -> None:
        """Mounts it again, as after a reboot; nobody may have a file of it open."""
        self.room.run("umount", str(self.path))
        self._mount()
