"""What clients see of messages, judged at once: by what the log says, and by what their leader has decided."""

from collections import Counter
from collections.abc import Iterable

from taskraft.v1 import queue_pb2
from tests.sim.checks import Violation
from tests.sim.message_book import Book
from tests.sim.message_history import History, Take


class Witness:
    """Stands beside every client."""

    def __init__(self, book: Book, history: History, tally: Counter[str]) -> None:
        self._book, self._history, self._tally = book, history, tally
        self._takes: dict[tuple[str, int, int, int], Take] = {}
        self._indexed = 0

    def delivered(self, holder: str, queue: str, group: str, delivery: queue_pb2.Delivery) -> None:
        """C1: a delivery is what was published, as its leader has decided it."""
        count = len(delivery.messages)
        last = delivery.first_sequence + count - 1
        take = self._take(holder, delivery.first_sequence, last, delivery.attempt)
        if take is None:
            raise Violation(f"{holder} was sent {delivery}, which nobody has decided")
        for place, message in enumerate(delivery.messages):
            copy = self._book.copies[take.queue_id].get(delivery.first_sequence + place)
            if copy is None or copy.queue != queue or copy.message.body != message.body:
                raise Violation(f"{queue} delivers {message}, there is {copy}")
            if message != copy.message:
                raise Violation(f"{queue} delivers {message}, published was {copy.message}")
            if not place and delivery.publish_time.ToMilliseconds() != copy.at_ms:
                raise Violation(f"{queue} delivers {delivery}, it came at {copy.at_ms}")
            letter = queue_pb2.DeadLetter()
            letter.CopyFrom(delivery.dead_letter)
            letter.source_sequence += place * delivery.HasField("dead_letter")
            if letter != (copy.letter or queue_pb2.DeadLetter()):
                raise Violation(f"{queue} delivers {delivery}, there is {copy.letter}")
        self._tally["delivered"] += count

    def _take(self, *wanted: *tuple[str, int, int, int]) -> Take | None:
        """The decision to deliver to that holder these messages, first and last, with that attempt."""
        takes = self._history.takes
        for take in takes[self._indexed :]:
            if not take.claimed:
                self._takes[take.holder, take.first, take.last, take.attempt] = take
        self._indexed = len(takes)
        return self._takes.get(wanted)

    def told_acked(self, queue: str, group: str, ranges: Iterable[queue_pb2.SequenceRange]) -> None:
        """Acknowledged means committed: what a consumer is told to be done is gone, or its group has done it."""
        queue_id = self._book.ids[queue]
        done = self._book.done.get((queue_id, group), set())
        copies = self._book.copies[queue_id]
        for one in ranges:
            for sequence in range(one.first, one.last + 1):
                copy = copies.get(sequence)
                if copy is None or not (copy.end or sequence in done):
                    raise Violation(
                        f"{queue} {group}: {sequence} is acknowledged, and the log does not say so"
                    )
                self._tally["acknowledged"] += 1
