"""Clients that do more than consume: readers, processors with transactions, and those who move groups and dead letters."""

import asyncio

from taskraft.v1 import queue_pb2
from tests.sim.calls import EOF, Ended
from tests.sim.consumers import in_calm, spans
from tests.sim.letter_checks import output_of
from tests.sim.message_world import MessageWorld
from tests.sim.processes import Process
from tests.sim.stream_checks import Reading


class StreamReader:
    """Reads a stream from its beginning, and goes on where it was after each break."""

    def __init__(self, world: MessageWorld, queue: str) -> None:
        self._world, self._queue = world, queue

    async def main(self, me: Process) -> None:
        reading = Reading(self._queue)
        self._world.readings.append(reading)
        self._world.reading[me.name] = reading
        while True:
            call = self._world.open(me, "Consume")
            try:
                start = queue_pb2.ConsumeStart(queue=self._queue, consumer_id=me.name)
                start.position.sequence = reading.next_sequence
                call.send(queue_pb2.ConsumeRequest(start=start).SerializeToString())
                while (frame := await call.read()) is not EOF:
                    response = queue_pb2.ConsumeResponse.FromString(frame)
                    if response.HasField("reconnect"):
                        break
                    self._read(reading, response.delivery)
                    count = len(response.delivery.messages) or 10 * response.HasField("started")
                    credit = queue_pb2.ConsumeRequest(credit=queue_pb2.Credit(messages=count))
                    call.send(credit.SerializeToString())
            except Ended:
                pass
            finally:
                call.hang_up()
            await asyncio.sleep(self._world.dice.uniform(0, 0.1))

    def _read(self, reading: Reading, delivery: queue_pb2.Delivery) -> None:
        for place, message in enumerate(delivery.messages):
            reading.got.append((delivery.first_sequence + place, message.body))
            self._world.counts["read"] += 1


class Processor:
    """Pulls, and has each answer and the acknowledgement of what it answers in one commit."""

    def __init__(self, world: MessageWorld, queue: str, group: str, output: str) -> None:
        self._world, self._queue, self._group, self._output = world, queue, group, output

    async def main(self, me: Process) -> None:
        world = self._world
        while True:
            request = queue_pb2.PullRequest(queue=self._queue, group=self._group)
            request.max_messages = world.dice.choice((1, 4))
            request.wait.FromMilliseconds(300)
            try:
                pulled = await world.ask(me, "Pull", request, queue_pb2.PullResponse)
                for delivery in pulled.deliveries:
                    world.checks.delivered(pulled.lease_id, self._queue, self._group, delivery)
                if pulled.deliveries and world.dice.random() >= in_calm(world, 0.05):
                    await asyncio.sleep(world.dice.uniform(0, 0.1))
                    await self._process(me, pulled)
            except Ended as error:
                world.counts[f"transactions {error.reason or 'unknown'}"] += 1
            await asyncio.sleep(world.dice.uniform(0, 0.1))

    async def _process(self, me: Process, pulled: queue_pb2.PullResponse) -> None:
        world = self._world
        request = queue_pb2.CommitRequest()
        operations = []
        for delivery in pulled.deliveries:
            bodies = [output_of(self._queue + self._group, message.body) for message in delivery.messages]
            made = queue_pb2.PublishOperation(queue=self._output)
            made.messages.extend(queue_pb2.Message(body=body) for body in bodies)
            operations.append(queue_pb2.Operation(publish=made))
            last = delivery.first_sequence + len(delivery.messages) - 1
            done = queue_pb2.AcknowledgeOperation(queue=self._queue, group=self._group)
            done.ranges.extend(spans([(delivery.first_sequence, last)]))
            if world.dice.random() < 0.8:
                done.lease_id = pulled.lease_id
            operations.append(queue_pb2.Operation(acknowledge=done))
        world.dice.shuffle(operations)
        request.operations.extend(operations)
        if world.dice.random() < 0.7:
            request.request_id = world.new_id("commit")
            await world.insist(me, "Commit", request, queue_pb2.CommitResponse)
        else:
            await world.ask(me, "Commit", request, queue_pb2.CommitResponse)
        world.counts["transactions"] += 1


async def seek(world: MessageWorld, me: Process, queue: str, group: str) -> None:
    """Move a consumer group to somewhere."""
    request = queue_pb2.SeekRequest(queue=queue, group=group, request_id=world.new_id("seek"))
    newest = max(world.book.copies.get(world.book.ids[queue], {}), default=0)
    match world.dice.choice(("beginning", "end", "sequence", "time")):
        case "beginning":
            request.position.beginning = True
        case "end":
            request.position.end = True
        case "sequence":
            request.position.sequence = world.dice.randint(1, newest + 1)
        case _:
            request.position.time.FromMilliseconds(int(world.now * 1000) - world.dice.randint(0, 2000))
    try:
        await world.insist(me, "Seek", request, queue_pb2.SeekResponse)
        world.counts["seeks"] += 1
    except Ended as error:
        world.counts[f"seeks {error.reason}"] += 1


async def redrive(world: MessageWorld, me: Process, queue: str) -> None:
    """Bring dead letters back."""
    request = queue_pb2.RedriveRequest(queue=queue, request_id=world.new_id("redrive"))
    request.max_messages = world.dice.choice((1, 5, 100))
    try:
        answer = await world.insist(me, "Redrive", request, queue_pb2.RedriveResponse)
        world.counts["redriven"] += answer.moved_messages
    except Ended as error:
        world.counts[f"redrives {error.reason}"] += 1
