"""One queue as its leader dispatches it: who takes messages, who has which, what is to be recorded."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

from node import limits
from node.clock import Clock
from node.commands import Command, acknowledge, delivered
from node.dispatch.ledger import Again, Ledger, Range, Turn
from node.dispatch.shelf import Chunks, Run, Shelf
from node.dispatch.spans import Span, Spans, merged
from node.dispatch.takers import Consumer, Parcel, PullCall, Taker
from node.errors import ApiError, QueueNotFound
from node.state.group_tables import GroupRow
from node.state.rows import QueueRow, timestamp
from node.web.metrics import Metrics
from taskraft.v1 import queue_pb2

Answer = Callable[[BaseException | None], None]
"""Called once with None when what was asked is committed, or with why it is not."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Settled messages that wait for the next entry."""

    settled: list[Span[Turn]]
    answer: Answer


class QueueDispatch:
    """Delivers one queue's messages. Lives on the leader only, from the first use of the queue on.

    With `group` it is a stream as that consumer group sees it, and `store` is the group's view.

    `touch` is called with self whenever `pump` has something to do, `wake` when an acknowledgement waits for an
    entry. Until `grace_until_ms` only consumers that claim them get messages that an earlier leader delivered.
    """

    def __init__(
        self,
        row: QueueRow,
        store: Chunks,
        *,
        clock: Clock,
        metrics: Metrics,
        grace_until_ms: int,
        touch: Callable[[QueueDispatch], None],
        wake: Callable[[QueueDispatch], None],
        group: GroupRow | None = None,
    ) -> None:
        self.row = row
        self.id = group.id if group else row.id
        self.group = group.name if group else ""
        watermark = group.watermark if group else row.watermark
        self.next_sequence = row.next_sequence
        self.consumers: dict[str, Consumer] = {}
        self._shelf = Shelf(store, row.id)
        first = self._shelf.run(1, row.next_sequence - 1)
        self.ledger = Ledger(first_live=first.first if first else row.next_sequence, watermark=watermark)
        self._pulls: dict[str, PullCall] = {}
        self._clock, self._metrics = clock, metrics
        self._grace_until_ms = grace_until_ms
        self._touch, self._wake = partial(touch, self), partial(wake, self)
        self._turns = count(1)
        self._expiries: list[tuple[int, str]] = []
        self._acknowledgements: list[Acknowledgement] = []
        self._recorded = watermark
        self._redelivered: Spans[int] = Spans()

    # Streams ------------------------------------------------------------------------------------------------------

    def join(self, consumer: Consumer, held: Iterable[Range]) -> list[Range]:
        """A stream begins; returns what of `held` it got."""
        assert consumer.holder not in self.consumers
        self.consumers[consumer.holder] = consumer
        granted = self.ledger.claim(consumer.holder, self._live(held), 0)
        self._touch()
        return merged(granted)

    def leave(self, consumer: Consumer) -> None:
        """A stream has ended: what it had is ready again, but for acknowledgements on their way."""
        if self.consumers.pop(consumer.holder, None):
            self.ledger.release(consumer.holder)
            self._touch()

    def credit(self, consumer: Consumer, messages: int, size: int) -> None:
        """More may be delivered; a stream that never gives bytes is not limited by them."""
        consumer.credit_messages += messages
        if size:
            consumer.credit_bytes = (consumer.credit_bytes or 0) + size
        self._touch()

    def sent(self, consumer: Consumer) -> None:
        """The parcel that waited was written."""
        assert consumer.parcel
        consumer.parcel = None
        self._touch()

    def ack(self, consumer: Consumer, ranges: Iterable[Range]) -> None:
        """Commit what the stream holds of `ranges`; it is told what it did not hold."""
        settled, lost = self.ledger.settle(consumer.holder, ranges)
        self._lost(consumer, lost)
        if settled:
            consumer.settling += 1
            self.commit(settled, partial(self._acked, consumer, settled))

    def nack(self, consumer: Consumer, ranges: Iterable[Range], delay_ms: int) -> None:
        self._lost(consumer, self.reject(consumer.holder, ranges, delay_ms))

    def _acked(self, consumer: Consumer, settled: list[Span[Turn]], error: BaseException | None) -> None:
        consumer.settling -= 1
        answers = consumer.acked if error is None else consumer.lost
        answers.extend((span.first, span.last) for span in settled)
        consumer.signal.set()

    def _lost(self, consumer: Consumer, lost: list[Range]) -> None:
        if lost:
            consumer.lost.extend(lost)
            consumer.signal.set()

    # Single calls -------------------------------------------------------------------------------------------------

    def pull(self, pull: PullCall) -> None:
        """Serve `pull` now or as soon as there is something; `withdraw` must be called in the end."""
        self._pulls[pull.holder] = pull
        self._touch()

    def withdraw(self, pull: PullCall, *, keep: bool) -> None:
        """A Pull is over; its leases stay if its answer goes out."""
        self._pulls.pop(pull.holder, None)
        pull.finish()
        if not keep:
            self.ledger.release(pull.holder)
            self._touch()

    def adopt(self, holder: str, ranges: Iterable[Range], lease_ms: int) -> None:
        """Give `holder`, whose leases an earlier leader gave, what nobody else has."""
        expires_ms = self._clock.now_ms() + lease_ms
        if self.ledger.claim(holder, self._live(ranges), expires_ms):
            self._expires(holder, expires_ms)

    def reject(self, holder: str, ranges: Iterable[Range], delay_ms: int) -> list[Range]:
        """Give messages back; returns what `holder` does not have."""
        due_ms = self._clock.now_ms() + delay_ms if delay_ms else None
        lost = self.ledger.give_back(holder, ranges, due_ms)
        self._touch()
        return lost

    def extend(self, holder: str, ranges: Iterable[Range], lease_ms: int) -> list[Range]:
        """Leases end `lease_ms` from now; returns what `holder` does not have."""
        expires_ms = self._clock.now_ms() + lease_ms
        lost = self.ledger.extend(holder, ranges, expires_ms)
        self._expires(holder, expires_ms)
        return lost

    def _expires(self, holder: str, expires_ms: int) -> None:
        heapq.heappush(self._expiries, (expires_ms, holder))
        self._touch()

    def _live(self, ranges: Iterable[Range]) -> list[Range]:
        """What of `ranges` exists."""
        found: list[Range] = []
        for first, last in merged(ranges):
            at, end = first, min(last, self.next_sequence - 1)
            while run := self._shelf.run(at, end):
                found.append((run.first, run.last))
                at = run.last + 1
        return merged(found)

    # What goes into the log ---------------------------------------------------------------------------------------

    def commit(self, settled: list[Span[Turn]], answer: Answer) -> None:
        """Put settled messages into the next entry; `answer` is told how it went."""
        self._acknowledgements.append(Acknowledgement(settled, answer))
        self._wake()

    def finish(self, settled: list[Span[Turn]], error: BaseException | None) -> None:
        """An acknowledgement was committed, or came to nothing."""
        if error is not None:
            self.ledger.unsettle((span.first, span.last) for span in settled)
            self._touch()
            return
        now_ms, wall_ms = self._clock.now_ms(), self._clock.wall_ms()
        for span in settled:
            self._metrics.acks.inc(span.messages)
            if span.value.delivered_ms:
                service_s = (now_ms - span.value.delivered_ms) / 1000
                total_s = (wall_ms - span.value.published_ms) / 1000
                self._metrics.service_seconds.observe(service_s, span.messages)
                self._metrics.end_to_end_seconds.observe(total_s, span.messages)

    def keep(self, holder: str, settled: list[Span[Turn]]) -> None:
        """An acknowledgement was refused with others and nothing was done: `holder` has its messages as before."""
        if not settled:
            return
        self.ledger.keep(holder, settled)
        ends_ms = min(span.value.expires_ms for span in settled)
        if ends_ms:
            self._expires(holder, ends_ms)
        elif holder not in self.consumers:
            self.ledger.release(holder)
            self._touch()

    @property
    def has_records(self) -> bool:
        """True if deliveries are not recorded yet; they ride with the next entry and cause none."""
        return self.ledger.cursor - 1 > self._recorded or bool(self._redelivered)

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """What this queue has for the entry that is being made: deliveries first, then acknowledgements."""
        while self.has_records:
            self._recorded = self.ledger.cursor - 1
            again = list(islice(self._redelivered, limits.RANGES_MAX))
            if again:
                self._redelivered.take(again[0].first, again[-1].last)
            yield delivered(self.row, self._recorded, again, self.group), _ignore
        while self._acknowledgements:
            waiting: list[Acknowledgement] = []
            ranges = 0
            while self._acknowledgements and ranges < limits.ANSWER_RANGES_MAX:
                waiting.append(self._acknowledgements.pop(0))
                ranges += len(waiting[-1].settled)
            done = merged((span.first, span.last) for one in waiting for span in one.settled)
            yield acknowledge(self.row, done, group=self.group), partial(self._committed, waiting)

    def _committed(self, waiting: list[Acknowledgement], error: BaseException | None) -> None:
        for one in waiting:
            self.finish(one.settled, error)
            one.answer(error)

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, last: int) -> None:
        self.next_sequence = last + 1
        self._shelf.published()
        self._touch()

    def removed(self, ranges: Iterable[Range]) -> None:
        ranges = list(ranges)
        self._shelf.removed(ranges)
        self.ledger.removed(ranges)

    def changed(self, row: QueueRow) -> None:
        self.row = row
        self._touch()

    def deleted(self) -> None:
        self.abandon(QueueNotFound(f"{self.row.name} was deleted", queue=self.row.name))

    def abandon(self, error: ApiError) -> None:
        """The queue is dispatched here no longer: everybody is told, and what waits for an entry never gets one."""
        self.end(error)
        waiting, self._acknowledgements = self._acknowledgements, []
        for one in waiting:
            one.answer(error)

    def end(self, error: ApiError) -> None:
        """Nothing more is delivered; streams end when their acknowledgements are answered."""
        for consumer in self.consumers.values():
            consumer.close(error)
        for pull in self._pulls.values():
            pull.finish(error)

    # Delivering ---------------------------------------------------------------------------------------------------

    def pump(self) -> int | None:
        """Deliver what can be delivered now; returns when there is more to do by itself, or None."""
        now_ms = self._clock.now_ms()
        self.ledger.wake(now_ms)
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, holder = heapq.heappop(self._expiries)
            if (next_ms := self.ledger.expire(holder, now_ms)) is not None:
                heapq.heappush(self._expiries, (next_ms, holder))
        if not self.row.config.paused:
            self._serve(now_ms)
        times = [self.ledger.next_due_ms(), self._expiries[0][0] if self._expiries else None]
        if now_ms < self._grace_until_ms and self.ledger.returned:
            times.append(self._grace_until_ms)
        return min((time for time in times if time is not None), default=None)

    def _serve(self, now_ms: int) -> None:
        takers: list[Taker] = [each for each in self.consumers.values() if each.hungry]
        takers += [each for each in self._pulls.values() if each.hungry]
        while takers and self._next(now_ms):
            taker = min(takers, key=lambda each: (self.ledger.leased(each.holder), each.served))
            share = -(-self.ledger.ready(self.next_sequence) // len(takers))
            parcel = self._gather(taker, share, now_ms)
            if parcel is None:
                assert isinstance(taker, PullCall), "a stream can always take one message"
                taker.full = True
            else:
                taker.served = next(self._turns)
                taker.take(parcel)
                self._metrics.deliveries.inc(parcel.count)
            if not taker.hungry:
                takers.remove(taker)
        for pull in self._pulls.values():
            if pull.parcels:
                pull.finish()

    def _gather(self, taker: Taker, share: int, now_ms: int) -> Parcel | None:
        """Lease successive messages of one attempt to `taker`: up to `share`, its credit and a parcel's size."""
        messages_max, bytes_max = min(share, taker.messages_max), taker.bytes_max
        expires_ms = now_ms + taker.lease_ms if taker.lease_ms else 0
        parts: list[bytes | memoryview] = []
        first = done = attempt = size = time_ms = 0
        while done < messages_max and len(parts) < limits.PARCEL_CHUNKS_MAX and (found := self._next(now_ms)):
            run, so_far = found
            if parts and (run.first != first + done or so_far + 1 != attempt):
                break
            fits = self._shelf.count_within(run, bytes_max - size)
            if not fits and (parts or not taker.alone):
                break
            taken = min(max(fits, 1), messages_max - done)
            if not parts:
                first, attempt, time_ms = run.first, so_far + 1, run.row.time_ms
            parts.append(self._shelf.cut(run, taken))
            size += self._shelf.size_of(run, taken)
            turn = Turn(attempt, expires_ms, now_ms, time_ms)
            self._count(
                self.ledger.lease(taker.holder, run.first, run.first + taken - 1, turn), taken, time_ms
            )
            done += taken
        if not parts:
            return None
        if attempt > 1:
            self._redelivered.take(first, first + done - 1)
            self._redelivered.add(first, first + done - 1, attempt)
        if expires_ms:
            self._expires(taker.holder, expires_ms)
        head = queue_pb2.Delivery(first_sequence=first, attempt=attempt, publish_time=timestamp(time_ms))
        if expires_ms:
            head.lease_expire_time.CopyFrom(timestamp(self._clock.wall_ms() + taker.lease_ms))
        encoded = head.SerializeToString()
        return Parcel(first, done, attempt, (encoded, *parts), len(encoded) + size)

    def _count(self, again: list[Span[Again]], messages: int, published_ms: int) -> None:
        for span in again:
            self._metrics.redeliveries.labels(span.value.reason).inc(span.messages)
        if not again:
            self._metrics.wait_seconds.observe((self._clock.wall_ms() - published_ms) / 1000, messages)

    def _next(self, now_ms: int) -> tuple[Run, int] | None:
        """The next live messages to deliver, all of one chunk and one number of deliveries so far, and that number."""
        returned = self.ledger.returned
        while returned:
            span = returned.first()
            run = self._shelf.run(span.first, span.last)
            gone = run.first - 1 if run else span.last
            if gone >= span.first:
                returned.take(span.first, gone)
            if run is None:
                continue
            if span.value.attempts:
                return run, span.value.attempts
            in_grace = span.value.reason == "leader_changed" and now_ms < self._grace_until_ms
            return None if in_grace else self._known(run)
        while fresh := self.ledger.fresh(self.next_sequence):
            run = self._shelf.run(*fresh)
            gone = run.first - 1 if run else fresh[1]
            if gone >= fresh[0]:
                self.ledger.skip(gone)
            if run:
                return run, 0
        return None

    def _known(self, run: Run) -> tuple[Run, int]:
        """A run that an earlier leader delivered, cut where the number of its deliveries changes."""
        attempts = self._shelf.attempts(run.first, run.last)
        so_far = attempts.get(run.first, 1)
        last = run.first
        while last < run.last and attempts.get(last + 1, 1) == so_far:
            last += 1
        return run._replace(last=last), so_far


def _ignore(error: BaseException | None) -> None:
    """Nobody waits for the record of a delivery."""
