"""Promises about messages that go from one queue to another: dead letters, delayed ones, and what transactions make of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from node.state.results import Refused
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2
from tests.sim.checks import Violation
from tests.sim.message_book import Book, Copy, Deed
from tests.sim.message_history import History

SPENT = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS
EXPIRED = queue_pb2.DEAD_LETTER_REASON_EXPIRED
OVERFLOW = queue_pb2.DEAD_LETTER_REASON_OVERFLOW
REASONS = {"advance_queues": EXPIRED, "publish": OVERFLOW}


# Dead letters ---------------------------------------------------------------------------------------------------------


def dead_letters_are_exact(book: Book, history: History) -> None:
    """What is given up is in the dead-letter queue once, in the same commit, with its source, reason, attempts and times;
    and nothing else is there.
    """
    attempts = _attempts(history)
    gone: dict[tuple[int, int], list[Copy]] = defaultdict(list)
    for copies in book.copies.values():
        for copy in copies.values():
            if copy.by is not None:
                gone[copy.by.index, copy.by.place].append(copy)
    done: dict[tuple[int, str], set[int]] = defaultdict(set)
    for deed in book.deeds:
        ended = [(copy, "") for copy in gone[deed.index, deed.place]] + _ended_for_groups(book, deed, done)
        due = Counter(
            (copy.queue, group, copy.sequence, _reason(deed, copy, group))
            for copy, group in ended
            if _reason(deed, copy, group) and book.configs[copy.queue_id].dead_letter_queue in book.ids
        )
        letters = [copy for copy in deed.came if copy.letter is not None]
        there = Counter(
            (x.letter.source, x.letter.group, x.letter.source_sequence, x.letter.reason)
            for x in letters
            if x.letter
        )
        if due != there:
            raise Violation(f"entry {deed.index} made the dead letters {there}, due were {due}")
        for copy in letters:
            _letter_is_right(book, copy, attempts)


def _ended_for_groups(
    book: Book, deed: Deed, done: dict[tuple[int, str], set[int]]
) -> list[tuple[Copy, str]]:
    """What consumer groups had not done before a command, and have done by it; `done` goes along."""
    found: list[tuple[Copy, str]] = []
    for queue_id, group, _ in deed.moved:
        done[queue_id, group].clear()
    for queue_id, group, (first, last) in deed.acked:
        before = done[queue_id, group]
        for sequence in range(first, last + 1):
            copy = book.copies.get(queue_id, {}).get(sequence)
            if copy is None or sequence in before:
                continue
            if copy.by is None or (copy.by.index, copy.by.place) >= (deed.index, deed.place):
                found.append((copy, group))
        before.update(range(first, last + 1))
    return found


def _reason(deed: Deed, copy: Copy, group: str) -> int:
    """Why a message became a dead letter by that; 0 if it did not."""
    for part in deed.parts():
        kind = part.WhichOneof("kind") or ""
        moved = part.move_messages
        if kind == "move_messages" and (moved.queue, moved.group) == (copy.queue, group) and moved.reason:
            ranges = [one.range for one in moved.messages]
            if any(one.first <= copy.sequence <= one.last for one in ranges):
                return moved.reason
    return REASONS.get(deed.kind, 0) if not group else 0


Attempts = dict[tuple[int, str, int], list[tuple[int, int]]]
"""By queue, group and sequence: (applied, attempt) of its deliveries; attempt 0 where nobody has said it."""


def _attempts(history: History) -> Attempts:
    found: Attempts = defaultdict(list)
    for take in history.takes:
        for sequence in range(take.first, take.last + 1):
            found[take.queue_id, take.group, sequence].append((take.applied, take.attempt))
    return found


def _letter_is_right(book: Book, copy: Copy, attempts: Attempts) -> None:
    letter = copy.letter
    assert letter is not None
    source_id = book.ids[letter.source]
    source, config = book.copies[source_id][letter.source_sequence], book.configs[source_id]
    if source.body != copy.body or letter.publish_time.ToMilliseconds() != source.at_ms:
        raise Violation(f"a dead letter is not what it was: {copy}, {source}")
    if config.dead_letter_queue != copy.queue:
        raise Violation(f"a dead letter of {config.name} is in {copy.queue}: {copy}")
    if letter.reason == SPENT and letter.attempts < config.max_attempts:
        raise Violation(f"given up too early: {copy}")
    if config.max_attempts and letter.attempts > config.max_attempts:
        raise Violation(f"delivered too often: {copy}")
    told = attempts[source_id, letter.group, source.sequence]
    known = [attempt for applied, attempt in told if applied < copy.index]
    if letter.reason not in REASONS.values() and known and known[-1] and known[-1] != letter.attempts:
        raise Violation(f"{copy} says {letter.attempts} attempts, the last one was {known[-1]}")


def attempts_end(book: Book, history: History) -> None:
    """No message is delivered more often than its queue says."""
    for take in history.takes:
        most = book.configs[take.queue_id].max_attempts
        if most and take.attempt > most:
            raise Violation(f"at most {most} deliveries: {take}")


# Time -----------------------------------------------------------------------------------------------------------------


def nothing_is_early(book: Book) -> None:
    """Delayed messages come into their queues when they are due by the leaders' time, and not before; all others at once."""
    stored: dict[bytes, int] = {}
    for deed in book.deeds:
        if deed.kind == "publish" and not isinstance(deed.result, Refused):
            for message in internal.Chunk.FromString(deed.command.publish.chunk).messages:
                stored.setdefault(message.body, deed.time_ms)
    for copies in book.copies.values():
        for copy in copies.values():
            if copy.letter is not None or copy.redriven:
                continue
            came_ms = stored.get(copy.body, copy.at_ms)
            due_ms = max(
                came_ms + copy.message.delay.ToMilliseconds(), copy.message.deliver_time.ToMilliseconds()
            )
            if copy.at_ms < due_ms:
                raise Violation(f"{copy} is early, it is due at {due_ms}")


