"""Simulated producers: single publishes with and without a request_id, and streams of numbered batches."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from taskraft.v1 import queue_pb2
from tests.sim.calls import EOF, Call, Ended
from tests.sim.message_world import ELSEWHERE, UNKNOWN, MessageWorld, Publication
from tests.sim.processes import Process

Making = Callable[[MessageWorld, queue_pb2.Message], None]
"""Gives a message what a queue is about: a key, a delay, ..."""

BATCHES_MAX = 4  # that a stream has unanswered


class Producer:
    """Publishes to these targets until the world is calm; then what is open is brought to its end."""

    def __init__(self, world: MessageWorld, targets: Mapping[str, Making]) -> None:
        self._world, self._targets = world, targets

    async def main(self, me: Process) -> None:
        world = self._world
        world.producing.add(me.name)
        await asyncio.sleep(world.dice.uniform(0, 0.1))
        while not world.calm:
            if world.dice.random() < 0.3:
                await Batches(world, me, self._publication).run()
            else:
                await self._one(me)
            await asyncio.sleep(world.dice.uniform(0, 0.06))
        world.producing.discard(me.name)

    def _publication(self) -> Publication:
        world = self._world
        number = len(world.publications)
        target = world.dice.choice(list(self._targets))
        messages = []
        for place in range(world.dice.choice((1, 1, 2, 5, 12))):
            messages.append(queue_pb2.Message(body=b"%d.%d" % (number, place)))
            self._targets[target](world, messages[-1])
        world.publications.append(Publication(number, target, messages))
        return world.publications[-1]

    async def _one(self, me: Process) -> None:
        world, made = self._world, self._publication()
        request = queue_pb2.PublishRequest(queue=made.target, messages=made.messages)
        try:
            if world.dice.random() < 0.7:
                request.request_id = world.new_id("publish")
                stored = await world.insist(me, "Publish", request, queue_pb2.PublishResponse)
            else:
                stored = await world.ask(me, "Publish", request, queue_pb2.PublishResponse)
        except Ended as error:
            settle(world, made, "" if error.tries > 1 else error.reason)
            return
        assert stored.count
        settle(world, made, None)


def settle(world: MessageWorld, made: Publication, refused: str | None) -> None:
    """A publication was answered."""
    if refused is None:
        made.outcome = "stored"
    elif refused not in UNKNOWN:
        made.outcome = "refused"
        made.reason = refused
    world.counts[f"publications {refused or made.outcome or 'unknown'}"] += 1


class Batches:
    """One producer id, over as many streams as it takes."""

    def __init__(self, world: MessageWorld, me: Process, make: Callable[[], Publication]) -> None:
        self._world, self._me, self._make = world, me, make
        self._id = world.new_id("producer")
        self._left = world.dice.choice((1, 3, 10))
        self._sequence = self._streams = 0
        self._known = False
        """Until a first batch was stored, any number would be taken for the first one."""
        self._open: deque[tuple[int, Publication]] = deque()

    async def run(self) -> None:
        """Publish some batches, in order; those that were not answered go again on the next stream."""
        while self._left or self._open:
            self._streams += 1
            call = self._world.open(self._me, "PublishStream")
            for sequence, made in self._open:
                call.send(self._frame(sequence, made))
            try:
                async with asyncio.timeout(2.0):
                    await self._answers(call)
            except (Ended, TimeoutError):
                await asyncio.sleep(self._world.dice.uniform(0, 0.1))
            finally:
                call.hang_up()

    async def _answers(self, call: Call) -> None:
        while self._left or self._open:
            while self._left and len(self._open) < (BATCHES_MAX if self._known else 1):
                self._left -= 1
                self._sequence += 1
                self._open.append((self._sequence, self._make()))
                call.send(self._frame(*self._open[-1]))
            frame = await call.read()
            if frame is EOF or not self._answered(queue_pb2.PublishStreamResponse.FromString(frame)):
                return

    def _frame(self, sequence: int, made: Publication) -> bytes:
        request = queue_pb2.PublishStreamRequest(queue=made.target, messages=made.messages)
        request.producer_id, request.producer_sequence = self._id, sequence
        return request.SerializeToString()

    def _answered(self, response: queue_pb2.PublishStreamResponse) -> bool:
        """False if there is nothing more to read on this stream."""
        if response.HasField("reconnect"):
            return False
        sequence, made = self._open[0]
        assert response.producer_sequence == sequence
        reason = response.failure.reason
        if not response.HasField("failure"):
            settle(self._world, made, None)
            self._open.popleft()
            self._known = True
            return True
        if reason not in ELSEWHERE | UNKNOWN:
            self._give_up(reason)
        return False

    def _give_up(self, reason: str) -> None:
        """A batch was refused, so that those behind it leave a gap, and are refused, too. If there was another try before,
        that may have done it all the same.
        """
        for _, made in self._open:
            settle(self._world, made, reason if self._streams == 1 else "")
        self._open.clear()
        self._left = 0
