"""Redrive: dead letters go back to where they came from, or somewhere else.

The leader looks for what is meant and takes it out of delivery, then one command moves it. What somebody has stays, and what
comes from a queue that is gone. If the command does not move what was taken, because it is a retry, it can be delivered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from node import commands, limits
from node.api import browsing, validate
from node.api.queues import Queues, holds_messages
from node.dispatch.ledger import Range
from node.dispatch.queue import QueueDispatch
from node.dispatch.spans import merged
from node.errors import InvalidField, WrongQueueKind
from node.state.results import Moved, Success
from node.state.rows import QueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class State(browsing.Backlog, Protocol):
    """The part of the state machine that Redrive reads."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...


class Redriving:
    """QueueService's Redrive."""

    def __init__(self, queues: Queues, state: State) -> None:
        self._queues, self._state = queues, state

    async def Redrive(self, data: bytes) -> bytes:
        request = queue_pb2.RedriveRequest.FromString(data)
        name, chosen, wanted = _checked(request)
        await self._queues.read_barrier()
        row = await self._queues.row(name)
        if row.config.kind != queue_pb2.QUEUE_KIND_MESSAGE:
            raise WrongQueueKind(f"{name} is not of kind MESSAGE", queue=name)
        if request.target:
            holds_messages(await self._queues.row(request.target))
        queue = await self._queues.dispatched(name)
        await asyncio.sleep(
            queue.grace_ms / 1000
        )  # consumers of the last leader come back for what they have
        search = Search(self._state, queue, bool(request.target), wanted, chosen)
        try:
            await search.through(max(1, request.first_sequence))
            submitted = self._submit(request, queue, search)
        except BaseException:
            queue.restore(search.reserved)
            raise
        # What is on its way is settled also if nobody waits for it.
        submitted.add_done_callback(lambda _: queue.restore(search.reserved))
        moved = await asyncio.shield(submitted)
        assert isinstance(moved, Moved)
        return queue_pb2.RedriveResponse(
            moved_messages=moved.count, next_sequence=moved.next_sequence
        ).SerializeToString()

    def _submit(
        self, request: queue_pb2.RedriveRequest, queue: QueueDispatch, search: Search
    ) -> asyncio.Future[Success]:
        """Commit what was found, also if that is nothing: a retry is told what the command says, and where to go on."""
        command = command_pb2.MoveMessages(
            queue=queue.row.name,
            queue_uid=queue.row.uid,
            target=request.target,
            messages=[
                command_pb2.MovedMessages(range=queue_pb2.SequenceRange(first=first, last=last))
                for first, last in merged(search.reserved)
            ],
            next_sequence=search.next_sequence,
        )
        return self._queues.broker.submit(
            commands.plain(command_pb2.Command(request_id=request.request_id, move_messages=command))
        )


def _checked(request: queue_pb2.RedriveRequest) -> tuple[str, browsing.Filter, int]:
    """The queue, what is meant, and how many of it at most. Raises InvalidField."""
    name = validate.queue_name(request.queue, "queue")
    if request.target and validate.queue_name(request.target, "target") == name:
        raise InvalidField("target", "another queue")
    if request.max_messages > limits.REDRIVE_MESSAGES_MAX:
        raise InvalidField("max_messages", f"at most {limits.REDRIVE_MESSAGES_MAX}")
    if request.first_sequence > limits.SEQUENCE_MAX:
        raise InvalidField("first_sequence", f"at most {limits.SEQUENCE_MAX}")
    if request.reason not in queue_pb2.DeadLetterReason.values():
        raise InvalidField("reason", "a known reason")
    if request.source:
        validate.queue_name(request.source, "source")
    validate.request_id(request.request_id)
    chosen = browsing.Filter(
        validate.message_key(request.key, "key"),
        validate.headers(request.headers, "headers"),
        request.reason,
        request.source,
    )
    return name, chosen, request.max_messages or limits.REDRIVE_MESSAGES_DEFAULT


@dataclass(slots=True)
class Search:
    """Looks for dead letters, page by page; in between others go on. What it finds and nobody has is `reserved`."""

    state: State
    queue: QueueDispatch
    elsewhere: bool
    """True: all go to one queue."""
    wanted: int
    chosen: browsing.Filter
    reserved: list[Range] = field(default_factory=list)
    next_sequence: int = 0
    """Where another search goes on; 0: everything was looked at."""
    count: int = 0
    looked: int = 0
    contents: browsing.Contents = field(init=False)

    def __post_init__(self) -> None:
        self.contents = browsing.Contents(self.state)

    async def through(self, first: int) -> None:
        """Look at what there is from `first` on, until there is enough or enough was looked at."""
        while first:
            page = browsing.page(self.state, self.queue.row, first)
            for placed in page.chunks:
                if stopped_at := self._chunk(placed, first, page.end):
                    self.next_sequence = stopped_at
                    return
                first = placed.row.last_sequence + 1
                if self.chosen.looks_inside:
                    await asyncio.sleep(0)
            first = page.end
            await asyncio.sleep(0)

    def _chunk(self, placed: browsing.Placed, first: int, end: int) -> int:
        """Reserve what is meant of a chunk; returns the message that it stopped before, 0 if it did not."""
        row = placed.row
        read_bytes = self.contents.read_bytes
        if self.looked >= limits.REDRIVE_LOOKED_MAX or read_bytes >= limits.REDRIVE_READ_BYTES_MAX:
            return max(first, row.first_sequence)
        self.looked += row.live
        letter = browsing.dead_letter(row, row.first_sequence)
        if letter is None or not self.chosen.takes_letter(letter) or not self._can_go(letter):
            return 0
        for low, high in merged(self._matching(placed, first, end)):
            room = self.wanted - self.count
            if room <= 0:
                return low
            found = self.queue.reserve([(low, min(high, low + room - 1))])
            self.reserved += found
            self.count += sum(last - first + 1 for first, last in found)
            if high >= low + room:
                return low + room
        return 0

    def _can_go(self, letter: queue_pb2.DeadLetter) -> bool:
        """True unless it is to go to where it comes from, and that is gone."""
        return self.elsewhere or self.state.queue(letter.source) is not None

    def _matching(self, placed: browsing.Placed, first: int, end: int) -> list[Range]:
        """The live messages of a chunk that are meant."""
        found = list(browsing.runs(placed.row, first, end))
        if not self.chosen.looks_inside:
            return found
        return [
            (sequence, sequence)
            for low, high in found
            for sequence in range(low, high + 1)
            if self.chosen.takes(self.contents.message(placed.row, sequence))
        ]
