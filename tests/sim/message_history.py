"""What happened to messages between the leaders and their clients, in the order in which it happened.

A `Take` is decided by a leader's dispatch, the rest is seen at the node's door. `applied` is the entry up to which that
leader knew the log, `number` orders all that is recorded here.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from node.dispatch.queue import QueueDispatch
from node.dispatch.takers import Consumer, Parcel, PullCall
from taskraft.v1 import queue_pb2
from tests.sim.message_book import Range

if TYPE_CHECKING:
    from tests.sim.calls import Call
    from tests.sim.message_node import MessageNode


class Take(NamedTuple):
    """Messages go to a holder; `claimed`: they were its own before, under an earlier leader."""

    number: int
    at_s: float
    term: int
    applied: int
    queue_id: int
    group: str
    holder: str
    first: int
    last: int
    attempt: int
    lease_ms: int
    claimed: bool = False


class Said(NamedTuple):
    """A holder speaks of its messages: `what` is ack, nack, reject, extend or commit."""

    number: int
    at_s: float
    term: int
    applied: int
    holder: str
    what: str
    ranges: tuple[Range, ...]
    queue: str
    group: str
    ms: int = 0
    """Of the delay or the new lease."""


class Left(NamedTuple):
    """A holder is gone."""

    number: int
    at_s: float
    term: int
    applied: int
    holder: str


class Led(NamedTuple):
    """A node leads, from here on."""

    term: int
    at_s: float
    applied: int


class Opened(NamedTuple):
    """Whom a holder takes messages for."""

    term: int
    queue_id: int
    group: str
    stream: bool


@dataclass(slots=True)
class History:
    """Everything that was seen."""

    now: Callable[[], float]
    takes: list[Take] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    led: dict[int, Led] = field(default_factory=dict)
    """By term."""
    redrives: list[tuple[int, int, str]] = field(default_factory=list)
    """Number, term and queue of each call that has asked for dead letters to be moved."""
    holders: dict[str, Opened] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)
    _numbers: Any = field(default_factory=lambda: count(1))

    def leads(self, node: "MessageNode") -> None:
        self.led[node.term] = Led(node.term, self.now(), node.machine.applied)

    # What dispatch decides --------------------------------------------------------------------------------------------

    def opened(self, node: "MessageNode", holder: str, queue: QueueDispatch, *, stream: bool) -> None:
        self.holders[holder] = Opened(node.term, queue.row.id, queue.group, stream)

    def took(self, node: "MessageNode", holder: str, parcel: Parcel, lease_ms: int) -> None:
        if holder not in self.holders:
            return  # a reader: it holds nothing
        opened = self.holders[holder]
        last = parcel.first + parcel.count - 1
        self._take(node, holder, opened, parcel.first, last, parcel.attempt, lease_ms, claimed=False)
        self.tally["deliveries"] += parcel.count
        self.tally["redeliveries"] += parcel.count * (parcel.attempt > 1)

    def _take(
        self,
        node: "MessageNode",
        holder: str,
        opened: Opened,
        first: int,
        last: int,
        attempt: int,
        lease_ms: int,
        *,
        claimed: bool,
    ) -> None:
        where = (next(self._numbers), self.now(), node.term, node.machine.applied)
        of = (opened.queue_id, opened.group, holder)
        self.takes.append(Take(*where, *of, first, last, attempt, lease_ms, claimed))

    # What passes the door ---------------------------------------------------------------------------------------------

    def heard(self, call: "Call", frame: Any) -> None:
        """A handler takes a frame."""
        match call.name:
            case "Consume":
                self._consuming(call, queue_pb2.ConsumeRequest.FromString(frame))
            case "Acknowledge":
                ack = queue_pb2.AcknowledgeRequest.FromString(frame)
                self._says(call, ack.lease_id, "ack", ack.ranges, ack.queue, ack.group)
            case "ModifyAckDeadline":
                extend = queue_pb2.ModifyAckDeadlineRequest.FromString(frame)
                ms = extend.ack_deadline.ToMilliseconds()
                what = "extend" if ms else "nack"
                self._says(call, extend.lease_id, what, extend.ranges, extend.queue, extend.group, ms)
            case "Reject":
                reject = queue_pb2.RejectRequest.FromString(frame)
                what = "reject" if reject.dead_letter else "nack"
                ms = reject.delay.ToMilliseconds()
                self._says(call, reject.lease_id, what, reject.ranges, reject.queue, reject.group, ms)
            case "Redrive":
                redrive = queue_pb2.RedriveRequest.FromString(frame)
                self.redrives.append((next(self._numbers), call.node.term, redrive.queue))
            case "Commit":
                for operation in queue_pb2.CommitRequest.FromString(frame).operations:
                    kind = operation.WhichOneof("operation")
                    if kind in ("acknowledge", "reject"):
                        done = getattr(operation, kind)
                        what = "commit" if kind == "acknowledge" else "commit reject"
                        self._says(call, done.lease_id, what, done.ranges, done.queue, done.group)

    def _consuming(self, call: "Call", request: queue_pb2.ConsumeRequest) -> None:
        match request.WhichOneof("request"):
            case "start":
                call.about = request.start.queue, request.start.group
            case "ack":
                self._says(call, call.holder, "ack", request.ack.ranges, *call.about)
            case "nack":
                what = "reject" if request.nack.dead_letter else "nack"
                ms = request.nack.delay.ToMilliseconds()
                self._says(call, call.holder, what, request.nack.ranges, *call.about, ms)

    def _says(
        self,
        call: "Call",
        holder: str,
        what: str,
        ranges: Iterable[queue_pb2.SequenceRange],
        queue: str,
        group: str,
        ms: int = 0,
    ) -> None:
        node = call.node
        where = (next(self._numbers), self.now(), node.term, node.machine.applied)
        spans = tuple((one.first, one.last) for one in ranges)
        self.said.append(Said(*where, holder, what, spans, queue, group, ms))
        self.tally[f"said {what}"] += 1

    def answered(self, call: "Call", frame: bytes) -> None:
        """A handler says something."""
        if call.name != "Consume" or call.holder:
            return
        response = queue_pb2.ConsumeResponse.FromString(frame)
        if response.HasField("started"):
            call.holder = response.started.session_id
            opened = self.holders.get(call.holder)
            for one in response.started.held if opened else ():
                assert opened is not None
                self._take(call.node, call.holder, opened, one.first, one.last, 0, 0, claimed=True)
                self.tally["claims"] += one.last - one.first + 1

    def leaves(self, node: "MessageNode", holder: str) -> None:
        """A stream is over, or the answer of a pull could not be given."""
        where = (next(self._numbers), self.now(), node.term, node.machine.applied)
        self.left.append(Left(*where, holder))


def _node() -> "MessageNode":
    """On which node this happens."""
    return asyncio.get_running_loop().owner  # type: ignore[attr-defined, no-any-return]


def watch_dispatch(patches: pytest.MonkeyPatch) -> None:
    """From now on simulated nodes tell their history who takes which messages."""
    join, leave = QueueDispatch.join, QueueDispatch.leave
    pull, withdraw = QueueDispatch.pull, QueueDispatch.withdraw
    take, take_pulled = Consumer.take, PullCall.take

    def joins(queue: QueueDispatch, consumer: Consumer, *arguments: Any) -> Any:
        node = _node()
        node.world.history.opened(node, consumer.holder, queue, stream=True)
        return join(queue, consumer, *arguments)

    def pulls(queue: QueueDispatch, call: PullCall) -> None:
        node = _node()
        node.world.history.opened(node, call.holder, queue, stream=False)
        pull(queue, call)

    def leaves(queue: QueueDispatch, consumer: Consumer) -> None:
        node = _node()
        node.world.history.leaves(node, consumer.holder)
        leave(queue, consumer)

    def withdraws(queue: QueueDispatch, call: PullCall, *, keep: bool) -> None:
        node = _node()
        if not keep:
            node.world.history.leaves(node, call.holder)
        withdraw(queue, call, keep=keep)

    def takes(consumer: Consumer, parcel: Parcel) -> None:
        take(consumer, parcel)
        node = _node()
        node.world.history.took(node, consumer.holder, parcel, 0)

    def takes_pulled(call: PullCall, parcel: Parcel) -> None:
        take_pulled(call, parcel)
        node = _node()
        node.world.history.took(node, call.holder, parcel, call.lease_ms)

    patches.setattr(QueueDispatch, "join", joins)
    patches.setattr(QueueDispatch, "leave", leaves)
    patches.setattr(QueueDispatch, "pull", pulls)
    patches.setattr(QueueDispatch, "withdraw", withdraws)
    patches.setattr(Consumer, "take", takes)
    patches.setattr(PullCall, "take", takes_pulled)
