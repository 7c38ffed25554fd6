"""What a publish does: to one queue, or to all that are bound to a topic, all or none."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node import wire
from node.state import arrivals, chunks, compaction, dead_letters, dedup, parts
from node.state.dead_letters import Leaving
from node.state.directory import Headers
from node.state.parts import Part
from node.state.results import Code, Published, Refused, Result, queue_not_found, wrong_queue_kind
from node.state.rows import QueueRow
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

TOPICS: Final = "topics/"


class _Share(NamedTuple):
    """What one queue gets of a publish."""

    row: QueueRow
    parts: Sequence[Part]
    messages: int
    bytes: int


def publish(tables: Tables, at: Position, command: command_pb2.Publish) -> Result:
    """Messages at the ends of queues, or waiting for their time."""
    producer_id = command.producer_id
    if producer_id:
        answer = dedup.repeated_batch(tables, at, producer_id, command.producer_sequence)
        if answer is not None:
            return answer
    if not command.count or not command.chunk:
        return _invalid("there are no messages")
    plain = _plain(tables, at, command) if not command.marked else None
    result = plain or _any(tables, at, command)
    if producer_id and isinstance(result, Published):
        dedup.batch_stored(tables, at, producer_id, command.producer_sequence, result)
    return result


def _plain(tables: Tables, at: Position, command: command_pb2.Publish) -> Published | None:
    """What most publishes are: messages of which nothing is said, to a queue that has room. None: this is another."""
    row = tables.queue(command.queue)
    if row is None:
        return None
    config, chunk, count = row.config, command.chunk, command.count
    limited = config.max_messages or config.max_bytes
    if config.kind == queue_pb2.QUEUE_KIND_TASK or (limited and any(_over(row, count, len(chunk)))):
        return None
    tables.bodies.keep(at.log_index, at.ordinal, chunk)
    arrivals.arrive_plain(tables, at, row, count, len(chunk))
    return Published(row.next_sequence, count)


def _any(tables: Tables, at: Position, command: command_pb2.Publish) -> Published | Refused:
    """Any publish."""
    topic, stored = command.queue.startswith(TOPICS), _parts_of(command, at)
    shares = _of_topic(tables, command, stored) if topic else _of_queue(tables, command, stored)
    if isinstance(shares, Refused):
        return shares
    for share in shares:
        if refused := _refusal(share):
            return refused
    if shares:
        tables.bodies.keep(at.log_index, at.ordinal, command.chunk)
    first = 0 if topic else shares[0].row.next_sequence
    dropped = 0
    for share in shares:
        dropped += _store(tables, at, share)
    result = Published(first, command.count if shares else 0, dropped=dropped, queues=len(shares))
    if command.marked and shares:
        result = _with_delayed(result, stored)
    return result


def _with_delayed(result: Published, stored: Sequence[Part]) -> Published:
    """The result of a publish of which some messages may be delayed."""
    delayed = sum(part.length for part in stored if part.due_ms)
    first = result.first_sequence if delayed < result.count else 0
    return Published(first, result.count, dropped=result.dropped, delayed=delayed, queues=result.queues)


def _of_queue(tables: Tables, command: command_pb2.Publish, stored: Sequence[Part]) -> list[_Share] | Refused:
    row = tables.queue(command.queue)
    if row is None:
        return queue_not_found(command.queue)
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        return wrong_queue_kind(row.name, "messages")
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM and any(part.priority for part in stored):
        return _invalid("messages of a stream have no priority")
    return [_Share(row, stored, command.count, len(command.chunk))]


def _of_topic(tables: Tables, command: command_pb2.Publish, stored: Sequence[Part]) -> list[_Share] | Refused:
    """The shares of the queues that get something."""
    shares = []
    for queue_id, filters in tables.directory.routes(command.queue.removeprefix(TOPICS)).items():
        row = tables.queue_by_id(queue_id)
        assert row is not None
        its = stored if () in filters else _matching(stored, command.chunk, filters)
        if its:
            messages, size = sum(part.live for part in its), sum(part.live_bytes for part in its)
            shares.append(_Share(row, its, messages, size))
    if not shares and not command.allow_unroutable:
        message = f"no queue gets messages of {command.queue}"
        return Refused(Code.NOT_FOUND, "UNROUTABLE", message, {"topic": command.queue})
    return shares


def _parts_of(command: command_pb2.Publish, at: Position) -> list[Part]:
    """The messages in runs that go the same way."""
    if not command.marked:
        return [Part(at.stamp, command.count, len(command.chunk))]
    ends = wire.message_ends(command.chunk)
    runs: list[tuple[int, tuple[int, int, int]]] = []  # place of the first message, its way
    for place, message in enumerate(command_pb2.Chunk.FromString(command.chunk).messages):
        way = (_due_ms(message, at.time_ms), message.priority, _ttl_ms(message))
        if not runs or runs[-1][1] != way:
            runs.append((place, way))
    found = []
    for (place, (due_ms, priority, ttl_ms)), (end, _) in zip(
        runs, [*runs[1:], (len(ends), None)], strict=True
    ):
        size = ends[end - 1] - (ends[place - 1] if place else 0)
        part = Part(at.stamp, end - place, size, place, priority=priority, ttl_ms=ttl_ms, due_ms=due_ms)
        found.append(part)
    return found


def _ttl_ms(message: queue_pb2.Message) -> int:
    """How long a message lives; 0: as long as it may."""
    if not message.HasField("ttl"):
        return 0
    return max(1, -(-message.ttl.ToNanoseconds() // 1_000_000))


def _due_ms(message: queue_pb2.Message, time_ms: int) -> int:
    """When a message comes into its queue; 0: now."""
    if message.HasField("delay"):
        due_ms = time_ms - -message.delay.ToNanoseconds() // 1_000_000
    elif message.HasField("deliver_time"):
        due_ms = -(-message.deliver_time.ToNanoseconds() // 1_000_000)
    else:
        return 0
    return due_ms if due_ms > time_ms else 0


def _matching(stored: Sequence[Part], chunk: bytes, filters: Sequence[Headers]) -> list[Part]:
    """What one queue gets of the parts: those messages that have all headers of one of the filters."""
    wanted = 0
    for place, message in enumerate(command_pb2.Chunk.FromString(chunk).messages):
        headers = message.headers
        if any(all(headers.get(key) == value for key, value in required) for required in filters):
            wanted |= 1 << place
    ends = wire.message_ends(chunk)
    found = []
    for part in stored:
        lives = wanted >> part.offset & (1 << part.length) - 1
        if not lives:
            continue
        skipped, last = (lives & -lives).bit_length() - 1, lives.bit_length() - 1
        count, offset = last - skipped + 1, part.offset + skipped
        size = ends[offset + count - 1] - (ends[offset - 1] if offset else 0)
        gone = ~(lives >> skipped) & (1 << count) - 1
        cut = part._replace(length=count, offset=offset, bytes=size, acked=gone)
        found.append(cut)
    return found


def _over(row: QueueRow, messages: int, size: int) -> tuple[int, int]:
    """By how much a publish of so many messages and bytes is over the limits of its queue. Delayed ones count."""
    config, extra = row.config, row.extra
    messages_max, bytes_max = config.max_messages, config.max_bytes
    messages_over = (
        max(0, row.messages + extra.delayed_messages + messages - messages_max) if messages_max else 0
    )
    bytes_over = max(0, row.bytes + extra.delayed_bytes + size - bytes_max) if bytes_max else 0
    return messages_over, bytes_over


def _refusal(share: _Share) -> Refused | None:
    """The refusal of a publish that is over the limits, unless older messages can make room."""
    messages_over, bytes_over = _over(share.row, share.messages, share.bytes)
    if not messages_over and not bytes_over:
        return None
    row, config = share.row, share.row.config
    can_make_room = messages_over <= row.messages and bytes_over <= row.bytes
    if config.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST and can_make_room:
        return None
    alone = (config.max_messages and share.messages > config.max_messages) or (
        config.max_bytes and share.bytes > config.max_bytes
    )
    message = f"{row.name} is too small for this publish" if alone else f"{row.name} is full"
    metadata = {
        "queue": row.name,
        "messages": str(row.messages + row.extra.delayed_messages),
        "max_messages": str(config.max_messages),
        "bytes": str(row.bytes + row.extra.delayed_bytes),
        "max_bytes": str(config.max_bytes),
    }
    return Refused(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", message, metadata)


def _store(tables: Tables, at: Position, share: _Share) -> int:
    """Put messages into a queue; how many older ones made room."""
    name, dropped = share.row.name, 0
    messages_over, bytes_over = _over(share.row, share.messages, share.bytes)
    if messages_over or bytes_over:
        dropped = _drop_oldest(tables, at, _now(tables, name), messages_over, bytes_over)
    arriving = [part for part in share.parts if not part.due_ms]
    waiting = [part for part in share.parts if part.due_ms]
    if arriving:
        arrivals.arrive(tables, at, _now(tables, name), arriving)
    if waiting:
        arrivals.wait(tables, at, _now(tables, name), waiting)
    return dropped


def _now(tables: Tables, name: str) -> QueueRow:
    """The queue as it is by now: another share may have sent dead letters there."""
    row = tables.queue(name)
    assert row is not None
    return row


def _drop_oldest(tables: Tables, at: Position, row: QueueRow, messages: int, size: int) -> int:
    """Free so many messages and bytes at least, the oldest of the lowest priority first; how many went."""
    execute, config = tables.store.execute, row.config
    if not row.extra.lines and (config.kind == queue_pb2.QUEUE_KIND_STREAM or not config.dead_letter_queue):
        last, *_ = chunks.oldest_to_free(execute, row.backlog, messages, size)
        removed = chunks.remove(execute, row.backlog, 1, last)
        if config.compaction:
            compaction.forget(execute, row.backlog, last)
        assert removed.messages >= messages
        assert removed.bytes >= size
        tables.events.append(("removed", row.id, [(1, last)]))
        tables.put_queue(row.holding(row.messages - removed.messages, row.bytes - removed.bytes))
        tables.unsettle(row.id)
        return removed.messages
    leaving: list[Leaving] = []
    for priority in sorted((0, *row.extra.lines)):
        line = row.line(priority)
        assert line is not None
        last, messages, size = chunks.oldest_to_free(execute, line.backlog, messages, size)
        leaving += [
            Leaving(priority, piece, attempts)
            for whole in parts.between(execute, line.backlog, 1, last)
            for piece, attempts in whole.by_attempts(line.watermark)
        ]
        if not messages and not size:
            break
    return dead_letters.bury(tables, at, row, leaving, queue_pb2.DEAD_LETTER_REASON_OVERFLOW)


def _invalid(message: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": "messages"})
