"""What to send next, and what an answer means: the producer's half of exactly once, without I/O.

Messages become frames, frames are numbered (producer_sequence), so that the broker stores none twice:
- A frame without an answer keeps its number and is sent again, in order, on the next stream.
- A frame that was refused used no number. Those behind it are answered SEQUENCE_GAP, which says that they were not
  stored: when nothing is unanswered any more, they are sent again with the numbers that are due.
- Until the broker has stored a first frame of this producer it takes any number for the first one. One frame at a
  time is sent until then.
- A frame that failed for another reason may have used its number: a new producer goes on after it.
- A frame whose time is over has an unknown outcome and needs its number for ever: all that is unanswered fails, and
  a new producer goes on.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING

from taskraft import _failures, _limits, _wire, errors
from taskraft._retry import is_transient
from taskraft._values import Receipt

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from taskraft.v1 import queue_pb2

_REFUSALS = (errors.InvalidArgument, errors.ResourceExhausted, errors.QueueNotFound, errors.Unroutable)


class Piece:
    """What one caller handed over: stored wholly or not at all. `timed`: some of it may be delayed."""

    __slots__ = ("count", "deadline_s", "done", "timed", "wire")

    def __init__(
        self,
        wire: bytes,
        count: int,
        done: asyncio.Future[Receipt],
        deadline_s: float,
        timed: bool = False,
    ) -> None:
        self.wire = wire
        self.count = count
        self.done = done
        self.deadline_s = deadline_s
        self.timed = timed


class _Split:
    """Shared by the frames that were one frame until that was refused."""

    __slots__ = ("refused",)

    def __init__(self) -> None:
        self.refused: errors.TaskraftError | None = None


class _Frame:
    """Pieces that travel together. `sequence` is 0 while it has no number; `order` sorts it among others."""

    __slots__ = ("order", "pieces", "sequence", "split")

    def __init__(self, pieces: list[Piece], order: tuple[int, ...], split: _Split | None = None) -> None:
        assert pieces
        self.pieces = pieces
        self.order = order
        self.split = split or _Split()
        self.sequence = 0

    def halves(self) -> list[_Frame]:
        middle = len(self.pieces) // 2
        return [
            _Frame(self.pieces[:middle], (*self.order, 0), self.split),
            _Frame(self.pieces[middle:], (*self.order, 1), self.split),
        ]


class Producer:
    """The frames of the publisher of one queue or topic. Times are seconds of the caller's clock.

    Invariant: the numbers of `_in_flight` and then `_unanswered` ascend; frames in `_again` have no number and are
    sent after those that have one.
    """

    def __init__(self, target: str, window: int, *, allow_unroutable: bool = False) -> None:
        """`target` is `queues/{queue}` or `topics/{topic}`."""
        assert window > 0
        self._target = target
        self._allow_unroutable = allow_unroutable
        self._window = window
        self._buffer: deque[Piece] = deque()
        self._again: list[_Frame] = []
        self._unanswered: deque[_Frame] = deque()
        self._in_flight: deque[_Frame] = deque()
        self._orders = 0
        self._refused = False
        self._renew = False
        self.bytes = 0
        self.deadline_s = float("inf")
        self._stored_at_s = 0.0
        self._begin()

    def _begin(self) -> None:
        """Be a new producer."""
        assert not self._in_flight
        assert not self._unanswered
        self._head = _wire.publish_head(
            self._target, uuid.uuid4().hex, allow_unroutable=self._allow_unroutable
        )
        self._stored = 0
        self._refused = self._renew = False

    @property
    def idle(self) -> bool:
        return not (self._buffer or self._again or self._unanswered or self._in_flight)

    @property
    def waits_for_answer(self) -> bool:
        return bool(self._in_flight)

    def put(self, piece: Piece) -> None:
        self._buffer.append(piece)
        self.bytes += len(piece.wire)
        self.deadline_s = min(self.deadline_s, piece.deadline_s)

    def next_frame(self, now_s: float) -> bytes | None:
        """The next request to write, if one may be written now."""
        if len(self._in_flight) >= (self._window if self._stored else 1):
            return None
        if self._unanswered:
            frame = self._unanswered.popleft()
        else:
            if self._refused and self._in_flight:
                return None
            if self._renew or (now_s - self._stored_at_s > _limits.PRODUCER_IDLE_S and not self._in_flight):
                self._begin()
            fresh = self._next_again() or self._gather()
            if fresh is None:
                return None
            frame = fresh
            frame.sequence = (self._in_flight[-1].sequence if self._in_flight else self._stored) + 1
        self._in_flight.append(frame)
        return _wire.publish_frame(self._head, frame.sequence, [piece.wire for piece in frame.pieces])

    def _next_again(self) -> _Frame | None:
        while self._again:
            frame = self._again.pop(0)
            if frame.split.refused is None:
                return frame
            self._fail(frame.pieces, frame.split.refused)
        return None

    def _gather(self) -> _Frame | None:
        """All that is in the buffer, up to the limits of a frame. What may be delayed travels apart: it has no sequence."""
        pieces: list[Piece] = []
        size = count = 0
        timed = False
        while self._buffer:
            piece = self._buffer[0]
            if piece.done.done():  # the caller has given up
                self.bytes -= len(self._buffer.popleft().wire)
                continue
            size += len(piece.wire)
            count += piece.count
            if not pieces:
                timed = piece.timed
            elif (
                size > _limits.FRAME_BYTES_SOFT
                or count > _limits.FRAME_MESSAGES_MAX
                or piece.timed is not timed
            ):
                break
            pieces.append(self._buffer.popleft())
        if not pieces:
            return None
        self._orders += 1
        return _Frame(pieces, (self._orders,))

    def answered(self, answer: queue_pb2.PublishStreamResponse, now_s: float) -> None:
        """Settle the oldest frame. Raises what makes this stream useless: the frame is sent again on the next one."""
        if not self._in_flight or answer.producer_sequence != self._in_flight[0].sequence:
            raise errors.InternalError(f"the broker answered batch {answer.producer_sequence} out of order")
        if not answer.HasField("failure"):
            self._store(self._in_flight.popleft(), answer, now_s)
        else:
            error = _failures.from_failure(answer.failure)
            if is_transient(error):
                raise error
            self._refuse(self._in_flight.popleft(), error)
        if not self._in_flight and not self._unanswered:
            self._refused = False

    def _store(self, frame: _Frame, answer: queue_pb2.PublishStreamResponse, now_s: float) -> None:
        self._stored, self._stored_at_s = frame.sequence, now_s
        if answer.duplicate and answer.count != sum(piece.count for piece in frame.pieces):
            stored = f"batch {frame.sequence} was stored before; the broker does not remember where"
            self._fail(frame.pieces, errors.CommitUnknown(stored))
            return
        if answer.delayed or not answer.first_sequence:
            self._store_elsewhere(frame, answer)
            return
        sequence, duplicate = answer.first_sequence, answer.duplicate
        for piece in frame.pieces:
            self.bytes -= len(piece.wire)
            if not piece.done.done():
                piece.done.set_result(Receipt(sequence, piece.count, duplicate))
            sequence += piece.count

    def _store_elsewhere(self, frame: _Frame, answer: queue_pb2.PublishStreamResponse) -> None:
        """Settle what went to a topic or is delayed. Of several pieces of which a part is delayed, nobody knows which."""
        alone = len(frame.pieces) == 1
        for piece in frame.pieces:
            self.bytes -= len(piece.wire)
            if not piece.done.done():
                receipt = Receipt(
                    answer.first_sequence if alone else 0,
                    piece.count,
                    answer.duplicate,
                    delayed=answer.delayed if alone else piece.count if answer.delayed == answer.count else 0,
                    queues=answer.queues,
                )
                piece.done.set_result(receipt)

    def _refuse(self, frame: _Frame, error: errors.TaskraftError) -> None:
        """The broker did not store a frame, or, if `error` is not one of a refusal, may have."""
        if isinstance(error, errors.SequenceGap):
            self._renew = self._renew or not self._refused
            frame.sequence = 0
            self._again.append(frame)
        elif len(frame.pieces) > 1 and isinstance(error, errors.InvalidArgument | errors.QueueFull):
            self._again += frame.halves()  # find the guilty one, or what fits
        else:
            self._renew = self._renew or not isinstance(error, _REFUSALS)
            if isinstance(error, errors.QueueFull):
                frame.split.refused = error
            self._fail(frame.pieces, error)
        self._refused = True
        self._again.sort(key=lambda one: one.order)

    def disconnected(self) -> None:
        """The stream is gone: all that it did not answer is sent again."""
        self._unanswered.extendleft(reversed(self._in_flight))
        self._in_flight.clear()

    def expire(self, now_s: float, reason: errors.TaskraftError) -> bool:
        """Fail what has no time left; what was never sent fails with `reason`.

        Returns True if numbered frames were given up: the stream must be closed then.
        """
        numbered = [*self._in_flight, *self._unanswered]
        given_up = any(piece.deadline_s <= now_s for frame in numbered for piece in frame.pieces)
        if given_up:
            self._in_flight.clear()
            self._unanswered.clear()
            for frame in numbered:
                self._fail(frame.pieces, errors.DeadlineExceeded("the broker did not answer in time"))
            self._begin()
        self._buffer = deque(self._in_time(self._buffer, now_s, reason))
        for frame in self._again:
            frame.pieces = list(self._in_time(frame.pieces, now_s, reason))
        self._again = [frame for frame in self._again if frame.pieces]
        self.deadline_s = min((piece.deadline_s for piece in self._pieces()), default=float("inf"))
        return given_up

    def _in_time(
        self, pieces: deque[Piece] | list[Piece], now_s: float, reason: errors.TaskraftError
    ) -> Iterator[Piece]:
        for piece in pieces:
            if piece.deadline_s > now_s:
                yield piece
            else:
                self._fail([piece], reason)

    def _pieces(self) -> Iterator[Piece]:
        yield from self._buffer
        for frame in (*self._again, *self._unanswered, *self._in_flight):
            yield from frame.pieces

    def fail_all(self, error: errors.TaskraftError) -> None:
        pieces = list(self._pieces())
        self._buffer.clear()
        self._again.clear()
        self._unanswered.clear()
        self._in_flight.clear()
        self._fail(pieces, error)
        self._begin()

    def _fail(self, pieces: list[Piece], error: errors.TaskraftError) -> None:
        for piece in pieces:
            self.bytes -= len(piece.wire)
            if not piece.done.done():
                piece.done.set_exception(_failures.copy(error))
