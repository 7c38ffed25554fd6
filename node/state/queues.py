"""What each command does to the queues: one function per kind, the same on every node.

No clock, no dice, no I/O but the tables. A `Refused` is decided before anything is written.
"""

from dataclasses import replace
from typing import Final

from node import limits
from node.state import chunks, compaction, dedup, graves, groups, reorder
from node.state.results import (
    Acked,
    Code,
    Done,
    Published,
    Purged,
    QueueResult,
    Refused,
    Result,
    queue_not_found,
    wrong_queue_kind,
)
from node.state.rows import ChunkRow, QueueRow, duration
from node.state.scheduling import FIELDS as SCHEDULING_FIELDS
from node.state.scheduling import scheduling_of, take_over
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

_CHANGEABLE: Final = frozenset(
    {
        "ack_deadline",
        "max_messages",
        "max_bytes",
        "max_message_bytes",
        "overflow_policy",
        "paused",
        "compaction",
    }
)


def settings_of(queue: queue_pb2.Queue) -> queue_pb2.Queue:
    """The name and the settings of a queue with all defaults filled in, and nothing else."""
    stream = queue.kind == queue_pb2.QUEUE_KIND_STREAM
    overflow = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST if stream else queue_pb2.OVERFLOW_POLICY_REJECT
    settings = queue_pb2.Queue(
        name=queue.name,
        kind=queue.kind or queue_pb2.QUEUE_KIND_MESSAGE,
        max_messages=queue.max_messages,
        max_bytes=queue.max_bytes,
        max_message_bytes=queue.max_message_bytes or limits.MESSAGE_BYTES_MAX,
        overflow_policy=queue.overflow_policy or overflow,
        paused=queue.paused,
        compaction=queue.compaction,
    )
    if settings.kind == queue_pb2.QUEUE_KIND_TASK:
        settings.scheduling.CopyFrom(scheduling_of(queue.scheduling))
    given = queue.HasField("ack_deadline")
    settings.ack_deadline.CopyFrom(queue.ack_deadline if given else duration(limits.ACK_DEADLINE_MS_DEFAULT))
    return settings


def create(tables: Tables, at: Position, command: command_pb2.CreateQueue) -> Result:
    """A new queue, or the one that is there if it has the same settings."""
    config = settings_of(command.queue)
    if refused := _misfit(config):
        return refused
    there = tables.queue(config.name)
    if there is not None:
        if there.config == config:
            return QueueResult(there.to_proto())
        message = f"there is a queue {config.name} with other settings"
        return Refused(Code.ALREADY_EXISTS, "QUEUE_EXISTS", message, {"queue": config.name})
    row = QueueRow(
        id=tables.store.new_id(),
        name=config.name,
        uid=at.tag(),
        etag=at.tag(),
        config=config,
        create_ms=at.time_ms,
        update_ms=at.time_ms,
        backlog=tables.store.new_id(),
    )
    tables.add_queue(row)
    if config.kind == queue_pb2.QUEUE_KIND_TASK:
        tables.tasks.queues.add(row.id)
    tables.events.append(("queue_changed", row.id))
    return QueueResult(row.to_proto())


def update(tables: Tables, at: Position, command: command_pb2.UpdateQueue) -> Result:
    """Other settings. Messages above a lower limit stay until the next publish."""
    row = tables.queue(command.queue.name)
    if row is None:
        return queue_not_found(command.queue.name)
    if refused := _other_etag(row, command.queue.etag):
        return refused
    changed = queue_pb2.Queue()
    changed.CopyFrom(row.config)
    for field in command.fields:
        if refused := _set(changed, command.queue, field):
            return refused
    config = settings_of(changed)
    if refused := _misfit(config):
        return refused
    if config != row.config:
        if config.kind == queue_pb2.QUEUE_KIND_TASK:
            reorder.begin(tables, row, config)
        row = replace(row, config=config, etag=at.tag(), update_ms=at.time_ms)
        tables.configure_queue(row)
        if held := tables.tasks.queue(row.id):
            held.note_surplus(config.scheduling.max_ended, at.time_ms)
            tables.tasks.queues.put(held)
        tables.events.append(("queue_changed", row.id))
    return QueueResult(tables.with_tasks(row).to_proto())


