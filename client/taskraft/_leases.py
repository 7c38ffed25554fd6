"""What a consumer has and owes: deliveries, acknowledgements and credit, without I/O.

A delivered message is `open` until the application settles it. An acknowledged one is `owed` until it is written to a
stream, then `sent` until the broker confirms it; one that a transaction settles is `enlisted` until that is answered. When a stream breaks, the next one asks for all of them back: open
ones are still being worked on, acknowledgements without confirmation are written again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskraft import _failures, errors
from taskraft._ranges import Range, Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Waiter:
    """Somebody who waits until these acknowledgements are settled; `strict`: and wants an error if one is lost."""

    __slots__ = ("done", "ranges", "strict")

    def __init__(self, ranges: list[Range], strict: bool) -> None:
        self.ranges = ranges
        self.strict = strict
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Leases:
    """The ledger of one consumer. Invariant: a sequence is in at most one of `open`, `owed`, `sent` and `enlisted`."""

    def __init__(self, prefetch: int, prefetch_bytes: int) -> None:
        assert prefetch > 0
        assert prefetch_bytes > 0
        self.prefetch = prefetch
        self.prefetch_bytes = prefetch_bytes
        self.open = Ranges()
        self.owed = Ranges()
        self.sent = Ranges()
        self.enlisted = Ranges()
        self.lost = Ranges()  # acknowledgements that came to nothing since the last `settle`
        self.withdrawn = Ranges()  # leases that ended while the application had the messages
        self.credit = 0  # granted on this stream and not used yet
        self.credit_bytes = 0
        self.waiting_bytes = 0  # delivered and not handed to the application yet
        self._acks: list[list[int]] = []
        self._nacks: dict[float | None, Ranges] = {}
        self._waiters: list[Waiter] = []

    def delivered(self, first: int, last: int, size_bytes: int) -> None:
        self.withdrawn.take(first, last)
        self.enlisted.take(first, last)
        self.open.add(first, last)
        self.credit -= last - first + 1
        self.credit_bytes -= size_bytes
        self.waiting_bytes += size_bytes

    def ack(self, first: int, last: int) -> None:
        """Note an acknowledgement: cheap, because it is called for each message."""
        acks = self._acks
        if acks and acks[-1][1] + 1 == first:
            acks[-1][1] = last
        else:
            acks.append([first, last])

    def nack(self, first: int, last: int, delay: float | None) -> None:
        """Give messages back; without a delay: never to be delivered again."""
        self.collect()
        for one in self.open.take(first, last):
            self._nacks.setdefault(delay, Ranges()).add(*one)
        self.withdrawn.take(first, last)

    def collect(self) -> None:
        """Turn what was noted into what is owed; an acknowledgement whose lease has ended is lost."""
        acks, self._acks = self._acks, []
        for first, last in acks:
            for one in self.open.take(first, last):
                self.owed.add(*one)
            for one in self.withdrawn.take(first, last):
                self.lost.add(*one)

    def enlist(self, ranges: Iterable[Range]) -> None:
        """A transaction that settles these is on its way."""
        self.collect()
        for first, last in ranges:
            for one in self.open.take(first, last):
                self.enlisted.add(*one)

    def delist(self, ranges: Iterable[Range], *, done: bool) -> None:
        """The transaction is done, or has failed: what of these was not lost meanwhile is open again then."""
        for first, last in ranges:
            left = self.enlisted.take(first, last)
            if done:
                self.withdrawn.take(first, last)
                continue
            for one in left:
                self.open.add(*one)

    def take_acks(self, *, closing: bool) -> list[Range]:
        """Acknowledgements to write now: one request is under way at a time, unless a large part is owed."""
        self.collect()
        if not self.owed or (self.sent and self.owed.count < self.prefetch // 2 and not closing):
            return []
        ranges = list(self.owed)
        self.owed = Ranges()
        for one in ranges:
            self.sent.add(*one)
        return ranges

    def take_nacks(self) -> Iterator[tuple[float | None, list[Range]]]:
        nacks, self._nacks = self._nacks, {}
        for delay, ranges in nacks.items():
            yield delay, list(ranges)

    def take_credit(self, *, starved: bool) -> tuple[int, int]:
        """Messages and bytes to grant now: when half is free, or anything while the application waits for more.

        Acknowledgements that the broker is slow to confirm take away credit once they are more than `prefetch`.
        """
        excess = max(0, self.owed.count + self.sent.count + self.enlisted.count - self.prefetch)
        messages = _grant(self.prefetch, self.open.count + excess, self.credit, starved)
        size_bytes = _grant(self.prefetch_bytes, self.waiting_bytes, self.credit_bytes, starved)
        self.credit += messages
        self.credit_bytes += size_bytes
        return messages, size_bytes

    def confirmed(self, ranges: Iterable[Range]) -> None:
        for first, last in ranges:
            self.sent.take(first, last)
        self._wake(())

    def gone(self, ranges: Iterable[Range]) -> None:
        """The broker says that these were not leased to this stream any more."""
        ranges = list(ranges)
        for first, last in ranges:
            for one in (*self.open.take(first, last), *self.enlisted.take(first, last)):
                self.withdrawn.add(*one)
            for lost in (*self.owed.take(first, last), *self.sent.take(first, last)):
                self.lost.add(*lost)
        self._wake(ranges)

    def held(self) -> list[Range]:
        """What to ask a new stream for; the nacks of the old one are void, as the leases are not asked for."""
        self.collect()
        self._nacks.clear()
        self.credit = self.credit_bytes = 0
        everything = Ranges(self.open)
        for one in (*self.owed, *self.sent, *self.enlisted):
            everything.add(*one)
        return list(everything)

    def resumed(self, asked: list[Range], granted: Iterable[Range]) -> list[Range]:
        """A new stream has these leases. Returns what was lost of what was asked for."""
        missing = Ranges(asked)
        for first, last in granted:
            missing.take(first, last)
        unsure = [one for first, last in missing for one in self.sent.take(first, last)]
        for one in unsure:
            self.lost.add(*one)
        self._wake(
            unsure, errors.CommitUnknown("the connection broke before the acknowledgement was confirmed")
        )
        self.gone(missing)
        again, self.sent = self.sent, Ranges()
        for one in again:
            self.owed.add(*one)
        return list(missing)

    def wait_for(self, ranges: list[Range], *, strict: bool) -> asyncio.Future[None]:
        """Done when none of these acknowledgements is owed or sent any more.

        If it is `strict` and one comes to nothing, it fails with LeaseLost, or with CommitUnknown if that is not
        certain.
        """
        waiter = Waiter(ranges, strict)
        self._waiters.append(waiter)
        self._wake(())
        return waiter.done

    @property
    def nothing_owed(self) -> bool:
        return not (self._acks or self.owed or self.sent or self._nacks)

    def is_on_its_way(self, first: int, last: int) -> bool:
        """True if all of these acknowledgements are owed or sent."""
        missing = Ranges([(first, last)])
        for one in (*self.owed, *self.sent):
            missing.take(*one)
        return not missing

    def take_lost(self) -> list[Range]:
        lost, self.lost = self.lost, Ranges()
        return list(lost)

    def _wake(self, lost: Iterable[Range], error: errors.TaskraftError | None = None) -> None:
        lost = list(lost)
        waiting: list[Waiter] = []
        for waiter in self._waiters:
            if waiter.done.done():
                continue
            if waiter.strict and any(
                first <= one[1] and one[0] <= last for first, last in lost for one in waiter.ranges
            ):
                waiter.done.set_exception(_failures.copy(error or errors.LeaseLost()))
            elif self._unsettled(waiter.ranges):
                waiting.append(waiter)
            else:
                waiter.done.set_result(None)
        self._waiters = waiting

    def _unsettled(self, ranges: list[Range]) -> bool:
        return any(self.owed.overlaps(*one) or self.sent.overlaps(*one) for one in ranges)

    def fail(self, error: errors.TaskraftError) -> None:
        """There will be no other stream."""
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(_failures.copy(error))
        self._waiters.clear()


def _grant(limit: int, used: int, granted: int, starved: bool) -> int:
    """How much to grant of `limit` when `used` is in use and `granted` is still open."""
    free = limit - used - granted
    if free >= max(1, limit // 2) or (starved and free > 0 and granted <= 0):
        return free
    return 0