# Transactions ---------------------------------------------------------------------------------------------------------


def output_of(where: str, body: bytes) -> bytes:
    """What a processor makes of a message that it got there."""
    return f"{where}:".encode() + body


def outputs(book: Book, inputs: Iterable[tuple[str, str]]) -> set[bytes]:
    """All that processors can have made."""
    return {
        output_of(queue + group, copy.body)
        for queue, group in inputs
        for copy in book.copies.get(book.ids[queue], {}).values()
    }


def each_input_has_one_output(book: Book, inputs: Iterable[tuple[str, str]]) -> None:
    """Exactly once: the commit that acknowledges an input has its output, one commit for each input, and no other has any.
    `inputs` are (queue, group).
    """
    ids = {(book.ids[queue], group): queue + group for queue, group in inputs}
    made: Counter[bytes] = Counter()
    ended: Counter[bytes] = Counter()
    for deed in book.deeds:
        done: list[tuple[int, str, tuple[int, int]]] = list(deed.acked)
        done += [(queue_id, "", span) for queue_id, span in deed.gone]
        taken = [
            output_of(ids[queue_id, group], copy.body)
            for queue_id, group, (first, last) in done
            if (queue_id, group) in ids
            for copy in _between(book, queue_id, first, last)
        ]
        known = set(outputs_of(deed))
        if Counter(taken) != Counter(known):
            raise Violation(
                f"entry {deed.index} takes {sorted(taken)} and makes {sorted(known)}: {deed.command}"
            )
        ended.update(taken)
        made.update(known)
    if twice := [body for body, count in (made + ended).items() if count != 2]:
        raise Violation(f"processed twice: {twice}")


def outputs_of(deed: Deed) -> list[bytes]:
    """What a commit has published of other messages."""
    return [
        copy.body for copy in deed.came if b":" in copy.body and copy.letter is None and not copy.redriven
    ]


def _between(book: Book, queue_id: int, first: int, last: int) -> list[Copy]:
    copies = book.copies.get(queue_id, {})
    return [
        copies[sequence]
        for sequence in range(first, min(last, max(copies, default=0)) + 1)
        if sequence in copies
    ]
