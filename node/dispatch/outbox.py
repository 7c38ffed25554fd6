"""What one queue has for the next entry of the log: records of deliveries, acknowledgements, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from node import limits
from node.commands import Command, acknowledge, delivered, move
from node.dispatch.ledger import Turn
from node.dispatch.ledgers import Ledgers
from node.dispatch.spans import Span, Spans, merged
from node.state.rows import QueueRow
from taskraft.v1 import queue_pb2

Answer = Callable[[BaseException | None], None]
"""Called once with None when what was asked is committed, or with why it is not."""
Ending = queue_pb2.DeadLetterReason
"""Why messages become dead letters; UNSPECIFIED: they do not, they are acknowledged."""
DONE = queue_pb2.DEAD_LETTER_REASON_UNSPECIFIED
REJECTED = queue_pb2.DEAD_LETTER_REASON_REJECTED
SPENT = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Settlement:
    """Messages on their way to their end, which wait for the next entry."""

    settled: list[Span[Turn]]
    ending: Ending
    answer: Answer


class Outbox:
    """Gathers until an entry is made. Deliveries are recorded with the next entry and are no reason for one."""

    def __init__(self, ledgers: Ledgers, group: str = "") -> None:
        """`group`: the consumer group of a stream that all this is of."""
        self._ledgers, self._group = ledgers, group
        self._settlements: list[Settlement] = []
        self._redelivered: Spans[int] = Spans()

    def add(self, settled: list[Span[Turn]], ending: Ending, answer: Answer) -> None:
        """Put settled messages into the next entry; `answer` is told how it went."""
        self._settlements.append(Settlement(settled, ending, answer))

    def redelivered(self, first: int, last: int, attempt: int) -> None:
        """These were delivered again, and this was which attempt."""
        self._redelivered.take(first, last)
        self._redelivered.add(first, last, attempt)

    @property
    def has_records(self) -> bool:
        """True if deliveries are not recorded yet."""
        return self._ledgers.has_marks or bool(self._redelivered)

    def commands(self, row: QueueRow) -> Iterator[tuple[Command, Answer]]:
        """What there is for the entry that is being made: deliveries first, then what is settled."""
        while self.has_records:
            watermark, priorities = self._ledgers.marks()
            again = list(islice(self._redelivered, limits.RANGES_MAX))
            if again:
                self._redelivered.take(again[0].first, again[-1].last)
            yield delivered(row, watermark, again, self._group, priorities), _ignore
        while self._settlements:
            ending, waiting, ranges = self._settlements[0].ending, [], 0
            while (
                self._settlements
                and self._settlements[0].ending == ending
                and ranges < limits.ANSWER_RANGES_MAX
            ):
                waiting.append(self._settlements.pop(0))
                ranges += len(waiting[-1].settled)
            yield self._command(row, waiting, ending), partial(_answer, waiting)

    def _command(self, row: QueueRow, waiting: list[Settlement], ending: Ending) -> Command:
        if ending == DONE:
            done = merged((span.first, span.last) for one in waiting for span in one.settled)
            return acknowledge(row, done, group=self._group)
        dead: Spans[int] = Spans()
        for one in waiting:
            for turn in one.settled:
                for span in self._ledgers.attempts(turn):
                    dead.add(*span)
        return move(row, dead, ending, self._group)

    def abandon(self, error: BaseException) -> None:
        """What waits never gets an entry."""
        waiting, self._settlements = self._settlements, []
        _answer(waiting, error)


def _answer(waiting: list[Settlement], error: BaseException | None) -> None:
    for one in waiting:
        one.answer(error)


def _ignore(error: BaseException | None) -> None:
    """Nobody waits for the record of a delivery."""
