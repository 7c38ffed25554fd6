"""What each command does to the queues: one function per kind, the same on every node.

No clock, no dice, no I/O but the tables. A `Refused` is decided before anything is written.
"""

from dataclasses import replace

from node.state import chunks, dead_letters, graves, groups, reorder
from node.state.queue_settings import misfit, set_one, settings_of
from node.state.results import (
    Acked,
    Code,
    Done,
    Purged,
    QueueResult,
    Refused,
    Result,
    lease_lost,
    queue_not_found,
    wrong_queue_kind,
)
from node.state.rows import QueueRow
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


def create(tables: Tables, at: Position, command: command_pb2.CreateQueue) -> Result:
    """A new queue, or the one that is there if it has the same settings."""
    config = settings_of(command.queue)
    if refused := _unfit(tables, config):
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
        if refused := set_one(changed, command.queue, field):
            return refused
    config = settings_of(changed)
    if refused := _unfit(tables, config):
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


def _unfit(tables: Tables, config: queue_pb2.Queue) -> Refused | None:
    """The refusal of settings that do not go together, or with other queues."""
    if refused := misfit(config):
        return refused
    name = config.dead_letter_queue
    if not name:
        return None
    target = tables.queue(name)
    if target is None and name != config.name:
        return queue_not_found(name)
    if target is not None and target.config.kind == queue_pb2.QUEUE_KIND_TASK:
        return wrong_queue_kind(name, "messages")
    while name and name != config.name:
        row = tables.queue(name)
        name = row.config.dead_letter_queue if row else ""
    if name:
        message = f"dead letters of {config.name} would come back to it"
        metadata = {"queue": config.name, "field": "dead_letter_queue"}
        return Refused(Code.INVALID_ARGUMENT, "DEAD_LETTER_LOOP", message, metadata)
    return None


def delete(tables: Tables, at: Position, command: command_pb2.DeleteQueue) -> Result:
    """No queue, and none of its messages."""
    row = tables.queue(command.name)
    if row is None:
        return queue_not_found(command.name)
    if refused := _other_etag(row, command.etag):
        return refused
    if users := tables.directory.users(row.name):
        message = f"{row.name} is the dead-letter queue of {users[0]}"
        return Refused(
            Code.FAILED_PRECONDITION, "QUEUE_IN_USE", message, {"queue": row.name, "user": users[0]}
        )
    tables.drop_queue(row)
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        tables.tasks.queues.drop(row.id)
        tables.tasks.sizes.drop(row.id)
        graves.dig(tables, row.id)
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        groups.drop_all(tables, row)
    _bury(tables, row)
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
    count = row.messages + row.extra.delayed_messages
    if count:
        _bury(tables, row)
        extra = replace(
            row.extra,
            lines={p: line._replace(backlog=tables.store.new_id()) for p, line in row.extra.lines.items()},
            delay_backlog=tables.store.new_id() if row.extra.delay_backlog else 0,
            delayed_messages=0,
            delayed_bytes=0,
        )
        row = replace(row, backlog=tables.store.new_id(), messages=0, bytes=0, extra=extra)
        tables.put_extra(row)
        tables.unsettle(row.id)
        tables.events.append(("removed", row.id, [(1, row.next_sequence - 1)]))
    return Purged(count)


def _bury(tables: Tables, row: QueueRow) -> None:
    """What a queue has belongs to nobody any more."""
    for backlog in row.backlogs():
        tables.bury(backlog)
    if row.extra.delay_backlog:
        tables.bury(row.extra.delay_backlog)


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
    if command.strict and not dead_letters.all_there(tables, row, _asked(command)):
        return lease_lost(row.name)
    asked = [(max(1, r.first), min(r.last, newest)) for r in command.ranges]
    ranges = [(first, last) for first, last in asked if first <= last]
    messages = size = 0
    for backlog in row.backlogs() if row.extra.lines else (row.backlog,):
        for first, last in ranges:
            removed = chunks.remove(execute, backlog, first, last)
            messages += removed.messages
            size += removed.bytes
    if messages:
        assert messages <= row.messages
        assert size <= row.bytes
        tables.put_queue(row.holding(row.messages - messages, row.bytes - size))
        tables.unsettle(row.id)
        tables.events.append(("removed", row.id, ranges))
    return Acked(messages)


def check_ack(tables: Tables, at: Position, command: command_pb2.Ack) -> Result:
    """The refusal of a strict ack, which changes nothing."""
    row = tables.queue(command.queue)
    if row is None or command.queue_uid not in ("", row.uid):
        return queue_not_found(command.queue)
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        return groups.refusal(tables, row, command) or Done()
    return Done() if dead_letters.all_there(tables, row, _asked(command)) else lease_lost(row.name)


def _asked(command: command_pb2.Ack) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in command.ranges]


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
        for backlog in row.backlogs() if first <= last else ():
            chunks.record_attempt(tables.store.execute, backlog, first, last, again.attempt)
    watermark = min(command.watermark, newest)
    if watermark > row.watermark:
        row = replace(row, watermark=watermark)
        tables.put_queue(row)
    lines = dict(row.extra.lines)
    for mark in command.priorities:
        line, watermark = lines.get(mark.priority), min(mark.watermark, newest)
        if line is not None and watermark > line.watermark:
            lines[mark.priority] = line._replace(watermark=watermark)
    if lines != row.extra.lines:
        tables.put_extra(replace(row, extra=replace(row.extra, lines=lines)))
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
