"""All queues that this node delivers while it leads: made on first use, forgotten when leadership is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Protocol

from node import limits
from node.clock import Clock
from node.commands import Command
from node.dispatch.ledger import Range
from node.dispatch.meter import Meter
from node.dispatch.queue import Answer, QueueDispatch
from node.dispatch.readers import Readers
from node.dispatch.view import GroupState, GroupView
from node.errors import GroupNotFound, NotLeader, QueueNotFound, ShuttingDown
from node.faults import guarded
from node.rates import RateWindow
from node.state.group_tables import GroupRow
from node.state.listener import Silence
from node.state.rows import QueueRow
from node.web.metrics import DEAD_LETTER_REASONS, Metrics
from taskraft.v1 import queue_pb2

Outlet = QueueDispatch | Readers
"""What delivers messages: a queue, a consumer group of a stream, or the readers of one."""


class State(GroupState, Protocol):
    """The part of the state machine that dispatch reads."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        ...

    def group(self, queue_id: int, name: str) -> GroupRow | None:
        """The consumer group of a stream."""
        ...


class Dispatcher(Silence):
    """Listens to the state machine, pumps queues that have something to do, and offers their commands to the broker.

    Invariant: there are outlets only while `term` is set. A stream's readers have the id of its queue, its groups have ids
    of their own, which no queue has.
    """

    def __init__(
        self,
        state: State,
        *,
        clock: Clock,
        metrics: Metrics,
        wake: Callable[[], None],
        not_leader: Callable[[], NotLeader],
        fail: Callable[[Exception], None],
    ) -> None:
        """`fail` is told of a mistake of ours that leaves dispatch in no state to go on."""
        self.term: int | None = None
        self._state, self._clock, self._metrics = state, clock, metrics
        self._wake, self._not_leader, self._fail = wake, not_leader, fail
        self._outlets: dict[int, Outlet] = {}
        self._groups: dict[int, dict[str, QueueDispatch]] = {}
        self._windows: dict[int, RateWindow] = {}
        self._grace_until_ms = 0
        self._names = count(1)
        self._touched: dict[int, Outlet] = {}
        self._timers: dict[int, tuple[int, asyncio.TimerHandle]] = {}
        self._acknowledging: dict[int, QueueDispatch] = {}
        self._recording: dict[int, QueueDispatch] = {}
        self._stopping = False

    # For the API --------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> QueueDispatch:
        """The work queue of the full name. Raises NotLeader, QueueNotFound, ShuttingDown."""
        row = self._row(name)
        found = self._outlets.get(row.id)
        if found is None:
            found = self._outlets[row.id] = self._dispatch(row)
        assert isinstance(found, QueueDispatch), "a stream is dispatched to its groups"
        return found

    def group(self, name: str, group: str) -> QueueDispatch:
        """A consumer group of the stream of that full name. Raises GroupNotFound and what `queue` raises."""
        row = self._row(name)
        of_stream = self._groups.setdefault(row.id, {})
        found = of_stream.get(group)
        if found is None:
            held = self._state.group(row.id, group)
            if held is None:
                raise GroupNotFound(f"{name} has no consumer group {group}", queue=name, group=group)
            found = of_stream[group] = self._outlets[held.id] = self._dispatch(row, held)
        return found

    def readers(self, name: str) -> Readers:
        """The readers of the stream of that full name. Raises what `queue` raises."""
        row = self._row(name)
        found = self._outlets.get(row.id)
        if found is None:
            found = self._outlets[row.id] = Readers(
                row, self._state, clock=self._clock, meter=self._meter(row.id), touch=self._touch
            )
        assert isinstance(found, Readers), "a work queue has no readers"
        return found

    def _row(self, name: str) -> QueueRow:
        if self._stopping:
            raise ShuttingDown
        if self.term is None:
            raise self._not_leader()
        row = self._state.queue(name)
        if row is None:
            raise QueueNotFound(f"there is no queue {name}", queue=name)
        return row

    def _dispatch(self, row: QueueRow, group: GroupRow | None = None) -> QueueDispatch:
        return QueueDispatch(
            row,
            GroupView(self._state, group) if group else self._state,
            clock=self._clock,
            meter=self._meter(row.id),
            grace_until_ms=self._grace_until_ms,
            touch=self._touch,
            wake=self._acknowledge,
            group=group,
        )

    def _meter(self, queue_id: int) -> Meter:
        return Meter(self._clock, self._metrics, self._window(queue_id))

    def _window(self, queue_id: int) -> RateWindow:
        """The last minute of a queue, in which something happens now."""
        window = self._windows.get(queue_id)
        if window is None:
            window = self._windows[queue_id] = RateWindow(self._clock.now_ms())
        return window

    def rates(self, queue_id: int) -> queue_pb2.MessageRates | None:
        """The last minute of a queue; None if nothing has happened in it since this node leads."""
        window = self._windows.get(queue_id)
        return window.message_rates(self._clock.now_ms()) if window else None

    def spared(self, queue_id: int) -> list[Range]:
        """What somebody holds of a work queue, or is on its way to its end: its age takes nothing of that away."""
        found = self.known(queue_id)
        return found.ledger.spared() if found else []

    def known(self, queue_id: int) -> QueueDispatch | None:
        """The work queue if it is in use here."""
        found = self._outlets.get(queue_id)
        return found if isinstance(found, QueueDispatch) else None

    def known_group(self, queue_id: int, group: str) -> QueueDispatch | None:
        """The consumer group if it is in use here."""
        return self._groups.get(queue_id, {}).get(group)

    def leased(self, queue_id: int) -> int:
        """Messages of a queue that are delivered and not settled, in all its groups."""
        return sum(one.ledger.leased_total for one in self._dispatched(queue_id))

    def waiting(self, queue_id: int) -> tuple[int, int]:
        """Messages of a work queue that (a consumer has put off, wait for their key)."""
        found = self.known(queue_id)
        return (found.ledger.delayed, found.ledger.parked) if found else (0, 0)

    def consumers(self, queue_id: int) -> int:
        """Streams that consume or read a queue."""
        readers = self._outlets.get(queue_id)
        reading = len(readers.consumers) if isinstance(readers, Readers) else 0
        return reading + sum(len(one.consumers) for one in self._dispatched(queue_id))

    def _dispatched(self, queue_id: int) -> Iterator[QueueDispatch]:
        found = self._outlets.get(queue_id)
        if isinstance(found, QueueDispatch):
            yield found
        yield from self._groups.get(queue_id, {}).values()

    def _all(self, queue_id: int) -> list[Outlet]:
        """All that delivers messages of a queue."""
        found: list[Outlet] = list(self._groups.get(queue_id, {}).values())
        if outlet := self._outlets.get(queue_id):
            found.append(outlet)
        return found

    def new_name(self) -> str:
        """A name for a stream or a lease that no other of this cluster has."""
        assert self.term is not None
        return f"{self.term}.{next(self._names)}"

    @property
    def leases(self) -> int:
        """Messages that are delivered and not settled."""
        queues = [each for each in self._outlets.values() if isinstance(each, QueueDispatch)]
        return sum(queue.ledger.leased_total for queue in queues)

    def stop(self) -> None:
        """Deliver nothing more; streams end when their acknowledgements are answered, and are told to reconnect."""
        self._stopping = True
        for outlet in self._outlets.values():
            outlet.end(ShuttingDown())

    @property
    def busy(self) -> bool:
        """True while a stream still waits for acknowledgements."""
        return any(
            consumer.settling for outlet in self._outlets.values() for consumer in outlet.consumers.values()
        )

    # For the broker -----------------------------------------------------------------------------------------------

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """Deliveries that are not recorded and acknowledgements that wait, queue by queue."""
        for waiting in (self._recording, self._acknowledging):
            while waiting:
                queue_id, queue = next(iter(waiting.items()))
                yield from queue.commands()
                waiting.pop(queue_id, None)

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        assert not self._outlets
        self.term = term
        self._grace_until_ms = self._clock.now_ms() + limits.FAILOVER_GRACE_MS

    def follow(self) -> None:
        self.term = None
        outlets, self._outlets = self._outlets, {}
        self._groups.clear()
        self._windows.clear()
        for _, timer in self._timers.values():
            timer.cancel()
        for waiting in (self._touched, self._timers, self._acknowledging, self._recording):
            waiting.clear()
        for outlet in outlets.values():
            outlet.abandon(self._not_leader())

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, queue_id: int, first_sequence: int, count: int, priority: int) -> None:
        if self.term is not None:
            self._window(queue_id).submitted(self._clock.now_ms(), count)
        if outlet := self._outlets.get(queue_id):
            outlet.published(first_sequence, first_sequence + count - 1, priority)
        if groups := self._groups.get(queue_id):
            for group in groups.values():
                group.published(first_sequence, first_sequence + count - 1, priority)

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        for outlet in self._all(queue_id):
            outlet.removed(ranges)

    def buried(self, queue_id: int, reason: queue_pb2.DeadLetterReason, count: int) -> None:
        if self.term is not None:
            self._metrics.dead_letters.labels(DEAD_LETTER_REASONS[reason]).inc(count)

    def group_acked(self, queue_id: int, group: str, ranges: Sequence[tuple[int, int]]) -> None:
        if found := self.known_group(queue_id, group):
            found.removed(ranges)

    def group_changed(self, queue_id: int, group: str) -> None:
        row, held = self._state.queue_by_id(queue_id), self._state.group(queue_id, group)
        if row and held and (found := self.known_group(queue_id, group)):
            found.moved(row, held)

    def group_deleted(self, queue_id: int, group: str) -> None:
        if found := self._groups.get(queue_id, {}).pop(group, None):
            self._drop(found)
            found.abandon(GroupNotFound(f"the consumer group {group} was deleted", group=group))

    def queue_changed(self, queue_id: int) -> None:
        row = self._state.queue_by_id(queue_id)
        for outlet in self._all(queue_id) if row else ():
            assert row is not None
            outlet.changed(row)

    def queue_deleted(self, queue_id: int) -> None:
        outlets = self._all(queue_id)
        self._groups.pop(queue_id, None)
        self._windows.pop(queue_id, None)
        for outlet in outlets:
            self._drop(outlet)
            outlet.deleted()

    def _drop(self, outlet: Outlet) -> None:
        """Nothing is expected of it any more."""
        self._outlets.pop(outlet.id, None)
        for waiting in (self._touched, self._acknowledging, self._recording):
            waiting.pop(outlet.id, None)
        if timer := self._timers.pop(outlet.id, None):
            timer[1].cancel()

    def reset(self) -> None:
        assert not self._outlets, "a leader never installs a snapshot"

    # Pumping ------------------------------------------------------------------------------------------------------

    def _touch(self, outlet: Outlet) -> None:
        if self._outlets.get(outlet.id) is not outlet:
            return
        if not self._touched:
            asyncio.get_running_loop().call_soon(guarded, self._fail, self._pump)
        self._touched[outlet.id] = outlet

    def _acknowledge(self, queue: QueueDispatch) -> None:
        if self._outlets.get(queue.id) is queue:
            self._acknowledging[queue.id] = queue
            self._wake()

    def _pump(self) -> None:
        touched, self._touched = self._touched, {}
        for outlet in touched.values():
            due_ms = outlet.pump()
            if isinstance(outlet, QueueDispatch) and outlet.has_records:
                self._recording[outlet.id] = outlet
            if due_ms is not None:
                self._pump_at(outlet, due_ms)

    def _pump_at(self, outlet: Outlet, due_ms: int) -> None:
        """Pump again at `due_ms`, unless that happens earlier anyway."""
        if timer := self._timers.get(outlet.id):
            if timer[0] <= due_ms:
                return
            timer[1].cancel()
        delay_s = max(0, due_ms - self._clock.now_ms()) / 1000
        handle = asyncio.get_running_loop().call_later(delay_s, self._due, outlet)
        self._timers[outlet.id] = (due_ms, handle)

    def _due(self, outlet: Outlet) -> None:
        del self._timers[outlet.id]
        self._touch(outlet)
