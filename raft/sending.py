"""How a leader brings a follower up to date whose next entry is not in the log any more.

One snapshot file is made at a time, beside the running state, and serves all who need one; it goes out piece by piece
between heartbeats, and the log above it is kept until the last of them has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raft.frames import SnapshotReply
from raft.progress import Progress
from raft.snapshots import Outgoing
from raft.types import SnapshotMeta

if TYPE_CHECKING:
    from raft.core import Core
    from raft.leading import Leading

RETRY_S = 1.0


class SnapshotSender:
    """The snapshots of one term of leadership."""

    def __init__(self, core: Core, leading: Leading) -> None:
        self._core = core
        self._leading = leading
        self._out: Outgoing | None = None
        self._making = False
        self._retry_at = float("-inf")

    def want(self) -> None:
        """A follower needs a snapshot: make one, or send what there is."""
        if self._out is not None:
            self.send_due()
        elif not self._making and self._core.clock() >= self._retry_at:
            self._making = True
            self._core.host.make_snapshot()

    def failed(self) -> None:
        """The snapshot asked for could not be made; it is asked for again in a while."""
        self._making = False
        self._retry_at = self._core.clock() + RETRY_S

    def made(self, path: Path, meta: SnapshotMeta) -> None:
        """The snapshot asked for is in a file, which is ours now. One that an earlier term asked for serves as well."""
        self._making = False
        if self._out is not None:
            path.unlink()
            return
        snapshot_id = f"{self._core.me}-{self._leading.term}-{meta.index}"
        self._out = Outgoing(snapshot_id, path, meta, self._core.config.piece_bytes)
        self.send_due()

    def send_due(self) -> None:
        """Send a piece to everyone who has none under way, or whose last one seems lost."""
        out = self._out
        if out is None:
            if any(p.wants_snapshot for p in self._leading.progress.values()):
                self.want()
            return
        now, patience_s = self._core.clock(), self._core.config.election_ms / 1000
        wanting = [peer_id for peer_id, p in self._leading.progress.items() if p.wants_snapshot]
        for peer_id in wanting:
            if peer_id in self._core.links:
                out.offsets.setdefault(peer_id, 0)
                if now - out.sent_at.get(peer_id, float("-inf")) > patience_s:
                    self._send_piece(out, peer_id)
        if not wanting:
            self.close()

    def _send_piece(self, out: Outgoing, peer_id: str) -> None:
        if self._core.host.send(peer_id, out.piece(peer_id, self._leading.term)):
            out.sent_at[peer_id] = self._core.clock()

    def reconnected(self, peer_id: str) -> None:
        """What was under way to this follower is lost."""
        if self._out is not None:
            self._out.sent_at.pop(peer_id, None)

    def on_reply(self, peer_id: str, progress: Progress, message: SnapshotReply) -> None:
        out = self._out
        if out is None or message.snapshot_id != out.id or peer_id not in out.offsets:
            return
        if message.status == "more":
            if message.offset != out.offsets[peer_id] or message.offset == 0:
                out.offsets[peer_id] = message.offset
                self._send_piece(out, peer_id)
            return
        out.drop(peer_id)
        progress.wants_snapshot = False
        progress.inflight = None
        if message.status == "installed":
            progress.matched(out.meta.index)
            progress.next = progress.acked + 1
            self._leading.feed_match(peer_id, progress)
        self.send_due()

    def keep_from(self) -> int | None:
        """The log must stay above this index while a snapshot is made, which reads from it, or sent, as the follower
        will go on from there; None if neither.
        """
        if self._making:
            return self._core.log.base[0]
        return self._out.meta.index if self._out is not None else None

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None
