"""A snapshot on its way: a file cut into numbered, checked pieces, and put together again.

Stock PySyncObj's pieces carry neither position nor checksum (defect 12). Here each piece says which snapshot it is
of and where it stands; one is in flight at a time, a lost one is sent again, a foreign or overtaken one is refused,
and nothing is replaced before the last byte is in and synced.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from raft.frames import SnapshotPiece
from raft.types import SnapshotMeta


@dataclass(slots=True)
class Outgoing:
    """A finished snapshot file and how far each follower is with it."""

    id: str
    path: Path
    meta: SnapshotMeta
    piece_bytes: int
    offsets: dict[str, int] = field(default_factory=dict)
    sent_at: dict[str, float] = field(default_factory=dict)
    total_bytes: int = field(init=False)
    _fd: int = field(init=False)

    def __post_init__(self) -> None:
        self._fd = os.open(self.path, os.O_RDONLY)
        self.total_bytes = os.fstat(self._fd).st_size

    def piece(self, follower: str, term: int) -> SnapshotPiece:
        """The piece that `follower` needs next."""
        offset = self.offsets[follower]
        data = os.pread(self._fd, self.piece_bytes, offset)
        return SnapshotPiece(
            term=term,
            snapshot_id=self.id,
            index=self.meta.index,
            index_term=self.meta.term,
            offset=offset,
            total_bytes=self.total_bytes,
            data=data,
            crc=google_crc32c.value(data),
            last=offset + len(data) == self.total_bytes,
        )

    def drop(self, follower: str) -> None:
        self.offsets.pop(follower, None)
        self.sent_at.pop(follower, None)

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink(missing_ok=True)


class Incoming:
    """A snapshot being received into a file beside the state."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._id = ""
        self._received = 0

    @property
    def path(self) -> Path:
        return self._path

    def take(self, piece: SnapshotPiece) -> int:
        """Write a piece that fits; returns the offset that is wanted next, whatever the piece was."""
        if piece.offset == 0 and piece.snapshot_id != self._id:
            self.abandon()
            self._fd = os.open(self._path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            self._id = piece.snapshot_id
        if self._fd is None or piece.snapshot_id != self._id:
            return 0
        fits = piece.offset == self._received and google_crc32c.value(piece.data) == piece.crc
        if fits and piece.offset + len(piece.data) <= piece.total_bytes:
            view = memoryview(piece.data)
            while view:
                written = os.pwrite(self._fd, view, self._received)
                self._received += written
                view = view[written:]
        return self._received

    def complete(self, piece: SnapshotPiece) -> bool:
        """True once `piece`, the last one, is in: the file is whole and synced."""
        whole = 0 < self._received == piece.total_bytes
        if not piece.last or not whole or piece.snapshot_id != self._id:
            return False
        assert self._fd is not None
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd, self._id, self._received = None, "", 0
        return True

    def abandon(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._path.unlink(missing_ok=True)
        self._fd, self._id, self._received = None, "", 0
