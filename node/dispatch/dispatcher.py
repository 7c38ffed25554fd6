"""All queues that this node delivers while it leads: made on first use, forgotten when leadership is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Protocol

from node import limits
from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer, QueueDispatch
from node.dispatch.shelf import Chunks
from node.errors import NotLeader, QueueNotFound, ShuttingDown
from node.faults import guarded
from node.state.listener import Silence
from node.state.rows import QueueRow
from node.web.metrics import Metrics


class State(Chunks, Protocol):
    """The part of the state machine that dispatch reads."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        ...


class Dispatcher(Silence):
    """Listens to the state machine, pumps queues that have something to do, and offers their commands to the broker.

    Invariant: there are queues only while `term` is set.
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
        self._queues: dict[int, QueueDispatch] = {}
        self._grace_until_ms = 0
        self._names = count(1)
        self._touched: dict[int, QueueDispatch] = {}
        self._timers: dict[int, tuple[int, asyncio.TimerHandle]] = {}
        self._acknowledging: dict[int, QueueDispatch] = {}
        self._recording: dict[int, QueueDispatch] = {}
        self._stopping = False

    # For the API --------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> QueueDispatch:
        """The queue of the full name. Raises NotLeader, QueueNotFound, ShuttingDown."""
        if self._stopping:
            raise ShuttingDown
        if self.term is None:
            raise self._not_leader()
        row = self._state.queue(name)
        if row is None:
            raise QueueNotFound(f"there is no queue {name}", queue=name)
        found = self._queues.get(row.id)
        if found is None:
            found = self._queues[row.id] = QueueDispatch(
                row,
                self._state,
                clock=self._clock,
                metrics=self._metrics,
                grace_until_ms=self._grace_until_ms,
                touch=self._touch,
                wake=self._acknowledge,
            )
        return found

    def known(self, queue_id: int) -> QueueDispatch | None:
        """The queue if it is in use here."""
        return self._queues.get(queue_id)

    def new_name(self) -> str:
        """A name for a stream or a lease that no other of this cluster has."""
        assert self.term is not None
        return f"{self.term}.{next(self._names)}"

    @property
    def leases(self) -> int:
        """Messages that are delivered and not settled."""
        return sum(queue.ledger.leased_total for queue in self._queues.values())

    def stop(self) -> None:
        """Deliver nothing more; streams end when their acknowledgements are answered, and are told to reconnect."""
        self._stopping = True
        for queue in self._queues.values():
            queue.end(ShuttingDown())

    @property
    def busy(self) -> bool:
        """True while a stream still waits for acknowledgements."""
        return any(
            consumer.settling for queue in self._queues.values() for consumer in queue.consumers.values()
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
        assert not self._queues
        self.term = term
        self._grace_until_ms = self._clock.now_ms() + limits.FAILOVER_GRACE_MS

    def follow(self) -> None:
        self.term = None
        queues, self._queues = self._queues, {}
        for _, timer in self._timers.values():
            timer.cancel()
        for waiting in (self._touched, self._timers, self._acknowledging, self._recording):
            waiting.clear()
        for queue in queues.values():
            queue.abandon(self._not_leader())

    # What the state machine says ----------------------------------------------------------------------------------

    def published(self, queue_id: int, first_sequence: int, count: int, priority: int) -> None:
        if queue := self._queues.get(queue_id):
            queue.published(first_sequence, first_sequence + count - 1, priority)

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        if queue := self._queues.get(queue_id):
            queue.removed(ranges)

    def queue_changed(self, queue_id: int) -> None:
        row = self._state.queue_by_id(queue_id)
        if row and (queue := self._queues.get(queue_id)):
            queue.changed(row)

    def queue_deleted(self, queue_id: int) -> None:
        if queue := self._queues.pop(queue_id, None):
            for waiting in (self._touched, self._acknowledging, self._recording):
                waiting.pop(queue_id, None)
            if timer := self._timers.pop(queue_id, None):
                timer[1].cancel()
            queue.deleted()

    def reset(self) -> None:
        assert not self._queues, "a leader never installs a snapshot"

    # Pumping ------------------------------------------------------------------------------------------------------

    def _touch(self, queue: QueueDispatch) -> None:
        if self._queues.get(queue.row.id) is not queue:
            return
        if not self._touched:
            asyncio.get_running_loop().call_soon(guarded, self._fail, self._pump)
        self._touched[queue.row.id] = queue

    def _acknowledge(self, queue: QueueDispatch) -> None:
        if self._queues.get(queue.row.id) is queue:
            self._acknowledging[queue.row.id] = queue
            self._wake()

    def _pump(self) -> None:
        touched, self._touched = self._touched, {}
        for queue_id, queue in touched.items():
            due_ms = queue.pump()
            if queue.has_records:
                self._recording[queue_id] = queue
            if due_ms is not None:
                self._pump_at(queue, due_ms)

    def _pump_at(self, queue: QueueDispatch, due_ms: int) -> None:
        """Pump again at `due_ms`, unless that happens earlier anyway."""
        if timer := self._timers.get(queue.row.id):
            if timer[0] <= due_ms:
                return
            timer[1].cancel()
        delay_s = max(0, due_ms - self._clock.now_ms()) / 1000
        handle = asyncio.get_running_loop().call_later(delay_s, self._due, queue)
        self._timers[queue.row.id] = (due_ms, handle)

    def _due(self, queue: QueueDispatch) -> None:
        del self._timers[queue.row.id]
        self._touch(queue)
