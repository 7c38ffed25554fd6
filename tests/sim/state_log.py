"""A log of commands in memory, and the machines that follow it: what tests of the state stand on."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from node.state.machine import Machine
from node.state.results import Published, Result
from node.state.rows import ChunkRow
from raft.records import SegmentInfo
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

TERM = 7


@dataclass(slots=True)
class ManualClock:
    ms: int = 0

    def now_ms(self) -> int:
        return self.ms


@dataclass(slots=True)
class MemoryLog:
    """Entries by index; what is released is gone."""

    entries: dict[int, bytes] = field(default_factory=dict)
    last: int = 1
    time_ms: int = 1_000_000
    released: int = 0

    def append(self, *commands: command_pb2.Command, time_ms: int | None = None) -> int:
        """One entry with these commands; its index."""
        self.last += 1
        self.time_ms = self.time_ms + 10 if time_ms is None else time_ms
        batch = command_pb2.Batch(time_ms=self.time_ms, commands=commands)
        self.entries[self.last] = batch.SerializeToString()
        return self.last

    def body(self, index: int) -> bytes:
        if index <= self.released:
            raise KeyError(index)
        return self.entries[index]

    def release(self, index: int) -> None:
        self.released = max(self.released, index)

    def segments(self, entries_each: int) -> list[SegmentInfo]:
        """The log in segments of so many entries, the last one still growing."""
        found = []
        for first in range(2, self.last + 1, entries_each):
            last = min(first + entries_each - 1, self.last)
            size = sum(len(self.entries[index]) for index in range(first, last + 1))
            if last > self.released:
                found.append(SegmentInfo(first, last, size, sealed=last < self.last))
        return found


class Follower:
    """A machine on a directory of its own that follows a log."""

    def __init__(self, log: MemoryLog, directory: Path, clock: ManualClock | None = None) -> None:
        self.log = log
        self.directory = directory
        self.clock = clock or ManualClock()
        self.machine = self._open(directory)

    def _open(self, directory: Path) -> Machine:
        return Machine.open(directory, clock_ms=self.clock.now_ms, log_body=self.log.body)

    def catch_up(self) -> list[Result]:
        """Apply what is new in the log; the results of the last entry."""
        results: list[Result] = []
        for index in range(max(2, self.machine.applied + 1), self.log.last + 1):
            results = self.machine.apply(index, TERM, self.log.entries[index])
        self.machine.flush()
        return results

    def do(self, *commands: command_pb2.Command, time_ms: int | None = None) -> list[Result]:
        """Append one entry and apply it."""
        self.log.append(*commands, time_ms=time_ms)
        return self.catch_up()

    def one(self, command: command_pb2.Command, time_ms: int | None = None) -> Result:
        (result,) = self.do(command, time_ms=time_ms)
        return result

    def checkpoint(self) -> None:
        checkpoint = self.machine.begin_checkpoint()
        checkpoint.run()
        self.machine.end_checkpoint(checkpoint)

    def restart(self) -> None:
        self.machine.close()
        self.machine = self._open(self.directory)

    def crash(self) -> None:
        """The process dies: only what was committed is there afterwards. Entries applied since have to be repeated."""
        survivor = self.directory.with_name(self.directory.name + "-after-crash")
        shutil.copytree(self.directory, survivor)
        self.machine.close()
        shutil.rmtree(self.directory)
        survivor.rename(self.directory)
        self.machine = self._open(self.directory)

    def reclaim(self, entries_each: int, log_bytes_max: int = 1 << 40) -> int:
        """Reclaim all that can be; what may be released is, and the index is returned."""
        for _ in range(2):  # what is emptied is released after the next checkpoint
            self.checkpoint()
            self.machine.reclaim(self.log.segments(entries_each), log_bytes_max)
            while self.machine.reclaiming:
                self.machine.reclaim(self.log.segments(entries_each), log_bytes_max)
        index = self.machine.reclaim(self.log.segments(entries_each), log_bytes_max)
        self.log.release(index)
        return index

    def rows(self, name: str) -> list[ChunkRow]:
        """The chunk rows of a queue of all priorities, in the order of their sequences."""
        row = self.machine.queue(name)
        assert row is not None
        found = [
            chunk
            for priority in (0, *self.machine.priorities(row.id))
            for chunk in self.machine.chunks(row.id, 1, -1, priority)
        ]
        return sorted(found, key=lambda chunk: chunk.first_sequence)

    def live(self, name: str) -> list[int]:
        """The sequences of all live messages of a queue."""
        return [sequence for sequence, _ in self.messages(name)]

    def bodies(self, name: str) -> list[bytes]:
        """The bodies of all live messages of a queue."""
        return [message.body for _, message in self.messages(name)]

    def messages(self, name: str) -> list[tuple[int, queue_pb2.Message]]:
        """All live messages of a queue by sequence."""
        return sorted(
            (
                (chunk.first_sequence + place, self._message(chunk, place))
                for chunk in self.rows(name)
                for place in range(chunk.count)
                if not chunk.acked >> place & 1
            ),
            key=lambda found: found[0],
        )

    def _message(self, chunk: ChunkRow, place: int) -> queue_pb2.Message:
        encoded = self.machine.chunk(chunk.log_index, chunk.ordinal)
        return command_pb2.Chunk.FromString(encoded).messages[chunk.offset + place]


def create(name: str, request_id: str = "", **settings: object) -> command_pb2.Command:
    queue = queue_pb2.Queue(name=name, **settings)  # type: ignore[arg-type]
    return command_pb2.Command(request_id=request_id, create_queue=command_pb2.CreateQueue(queue=queue))


def update(name: str, fields: list[str], etag: str = "", **settings: object) -> command_pb2.Command:
    queue = queue_pb2.Queue(name=name, etag=etag, **settings)  # type: ignore[arg-type]
    return command_pb2.Command(update_queue=command_pb2.UpdateQueue(queue=queue, fields=fields))


def delete(name: str, etag: str = "", request_id: str = "") -> command_pb2.Command:
    return command_pb2.Command(
        request_id=request_id, delete_queue=command_pb2.DeleteQueue(name=name, etag=etag)
    )


def purge(name: str, request_id: str = "") -> command_pb2.Command:
    return command_pb2.Command(request_id=request_id, purge_queue=command_pb2.PurgeQueue(name=name))


def publish(
    name: str, *bodies: bytes, request_id: str = "", producer_id: str = "", producer_sequence: int = 0
) -> command_pb2.Command:
    chunk = command_pb2.Chunk(messages=[queue_pb2.Message(body=body) for body in bodies])
    return command_pb2.Command(
        request_id=request_id,
        publish=command_pb2.Publish(
            queue=name,
            count=len(bodies),
            chunk=chunk.SerializeToString(),
            producer_id=producer_id,
            producer_sequence=producer_sequence,
        ),
    )


def message(
    body: bytes = b"",
    *,
    priority: int = 0,
    ttl_ms: int = 0,
    delay_ms: int = 0,
    at_ms: int = 0,
    key: str = "",
    **headers: str,
) -> queue_pb2.Message:
    made = queue_pb2.Message(body=body, priority=priority, key=key, headers=headers)
    if ttl_ms:
        made.ttl.FromMilliseconds(ttl_ms)
    if delay_ms:
        made.delay.FromMilliseconds(delay_ms)
    if at_ms:
        made.deliver_time.FromMilliseconds(at_ms)
    return made


def send(
    name: str,
    *messages: queue_pb2.Message,
    request_id: str = "",
    producer: tuple[str, int] = ("", 0),
    allow_unroutable: bool = False,
) -> command_pb2.Command:
    """A publish of messages that may have more than a body, to a queue or a topic."""
    return command_pb2.Command(
        request_id=request_id,
        publish=command_pb2.Publish(
            queue=name,
            count=len(messages),
            chunk=command_pb2.Chunk(messages=messages).SerializeToString(),
            producer_id=producer[0],
            producer_sequence=producer[1],
            marked=any(
                m.key or m.priority or m.HasField("ttl") or m.HasField("delay") or m.HasField("deliver_time")
                for m in messages
            ),
            allow_unroutable=allow_unroutable,
        ),
    )


def advance_queues(limit: int = 1_000, **spared: list[tuple[int, int]]) -> command_pb2.Command:
    """`spared` is by the ids of queues."""
    held = [
        command_pb2.SparedMessages(
            queue=f"queues/{queue}",
            ranges=[queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges],
        )
        for queue, ranges in spared.items()
    ]
    return command_pb2.Command(advance_queues=command_pb2.AdvanceQueues(limit=limit, spared=held))


def move(
    name: str,
    *moved: tuple[int, int, int],
    reason: queue_pb2.DeadLetterReason = queue_pb2.DEAD_LETTER_REASON_UNSPECIFIED,
    target: str = "",
    strict: bool = False,
    request_id: str = "",
) -> command_pb2.Command:
    """`moved` is (first, last, attempts) each."""
    messages = [
        command_pb2.MovedMessages(range=queue_pb2.SequenceRange(first=first, last=last), attempts=attempts)
        for first, last, attempts in moved
    ]
    return command_pb2.Command(
        request_id=request_id,
        move_messages=command_pb2.MoveMessages(
            queue=name, messages=messages, reason=reason, target=target, strict=strict
        ),
    )


def ack(
    name: str, *ranges: tuple[int, int], uid: str = "", request_id: str = "", strict: bool = False
) -> command_pb2.Command:
    done = [queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges]
    return command_pb2.Command(
        request_id=request_id, ack=command_pb2.Ack(queue=name, ranges=done, queue_uid=uid, strict=strict)
    )


def delivered(
    name: str,
    watermark: int = 0,
    redelivered: list[tuple[int, int, int]] | None = None,
    uid: str = "",
    priorities: dict[int, int] | None = None,
) -> command_pb2.Command:
    """`redelivered` is (first, last, attempt) each, `priorities` the watermarks of those above 0."""
    marks = [command_pb2.PriorityMark(priority=p, watermark=w) for p, w in (priorities or {}).items()]
    again = [
        command_pb2.Redelivered(range=queue_pb2.SequenceRange(first=first, last=last), attempt=attempt)
        for first, last, attempt in redelivered or []
    ]
    return command_pb2.Command(
        delivered=command_pb2.Delivered(
            queue=name, watermark=watermark, redelivered=again, queue_uid=uid, priorities=marks
        )
    )


def chunk_bytes(command: command_pb2.Command) -> int:
    return len(command.publish.chunk)


def published(result: Result) -> Published:
    assert isinstance(result, Published)
    return result
