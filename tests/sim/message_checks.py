"""What must hold of messages in every run: each promise is one function over what was recorded.

`message_book.py` is what the log says, `message_history.py` what leaders and clients did; a Violation says who broke what.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from node import limits
from taskraft.v1 import queue_pb2
from tests.sim.checks import Violation
from tests.sim.message_book import Book, Copy
from tests.sim.message_hands import SLACK_S, Hands, replay
from tests.sim.message_history import History, Said, Take
from tests.sim.message_world import Publication

DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
STREAM = queue_pb2.QUEUE_KIND_STREAM


# C1: nothing is lost, nothing comes from nowhere ----------------------------------------------------------------------


def bound(pattern: str, topic: str) -> bool:
    """Whether a pattern is for a topic: `*` is one word, `>` at the end one or more."""
    words, asked = topic.split("."), pattern.split(".")
    if asked[-1] == ">":
        asked, words = asked[:-1], words[: len(asked) - 1] + ([] if len(words) >= len(asked) else ["?"])
    return len(asked) == len(words) and all(a in ("*", w) for a, w in zip(asked, words, strict=True))


def meant(book: Book, made: Publication) -> Iterator[tuple[str, bytes]]:
    """(queue, body) of every message that a publication is to bring. Of a key only the last one comes where the queue keeps
    no more.
    """
    last = {message.key: message.body for message in made.messages if message.key}
    for message in made.messages:
        for queue in book.configs.values():
            if queue.compaction and last.get(message.key, message.body) != message.body:
                continue
            if made.target == queue.name or any(
                bound(binding.pattern, made.target.removeprefix("topics/"))
                and all(message.headers.get(key) == value for key, value in binding.headers.items())
                for binding in queue.bindings
                if made.target.startswith("topics/")
            ):
                yield queue.name, message.body


def nothing_is_lost(book: Book, publications: Iterable[Publication], outputs: set[bytes]) -> None:
    """C1: what a publish was acknowledged for has come to each queue that it is for, once; what was refused has not; and
    where nobody knows, all of it or nothing. `outputs` are the bodies that transactions may have published.
    """
    came = Counter(
        (copy.queue, copy.body)
        for copies in book.copies.values()
        for copy in copies.values()
        if copy.letter is None and not copy.redriven
    )
    for made in publications:
        counts = {where: came.pop(where, 0) for where in meant(book, made)}
        if any(count > 1 for count in counts.values()):
            raise Violation(f"a publication came twice: {made} {counts}")
        if made.outcome == "stored" and not all(counts.values()):
            raise Violation(f"a message was acknowledged and is lost: {made} {counts}")
        if made.outcome == "refused" and any(counts.values()):
            raise Violation(f"a publication was refused, and came: {made} {counts}")
        if any(counts.values()) and not all(counts.values()):
            raise Violation(f"a publication came in part: {made} {counts}")
    if unexpected := [where for where in came if where[1] not in outputs]:
        raise Violation(f"messages came from nowhere: {unexpected}")


def left_in_queues(book: Book) -> list[str]:
    """C12: what is in work queues still, when consumers had their time."""
    return [
        f"{copy.queue} {copy.sequence} {copy.message}"
        for queue_id, config in book.configs.items()
        if config.kind != STREAM and config.name in book.ids
        for copy in book.live(queue_id)
    ]


def ends_have_causes(book: Book, history: History) -> None:
    """C1: a message goes when a consumer that had it has said so, when its time is over, or when it makes room."""
    finished: dict[str, set[int]] = defaultdict(set)
    for said in history.said:
        if said.what in ("ack", "commit", "reject", "commit reject") and not said.group:
            finished[said.queue].update(s for first, last in said.ranges for s in range(first, last + 1))
    for copies in book.copies.values():
        for copy in copies.values():
            if copy.end and not _has_cause(book, copy, finished[copy.queue]):
                raise Violation(f"{copy.queue} lost {copy.sequence} without cause: {copy.by}")


def _has_cause(book: Book, copy: Copy, finished: set[int]) -> bool:
    assert copy.by is not None
    config = book.configs[copy.queue_id]
    for part in copy.by.parts():
        match part.WhichOneof("kind"):
            case "ack" if part.ack.queue == copy.queue and copy.sequence in finished:
                return True
            case "move_messages" if part.move_messages.queue == copy.queue:
                moved = part.move_messages
                rejected = moved.reason == queue_pb2.DEAD_LETTER_REASON_REJECTED
                return not rejected or copy.sequence in finished
            case "advance_queues" if _is_over(copy, config, copy.end_ms):
                return True
            case "publish" if config.overflow_policy == DROP_OLDEST or config.compaction:
                return True
            case "purge_queue" | "delete_queue" | "update_queue":
                return True
    return False


def _is_over(copy: Copy, config: queue_pb2.Queue, now_ms: int) -> bool:
    """Whether the time of a message is over."""
    times = [copy.message.ttl.ToMilliseconds(), config.max_age.ToMilliseconds()]
    return any(ms and now_ms >= copy.at_ms + ms for ms in times)


# C2: every second delivery has a reason -------------------------------------------------------------------------------


def redeliveries_are_explained(book: Book, history: History) -> None:
    """C2: a message goes to somebody else only when it was given back, its lease is over, its holder is gone, its group was
    moved, or another node leads.
    """
    gone = {left.holder: left for left in history.left}
    told: dict[str, list[Said]] = defaultdict(list)
    for said in history.said:
        if said.what in ("nack", "extend"):
            told[said.holder].append(said)
    seeks = moves(book)
    last: dict[tuple[int, str, int], Take] = {}
    for take in history.takes:
        for sequence in range(take.first, take.last + 1):
            where = (take.queue_id, take.group, sequence)
            before, last[where] = last.get(where), take
            if before is None or before.term != take.term:
                continue
            left = gone.get(before.holder)
            if left is not None and left.number < take.number:
                continue
            if any(before.applied < index <= take.applied for index in seeks[where[:2]]):
                continue
            if not _was_given_back(before, take, sequence, told[before.holder]):
                raise Violation(f"{sequence} is delivered twice without cause: {before}, then {take}")


def moves(book: Book) -> dict[tuple[int, str], list[int]]:
    """The entries in which each consumer group, by queue and name, was made or moved."""
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for deed in book.deeds:
        for queue_id, group, _ in deed.moved:
            found[queue_id, group].append(deed.index)
    return found


def _was_given_back(before: Take, take: Take, sequence: int, told: list[Said]) -> bool:
    ends_s = before.at_s + before.lease_ms / 1000 if before.lease_ms else 0.0
    for said in told:
        if before.number < said.number < take.number and any(a <= sequence <= b for a, b in said.ranges):
            if said.term == 0:  # on a node that did not lead when it heard it
                ends_s = min(ends_s, said.at_s)
            elif ends_s and said.at_s > ends_s - SLACK_S:
                break  # the lease was over, or may have been
            elif said.what == "nack":
                return take.claimed or take.at_s >= said.at_s + said.ms / 1000 - SLACK_S
            else:
                ends_s = said.at_s + said.ms / 1000
    return bool(ends_s) and take.at_s >= ends_s - SLACK_S


def attempts_are_counted(book: Book, history: History) -> None:
    """C2: a delivery says how often the message was delivered: one more than before by the same leader, and with another
    leader at least one more than the log said when it began, and never more than there were. A group that was moved begins
    anew.
    """
    recorded, seeks = Recorded(book), moves(book)
    before: dict[tuple[int, str, int], tuple[int, int]] = {}
    before_at: dict[tuple[int, str, int], int] = {}
    count: Counter[tuple[int, str, int]] = Counter()
    for take in history.takes:
        for sequence in range(take.first, take.last + 1):
            where = (take.queue_id, take.group, sequence)
            if take.claimed:
                before.pop(where, None)
                continue
            term, attempt = before.get(where, (0, 0))
            moved = max((index for index in seeks[where[:2]] if index <= take.applied), default=0)
            least = recorded.by(moved, history.led[take.term].applied, where)
            if term == take.term and attempt and moved <= before_at[where]:
                fair = take.attempt == attempt + 1
            else:
                fair = least < take.attempt <= count[where] + 1
            if not fair:
                raise Violation(
                    f"{where} has attempt {take.attempt}, {count[where]} before, the last {term} {attempt}"
                )
            before[where], before_at[where] = (take.term, take.attempt), take.applied
            count[where] += 1


class Recorded:
    """What the log says of deliveries."""

    def __init__(self, book: Book) -> None:
        self._records: dict[tuple[int, str], list[tuple[int, int, int, int, int]]] = defaultdict(list)
        """By queue and group: (entry, first, last, attempt, priority)."""
        self._priorities = {
            (queue_id, copy.sequence): copy.priority
            for queue_id, copies in book.copies.items()
            for copy in copies.values()
        }
        names = {config.name: queue_id for queue_id, config in book.configs.items()}
        for deed in book.deeds:
            if deed.kind == "delivered" and deed.command.delivered.queue in names:
                record = deed.command.delivered
                found = self._records[names[record.queue], record.group]
                found.append((deed.index, 1, record.watermark, 1, 0))
                found += [(deed.index, 1, mark.watermark, 1, mark.priority) for mark in record.priorities]
                found += [
                    (deed.index, one.range.first, one.range.last, one.attempt, -1)
                    for one in record.redelivered
                ]

    def by(self, since: int, index: int, where: tuple[int, str, int]) -> int:
        """How often a message was delivered in these entries, as far as the log says."""
        queue_id, group, sequence = where
        priority = self._priorities.get((queue_id, sequence), 0)
        found = 0
        for at, first, last, attempt, of in self._records[queue_id, group]:
            if since < at <= index and first <= sequence <= last and of in (-1, priority):
                found = max(found, attempt)
        return found


# C4, C5: order --------------------------------------------------------------------------------------------------------


def order_is_kept(book: Book, history: History) -> None:
    """C4, C5: of each queue, what its settings promise, as the leader knew things when it decided.

    Settings that change while it runs are judged by what they are at the end, so those that are judged here do not change.
    What a redrive has reserved and not moved is passed by others meanwhile.
    """
    for queue_id, config in book.configs.items():
        if config.kind == STREAM:
            continue
        fresh: dict[tuple[int, int], int] = {}
        for take, sequence, hands in replay(book, history, queue_id):
            copy = hands.live.get(sequence)
            if copy is None:
                raise Violation(f"{config.name}: {take} takes {sequence}, which is not there")
            if take.claimed:
                continue
            if config.max_in_flight_per_key:
                key_is_free(config, take, copy, hands)
            elif not any(
                number < take.number and (term, name) == (take.term, config.name)
                for number, term, name in history.redrives
            ):
                comes_in_order(config, take, copy, fresh)
            if take.at_s > history.led[take.term].at_s + limits.FAILOVER_GRACE_MS / 1000 + SLACK_S:
                highest_is_first(config, take, copy, hands)


def comes_in_order(
    config: queue_pb2.Queue, take: Take, copy: Copy, fresh: dict[tuple[int, int], int]
) -> None:
    """FIFO: what is delivered for the first time comes in the order of its sequences, within a priority."""
    if take.attempt == 1:
        where = (take.term, copy.priority)
        if fresh.get(where, 0) > copy.sequence:
            raise Violation(f"{config.name}: {copy.sequence} is delivered after {fresh[where]}: {take}")
        fresh[where] = copy.sequence


def key_is_free(config: queue_pb2.Queue, take: Take, copy: Copy, hands: Hands) -> None:
    """C4: no more messages of a key are in flight than the queue says, and they go in their order: an earlier one that
    could go is not left behind. With `hold_key` those that were given back for later count as well.
    """
    key = copy.message.key
    if not key:
        return
    same = [s for s, other in hands.live.items() if other.message.key == key and s != copy.sequence]
    flying = [s for s in same if hands.in_flight(s, take.at_s)]
    if len(flying) >= config.max_in_flight_per_key:
        raise Violation(f"{config.name}: {take} of key {key}, while {flying} are in flight")
    for sequence in same:
        if sequence > copy.sequence or hands.live[sequence].priority != copy.priority:
            continue
        waits = config.hold_key and hands.delayed.get(sequence, 0.0) > take.at_s
        if waits or hands.available(sequence, take.at_s, config.max_attempts):
            raise Violation(f"{config.name}: {take} of key {key}, while {sequence} waits")


def highest_is_first(config: queue_pb2.Queue, take: Take, copy: Copy, hands: Hands) -> None:
    """C5: nothing of a higher priority could have been delivered instead."""
    if config.max_in_flight_per_key:
        return
    for sequence, other in hands.live.items():
        if other.priority > copy.priority and hands.available(sequence, take.at_s, config.max_attempts):
            raise Violation(
                f"{config.name}: {take} of priority {copy.priority}, while {sequence} of {other.priority} waits"
            )
