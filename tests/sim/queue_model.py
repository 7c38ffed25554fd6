"""Queues in plain Python: what the promises say, message by message, with nothing of the implementation."""

from dataclasses import dataclass, field

from node.state.results import Acked, Done, Published, Purged, Refused, Result
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


@dataclass(slots=True)
class ModelChunk:
    first: int
    count: int
    size: int
    live: set[int]

    def bytes(self) -> int:
        return self.size * len(self.live) // self.count


@dataclass(slots=True)
class ModelQueue:
    """Invariant: chunks are in the order of their sequences and none is empty."""

    max_messages: int
    max_bytes: int
    drop_oldest: bool
    chunks: list[ModelChunk] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)
    next_sequence: int = 1
    watermark: int = 0

    def live(self) -> list[int]:
        return [sequence for chunk in self.chunks for sequence in sorted(chunk.live)]

    def bytes(self) -> int:
        return sum(chunk.bytes() for chunk in self.chunks)

    def fits(self, count: int, size: int) -> bool:
        messages_fit = not self.max_messages or len(self.live()) + count <= self.max_messages
        return messages_fit and (not self.max_bytes or self.bytes() + size <= self.max_bytes)

    def remove(self, sequences: set[int]) -> int:
        before = len(self.live())
        for chunk in self.chunks:
            chunk.live -= sequences
        self.chunks = [chunk for chunk in self.chunks if chunk.live]
        return before - len(self.live())


@dataclass(slots=True)
class Model:
    queues: dict[str, ModelQueue] = field(default_factory=dict)

    def apply(self, command: command_pb2.Command) -> Result | None:
        """What the command answers; None where the model does not know the details."""
        match command.WhichOneof("kind"):
            case "create_queue":
                self._create(command.create_queue.queue)
                return None
            case "delete_queue":
                self.queues.pop(command.delete_queue.name, None)
                return None
            case "purge_queue":
                queue = self.queues.get(command.purge_queue.name)
                return None if queue is None else Purged(queue.remove(set(queue.live())))
            case "publish":
                return self._publish(command.publish)
            case "ack":
                queue = self.queues.get(command.ack.queue)
                asked = {s for r in command.ack.ranges for s in range(r.first, min(r.last, 10_000) + 1)}
                return None if queue is None else Acked(queue.remove(asked))
            case "delivered":
                return self._delivered(command.delivered)
        raise AssertionError(command)

    def _create(self, queue: queue_pb2.Queue) -> None:
        if queue.name not in self.queues:
            drop = queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
            self.queues[queue.name] = ModelQueue(queue.max_messages, queue.max_bytes, drop)

    def _publish(self, command: command_pb2.Publish) -> Result | None:
        queue = self.queues.get(command.queue)
        if queue is None:
            return None
        count, size = command.count, len(command.chunk)
        empty = ModelQueue(queue.max_messages, queue.max_bytes, drop_oldest=False)
        if not queue.fits(count, size) and not (queue.drop_oldest and empty.fits(count, size)):
            return None
        dropped = 0
        while not queue.fits(count, size):
            dropped += queue.remove({queue.live()[0]})
        first = queue.next_sequence
        queue.chunks.append(ModelChunk(first, count, size, set(range(first, first + count))))
        queue.next_sequence += count
        return Published(first, count, dropped=dropped)

    def _delivered(self, command: command_pb2.Delivered) -> Result | None:
        queue = self.queues.get(command.queue)
        if queue is None:
            return None
        for again in command.redelivered:
            asked = range(again.range.first, again.range.last + 1)
            queue.attempts.update((sequence, again.attempt) for sequence in queue.live() if sequence in asked)
        queue.watermark = max(queue.watermark, min(command.watermark, queue.next_sequence - 1))
        return Done()


def same_answer(expected: Result | None, answered: Result) -> bool:
    """True if the machine answered what the model expects; where that is unknown, all but a fault will do."""
    if expected is not None:
        return expected == answered
    return not (isinstance(answered, Refused) and answered.reason == "INTERNAL")
