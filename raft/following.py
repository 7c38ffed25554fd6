"""What a node does with what a leader says: check it, put it into the log, answer for what is durable."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from raft.frames import Append, AppendReply, SnapshotPiece, SnapshotReply
from raft.guard import Accepted, Malformed, Rejected, check_append
from raft.members import decode_members
from raft.snapshots import Incoming
from raft.types import MEMBERS, SnapshotMeta

if TYPE_CHECKING:
    from raft.core import Core

_log = logging.getLogger(__name__)


class Following:
    """The follower's part of `core`'s node."""

    check = staticmethod(check_append)

    def __init__(self, core: Core, incoming: Incoming) -> None:
        self._core = core
        self._incoming = incoming

    def _join(self, commit: int) -> None:
        """The first word of a leader to a blank node: what it votes on must be given after this commit index."""
        core = self._core
        core.ballot.join(core.me, core.config.cluster, floor=max(1, commit))
        core.host.hello_changed()

    def on_append(self, peer_id: str, message: Append) -> None:
        if message.term < self._core.engine.term:
            # The round is of that old term: in an answer of this one it would confirm what it does not know.
            reply = AppendReply(self._core.engine.term, 0, success=False, index=self._core.log.last[0])
            self._core.host.send(peer_id, reply)
            return
        if self._core.leading is not None and message.term == self._core.engine.term:
            _log.critical(
                "append_refused", extra={"fields": {"peer": peer_id, "why": "this node leads that term"}}
            )
            return
        if self._core.blank:
            self._join(message.commit)
        verdict = self.check(self._core.log, message, self._core.engine.commit)
        if isinstance(verdict, Malformed):
            _log.critical("append_refused", extra={"fields": {"peer": peer_id, "why": verdict.why}})
            return
        self._core.elections.heard_leader()
        if isinstance(verdict, Rejected):
            self._core.engine.feed_append(peer_id, message.term, self._core.log.last, (), 0)
            self._promise_reply(peer_id, message.round, success=False, index=verdict.retry_from)
            return
        self._append(peer_id, message.term, verdict)
        self._promise_reply(peer_id, message.round, success=True, index=verdict.verified)

    def _append(self, peer_id: str, term: int, accepted: Accepted) -> None:
        changed = bool(accepted.entries) and self._core.membership.truncated(accepted.prev[0] + 1)
        self._core.engine.feed_append(peer_id, term, accepted.prev, accepted.entries, accepted.commit)
        for entry in accepted.entries:
            if entry.kind == MEMBERS:
                self._core.membership.appended(entry.index, decode_members(entry.payload))
                changed = True
        if changed:
            self._core.members_changed()

    def _promise_reply(self, peer_id: str, round_: int, *, success: bool, index: int) -> None:
        """Acknowledge: at once if nothing new is promised, as a heartbeat must not wait for a slow disk."""
        reply = AppendReply(self._core.engine.term, round_, success=success, index=index)
        if self._core.promises.ballot_pending or (success and index > self._core.log.durable):
            self._core.promises.hold(peer_id, reply)
        else:
            self._core.host.send(peer_id, reply)

    def on_snapshot_piece(self, peer_id: str, piece: SnapshotPiece) -> None:
        if piece.term < self._core.engine.term:
            refused = SnapshotReply(self._core.engine.term, piece.snapshot_id, piece.offset, "refused")
            self._core.host.send(peer_id, refused)
            return
        if self._core.blank:
            self._join(piece.index - 1)
        self._core.elections.heard_leader()
        self._core.engine.feed_append(peer_id, piece.term, self._core.log.last, (), 0)
        if piece.index > self._core.applied:
            wanted = self._incoming.take(piece)
            if not self._incoming.complete(piece):
                self._core.host.send(
                    peer_id, SnapshotReply(self._core.engine.term, piece.snapshot_id, wanted, "more")
                )
                return
            self._install(SnapshotMeta(piece.index, piece.index_term, ()))
        self._core.promises.hold(
            peer_id, SnapshotReply(self._core.engine.term, piece.snapshot_id, piece.total_bytes, "installed")
        )

    def _install(self, meta: SnapshotMeta) -> None:
        """Replace state and log; the state first, so that a crash in between finds it newer than the log."""
        assert meta.index > self._core.commit or meta.index > self._core.applied
        self._core.state.install(self._incoming.path, meta)
        assert self._core.applied == meta.index
        if self._core.log.term_at(meta.index) != meta.term:
            self._core.log.reset(meta.index, meta.term)
        self._core.engine.installed(meta.index)
        self._core.membership = self._core.open_membership()
        self._core.members_changed()