def _set(changed: queue_pb2.Queue, given: queue_pb2.Queue, field: str) -> Refused | None:
    """Give `changed` one setting of `given`."""
    if field == "scheduling" or field in SCHEDULING_FIELDS:
        if changed.kind != queue_pb2.QUEUE_KIND_TASK:
            return wrong_queue_kind(changed.name, "tasks")
        if field == "scheduling":
            changed.scheduling.CopyFrom(given.scheduling)
        else:
            take_over(changed.scheduling, given.scheduling, field.partition(".")[2])
    elif field not in _CHANGEABLE:
        message = f"{field} is not a setting that can change"
        return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": field})
    elif field != "ack_deadline":
        setattr(changed, field, getattr(given, field))
    elif given.HasField(field):
        changed.ack_deadline.CopyFrom(given.ack_deadline)
    else:
        changed.ClearField(field)
    return None


def _misfit(config: queue_pb2.Queue) -> Refused | None:
    """The refusal of settings that a queue of tasks cannot have."""
    if config.kind != queue_pb2.QUEUE_KIND_TASK:
        return None
    if config.overflow_policy == queue_pb2.OVERFLOW_POLICY_REJECT:
        return None
    message = "a queue of tasks drops none: its overflow_policy must be REJECT"
    return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": "overflow_policy"})


def delete(tables: Tables, at: Position, command: command_pb2.DeleteQueue) -> Result:
    """No queue, and none of its messages."""
    row = tables.queue(command.name)
    if row is None:
        return queue_not_found(command.name)
    if refused := _other_etag(row, command.etag):
        return refused
    tables.drop_queue(row)
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        tables.tasks.queues.drop(row.id)
        tables.tasks.sizes.drop(row.id)
        graves.dig(tables, row.id)
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        groups.drop_all(tables, row)
    tables.bury(row.backlog)
    tables.events.append(("queue_deleted", row.id))
    return Done()


def purge(tables: Tables, at: Position, command: command_pb2.PurgeQueue) -> Result:
    """The same queue without its messages, or without the tasks that wait; sequences go on."""
    row = tables.queue(command.name)
    if row is None:
        return queue_not_found(command.name)
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        return Purged(graves.purge(tables, at, row.id))
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        groups.purge(tables, row)
    if row.messages:
        tables.bury(row.backlog)
        tables.put_queue(replace(row, backlog=tables.store.new_id(), messages=0, bytes=0))
        tables.events.append(("removed", row.id, [(1, row.next_sequence - 1)]))
    return Purged(row.messages)


def publish(tables: Tables, at: Position, command: command_pb2.Publish) -> Result:
    """Messages at the end of the queue, all or none."""
    producer_id = command.producer_id
    if producer_id:
        answer = dedup.repeated_batch(tables, at, producer_id, command.producer_sequence)
        if answer is not None:
            return answer
    row = tables.queue(command.queue)
    if row is None:
        return queue_not_found(command.queue)
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        return wrong_queue_kind(row.name, "messages")
    chunk, count = command.chunk, command.count
    size = len(chunk)
    if not count or not size:
        return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", "there are no messages", {"field": "messages"})
    messages_over, bytes_over = _over(row, count, size)
    held, dropped = row, 0
    if messages_over or bytes_over:
        if refused := _full(row, count, size):
            return refused
        held = _drop_oldest(tables, row, messages_over, bytes_over)
        dropped = row.messages - held.messages
    first = row.next_sequence
    stored = ChunkRow(first, count, count, at.log_index, at.ordinal, size, at.time_ms, 0)
    chunks.add(tables.store.execute, row.backlog, stored)
    tables.bodies.keep(at.log_index, at.ordinal, chunk)
    tables.put_queue(held.holding(held.messages + count, held.bytes + size, first + count))
    tables.events.append(("published", row.id, first, count, 0))
    if row.config.compaction and command.marked:
        keys = [message.key for message in command_pb2.Chunk.FromString(chunk).messages]
        compaction.compact(tables, row.name, first, keys)
    result = Published(first, count, dropped=dropped)
    if producer_id:
        dedup.batch_stored(tables, at, producer_id, command.producer_sequence, result)
    return result


