"""Streams of QueueService as a client sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal_of

Range = tuple[int, int]


def wire(ranges: Iterable[Range]) -> list[queue_pb2.SequenceRange]:
    return [queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges]


def pairs(ranges: Iterable[queue_pb2.SequenceRange]) -> list[Range]:
    return [(each.first, each.last) for each in ranges]


class Consuming:
    """A Consume stream as a client sees it."""

    def __init__(self, node: Running, queue: str = "q") -> None:
        self.call: Any = node.queues.Consume()
        self.queue = f"queues/{queue}"

    async def start(self, credit: int = 0, held: Iterable[Range] = ()) -> queue_pb2.ConsumeStarted:
        start = queue_pb2.ConsumeStart(queue=self.queue, consumer_id="c", held=wire(held))
        await self.call.write(queue_pb2.ConsumeRequest(start=start))
        started: queue_pb2.ConsumeStarted = (await self.read("started")).started
        if credit:
            await self.credit(credit)
        return started

    async def read(self, kind: str) -> queue_pb2.ConsumeResponse:
        response: queue_pb2.ConsumeResponse = await self.call.read()
        assert response.WhichOneof("response") == kind
        return response

    async def delivery(self) -> queue_pb2.Delivery:
        return (await self.read("delivery")).delivery

    async def credit(self, messages: int, size: int = 0) -> None:
        credit = queue_pb2.Credit(messages=messages, bytes=size)
        await self.call.write(queue_pb2.ConsumeRequest(credit=credit))

    async def ack(self, *ranges: Range) -> None:
        await self.call.write(queue_pb2.ConsumeRequest(ack=queue_pb2.ConsumeAck(ranges=wire(ranges))))

    async def nack(self, *ranges: Range) -> None:
        await self.call.write(queue_pb2.ConsumeRequest(nack=queue_pb2.ConsumeNack(ranges=wire(ranges))))

    async def ended(self) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """How the broker ended the stream."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        return await self.call.code(), "", {}


def batch(
    sequence: int, *bodies: bytes, producer: str = "p", queue: str = "q"
) -> queue_pb2.PublishStreamRequest:
    return queue_pb2.PublishStreamRequest(
        queue=f"queues/{queue}",
        producer_id=producer,
        producer_sequence=sequence,
        messages=[queue_pb2.Message(body=body) for body in bodies],
    )
