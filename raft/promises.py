"""Nothing that promises durability leaves before it is durable.

Writes are numbered: what is appended or voted now is on disk when the write that takes it is done. A message that
tells of it waits for that number. One write is under way at a time; what gathers meanwhile goes with the next one
(group commit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raft.ballot import Ballot
from raft.frames import Message
from raft.segments import Log

if TYPE_CHECKING:
    from raft.ballot import Batch as BallotBatch
    from raft.segments import Batch as LogBatch


@dataclass(frozen=True, slots=True)
class Write:
    """What one write puts on disk. `run` may be called in another thread; it raises OSError and is never retried."""

    number: int
    log: Log
    ballot: Ballot
    log_batch: LogBatch | None
    ballot_batch: BallotBatch | None

    def run(self) -> None:
        if self.ballot_batch is not None:
            self.ballot.write(self.ballot_batch)
        if self.log_batch is not None:
            self.log.write(self.log_batch)


class Promises:
    """Messages that wait for the disk. Invariant: they leave in the order in which they were given."""

    def __init__(self, log: Log, ballot: Ballot, send: Callable[[str, Message], object]) -> None:
        self._log = log
        self._ballot = ballot
        self._send = send
        self._taken = 0
        self._under_way: Write | None = None
        self._held: deque[tuple[int, str, Message]] = deque()

    @property
    def dirty(self) -> bool:
        return self._log.dirty or self._ballot.dirty

    @property
    def busy(self) -> bool:
        """Something is being written, or waits to be."""
        return self.dirty or self._under_way is not None

    @property
    def ballot_pending(self) -> bool:
        """A term or a vote is not on disk yet."""
        return self._ballot.dirty or (
            self._under_way is not None and self._under_way.ballot_batch is not None
        )

    def hold(self, peer_id: str, message: Message) -> None:
        """Send `message` when all that is now in the log and on the ballot is on disk."""
        if self.dirty:
            self._held.append((self._taken + 1, peer_id, message))
        elif self._under_way is not None:
            self._held.append((self._taken, peer_id, message))
        else:
            self._send(peer_id, message)

    def take(self) -> Write | None:
        """The next write, or None while there is nothing to write or one is under way."""
        if self._under_way is not None or not self.dirty:
            return None
        self._taken += 1
        self._under_way = Write(self._taken, self._log, self._ballot, self._log.take(), self._ballot.take())
        return self._under_way

    def written(self, write: Write, term: int) -> None:
        """`write` is done: what waited for it leaves, unless it speaks for a term that is over."""
        assert write is self._under_way
        self._under_way = None
        if write.ballot_batch is not None:
            self._ballot.written(write.ballot_batch)
        if write.log_batch is not None:
            self._log.written(write.log_batch)
        while self._held and self._held[0][0] <= write.number:
            _, peer_id, message = self._held.popleft()
            if getattr(message, "term", term) == term:
                self._send(peer_id, message)
