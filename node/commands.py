"""Commands and entries as bytes: what the node asks of the replicated log.

The chunk of a publish and the tasks of a submit are pasted, not encoded again; everything else is ordinary protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from node import limits
from node.dispatch.spans import Span
from node.state.rows import QueueRow
from node.wire import length_prefix
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

EMPTY: Final[Mapping[int, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Command:
    """An encoded internal.v1.Command in parts to join, `size` bytes in all; applying it takes as long as `count` small
    ones.
    """

    parts: tuple[bytes, ...]
    size: int
    count: int = 1


def plain(command: command_pb2.Command) -> Command:
    """A command without large parts."""
    encoded = command.SerializeToString()
    return Command((encoded,), len(encoded))


def publish(
    *,
    queue: str,
    chunk: bytes,
    count: int,
    request_id: str = "",
    producer_id: str = "",
    producer_sequence: int = 0,
    marked: bool = False,
    allow_unroutable: bool = False,
) -> Command:
    """Stores the messages of a canonical encoded Chunk."""
    head = command_pb2.Publish(
        queue=queue,
        producer_id=producer_id,
        producer_sequence=producer_sequence,
        count=count,
        marked=marked,
        allow_unroutable=allow_unroutable,
    ).SerializeToString()
    before_chunk = length_prefix(command_pb2.Publish.CHUNK_FIELD_NUMBER, len(chunk))
    size = len(head) + len(before_chunk) + len(chunk)
    before = command_pb2.Command(request_id=request_id).SerializeToString()
    before += length_prefix(command_pb2.Command.PUBLISH_FIELD_NUMBER, size)
    one_by_one = count // limits.MARKED_MESSAGES_A_COMMAND if marked else 0
    return Command((before, head, before_chunk, chunk), len(before) + size, 1 + one_by_one)


def submit_tasks(encoded: bytes, request_id: str) -> Command:
    """Stores the tasks of an encoded internal.v1.SubmitTasks."""
    before = command_pb2.Command(request_id=request_id).SerializeToString()
    before += length_prefix(command_pb2.Command.SUBMIT_TASKS_FIELD_NUMBER, len(encoded))
    return Command((before, encoded), len(before) + len(encoded))


def acknowledge(
    row: QueueRow,
    ranges: Iterable[tuple[int, int]],
    request_id: str = "",
    *,
    group: str = "",
    strict: bool = False,
) -> Command:
    """Removes messages of that very queue, or says that a group of a stream has done them; `strict`: all or none."""
    ack = command_pb2.Ack(
        queue=row.name,
        queue_uid=row.uid,
        ranges=[queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges],
        group=group,
        strict=strict,
    )
    return plain(command_pb2.Command(request_id=request_id, ack=ack))


def delivered(
    row: QueueRow,
    watermark: int,
    again: Iterable[Span[int]],
    group: str = "",
    priorities: Mapping[int, int] = EMPTY,
) -> Command:
    """Records that all up to `watermark` were delivered, those of other `priorities` up to their own marks, and some
    `again`, with the attempt that this was.
    """
    redelivered = [
        command_pb2.Redelivered(range=queue_pb2.SequenceRange(first=first, last=last), attempt=attempt)
        for first, last, attempt in again
    ]
    record = command_pb2.Delivered(
        queue=row.name,
        queue_uid=row.uid,
        group=group,
        watermark=watermark,
        redelivered=redelivered,
        priorities=[
            command_pb2.PriorityMark(priority=priority, watermark=mark)
            for priority, mark in priorities.items()
        ],
    )
    return plain(command_pb2.Command(delivered=record))


def move(
    row: QueueRow,
    dead: Iterable[Span[int]],
    reason: queue_pb2.DeadLetterReason,
    group: str = "",
    *,
    strict: bool = False,
) -> Command:
    """Makes dead letters of messages of that very queue, which were delivered so often each; of a group: of copies.

    `strict`: of all or none.
    """
    messages = [
        command_pb2.MovedMessages(range=queue_pb2.SequenceRange(first=first, last=last), attempts=attempts)
        for first, last, attempts in dead
    ]
    letters = command_pb2.MoveMessages(
        queue=row.name, queue_uid=row.uid, group=group, messages=messages, reason=reason, strict=strict
    )
    return plain(command_pb2.Command(move_messages=letters))


def transaction(commands: Sequence[Command], request_id: str) -> Command:
    """Does all of these, or none."""
    parts = _listed(command_pb2.Transaction.COMMANDS_FIELD_NUMBER, commands)
    return _in_transaction(parts, request_id, sum(command.count for command in commands))


def lost_transaction(request_id: str) -> Command:
    """Asks for the answer of the transaction of that request, which cannot be done any more."""
    return _in_transaction([command_pb2.Transaction(lost=True).SerializeToString()], request_id, 1)


def _in_transaction(parts: Sequence[bytes], request_id: str, count: int) -> Command:
    size = sum(map(len, parts))
    before = command_pb2.Command(request_id=request_id).SerializeToString()
    before += length_prefix(command_pb2.Command.TRANSACTION_FIELD_NUMBER, size)
    return Command((before, *parts), len(before) + size, count)


def _listed(field: int, commands: Sequence[Command]) -> list[bytes]:
    """Commands as elements of a repeated field."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(length_prefix(field, command.size))
        parts.extend(command.parts)
    return parts


def batch(time_ms: int, commands: Sequence[Command]) -> bytes:
    """The payload of one entry."""
    head = command_pb2.Batch(time_ms=time_ms).SerializeToString()
    return b"".join((head, *_listed(command_pb2.Batch.COMMANDS_FIELD_NUMBER, commands)))
