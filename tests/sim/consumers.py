"""Simulated consumers: streams and pulls that acknowledge, give back, reject, forget, break and come back."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskraft.v1 import queue_pb2
from tests.sim.calls import EOF, Call, Ended
from tests.sim.message_book import Range
from tests.sim.message_world import MessageWorld
from tests.sim.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a consumer treats what it gets."""

    queue: str
    group: str = ""
    credit: int = 8
    work_s: tuple[float, float] = (0.0, 0.1)
    nack: float = 0.08
    reject: float = 0.0
    forget: float = 0.03
    """Of a pull: it is not heard of again."""
    extend: float = 0.05
    leave: float = 0.03
    """Of a stream: it is ended in good order, and another one is opened."""


def spans(ranges: Iterable[Range]) -> list[queue_pb2.SequenceRange]:
    return [queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges]


def in_calm(world: MessageWorld, chance: float) -> float:
    """Nobody is difficult when the world is calm: what is there comes to an end."""
    return 0.0 if world.calm else chance


class StreamConsumer:
    """One Consume stream after the other. `working` are the messages that it has and has not heard the end of."""

    def __init__(self, world: MessageWorld, habits: Habits) -> None:
        self._world, self._habits = world, habits
        self._working: set[int] = set()
        self._call: Call | None = None
        self._holder = ""

    async def main(self, me: Process) -> None:
        world = self._world
        self._working.clear()
        while True:
            self._call = call = world.open(me, "Consume")
            try:
                await self._run(me, call)
            except Ended:
                pass
            finally:
                call.hang_up()
            await asyncio.sleep(world.dice.uniform(0, 0.1))

    async def _run(self, me: Process, call: Call) -> None:
        world, habits = self._world, self._habits
        held = spans((sequence, sequence) for sequence in sorted(self._working))
        start = queue_pb2.ConsumeStart(queue=habits.queue, group=habits.group, held=held)
        start.consumer_id = me.name
        call.send(queue_pb2.ConsumeRequest(start=start).SerializeToString())
        while (frame := await call.read()) is not EOF:
            response = queue_pb2.ConsumeResponse.FromString(frame)
            match response.WhichOneof("response"):
                case "started":
                    self._holder = response.started.session_id
                    kept = set(_sequences(response.started.held))
                    self._working &= kept
                    for sequence in sorted(kept):
                        me.spawn(self._work(call, [(sequence, sequence)]))
                    self._say(call, credit=queue_pb2.Credit(messages=habits.credit))
                case "delivery":
                    self._delivered(me, call, response.delivery)
                case "acked":
                    world.checks.told_acked(habits.queue, habits.group, response.acked.ranges)
                    self._working -= set(_sequences(response.acked.ranges))
                case "lease_lost":
                    self._working -= set(_sequences(response.lease_lost.ranges))
                    world.counts["leases lost"] += 1
                case _:
                    return
            if world.dice.random() < in_calm(world, habits.leave):
                call.send(EOF)

    def _delivered(self, me: Process, call: Call, delivery: queue_pb2.Delivery) -> None:
        habits = self._habits
        self._world.checks.delivered(self._holder, habits.queue, habits.group, delivery)
        first, count = delivery.first_sequence, len(delivery.messages)
        self._working |= set(range(first, first + count))
        parts = [(first, first + count - 1)]
        if count > 1 and self._world.dice.random() < 0.5:
            parts = [(sequence, sequence) for sequence in range(first, first + count)]
        for part in parts:
            me.spawn(self._work(call, [part]))

    async def _work(self, call: Call, ranges: Sequence[Range]) -> None:
        """Do it, and say so on the stream that there is then."""
        world, habits, dice = self._world, self._habits, self._world.dice
        await asyncio.sleep(dice.uniform(*habits.work_s))
        if call is not self._call:
            return  # the next stream was told, and has begun with it anew
        luck = dice.random()
        done = spans(ranges)
        if luck < in_calm(world, habits.nack):
            nack = queue_pb2.ConsumeNack(ranges=done)
            nack.delay.FromMilliseconds(dice.choice((0, 0, 50, 400)))
            self._say(call, nack=nack)
            self._working -= {s for first, last in ranges for s in range(first, last + 1)}
        elif luck < in_calm(world, habits.nack + habits.reject):
            self._say(call, nack=queue_pb2.ConsumeNack(ranges=done, dead_letter=True))
            self._working -= {s for first, last in ranges for s in range(first, last + 1)}
        else:
            self._say(call, ack=queue_pb2.ConsumeAck(ranges=done))
        self._say(call, credit=queue_pb2.Credit(messages=sum(last - first + 1 for first, last in ranges)))

    @staticmethod
    def _say(call: Call, **request: object) -> None:
        call.send(queue_pb2.ConsumeRequest(**request).SerializeToString())  # type: ignore[arg-type]