def _over(row: QueueRow, count: int, size: int) -> tuple[int, int]:
    """By how many messages and bytes a publish is over the limits of its queue."""
    config = row.config
    messages_over = max(0, row.messages + count - config.max_messages) if config.max_messages else 0
    bytes_over = max(0, row.bytes + size - config.max_bytes) if config.max_bytes else 0
    return messages_over, bytes_over


def _full(row: QueueRow, count: int, size: int) -> Refused | None:
    """The refusal of a publish that is over the limits, unless older messages can make room."""
    config = row.config
    alone = (config.max_messages and count > config.max_messages) or (
        config.max_bytes and size > config.max_bytes
    )
    if config.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST and not alone:
        return None
    message = f"{row.name} is full" if not alone else f"{row.name} is too small for this publish"
    metadata = {
        "queue": row.name,
        "messages": str(row.messages),
        "max_messages": str(config.max_messages),
        "bytes": str(row.bytes),
        "max_bytes": str(config.max_bytes),
    }
    return Refused(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", message, metadata)


def _drop_oldest(tables: Tables, row: QueueRow, messages: int, size: int) -> QueueRow:
    """The queue without as many of its oldest messages as free so many messages and bytes."""
    execute = tables.store.execute
    last = chunks.oldest_to_free(execute, row.backlog, messages, size)
    removed = chunks.remove(execute, row.backlog, 1, last)
    assert removed.messages >= messages
    assert removed.bytes >= size
    if row.config.compaction:
        compaction.forget(execute, row.backlog, last)
    tables.events.append(("removed", row.id, [(1, last)]))
    return row.holding(row.messages - removed.messages, row.bytes - removed.bytes)


def ack(tables: Tables, at: Position, command: command_pb2.Ack) -> Result:
    """Messages that are done are gone."""
    row = tables.queue(command.queue)
    if row is None or command.queue_uid not in ("", row.uid):
        return queue_not_found(command.queue)
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        return groups.ack(tables, row, command)
    if command.group:
        return groups.not_a_stream(row)
    execute, newest = tables.store.execute, row.next_sequence - 1
    asked = [(max(1, r.first), min(r.last, newest)) for r in command.ranges]
    ranges = [(first, last) for first, last in asked if first <= last]
    messages = size = 0
    for first, last in ranges:
        removed = chunks.remove(execute, row.backlog, first, last)
        messages += removed.messages
        size += removed.bytes
    if messages:
        assert messages <= row.messages
        assert size <= row.bytes
        tables.put_queue(row.holding(row.messages - messages, row.bytes - size))
        tables.events.append(("removed", row.id, ranges))
    return Acked(messages)


def delivered(tables: Tables, at: Position, command: command_pb2.Delivered) -> Result:
    """Deliveries that a new leader must know of."""
    row = tables.queue(command.queue)
    if row is None or command.queue_uid not in ("", row.uid):
        return queue_not_found(command.queue)
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        return groups.delivered(tables, row, command)
    newest = row.next_sequence - 1
    for again in command.redelivered:
        first, last = max(1, again.range.first), min(again.range.last, newest)
        if first <= last:
            chunks.record_attempt(tables.store.execute, row.backlog, first, last, again.attempt)
    watermark = min(command.watermark, newest)
    if watermark > row.watermark:
        tables.put_queue(replace(row, watermark=watermark))
    return Done()


def check(tables: Tables, at: Position, command: command_pb2.CheckQueue) -> Result:
    """Refused unless the queue has that etag."""
    row = tables.queue(command.queue)
    if row is None:
        return queue_not_found(command.queue)
    return _other_etag(row, command.etag) or Done()


def _other_etag(row: QueueRow, etag: str) -> Refused | None:
    if etag in ("", row.etag):
        return None
    metadata = {"queue": row.name, "etag": row.etag}
    return Refused(Code.ABORTED, "ETAG_MISMATCH", f"{row.name} was changed by someone else", metadata)
