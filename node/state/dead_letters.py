"""Messages that go from one queue to another: to its dead-letter queue, and back. They are not copied, only named there.

What comes that way is never refused by the limits of the queue that gets it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from node.state import arrivals, chunks, groups, parts
from node.state.group_tables import GroupRow
from node.state.parts import Piece
from node.state.ranges import without
from node.state.results import (
    Code,
    Done,
    Moved,
    Refused,
    Result,
    lease_lost,
    queue_not_found,
    wrong_queue_kind,
)
from node.state.rows import QueueRow, timestamp
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class Leaving(NamedTuple):
    """Messages that leave the backlog of one priority, and how often they were delivered."""

    priority: int
    piece: Piece
    attempts: int


def move(tables: Tables, at: Position, command: command_pb2.MoveMessages) -> Result:
    """Messages are at the end of another queue, or gone if there is none for them."""
    refused = check(tables, at, command)
    if isinstance(refused, Refused):
        return refused
    source = tables.queue(command.queue)
    assert source is not None
    if command.group:
        return _of_group(tables, at, source, command)
    leaving = [
        Leaving(priority, piece, attempts)
        for first, last, attempts in _asked(command)
        for priority, piece in between(tables, source, first, last)
    ]
    leaving.sort(key=lambda one: one.piece.first)
    if command.reason:
        return Moved(bury(tables, at, source, leaving, command.reason))
    return _redrive(tables, at, source, leaving, command)


def check(tables: Tables, at: Position, command: command_pb2.MoveMessages) -> Result:
    """The refusal of a move, which changes nothing."""
    source = tables.queue(command.queue)
    if source is None or command.queue_uid not in ("", source.uid):
        return queue_not_found(command.queue)
    asked = [(each.range.first, each.range.last) for each in command.messages]
    if source.config.kind == queue_pb2.QUEUE_KIND_STREAM:
        group = tables.groups.get(source.id, command.group)
        if group is None:
            return groups.group_not_found(source, command.group)
        if not command.reason:
            return wrong_queue_kind(source.name, "messages that can be redriven")
        return (groups.lost(tables, source, group, asked) if command.strict else None) or Done()
    if command.group:
        return groups.not_a_stream(source)
    if source.config.kind == queue_pb2.QUEUE_KIND_TASK:
        return wrong_queue_kind(source.name, "messages")
    if command.strict and not all_there(tables, source, asked):
        return lease_lost(source.name)
    return Done()


def _of_group(tables: Tables, at: Position, source: QueueRow, command: command_pb2.MoveMessages) -> Moved:
    """A group of a stream is done with messages, which are in the dead-letter queue, too."""
    group = tables.groups.get(source.id, command.group)
    assert group is not None
    leaving = [
        Leaving(0, piece, attempts)
        for first, last, attempts in _asked(command)
        for low, high in _pending(tables, group, first, last)
        for _, piece in between(tables, source, low, high)
    ]
    leaving.sort(key=lambda one: one.piece.first)
    copy(tables, at, source, leaving, command.reason, group.name)
    groups.settle(tables, source, group, [(each.range.first, each.range.last) for each in command.messages])
    count = sum(one.piece.part.live for one in leaving)
    if count:
        tables.events.append(("buried", source.id, command.reason, count))
    return Moved(count)


def _asked(command: command_pb2.MoveMessages) -> Iterator[tuple[int, int, int]]:
    """(first, last, attempts) of what is to be moved, in order; what is named twice counts once."""
    done = 0
    for each in sorted(command.messages, key=lambda each: each.range.first):
        first, last = max(each.range.first, done + 1), each.range.last
        if first <= last:
            yield first, last, each.attempts
            done = last


def _pending(tables: Tables, group: GroupRow, first: int, last: int) -> list[tuple[int, int]]:
    """What of a range the group has not done."""
    return without(tables.groups.done(group.id, first, last), max(first, group.position), last)


def between(tables: Tables, row: QueueRow, first: int, last: int) -> list[tuple[int, Piece]]:
    """What lives of a range, by priority."""
    found = []
    last = min(last, row.next_sequence - 1)
    for priority in (0, *row.extra.lines):
        line = row.line(priority)
        assert line is not None
        found += [
            (priority, piece) for piece in parts.between(tables.store.execute, line.backlog, first, last)
        ]
    return found


def all_there(tables: Tables, row: QueueRow, ranges: Iterable[tuple[int, int]]) -> bool:
    """True if no message of these ranges, which must not overlap, is gone."""
    return all(
        last < row.next_sequence
        and sum(chunks.count_live(tables.store.execute, backlog, first, last) for backlog in row.backlogs())
        == last - first + 1
        for first, last in ranges
    )


def bury(
    tables: Tables,
    at: Position,
    source: QueueRow,
    leaving: Sequence[Leaving],
    reason: queue_pb2.DeadLetterReason,
) -> int:
    """Messages go to the dead-letter queue, or are gone if there is none; how many."""
    copy(tables, at, source, leaving, reason)
    count = take_away(tables, source, leaving)
    if count:
        tables.events.append(("buried", source.id, reason, count))
    return count


def copy(
    tables: Tables,
    at: Position,
    source: QueueRow,
    leaving: Sequence[Leaving],
    reason: queue_pb2.DeadLetterReason,
    group: str = "",
) -> None:
    """Messages are in the dead-letter queue of `source`, too, if there is one. `group` is the one that could not do them."""
    config = source.config
    target = tables.queue(config.dead_letter_queue) if config.dead_letter_queue else None
    if target is None:
        return
    letters = []
    for priority, piece, attempts in leaving:
        letter = queue_pb2.DeadLetter(
            source=source.name,
            source_sequence=piece.first,
            reason=reason,
            attempts=attempts,
            publish_time=timestamp(piece.time_ms),
            dead_letter_time=timestamp(at.time_ms),
            group=group,
        )
        encoded = letter.SerializeToString(deterministic=True)
        letters.append(piece.part._replace(priority=priority, dead_letter=encoded))
    arrivals.arrive(tables, at, target, letters)


def take_away(tables: Tables, source: QueueRow, leaving: Iterable[Leaving]) -> int:
    """These messages are not in the queue any more, how many they were. Not before they are where they go to."""
    messages = size = 0
    ranges: list[tuple[int, int]] = []
    for priority, piece, _ in leaving:
        line = source.line(priority)
        assert line is not None
        removed = chunks.remove(tables.store.execute, line.backlog, piece.first, piece.last)
        messages, size = messages + removed.messages, size + removed.bytes
        if ranges and ranges[-1][1] + 1 == piece.first:
            ranges[-1] = (ranges[-1][0], piece.last)
        else:
            ranges.append((piece.first, piece.last))
    if messages:
        row = tables.queue(source.name)
        assert row is not None
        tables.put_queue(row.holding(row.messages - messages, row.bytes - size))
        tables.unsettle(row.id)
        tables.events.append(("removed", row.id, ranges))
    return messages


def _redrive(
    tables: Tables,
    at: Position,
    source: QueueRow,
    leaving: Iterable[Leaving],
    command: command_pb2.MoveMessages,
) -> Result:
    """Messages go to a queue, or each to the one that it comes from; those whose queue is gone stay."""
    target = command.target
    if target:
        row = tables.queue(target)
        if row is None:
            return queue_not_found(target)
        if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
            return wrong_queue_kind(target, "messages")
        if row.id == source.id:
            message = "messages are redriven to another queue"
            return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": "target"})
    going: dict[str, list[Leaving]] = {}
    for one in leaving:
        name = target or queue_pb2.DeadLetter.FromString(one.piece.part.dead_letter).source
        going.setdefault(name, []).append(one)
    moved = 0
    for name, some in going.items():
        row = tables.queue(name) if name else None
        if row is None or row.id == source.id or row.config.kind == queue_pb2.QUEUE_KIND_TASK:
            continue
        back = [one.piece.part._replace(priority=one.priority, dead_letter=b"") for one in some]
        arrivals.arrive(tables, at, row, back)
        moved += take_away(tables, source, some)
    return Moved(moved, command.next_sequence)