class PullConsumer:
    """One Pull after the other."""

    def __init__(self, world: MessageWorld, habits: Habits) -> None:
        self._world, self._habits = world, habits

    async def main(self, me: Process) -> None:
        world, habits = self._world, self._habits
        while True:
            request = queue_pb2.PullRequest(queue=habits.queue, group=habits.group)
            request.max_messages = world.dice.choice((1, 3, 10))
            request.wait.FromMilliseconds(world.dice.choice((0, 300)))
            try:
                pulled = await world.ask(me, "Pull", request, queue_pb2.PullResponse)
                for delivery in pulled.deliveries:
                    world.checks.delivered(pulled.lease_id, habits.queue, habits.group, delivery)
                if pulled.deliveries:
                    await self._work(me, pulled)
            except Ended:
                pass
            await asyncio.sleep(world.dice.uniform(0, 0.1))

    async def _work(self, me: Process, pulled: queue_pb2.PullResponse) -> None:
        world, habits, dice = self._world, self._habits, self._world.dice
        await asyncio.sleep(dice.uniform(*habits.work_s))
        about: dict[str, Any] = {"queue": habits.queue, "group": habits.group, "lease_id": pulled.lease_id}
        ranges = [(d.first_sequence, d.first_sequence + len(d.messages) - 1) for d in pulled.deliveries]
        luck = dice.random()
        if luck < in_calm(world, habits.extend):
            extend = queue_pb2.ModifyAckDeadlineRequest(**about, ranges=spans(ranges))
            extend.ack_deadline.FromMilliseconds(dice.choice((0, 300, 1500)))
            await world.ask(me, "ModifyAckDeadline", extend, queue_pb2.ModifyAckDeadlineResponse)
            await asyncio.sleep(dice.uniform(0, 0.5))
            luck = dice.random()
        if luck < in_calm(world, habits.forget):
            return
        if luck < in_calm(world, habits.forget + habits.nack + habits.reject):
            reject = queue_pb2.RejectRequest(**about, ranges=spans(ranges))
            reject.dead_letter = luck < habits.forget + habits.reject
            if not reject.dead_letter:
                reject.delay.FromMilliseconds(dice.choice((0, 50, 400)))
            await world.ask(me, "Reject", reject, queue_pb2.RejectResponse)
            return
        ack = queue_pb2.AcknowledgeRequest(**about, ranges=spans(ranges))
        if dice.random() < 0.5:
            ack.request_id = world.new_id("ack")
            await world.insist(me, "Acknowledge", ack, queue_pb2.AcknowledgeResponse)
        else:
            await world.ask(me, "Acknowledge", ack, queue_pb2.AcknowledgeResponse)
        world.checks.told_acked(habits.queue, habits.group, ack.ranges)


def _sequences(ranges: Iterable[queue_pb2.SequenceRange]) -> Iterable[int]:
    for one in ranges:
        yield from range(one.first, one.last + 1)
