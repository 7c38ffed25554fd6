"""One queue as its leader dispatches it: who takes messages, who has which, what is to be recorded."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from node import limits
from node.clock import Clock
from node.commands import Command
from node.dispatch.ledger import Range, Turn
from node.dispatch.ledgers import Ledgers
from node.dispatch.level import Found
from node.dispatch.meter import Meter
from node.dispatch.outbox import DONE, REJECTED, SPENT, Answer, Ending, Outbox
from node.dispatch.shelf import Chunks, dead_letter
from node.dispatch.spans import Span
from node.dispatch.takers import Consumer, Parcel, PullCall, Taker
from node.errors import ApiError, LeaseLost, QueueNotFound
from node.state.group_tables import GroupRow
from node.state.rows import QueueRow, timestamp
from taskraft.v1 import queue_pb2

__all__ = ["Answer", "QueueDispatch"]


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
        meter: Meter,
        grace_until_ms: int,
        touch: Callable[[QueueDispatch], None],
        wake: Callable[[QueueDispatch], None],
        group: GroupRow | None = None,
    ) -> None:
        self.row = row
        self.id = group.id if group else row.id
        self.group = group.name if group else ""
        watermark = group.watermark if group else row.watermark
        self.consumers: dict[str, Consumer] = {}
        self._store = store
        self.ledger = Ledgers(
            store, row, watermark=watermark, grace_until_ms=grace_until_ms, on_back=meter.back
        )
        self._outbox = Outbox(self.ledger, self.group)
        self._pulls: dict[str, PullCall] = {}
        self._clock, self._meter = clock, meter
        self._touch, self._wake = partial(touch, self), partial(wake, self)
        self._turns = count(1)
        self._expiries: list[tuple[int, str]] = []
        self._looked_at: dict[str, int] = {}  # the valid one of each holder, not after its next end
        self._moving = 0

    # Streams ------------------------------------------------------------------------------------------------------

    def join(self, consumer: Consumer, held: Iterable[Range]) -> list[Range]:
        """A stream begins; returns what of `held` it got."""
        assert consumer.holder not in self.consumers
        self.consumers[consumer.holder] = consumer
        granted = self.ledger.claim(consumer.holder, held, 0)
        self._touch()
        return granted

    def leave(self, consumer: Consumer) -> None:
        """A stream has ended: what it had is ready again, but for acknowledgements on their way."""
        if self.consumers.pop(consumer.holder, None):
            self.ledger.release(consumer.holder)
            self._touch()

    def credit(self, consumer: Consumer, messages: int, size: int) -> None:
        """More may be delivered; a stream that never gives bytes is not limited by them."""
        consumer.add_credit(messages, size)
        self._touch()

    def sent(self, consumer: Consumer) -> None:
        """The parcel that waited was written."""
        consumer.sent()
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

    def refuse(self, consumer: Consumer, ranges: Iterable[Range]) -> None:
        """Make dead letters of what the stream holds of `ranges`; it is told when that is committed, and what is lost."""
        settled, lost = self.ledger.settle(consumer.holder, ranges)
        self._lost(consumer, lost)
        if settled:
            consumer.settling += 1
            self.commit(settled, partial(self._acked, consumer, settled), REJECTED)

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
        if self.ledger.claim(holder, ranges, expires_ms):
            self._expires(holder, expires_ms)

    def reject(self, holder: str, ranges: Iterable[Range], delay_ms: int) -> list[Range]:
        """Give messages back; returns what `holder` does not have."""
        due_ms = self._clock.now_ms() + delay_ms if delay_ms else None
        lost = self.ledger.give_back(holder, ranges, due_ms)
        self._touch()
        return lost

    def bury(self, holder: str, ranges: Iterable[Range], answer: Answer) -> list[Range]:
        """Make dead letters of what `holder` has; returns what it does not have. `answer` is told how it went."""
        settled, lost = self.ledger.settle(holder, ranges)
        if settled:
            self.commit(settled, answer, REJECTED)
        else:
            answer(None)
        return lost

    def extend(self, holder: str, ranges: Iterable[Range], lease_ms: int) -> list[Range]:
        """Leases end `lease_ms` from now; returns what `holder` does not have."""
        expires_ms = self._clock.now_ms() + lease_ms
        lost = self.ledger.extend(holder, ranges, expires_ms)
        if self.ledger.leased(holder):
            self._expires(holder, expires_ms)
        return lost

    @property
    def grace_ms(self) -> int:
        """How long consumers of the last leader may still claim something that nobody else gets meanwhile."""
        now_ms = self._clock.now_ms()
        return self.ledger.grace_until_ms - now_ms if self.ledger.waits(now_ms) else 0

    def reserve(self, ranges: Iterable[Range]) -> list[Range]:
        """Take out of delivery what of `ranges` is there and nobody has, until `restore`; returns that."""
        return self.ledger.reserve(ranges)

    def restore(self, ranges: Iterable[Range]) -> None:
        """What is still there of what was reserved can be delivered."""
        self.ledger.restore(ranges)
        self._touch()

    def _expires(self, holder: str, expires_ms: int) -> None:
        if expires_ms < self._looked_at.get(holder, expires_ms + 1):
            self._looked_at[holder] = expires_ms
            heapq.heappush(self._expiries, (expires_ms, holder))
            self._touch()

    # What goes into the log ---------------------------------------------------------------------------------------

    def commit(self, settled: list[Span[Turn]], answer: Answer, ending: Ending = DONE) -> None:
        """Put settled messages into the next entry, acknowledged or as dead letters; `answer` is told how it went."""
        self._outbox.add(settled, ending, partial(self._committed, settled, answer, ending))
        self._wake()

    def _committed(
        self, settled: list[Span[Turn]], answer: Answer, ending: Ending, error: BaseException | None
    ) -> None:
        self.finish(settled, error, ending)
        answer(error)

    def _give_up(self) -> None:
        """Make dead letters of what was delivered too often."""
        dead = self.ledger.give_up()
        while dead:
            settled, dead = dead[: limits.RANGES_MAX], dead[limits.RANGES_MAX :]
            self._outbox.add(settled, SPENT, partial(self._given_up, settled))
            self._wake()

    def _given_up(self, settled: list[Span[Turn]], error: BaseException | None) -> None:
        if error is not None:
            due_ms = self._clock.now_ms() + limits.GIVE_UP_AGAIN_MS
            self.ledger.put_off(((span.first, span.last) for span in settled), due_ms)
            self._touch()

    def finish(self, settled: list[Span[Turn]], error: BaseException | None, ending: Ending = DONE) -> None:
        """The end of messages was committed, or came to nothing."""
        if error is not None:
            self.ledger.unsettle((span.first, span.last) for span in settled)
            self._touch()
            return
        if ending == DONE:
            self._meter.done(settled)

    def take_back(self, settled: list[Span[Turn]]) -> list[Range]:
        """What of this is still there though its end was committed: an earlier call with that request_id was answered, which
        did not have all of it. It is ready again.
        """
        left = self.ledger.unsettle((span.first, span.last) for span in settled)
        if left:
            self._touch()
        return left

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
        return self._outbox.has_records

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """What this queue has for the entry that is being made."""
        return iter(()) if self._moving else self._outbox.commands(self.row)

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, first: int, last: int, priority: int = 0) -> None:
        self.ledger.published(first, last, priority)
        self._touch()

    def removed(self, ranges: Iterable[Range]) -> None:
        self.ledger.removed(ranges)
        if self.row.config.max_in_flight_per_key:
            self._touch()

    def changed(self, row: QueueRow) -> None:
        self.row = row
        self.ledger.configure(row)
        self._touch()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """While the group is being moved nothing more goes into the log: it would count as done after the move."""
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1
            self._wake()
            self._touch()

    @property
    def is_moving(self) -> bool:
        """True while nothing can be acknowledged, because it is not known yet where the group goes on."""
        return self._moving > 0

    def moved(self, row: QueueRow, group: GroupRow) -> None:
        """The group was moved: nobody has anything any more, and it goes on at its new position."""
        self._outbox.abandon(LeaseLost(f"the group {group.name} was moved"))
        for consumer in self.consumers.values():
            consumer.recall()
            self._lost(consumer, self.ledger.held(consumer.holder))
        self.row = row
        self.ledger = Ledgers(
            self._store,
            row,
            watermark=group.watermark,
            grace_until_ms=self.ledger.grace_until_ms,
            on_back=self._meter.back,
        )
        self._outbox = Outbox(self.ledger, self.group)
        self._touch()

    def deleted(self) -> None:
        self.abandon(QueueNotFound(f"{self.row.name} was deleted", queue=self.row.name))

    def abandon(self, error: ApiError) -> None:
        """The queue is dispatched here no longer: everybody is told, and what waits for an entry never gets one."""
        self.end(error)
        self._outbox.abandon(error)

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
            at_ms, holder = heapq.heappop(self._expiries)
            if self._looked_at.get(holder) == at_ms:
                del self._looked_at[holder]
                if (next_ms := self.ledger.expire(holder, now_ms)) is not None:
                    self._expires(holder, next_ms)
        if not self.row.config.paused:
            self._serve(now_ms)
        self._give_up()
        times = [self.ledger.next_due_ms(), self._expiries[0][0] if self._expiries else None]
        if self.ledger.waits(now_ms):
            times.append(self.ledger.grace_until_ms)
        return min((time for time in times if time is not None), default=None)

    def _serve(self, now_ms: int) -> None:
        takers: list[Taker] = [each for each in self.consumers.values() if each.hungry]
        takers += [each for each in self._pulls.values() if each.hungry]
        while takers and (found := self.ledger.next(now_ms)):
            taker = min(takers, key=lambda each: (self.ledger.leased(each.holder), each.served))
            share = -(-self.ledger.ready() // len(takers))
            parcel = self._gather(found, taker, share, now_ms)
            if parcel is None:
                assert isinstance(taker, PullCall), "a stream can always take one message"
                taker.full = True
            else:
                taker.served = next(self._turns)
                taker.take(parcel)
                self._meter.sent(parcel.count)
            if not taker.hungry:
                takers.remove(taker)
        for pull in self._pulls.values():
            if pull.parcels:
                pull.finish()

    def _gather(self, found: Found | None, taker: Taker, share: int, now_ms: int) -> Parcel | None:
        """Lease successive messages of one attempt to `taker`: up to `share`, its credit and a parcel's size."""
        messages_max, bytes_max = min(share, taker.messages_max), taker.bytes_max
        expires_ms = now_ms + taker.lease_ms if taker.lease_ms else 0
        parts: list[bytes | memoryview] = []
        first = done = attempt = size = time_ms = 0
        letter: queue_pb2.DeadLetter | None = None
        while found and done < messages_max and len(parts) < limits.PARCEL_CHUNKS_MAX:
            run, so_far, level = found
            follows = run.first == first + done and so_far + 1 == attempt
            follows = follows and run.row.time_ms <= time_ms + limits.PARCEL_SPAN_MS
            if parts and (not follows or letter or run.row.dead_letter):
                break
            fits = level.shelf.count_within(run, bytes_max - size)
            if not fits and (parts or not taker.alone):
                break
            taken = min(max(fits, 1), messages_max - done, run.last - run.first + 1)
            if not parts:
                first, attempt, time_ms = run.first, so_far + 1, run.row.time_ms
                letter = dead_letter(run)
            parts.append(level.shelf.cut(run, taken))
            size += level.shelf.size_of(run, taken)
            turn = Turn(attempt, expires_ms, now_ms, time_ms)
            again = level.ledger.lease(taker.holder, run.first, run.first + taken - 1, turn)
            self._meter.leased(taken, again, time_ms)
            done += taken
            found = self.ledger.next(now_ms) if done < messages_max else None
        if not parts:
            return None
        if attempt > 1:
            self._outbox.redelivered(first, first + done - 1, attempt)
        if expires_ms:
            self._expires(taker.holder, expires_ms)
        head = queue_pb2.Delivery(first_sequence=first, attempt=attempt, publish_time=timestamp(time_ms))
        if expires_ms:
            head.lease_expire_time.CopyFrom(timestamp(self._clock.wall_ms() + taker.lease_ms))
        if letter:
            head.dead_letter.CopyFrom(letter)
        encoded = head.SerializeToString()
        return Parcel(first, done, attempt, (encoded, *parts), len(encoded) + size)
