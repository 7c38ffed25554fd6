"""What time brings to queues: messages that were delayed come in, those that are too old go.

Nothing happens by itself: the leader proposes AdvanceQueues when something is due, and names what consumers hold. That
is not removed; it is looked at again a second later.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from node.state import arrivals, compaction, dead_letters, parts
from node.state.dead_letters import Leaving
from node.state.parts import Piece
from node.state.queue_settings import max_age_ms
from node.state.ranges import Ranges, overlapping, without
from node.state.results import Advanced, Result
from node.state.rows import QueueRow
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

SPARED_MS: Final = 1_000
"""What was spared is looked at again so much later."""


def next_due_ms(tables: Tables, by_ms: int) -> int | None:
    """When AdvanceQueues has something to do; exact if that is not above `by_ms`, otherwise perhaps later."""
    return tables.agenda.first_ms(by_ms, lambda queue_id: _look(tables, queue_id))


def _look(tables: Tables, queue_id: int) -> int | None:
    """When the queue has something."""
    row = tables.queue_by_id(queue_id)
    if row is None:
        return None
    execute, age_ms = tables.store.execute, max_age_ms(row.config)
    times = [parts.next_due_ms(execute, row.extra.delay_backlog)] if row.extra.delayed_messages else []
    for backlog in row.backlogs():
        times.append(parts.next_due_ms(execute, backlog))
        came_ms = parts.oldest_ms(execute, backlog) if age_ms else None
        if came_ms is not None:
            times.append(max(row.extra.age_ms, came_ms + age_ms))
    return min((time_ms for time_ms in times if time_ms is not None), default=None)


def advance(tables: Tables, at: Position, command: command_pb2.AdvanceQueues) -> Result:
    """Do what is due; queues in the order of their ids."""
    spared = {each.queue: [(r.first, r.last) for r in each.ranges] for each in command.spared}
    left = command.limit
    for queue_id in tables.agenda.due(at.time_ms):
        row = tables.queue_by_id(queue_id)
        if row is not None and left > 0:
            left -= _advance_one(tables, at, row, spared.get(row.name, ()), left)
            tables.agenda.look_again(queue_id, lambda queue_id: _look(tables, queue_id))
    return Advanced(command.limit - left)


def _advance_one(tables: Tables, at: Position, row: QueueRow, spared: Ranges, limit: int) -> int:
    """Do what is due in one queue; how many chunks were looked at."""
    seen = _come(tables, at, row, limit)
    for priority in sorted((0, *row.extra.lines)):
        seen += _expire(tables, at, row, priority, spared, limit - seen)
    if age_ms := max_age_ms(row.config):
        seen += _grow_old(tables, at, row, at.time_ms - age_ms, spared, limit - seen)
    return seen


def _come(tables: Tables, at: Position, row: QueueRow, limit: int) -> int:
    """Delayed messages whose time has come are at the end of the queue."""
    backlog = row.extra.delay_backlog
    due = parts.due(tables.store.execute, backlog, at.time_ms, limit) if row.extra.delayed_messages else []
    if not due:
        return 0
    row = arrivals.arrive(tables, at, row, [piece.part for piece in due])
    for piece in due:
        parts.delete(tables.store.execute, backlog, piece.first)
    extra = replace(
        row.extra,
        delayed_messages=row.extra.delayed_messages - sum(piece.part.live for piece in due),
        delayed_bytes=row.extra.delayed_bytes - sum(piece.part.live_bytes for piece in due),
    )
    tables.put_extra(replace(row, extra=extra))
    return len(due)


def _expire(tables: Tables, at: Position, row: QueueRow, priority: int, spared: Ranges, limit: int) -> int:
    """Messages of one priority whose ttl is over go."""
    line = row.line(priority)
    assert line is not None
    execute = tables.store.execute
    due = parts.due(execute, line.backlog, at.time_ms, limit) if limit > 0 else []
    for piece in due:
        if any(piece.cut(*kept) for kept in overlapping(spared, piece.first, piece.last)):
            parts.put_off(execute, line.backlog, piece.first, at.time_ms + SPARED_MS)
    _remove(tables, at, row, priority, due, spared)
    return len(due)


def _grow_old(tables: Tables, at: Position, row: QueueRow, than_ms: int, spared: Ranges, limit: int) -> int:
    """Messages that came at that time or earlier go. If some are spared, nobody looks again for a second."""
    if at.time_ms < row.extra.age_ms:
        return 0
    execute, seen, some_spared = tables.store.execute, 0, False
    for priority in sorted((0, *row.extra.lines)):
        line = row.line(priority)
        assert line is not None
        after, more = 0, True
        while more and seen < limit:
            asked = limit - seen
            page = parts.oldest(execute, line.backlog, after, asked)
            old = [piece for piece in page if piece.time_ms <= than_ms]
            for piece in old:
                kept = any(piece.cut(*each) for each in overlapping(spared, piece.first, piece.last))
                some_spared = some_spared or kept
                seen += not kept
            _remove(tables, at, row, priority, old, spared)
            if row.config.compaction and old and not some_spared:
                compaction.forget(execute, line.backlog, old[-1].last)
            more = len(old) == asked
            after = old[-1].first if old else after
    if some_spared and seen < limit:
        now = tables.queue_by_id(row.id)
        assert now is not None
        tables.put_extra(replace(now, extra=replace(now.extra, age_ms=at.time_ms + SPARED_MS)))
    return seen


def _remove(
    tables: Tables, at: Position, row: QueueRow, priority: int, old: Iterable[Piece], spared: Ranges
) -> None:
    """What is not spared goes to the dead-letter queue; if there is none, and from a stream, it is gone."""
    line = row.line(priority)
    assert line is not None
    leaving = [
        Leaving(priority, piece, attempts)
        for whole in old
        for first, last in without(spared, whole.first, whole.last)
        if (cut := whole.cut(first, last))
        for piece, attempts in cut.by_attempts(line.watermark)
    ]
    if not leaving:
        return
    if row.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        dead_letters.take_away(tables, row, leaving)
        for one in leaving if row.config.compaction else ():
            compaction.forget(tables.store.execute, line.backlog, one.piece.last, one.piece.first)
    else:
        dead_letters.bury(tables, at, row, leaving, queue_pb2.DEAD_LETTER_REASON_EXPIRED)
