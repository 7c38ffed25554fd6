"""The only file I/O of the log and the ballot: a narrow protocol, and the operating system behind it.

All names are relative to one directory and contain no slash. Every method raises OSError for what the world does
(FileNotFoundError for a name that is not there); nothing is retried. What was written is durable only after
`sync(name)`, and a name that was created, renamed or unlinked only after `sync_dir()`.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["Disk", "OsDisk"]

PARTS_MAX = 1024  # IOV_MAX on Linux: more parts in one pwritev are refused


class Disk(Protocol):
    """One directory of files. One thread writes; any thread may read at the same time."""

    def read(self, name: str) -> bytes:
        """Return the whole file."""

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on: fewer at the end of the file, none beyond it."""

    def size(self, name: str) -> int:
        """Return the length of the file in bytes, preallocated zeros included."""

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""

    def exists(self, name: str) -> bool:
        """Tell whether there is a file of that name."""

    def write(self, name: str, offset: int, parts: Sequence[bytes | memoryview]) -> None:
        """Write the parts one after the other from `offset` on; creates the file. Complete, or OSError."""

    def allocate(self, name: str, size: int) -> None:
        """Make the file at least `size` bytes long, new bytes are zeros with room on the disk; creates it."""

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes and give back the room."""

    def rename(self, name: str, new_name: str) -> None:
        """Give the file a new name; a file that had it is gone."""

    def unlink(self, name: str) -> None:
        """Remove the file."""

    def sync(self, name: str) -> None:
        """Make the contents and length of the file durable."""

    def sync_dir(self) -> None:
        """Make the names durable."""

    def close(self) -> None:
        """Let go of everything; the disk must not be used afterwards."""


class _Handle:
    """An open file descriptor. It is closed when its last user lets go, so no reader ever sees a recycled one."""

    __slots__ = ("fd",)

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = -1
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class OsDisk:
    """The real disk: a directory, which is created if missing. Descriptors stay open until unlink or close."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        if not self._path.is_dir():
            self._path.mkdir(parents=True)
            _sync_everything(_Handle(self._path.parent, os.O_RDONLY))
        self._directory = _Handle(self._path, os.O_RDONLY)
        self._handles: dict[str, _Handle] = {}

    def read(self, name: str) -> bytes:
        return self.pread(name, 0, self.size(name))

    def pread(self, name: str, offset: int, size: int) -> bytes:
        return os.pread(self._open(name).fd, size, offset)

    def size(self, name: str) -> int:
        return os.fstat(self._open(name).fd).st_size

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._path) if entry.is_file())

    def exists(self, name: str) -> bool:
        return (self._path / name).is_file()

    def write(self, name: str, offset: int, parts: Sequence[bytes | memoryview]) -> None:
        handle = self._open(name, os.O_CREAT)
        for start in range(0, len(parts), PARTS_MAX):
            offset = _write_all(handle.fd, offset, list(parts[start : start + PARTS_MAX]))

    def allocate(self, name: str, size: int) -> None:
        handle = self._open(name, os.O_CREAT)
        if os.fstat(handle.fd).st_size >= size:
            return
        if sys.platform == "darwin":
            os.ftruncate(handle.fd, size)
        else:
            os.posix_fallocate(handle.fd, 0, size)

    def truncate(self, name: str, size: int) -> None:
        os.ftruncate(self._open(name).fd, size)

    def rename(self, name: str, new_name: str) -> None:
        handle = self._open(name)
        os.rename(self._path / name, self._path / new_name)
        self._handles[new_name] = handle
        del self._handles[name]

    def unlink(self, name: str) -> None:
        os.unlink(self._path / name)
        self._handles.pop(name, None)

    def sync(self, name: str) -> None:
        _sync_data(self._open(name))

    def sync_dir(self) -> None:
        _sync_everything(self._directory)

    def close(self) -> None:
        self._handles.clear()

    def _open(self, name: str, flags: int = 0) -> _Handle:
        """Return the descriptor of `name`. Two threads may both open it: the first one in is kept."""
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles.setdefault(name, _Handle(self._path / name, os.O_RDWR | flags))
        return handle


def _write_all(fd: int, offset: int, parts: list[bytes | memoryview]) -> int:
    """Write all parts, going on after a short write, and return the offset behind them."""
    while parts:
        done = os.pwritev(fd, parts, offset)
        if done == 0 and any(parts):
            raise OSError(errno.EIO, "the disk takes no more bytes")
        offset += done
        while parts and done >= len(parts[0]):
            done -= len(parts.pop(0))
        if done:
            parts[0] = memoryview(parts[0])[done:]
    return offset


def _sync_data(handle: _Handle) -> None:
    """Make file contents and what is needed to read them durable."""
    if sys.platform == "darwin":
        _sync_everything(handle)
    else:
        os.fdatasync(handle.fd)


def _sync_everything(handle: _Handle) -> None:
    """Make a file or a directory durable; fsync alone stops at the drive's cache on macOS."""
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415  only needed on this platform

        fcntl.fcntl(handle.fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(handle.fd)
