"""Peek: messages are looked at where they are."""

from __future__ import annotations

from typing import Protocol

from node import limits
from node.api import browsing, validate
from node.api.queues import Queues, holds_messages
from node.dispatch.spans import Spans
from node.errors import InvalidField, OutOfRange, QueueNotFound
from node.state.rows import ChunkRow, QueueRow, timestamp
from taskraft.v1 import queue_pb2


class State(browsing.Backlog, Protocol):
    """The part of the state machine that Peek reads."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def attempts(self, queue_id: int, first: int, last: int) -> dict[int, int]:
        """Deliveries of the messages of a range that were delivered more than once."""
        ...

    def first_since(self, queue_id: int, time_ms: int) -> int:
        """The first sequence that came into the queue then or later; the next one if there is none."""
        ...


class Peeking:
    """QueueService's Peek."""

    def __init__(self, queues: Queues, state: State) -> None:
        self._queues, self._state = queues, state

    async def Peek(self, data: bytes) -> bytes:
        request = queue_pb2.PeekRequest.FromString(data)
        name = validate.queue_name(request.queue, "queue")
        if request.max_messages < 0:
            raise InvalidField("max_messages", "0 or more")
        wanted = min(request.max_messages or limits.PEEK_MESSAGES_DEFAULT, limits.PEEK_MESSAGES_MAX)
        chosen = browsing.Filter(
            validate.message_key(request.key, "key"), validate.headers(request.headers, "headers")
        )
        await self._queues.read_barrier()
        queue = self._state.queue(name)
        if queue is None:
            raise QueueNotFound(f"there is no queue {name}", queue=name)
        holds_messages(queue)
        look = Look(self._state, queue, self._leased(queue), wanted, chosen)
        look.through(self._first(queue, request.position))
        return look.response.SerializeToString()

    def _first(self, queue: QueueRow, position: queue_pb2.Position) -> int:
        """The sequence to begin with. Raises InvalidField, OutOfRange."""
        match position.WhichOneof("position"):
            case "sequence" if position.sequence > queue.next_sequence:
                message = (
                    f"{queue.name} has no message {position.sequence}: the next one is {queue.next_sequence}"
                )
                raise OutOfRange(message, queue=queue.name, next_sequence=queue.next_sequence)
            case "sequence":
                return max(1, position.sequence)
            case "time":
                time_ms = validate.timestamp_ms(position.time, "position.time")
                return self._state.first_since(queue.id, time_ms)
            case "end":
                raise InvalidField("position.end", "unset: there is nothing to see")
        return 1

    def _leased(self, queue: QueueRow) -> Spans[None]:
        """What somebody has."""
        found: Spans[None] = Spans()
        if dispatched := self._queues.dispatcher.known(queue.id):
            for first, last in dispatched.ledger.spared():
                found.add(first, last, None)
        return found


class Look:
    """One Peek: goes through a queue until it has enough, or has looked at enough."""

    def __init__(
        self, state: State, queue: QueueRow, leased: Spans[None], wanted: int, chosen: browsing.Filter
    ) -> None:
        self.response = queue_pb2.PeekResponse()
        self._state, self._queue, self._leased = state, queue, leased
        self._wanted, self._chosen = wanted, chosen
        self._watermarks = {0: queue.watermark} | state.priorities(queue.id)
        self._size = 0
        self._looked = 0
        self._contents = browsing.Contents(state)

    def through(self, first: int) -> None:
        """Fill the response with what there is from `first` on."""
        while first:
            page = browsing.page(self._state, self._queue, first)
            for placed in page.chunks:
                stopped_at = self._chunk(placed, first, page.end)
                if stopped_at:
                    self.response.next_sequence = stopped_at
                    return
            first = page.end

    def _chunk(self, placed: browsing.Placed, first: int, end: int) -> int:
        """Look at the messages of a chunk; returns the one that it stopped before, 0 if it did not."""
        row = placed.row
        attempts: dict[int, int] | None = None
        for low, high in browsing.runs(row, first, end):
            for sequence in range(low, high + 1):
                if self._spent():
                    return sequence
                self._looked += 1
                message = self._contents.message(row, sequence)
                if not self._chosen.takes(message):
                    continue
                if attempts is None:
                    attempts = self._attempts(row)
                if not self._show(placed, sequence, message, attempts):
                    return sequence
        return 0

    def _spent(self) -> bool:
        """True if the answer has all that was asked for, or enough was looked at."""
        return (
            len(self.response.messages) >= self._wanted
            or self._looked >= limits.PEEK_LOOKED_MAX
            or self._contents.read_bytes >= limits.PEEK_READ_BYTES_MAX
        )

    def _attempts(self, row: ChunkRow) -> dict[int, int]:
        return self._state.attempts(self._queue.id, row.first_sequence, row.last_sequence)

    def _show(
        self,
        placed: browsing.Placed,
        sequence: int,
        message: queue_pb2.Message,
        attempts: dict[int, int],
    ) -> bool:
        """Put a message into the answer; False if it has no room."""
        row = placed.row
        shown = queue_pb2.PeekedMessage(
            sequence=sequence,
            message=message,
            publish_time=timestamp(row.time_ms),
            dead_letter=browsing.dead_letter(row, sequence),
        )
        self._size += shown.ByteSize()
        if self._size > limits.PAGE_BYTES_MAX and self.response.messages:
            return False
        if self._queue.config.kind != queue_pb2.QUEUE_KIND_STREAM:
            shown.leased = bool(self._leased.within(sequence, sequence))
            delivered = shown.leased or sequence <= self._watermarks.get(placed.priority, 0)
            shown.attempts = attempts.get(sequence, int(delivered))
        self.response.messages.append(shown)
        return True
