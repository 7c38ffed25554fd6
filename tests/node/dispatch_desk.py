"""One queue as its leader dispatches it, with a clock that stands still and an event loop that does nothing by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

from node.clock import Clock
from node.dispatch.meter import Meter
from node.dispatch.queue import QueueDispatch
from node.dispatch.takers import Consumer, Parcel, PullCall
from node.rates import RateWindow
from node.state.rows import QueueRow
from node.web.metrics import Metrics
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.node.memory_chunks import Chunks


def in_loop(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(story)
    def test(*args: Any, **kwargs: Any) -> None:
        asyncio.run(story(*args, **kwargs))

    return test


class Desk:
    """One queue on a leader whose clock stands still unless it is moved; `pump` runs when it was asked for."""

    def __init__(
        self,
        store: Chunks | None = None,
        *,
        watermark: int = 0,
        grace_until_ms: int = 0,
        config: queue_pb2.Queue | None = None,
    ) -> None:
        self.store = store or Chunks()
        self.now_ms = 1_000
        self.touched = self.woken = False
        self.names = iter(f"s{i}" for i in range(1_000))
        row = QueueRow(
            id=1,
            name="queues/q",
            uid="u",
            etag="e",
            config=config or queue_pb2.Queue(),
            create_ms=0,
            update_ms=0,
            backlog=1,
            next_sequence=self.store.next_sequence,
            watermark=watermark,
        )
        self.metrics, self.window = Metrics.create(), RateWindow(self.now_ms)
        clock = Clock(lambda: self.now_ms, lambda: 5_000 + self.now_ms)
        self.queue = QueueDispatch(
            row,
            self.store,
            clock=clock,
            meter=Meter(clock, self.metrics, self.window),
            grace_until_ms=grace_until_ms,
            touch=self._touch,
            wake=self._wake,
        )

    def _touch(self, queue: QueueDispatch) -> None:
        self.touched = True

    def _wake(self, queue: QueueDispatch) -> None:
        self.woken = True

    def publish(self, *sizes: int, priority: int = 0, keys: Sequence[str] = ()) -> None:
        first = self.store.next_sequence
        self.store.add(*sizes, priority=priority, keys=keys)
        self.queue.published(first, self.store.next_sequence - 1, priority)
        self.pump()

    def pump(self) -> int | None:
        due_ms = None
        while self.touched:
            self.touched = False
            due_ms = self.queue.pump()
        return due_ms

    def at(self, now_ms: int) -> None:
        """Let time pass, and what is due happen."""
        self.now_ms = now_ms
        self.touched = True
        self.pump()

    def consumer(self, messages: int = 0, size: int = 0, held: tuple[tuple[int, int], ...] = ()) -> Consumer:
        consumer = Consumer(next(self.names), "c")
        self.granted = self.queue.join(consumer, held)
        self.queue.credit(consumer, messages, size)
        self.pump()
        return consumer

    def sent(self, consumer: Consumer) -> Parcel | None:
        """What a stream writes next; None if there is nothing."""
        parcel = consumer.parcel
        if parcel:
            self.queue.sent(consumer)
            self.pump()
        return parcel

    def all_sent(self, consumer: Consumer) -> list[tuple[int, int, int]]:
        """(first, last, attempt) of all that a stream writes until there is nothing more."""
        found = []
        while parcel := self.sent(consumer):
            found.append((parcel.first, parcel.first + parcel.count - 1, parcel.attempt))
        return found

    def pull(self, messages: int, lease_ms: int = 100) -> PullCall:
        pull = PullCall(next(self.names), messages, lease_ms)
        self.queue.pull(pull)
        self.pump()
        return pull

    def commit(self, error: Exception | None = None) -> list[command_pb2.Command]:
        """Make an entry of what the queue has, and apply its acknowledgements."""
        self.woken = False
        made = [(command_pb2.Command.FromString(c.parts[0]), answer) for c, answer in self.queue.commands()]
        for command, answer in made:
            moved = [each.range for each in command.move_messages.messages]
            for each in [*command.ack.ranges, *moved] if error is None else ():
                self.store.remove(each.first, each.last)
                self.queue.removed([(each.first, each.last)])
            answer(error)
        self.pump()
        return [command for command, _ in made]


def decoded(parcel: Parcel) -> queue_pb2.Delivery:
    return queue_pb2.Delivery.FromString(b"".join(parcel.parts))
