"""Promises about streams: what their consumer groups and readers get."""

from collections import defaultdict
from dataclasses import dataclass, field

from taskraft.v1 import queue_pb2
from tests.sim.checks import Violation
from tests.sim.message_book import Book, Copy
from tests.sim.message_history import History

STREAM = queue_pb2.QUEUE_KIND_STREAM
SPENT = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS


@dataclass(slots=True)
class Reading:
    """What one reader has got, over as many streams as it took: (sequence, body)."""

    queue: str
    got: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def next_sequence(self) -> int:
        return self.got[-1][0] + 1 if self.got else 0


def left_to_groups(book: Book) -> dict[tuple[int, str], list[Copy]]:
    """What each consumer group has not done and has not skipped, of what is there."""
    found: dict[tuple[int, str], list[Copy]] = {}
    position: dict[tuple[int, str], int] = {}
    done: dict[tuple[int, str], set[int]] = defaultdict(set)
    for deed in book.deeds:
        for queue_id, group, at in deed.moved:
            position[queue_id, group] = at
            done[queue_id, group].clear()
        for queue_id, group, (first, last) in deed.acked:
            done[queue_id, group].update(range(first, last + 1))
    for (queue_id, group), at in position.items():
        copies = book.live(queue_id)
        left = [copy for copy in copies if copy.sequence >= at and copy.sequence not in done[queue_id, group]]
        if left:
            found[queue_id, group] = left
    return found


def groups_get_everything(book: Book, history: History) -> None:
    """A consumer group has done a message only when one of its consumers had it, and has said so or had it too often; and it
    misses none: all that stays in the stream comes to it.
    """
    had: dict[tuple[int, str], set[int]] = defaultdict(set)
    for take in history.takes:
        had[take.queue_id, take.group].update(range(take.first, take.last + 1))
    said: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in history.said:
        if one.what in ("ack", "commit", "reject", "commit reject"):
            said[one.queue, one.group].update(s for a, b in one.ranges for s in range(a, b + 1))
    for deed in book.deeds:
        if deed.kind == "move_messages" and deed.command.move_messages.reason == SPENT:
            moved = deed.command.move_messages
            given_up = (s for x in moved.messages for s in range(x.range.first, x.range.last + 1))
            said[moved.queue, moved.group].update(given_up)
    for (queue_id, group), done in book.done.items():
        there = {s for s in done if s in book.copies[queue_id]}
        told = said[book.configs[queue_id].name, group]
        if missed := [s for s in there if s not in had[queue_id, group] or s not in told]:
            raise Violation(f"{group} has done what it did not have: {sorted(missed)}")
    for (queue_id, group), left in left_to_groups(book).items():
        raise Violation(f"{group} of {book.configs[queue_id].name} misses {[x.sequence for x in left[:10]]}")


def readers_see_everything(book: Book, readings: list[Reading]) -> None:
    """C15: a reader gets the messages of a stream in their order, never goes back, and misses only what is gone by then."""
    for reading in readings:
        copies = book.copies.get(book.ids[reading.queue], {})
        before = 0
        for sequence, body in reading.got:
            if sequence <= before:
                raise Violation(f"a reader of {reading.queue} goes back from {before} to {sequence}")
            if copies[sequence].body != body:
                raise Violation(f"a reader of {reading.queue} got {body!r}, {sequence} is {copies[sequence]}")
            if missed := [s for s in range(before + 1, sequence) if s in copies and not copies[s].end]:
                raise Violation(f"a reader of {reading.queue} misses {missed} before {sequence}")
            before = sequence


def left_to_readers(book: Book, readings: list[Reading]) -> list[str]:
    """The streams that were not read to their ends."""
    return [
        reading.queue
        for reading in readings
        if any(copy.sequence >= reading.next_sequence for copy in book.live(book.ids[reading.queue]))
    ]
