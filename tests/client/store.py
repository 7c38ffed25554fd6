"""What the brokers of the tests have on disk: queues, leases, producers, request ids."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
        super().__init__(reason)
        self.failure = queue_pb2.Failure(
            code=code.value[0], reason=reason, message=f"refused: {reason}", metadata=metadata
        )


@dataclass
class QueueState:
    queue: queue_pb2.Queue
    next_sequence: int = 1
    messages: dict[int, queue_pb2.Message] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    ready: list[int] = field(default_factory=list)
    leased: dict[int, str] = field(default_factory=dict)
    rejected: list[int] = field(default_factory=list)  # sent to the dead letters
    orphans: set[int] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def publish(self, messages: Iterable[queue_pb2.Message]) -> tuple[int, int]:
        new, first = list(messages), self.next_sequence
        if any(len(message.body) > self.queue.max_message_bytes for message in new):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE", field="messages")
        if 0 < self.queue.max_messages < len(self.messages) + len(new):
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        sequences = range(first, first + len(new))
        self.messages.update(zip(sequences, new, strict=True))
        self.ready.extend(sequences)  # ascending and above all others: still a heap
        self.next_sequence += len(new)
        self.wake()
        return first, len(new)

    def lease(self, holder: str, limit: int) -> list[queue_pb2.Delivery]:
        taken: list[int] = []
        while self.ready and len(taken) < limit and not self.queue.paused:
            sequence = heapq.heappop(self.ready)
            if sequence in self.messages and sequence not in self.leased:
                taken.append(sequence)
                self.leased[sequence] = holder
                self.attempts[sequence] = self.attempts.get(sequence, 0) + 1
        out: list[queue_pb2.Delivery] = []
        last, attempt = -1, 0
        for sequence in taken:
            if sequence != last + 1 or self.attempts[sequence] != attempt or len(out[-1].messages) >= 1_000:
                attempt = self.attempts[sequence]
                out.append(queue_pb2.Delivery(first_sequence=sequence, attempt=attempt))
                out[-1].publish_time.GetCurrentTime()
            out[-1].messages.append(self.messages[sequence])
            last = sequence
        return out

    def peek(self, request: queue_pb2.PeekRequest) -> queue_pb2.PeekResponse:
        """As many messages as are asked for, from a sequence on; the filter is the real broker's business."""
        response = queue_pb2.PeekResponse()
        for sequence in sorted(self.messages):
            if sequence < request.position.sequence:
                continue
            if len(response.messages) == request.max_messages:
                response.next_sequence = sequence
                break
            response.messages.add(
                sequence=sequence,
                message=self.messages[sequence],
                attempts=self.attempts.get(sequence, 0),
                leased=sequence in self.leased,
            )
        return response

    def give_back(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self.leased.pop(sequence, None)
            if sequence in self.messages:
                heapq.heappush(self.ready, sequence)
        self.wake()

    def release(self, holder: str) -> None:
        self.give_back([sequence for sequence, owner in self.leased.items() if owner == holder])

    def claim(self, holder: str, ranges: Iterable[queue_pb2.SequenceRange]) -> list[queue_pb2.SequenceRange]:
        mine = []
        for sequence in sequences_of(ranges):
            if sequence in self.messages and self.leased.get(sequence) in (None, ""):
                self.leased[sequence] = holder
                mine.append(sequence)
        return ranges_of(mine)

    def settle(
        self,
        holder: str,
        ranges: Iterable[queue_pb2.SequenceRange],
        *,
        gone: bool,
        dead_letter: bool = False,
    ) -> tuple[list[queue_pb2.SequenceRange], list[queue_pb2.SequenceRange]]:
        """Remove or give back what `holder` has: (done, not leased by it)."""
        done: list[int] = []
        lost: list[int] = []
        for sequence in sequences_of(ranges):
            (done if self.leased.get(sequence) == holder else lost).append(sequence)
        if dead_letter:
            self.rejected += done
        if gone or dead_letter:
            for sequence in done:
                del self.messages[sequence], self.leased[sequence]
        else:
            self.give_back(done)
        return ranges_of(done), ranges_of(lost)


def sequences_of(ranges: Iterable[queue_pb2.SequenceRange]) -> Iterable[int]:
    for one in ranges:
        yield from range(one.first, one.last + 1)


def ranges_of(sequences: Iterable[int]) -> list[queue_pb2.SequenceRange]:
    out: list[queue_pb2.SequenceRange] = []
    for sequence in sequences:
        if out and out[-1].last + 1 == sequence:
            out[-1].last = sequence
        else:
            out.append(queue_pb2.SequenceRange(first=sequence, last=sequence))
    return out


class Store:
    """What a majority has on disk."""

    def __init__(self) -> None:
        self.queues: dict[str, QueueState] = {}
        self.requests: dict[str, Any] = {}
        self.producers: dict[str, tuple[int, dict[int, tuple[int, int]]]] = {}

    def queue(self, name: str) -> QueueState:
        if name not in self.queues:
            raise Refused(grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND", queue=name)
        return self.queues[name]

    def once(self, request_id: str, do: Callable[[], Any]) -> Any:
        if request_id in self.requests:
            return self.requests[request_id]
        result = do()
        if request_id:
            self.requests[request_id] = result
        return result

    def redrive(self, request: queue_pb2.RedriveRequest) -> queue_pb2.RedriveResponse:
        """As many messages as are asked for go to the target; what it filters by is the real broker's business."""
        source, target = self.queue(request.queue), self.queue(request.target)
        there = [sequence for sequence in sorted(source.messages) if sequence >= request.first_sequence]
        going, staying = there[: request.max_messages], there[request.max_messages :]
        target.publish([source.messages.pop(sequence) for sequence in going])
        return queue_pb2.RedriveResponse(
            moved_messages=len(going), next_sequence=staying[0] if staying else 0
        )

    def publish(self, request: queue_pb2.PublishStreamRequest) -> queue_pb2.PublishStreamResponse:
        number = request.producer_sequence
        last, results = self.producers.get(request.producer_id, (number - 1, {}))
        if number > last + 1:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_GAP")
        duplicate = number <= last
        if not duplicate:
            results[number] = self.queue(request.queue).publish(request.messages)
            self.producers[request.producer_id] = (number, results)
        first, count = results.get(number, (0, 0))
        return queue_pb2.PublishStreamResponse(
            producer_sequence=number, first_sequence=first, count=count, duplicate=duplicate
        )
