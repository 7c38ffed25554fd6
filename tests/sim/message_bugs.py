"""Planted bugs in what a cluster does with messages: such as a careless change could bring back, and how each one shows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from node.dispatch.keys import _Key
from node.dispatch.ledger import Again, Ledger
from node.dispatch.ledgers import Ledgers
from node.dispatch.queue import QueueDispatch
from node.dispatch.readers import Readers
from node.state import dead_letters, groups, parts, publish, transactions
from node.state.dedup import Requests
from node.state.results import Published, Result
from node.state.tables import Position, Tables
from tests.sim.message_faults import MessageRates


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageBug:
    """One broken part, and how that shows."""

    shows_as: str
    """A regular expression: the violated promise, or the assertion that stands in front of it."""
    patches: dict[str, object] = field(default_factory=dict)
    """What is replaced, by its dotted name."""
    rates: MessageRates = field(default_factory=MessageRates)
    seed: int = 1
    """Where to begin to look for a run that notices."""


# The state.

copy, due, stored_of_topic = dead_letters.copy, parts.due, publish._of_topic
first_pending, commit = groups.first_pending, transactions.commit


def buries_twice(*arguments: Any) -> None:
    """A dead letter is in the dead-letter queue two times."""
    copy(*arguments)
    copy(*arguments)


def is_early(execute: Any, backlog: int, by_ms: int, limit: int) -> Any:
    """What is due in the next moment counts as due."""
    return due(execute, backlog, by_ms + 700, limit)


def keeps_what_came(*arguments: Any) -> None:
    """A delayed message that came into its queue stays where it waited, too."""


def forgets_a_queue(*arguments: Any) -> Any:
    """The last queue of a topic gets nothing."""
    shares = stored_of_topic(*arguments)
    return shares[:-1] if isinstance(shares, list) and len(shares) > 1 else shares


def skips_one(tables: Tables, row: Any, group: Any, at: int) -> int:
    """A group goes on one message too far."""
    position = first_pending(tables, row, group, at)
    return min(position + 1, row.next_sequence) if position % 5 == 0 else position


def does_half(tables: Tables, at: Position, command: Any, perform: Any) -> Result:
    """A transaction publishes, and forgets what it was to acknowledge."""

    def perform_some(tables: Tables, at: Position, kind: str, content: Any) -> Result:
        return Published(0, 0) if kind == "ack" else perform(tables, at, kind, content)

    return commit(tables, at, command, perform_some)


# The leader.

ack, unclaimed, expire, again = QueueDispatch.ack, Ledger._unclaimed, Ledger.expire, Ledger._again
expires = QueueDispatch._expires
come_back, gathered = Ledger._return, Readers._gather


def acknowledges_at_once(self: QueueDispatch, consumer: Any, ranges: Iterable[tuple[int, int]]) -> None:
    """A consumer is told that its messages are done when it says so."""
    ranges = list(ranges)
    consumer.acked.extend(ranges)
    consumer.signal.set()
    ack(self, consumer, ranges)


def forgets_attempts(self: Ledger, span: Any, reason: Any) -> None:
    """What comes back was never delivered."""
    again(self, span._replace(value=span.value._replace(attempt=max(1, span.value.attempt - 1))), reason)


def delivers_for_ever(self: Ledger, first: int, last: int, again: Again) -> None:
    """The most attempts of a queue are not looked at."""
    most, self.attempts_max = self.attempts_max, 0
    come_back(self, first, last, again)
    self.attempts_max = most


def ends_leases_early(self: Ledger, holder: str, now_ms: int) -> int | None:
    """Leases end before their time."""
    return expire(self, holder, now_ms + 600)


def looks_early(self: QueueDispatch, holder: str, expires_ms: int) -> None:
    """And are looked at before that."""
    expires(self, holder, expires_ms - 600)


def keeps_what_is_lost(self: Ledger, holder: str) -> None:
    """What a lost consumer had stays its own."""


def looks_at_no_key(self: _Key, per_key: int) -> Any:
    """Whatever is in flight, the next message of a key may go."""
    return self.waiting[0] if self.waiting else None


def parks_for_ever(self: _Key, per_key: int) -> Any:
    """A key that was busy once is never free again."""
    busy = self.messages > 3
    return None if busy or not self.waiting or self.in_flight else self.waiting[0]


def lowest_first(self: Ledgers, now_ms: int) -> Any:
    """The lowest priority is served first."""
    for level in reversed(self._levels):
        if found := level.next(now_ms):
            return found
    return None


def reads_past_one(self: Readers, reader: Any) -> Any:
    """A reader misses what follows a delivery of several messages."""
    parcel = gathered(self, reader)
    if parcel is not None and parcel.count > 3:
        reader.at += 1
    return parcel


def knows_no_request(self: Requests, request_id: str, scope: str, time_ms: int) -> None:
    """Each try of a call is a call of its own."""


def is_anybodys(ledger: Ledger, first: int, last: int) -> Any:
    """Who claims messages gets them, whoever has them."""
    for holder in list(ledger._held):
        for span in ledger._held[holder].take(first, last):
            again(ledger, span, "consumer_lost")
    return unclaimed(ledger, first, last)


BUGS: dict[str, MessageBug] = {
    "a dead letter is made twice": MessageBug(
        patches={"node.state.dead_letters.copy": buries_twice},
        shows_as="made the dead letters",
        seed=2,
    ),
    "delayed messages come early": MessageBug(
        patches={"node.state.parts.due": is_early},
        shows_as="is early|is lost|lost .* without cause",
        seed=2,
    ),
    "delayed messages come twice": MessageBug(
        patches={"node.state.queue_times.parts.delete": keeps_what_came},
        shows_as="came twice|Value out of range|differ at applied index",
        seed=3,
    ),
    "one queue of a topic is forgotten": MessageBug(
        patches={"node.state.publish._of_topic": forgets_a_queue},
        shows_as="acknowledged and is lost|came in part",
    ),
    "a group goes too far": MessageBug(
        patches={"node.state.groups.first_pending": skips_one},
        shows_as="not done by groups|the log does not say so",
    ),
    "a transaction is done by half": MessageBug(
        patches={"node.state.transactions.commit": does_half}, shows_as="takes .* and makes"
    ),
    "a request is done at each try": MessageBug(
        patches={"node.state.dedup.Requests.find": knows_no_request}, shows_as="came twice|takes .* and makes"
    ),
    "acknowledgements are told before they are committed": MessageBug(
        patches={"node.dispatch.queue.QueueDispatch.ack": acknowledges_at_once},
        shows_as="is acknowledged, and the log does not say so",
    ),
    "attempts are not counted": MessageBug(
        patches={"node.dispatch.ledger.Ledger._again": forgets_attempts},
        shows_as="has attempt",
        seed=3,
    ),
    "attempts have no end": MessageBug(
        patches={"node.dispatch.ledger.Ledger._return": delivers_for_ever},
        shows_as="deliveries: Take|delivered too often",
        seed=6,
    ),
    "leases end early": MessageBug(
        patches={
            "node.dispatch.ledger.Ledger.expire": ends_leases_early,
            "node.dispatch.queue.QueueDispatch._expires": looks_early,
        },
        shows_as="delivered twice without cause",
    ),
    "what a lost consumer had is not delivered again": MessageBug(
        patches={"node.dispatch.ledger.Ledger.release": keeps_what_is_lost},
        shows_as="of calm not d|AssertionError",
        seed=2,
    ),
    "keys are not looked at": MessageBug(
        patches={"node.dispatch.keys._Key.next": looks_at_no_key}, shows_as="of key [xyz], while"
    ),
    "what waits for its key waits for ever": MessageBug(
        patches={"node.dispatch.keys._Key.next": parks_for_ever},
        shows_as="of calm not d|of key [xyz], while",
        seed=3,
    ),
    "the lowest priority is first": MessageBug(
        patches={"node.dispatch.ledgers.Ledgers.next": lowest_first},
        shows_as="of priority",
        seed=2,
    ),
    "a reader misses one": MessageBug(
        patches={"node.dispatch.readers.Readers._gather": reads_past_one}, shows_as="a reader of .* misses"
    ),
    "a claim takes what others have": MessageBug(
        patches={"node.dispatch.ledger.Ledger._unclaimed": is_anybodys},
        shows_as="delivered twice without cause|AssertionError",
        seed=3,
    ),
}
