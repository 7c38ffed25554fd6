"""How messages come into a queue: at its end, with the next sequences, or to the place where they wait for their time."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from node.state import compaction, parts
from node.state.parts import Part
from node.state.queue_settings import max_age_ms
from node.state.rows import Line, QueueRow
from node.state.schema import body_place
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


def arrive(tables: Tables, at: Position, row: QueueRow, arriving: Collection[Part]) -> QueueRow:
    """The queue with these messages at its end. Nobody asks for its limits here."""
    execute, events = tables.store.execute, tables.events
    messages, size, first = row.messages, row.bytes, row.next_sequence
    stream = row.config.kind == queue_pb2.QUEUE_KIND_STREAM
    for part in arriving:
        priority = 0 if stream else part.priority
        if priority and priority not in row.extra.lines:
            row = _with_line(tables, row, priority)
        backlog = row.extra.lines[priority].backlog if priority else row.backlog
        due_ms = at.time_ms + part.ttl_ms if part.ttl_ms else None
        parts.add(execute, backlog, first, at.time_ms, part._replace(priority=0, ttl_ms=0), due_ms)
        if due_ms is not None:
            tables.expect(row.id, due_ms)
        events.append(("published", row.id, first, part.length, priority))
        messages, size, first = messages + part.live, size + part.live_bytes, first + part.length
    grown = row.holding(messages, size, first)
    tables.put_queue(grown)
    if row.config.HasField("max_age"):
        tables.expect(row.id, at.time_ms + max_age_ms(row.config))
    if row.config.compaction:
        return compaction.compact(tables, grown, row.next_sequence, _keys(tables, arriving))
    return grown


def _keys(tables: Tables, arriving: Iterable[Part]) -> list[str]:
    """The keys of messages in their order; "" for those that have none, or are gone."""
    bodies: dict[int, list[str]] = {}
    keys: list[str] = []
    for part in arriving:
        if part.body not in bodies:
            chunk = command_pb2.Chunk.FromString(tables.bodies.chunk(*body_place(part.body)))
            bodies[part.body] = [message.key for message in chunk.messages]
        its = bodies[part.body][part.offset : part.offset + part.length]
        keys += ["" if part.acked >> place & 1 else key for place, key in enumerate(its)]
    return keys


def arrive_plain(tables: Tables, at: Position, row: QueueRow, length: int, size: int) -> None:
    """The same for all that the command at `at` brought, if there is nothing special about any of it."""
    first = row.next_sequence
    parts.add_plain(tables.store.execute, row.backlog, first, at.time_ms, at.stamp, length, size)
    tables.put_queue(row.holding(row.messages + length, row.bytes + size, first + length))
    tables.events.append(("published", row.id, first, length, 0))
    if row.config.HasField("max_age"):
        tables.expect(row.id, at.time_ms + max_age_ms(row.config))


def wait(tables: Tables, at: Position, row: QueueRow, waiting: Iterable[Part]) -> QueueRow:
    """The queue with these messages, whose time has not come."""
    extra = row.extra
    backlog = extra.delay_backlog or tables.store.new_id()
    messages, size, number = extra.delayed_messages, extra.delayed_bytes, extra.next_delayed
    for part in waiting:
        parts.add(tables.store.execute, backlog, number, at.time_ms, part, part.due_ms)
        tables.expect(row.id, part.due_ms)
        messages, size, number = messages + part.live, size + part.live_bytes, number + part.length
    extra = replace(
        extra, delay_backlog=backlog, next_delayed=number, delayed_messages=messages, delayed_bytes=size
    )
    row = replace(row, extra=extra)
    tables.put_extra(row)
    return row


def _with_line(tables: Tables, row: QueueRow, priority: int) -> QueueRow:
    """The queue with a place for messages of that priority."""
    lines = {**row.extra.lines, priority: Line(tables.store.new_id())}
    row = replace(row, extra=replace(row.extra, lines=lines))
    tables.put_extra(row)
    return row
