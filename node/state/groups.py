"""What each command does to the consumer groups of streams, and what can be asked of them.

A group is a position in a stream and what it has done beyond that; the messages stay. What limits, age or compaction
remove counts as done from then on: a position is always that of the first message which is there and not done.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from node import limits
from node.state import chunks
from node.state.group_tables import GroupRow, Range
from node.state.results import Acked, Code, Done, GroupResult, Refused, Result, queue_not_found
from node.state.rows import ChunkRow, QueueRow
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

_STREAM: Final = queue_pb2.QUEUE_KIND_STREAM


def seek(tables: Tables, at: Position, command: command_pb2.SeekGroup) -> Result:
    """A group goes on somewhere else, or begins there if there is none."""
    row = tables.queue(command.queue)
    if row is None or command.queue_uid not in ("", row.uid):
        return queue_not_found(command.queue)
    if row.config.kind != _STREAM:
        return not_a_stream(row)
    group = tables.groups.get(row.id, command.group)
    if group is not None and command.create_only:
        return GroupResult(shown(tables, row, group))
    position = sequence_at(tables, row, command.position)
    if isinstance(position, Refused):
        return position
    if group is not None:
        group = tables.groups.move(group, position)
    elif tables.groups.count(row.id) >= limits.GROUPS_MAX:
        message = f"{row.name} has {limits.GROUPS_MAX} consumer groups: delete one that is not needed"
        metadata = {"queue": row.name, "limit": str(limits.GROUPS_MAX)}
        return Refused(Code.FAILED_PRECONDITION, "TOO_MANY_GROUPS", message, metadata)
    else:
        group = GroupRow(tables.store.new_id(), row.id, command.group, position, position - 1, at.time_ms)
        tables.groups.add(group)
    tables.events.append(("group_changed", row.id, group.name))
    return GroupResult(shown(tables, row, group))


def delete(tables: Tables, at: Position, command: command_pb2.DeleteGroup) -> Result:
    """No group, and nothing that it has done."""
    row = tables.queue(command.queue)
    if row is None:
        return queue_not_found(command.queue)
    group = tables.groups.get(row.id, command.group)
    if group is None:
        return group_not_found(row, command.group)
    tables.groups.drop(group)
    tables.events.append(("group_deleted", row.id, group.name))
    return Done()


def ack(tables: Tables, row: QueueRow, command: command_pb2.Ack) -> Result:
    """A group is done with messages of a stream: `Acked` says with how many it was not before."""
    if refused := refusal(tables, row, command):
        return refused
    group = tables.groups.get(row.id, command.group)
    assert group is not None
    return Acked(settle(tables, row, group, [(one.first, one.last) for one in command.ranges]))


def refusal(tables: Tables, row: QueueRow, command: command_pb2.Ack) -> Refused | None:
    """Why a group of a stream cannot be done with these messages."""
    group = tables.groups.get(row.id, command.group)
    if group is None:
        return group_not_found(row, command.group)
    ranges = [(one.first, one.last) for one in command.ranges]
    if command.strict:
        return lost(tables, row, group, ranges)
    return None


def settle(tables: Tables, row: QueueRow, group: GroupRow, ranges: Iterable[Range]) -> int:
    """The group is done with these; returns with how many sequences it was not before."""
    settled = 0
    done: list[Range] = []
    position = group.position
    for first, last in sorted(ranges):
        first, last = max(first, position), min(last, row.next_sequence - 1)  # noqa: PLW2901
        if first > last:
            continue
        done.append((first, last))
        if first == position:  # the usual case needs no range
            known = tables.groups.done_within(group.id, first, last)
            settled, position = settled + last - first + 1 - known, last + 1
        else:
            settled += tables.groups.add_done(group.id, first, last)
    if done:
        position = first_pending(tables, row, group, position)
        if position != group.position:
            tables.groups.trim(group.id, position)
            tables.groups.put(replace(group, position=position, watermark=max(group.watermark, position - 1)))
        tables.events.append(("group_acked", row.id, group.name, done))
    return settled


def delivered(tables: Tables, row: QueueRow, command: command_pb2.Delivered) -> Result:
    """Deliveries to a group that a new leader must know of."""
    group = tables.groups.get(row.id, command.group)
    if group is None:
        return group_not_found(row, command.group)
    newest = row.next_sequence - 1
    for again in command.redelivered:
        first, last = max(group.position, again.range.first), min(again.range.last, newest)
        if first <= last:
            tables.groups.record_attempt(group.id, first, last, again.attempt)
    watermark = min(command.watermark, newest)
    if watermark > group.watermark:
        tables.groups.put(replace(group, watermark=watermark))
    return Done()


def purge(tables: Tables, row: QueueRow) -> None:
    """A stream was emptied: its groups have done everything."""
    for group in tables.groups.of(row.id):
        tables.groups.move(group, row.next_sequence)


def drop_all(tables: Tables, row: QueueRow) -> None:
    """A stream is gone with its groups."""
    for group in tables.groups.of(row.id):
        tables.groups.drop(group)


# What can be asked ----------------------------------------------------------------------------------------------------


def first_pending(tables: Tables, row: QueueRow, group: GroupRow, at: int) -> int:
    """The first message at or above `at` that is there and that the group has not done; the next one if there is none."""
    while at < row.next_sequence:
        at = first_live(tables, row, at)
        beyond = tables.groups.done(group.id, at, at)
        if not beyond:
            break
        at = beyond[0][1] + 1
    return at


def first_live(tables: Tables, row: QueueRow, at: int) -> int:
    """The first message at or above `at` that is there; the next sequence if there is none."""
    while found := chunks.select(tables.store.execute, row.backlog, at, row.next_sequence, 1):
        run = found[0].live_run(max(at, found[0].first_sequence), found[0].last_sequence)
        if run is not None:
            return run[0]
        at = found[0].last_sequence + 1
    return row.next_sequence


def pending(tables: Tables, row: QueueRow, group: GroupRow) -> tuple[int, int]:
    """(position, pending messages) of a group as it is now.

    Counted are sequences from the first message that is there to the newest. What went out of the middle, by compaction
    or because its time was over, counts until the group has passed it.
    """
    position = first_pending(tables, row, group, group.position)
    waiting = row.next_sequence - position - tables.groups.done_after(group.id, position)
    return position, min(waiting, row.messages)


def shown(tables: Tables, row: QueueRow, group: GroupRow) -> queue_pb2.ConsumerGroup:
    """The group with what the state knows of it."""
    return group.to_proto(*pending(tables, row, group))


def sequence_at(tables: Tables, row: QueueRow, position: queue_pb2.Position) -> int | Refused:
    """The sequence that a position means now; what is gone already is the oldest message, or the next one."""
    match position.WhichOneof("position"):
        case "sequence" if position.sequence > row.next_sequence:
            message = f"{row.name} has no message {position.sequence}: the next one is {row.next_sequence}"
            metadata = {"queue": row.name, "next_sequence": str(row.next_sequence)}
            return Refused(Code.OUT_OF_RANGE, "OUT_OF_RANGE", message, metadata)
        case "sequence":
            return first_live(tables, row, max(1, position.sequence))
        case "time":
            since_ms = -(-position.time.ToNanoseconds() // 1_000_000)
            found = chunks.first_since(tables.store.execute, row.backlog, since_ms, row.next_sequence - 1)
            return first_live(tables, row, found)
        case "end" if position.end:
            return row.next_sequence
    return first_live(tables, row, 1)


def rows_pending(
    tables: Tables, row: QueueRow, group: GroupRow, from_sequence: int, limit: int
) -> list[ChunkRow]:
    """Chunks with messages at or above `from_sequence` that the group has not done, as it sees them, at most `limit`."""
    found: list[ChunkRow] = []
    at = max(from_sequence, group.position)
    while limit < 0 or len(found) < limit:
        if beyond := tables.groups.done(group.id, at, at):
            at = beyond[0][1] + 1
        page = chunks.select(
            tables.store.execute, row.backlog, at, row.next_sequence, -1 if limit < 0 else limit - len(found)
        )
        if not page:
            break
        if page[0].first_sequence < group.position:
            page[0] = page[0].without(page[0].first_sequence, group.position - 1)
        found.extend(tables.groups.without_done(group.id, page))
        at = page[-1].last_sequence + 1
    return found


def _all_pending(tables: Tables, row: QueueRow, group: GroupRow, ranges: list[Range]) -> bool:
    """True if all of these messages are there and the group has done none of them."""
    asked = sum(last - first + 1 for first, last in ranges)
    newest = row.next_sequence - 1
    if any(first < group.position or last > newest for first, last in ranges):
        return False
    if any(tables.groups.done(group.id, first, last) for first, last in ranges):
        return False
    execute = tables.store.execute
    return asked == sum(chunks.count_live(execute, row.backlog, first, last) for first, last in ranges)


def lost(tables: Tables, row: QueueRow, group: GroupRow, ranges: list[Range]) -> Refused | None:
    """The refusal of what needs that the group has done none of these messages."""
    if _all_pending(tables, row, group, ranges):
        return None
    metadata = {"queue": row.name, "group": group.name}
    return Refused(Code.ABORTED, "LEASE_LOST", "some of these messages are done already", metadata)


def not_a_stream(row: QueueRow) -> Refused:
    """The queue has no consumer groups."""
    message = f"{row.name} is not a stream: it has no consumer groups"
    return Refused(Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND", message, {"queue": row.name})


def group_not_found(row: QueueRow, group: str) -> Refused:
    """There is no such consumer group; a stream is not acknowledged without one."""
    message = f"{row.name} has no consumer group {group}"
    return Refused(Code.NOT_FOUND, "GROUP_NOT_FOUND", message, {"queue": row.name, "group": group})
