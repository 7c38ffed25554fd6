import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from taskraft.v1 import queue_pb2
from tests.node.single_node import run, running, until
from tests.node.stream_clients import Consuming, batch, pairs, wire


def test_a_consumer_receives_and_acknowledges(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            consumer = Consuming(node)
            started = await consumer.start(credit=100)
            await node.publish("q", b"one", b"two")

            delivery = await consumer.delivery()
            assert [message.body for message in delivery.messages] == [b"one", b"two"]
            assert (delivery.first_sequence, delivery.attempt) == (1, 1)
            assert not delivery.HasField("lease_expire_time")
            await consumer.ack((1, 2))

            assert pairs((await consumer.read("acked")).acked.ranges) == [(1, 2)]
            assert started.term == 1
            row = node.machine.queue("queues/q")
            assert row
            assert row.messages == 0

    run(story())


def test_messages_go_back_when_a_consumer_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"one")
            gone, there = Consuming(node), Consuming(node)
            await gone.start(credit=10)
            await gone.delivery()
            await there.start(credit=10)

            gone.call.cancel()

            assert (await there.delivery()).attempt == 2

    run(story())


def test_a_rejected_message_comes_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"one", b"two")
            consumer = Consuming(node)
            await consumer.start(credit=10)
            await consumer.delivery()

            await consumer.nack((2, 2), (9, 9))

            responses = {(await consumer.call.read()).WhichOneof("response") for _ in range(2)}
            assert responses == {"delivery", "lease_lost"}

    run(story())


def test_a_consumer_that_is_done_writing_gets_its_confirmations_and_ends_well(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"one", b"two")
            consumer = Consuming(node)
            await consumer.start(credit=1)
            await consumer.delivery()
            await consumer.credit(5)
            await consumer.ack((1, 1))
            await consumer.call.done_writing()

            responses = []
            while (response := await consumer.call.read()) is not grpc.aio.EOF:
                responses.append(response)

            assert pairs(r for each in responses for r in each.acked.ranges) == [(1, 1)]
            assert await consumer.call.code() is grpc.StatusCode.OK
            assert node.node.dispatcher.queue("queues/q").ledger.leased_total == 0

    run(story())


def test_a_consumer_of_a_deposed_leader_is_told_where_to_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            consumer = Consuming(node)
            await consumer.start(credit=1)

            node.replica.follow("n2")

            assert (await consumer.read("reconnect")).reconnect.after.ToMilliseconds() == 0
            code, reason, metadata = await consumer.ended()
            assert (code, reason, metadata["leader_id"]) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER", "n2")

    run(story())


def test_a_consumer_that_comes_back_keeps_what_it_holds(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1", b"2", b"3")
            first = Consuming(node)
            await first.start(credit=2)
            await first.delivery()
            node.replica.follow()
            node.replica.lead()

            again = Consuming(node)
            started = await again.start(held=[(1, 2), (7, 9)], credit=10)
            assert pairs(started.held) == [(1, 2)]
            delivery = await again.delivery()
            await again.ack((1, 2))

            assert (delivery.first_sequence, delivery.attempt) == (3, 1)
            assert pairs((await again.read("acked")).acked.ranges) == [(1, 2)]

    run(story())


def test_a_stream_ends_when_its_queue_is_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            consumer = Consuming(node)
            await consumer.start()

            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/q"))

            assert (await consumer.ended())[:2] == (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")

    run(story())


def consume(**request: Any) -> bytes:
    return queue_pb2.ConsumeRequest(**request).SerializeToString()


START = consume(start=queue_pb2.ConsumeStart(queue="queues/q"))


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([consume(credit=queue_pb2.Credit(messages=1))], "INVALID_FIELD"),
        ([consume(start=queue_pb2.ConsumeStart(queue="queues/none"))], "QUEUE_NOT_FOUND"),
        ([consume(start=queue_pb2.ConsumeStart(queue="queues/q", consumer_id="c" * 65))], "INVALID_FIELD"),
        ([START, START], "INVALID_FIELD"),
        ([START, b""], "INVALID_FIELD"),
        ([START, consume(credit=queue_pb2.Credit(messages=-1))], "INVALID_CREDIT"),
        ([START, consume(credit=queue_pb2.Credit(bytes=(1 << 30) + 1))], "INVALID_CREDIT"),
        ([START, consume(ack=queue_pb2.ConsumeAck())], "INVALID_FIELD"),
        ([START, consume(nack=queue_pb2.ConsumeNack(ranges=wire([(0, 1)])))], "INVALID_FIELD"),
        ([START, b"\xff\xff"], "MALFORMED_REQUEST"),
        ([b"\xff"], "MALFORMED_REQUEST"),
    ],
)
def test_a_consumer_that_makes_a_mistake_is_told_which(
    tmp_path: Path, requests: list[bytes], reason: str
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            consumer = Consuming(node)
            consumer.call = node.channel.stream_stream("/taskraft.v1.QueueService/Consume")()
            for request in requests:
                await consumer.call.write(request)

            assert (await consumer.ended())[1] == reason
            assert await node.publish("q", b"goes on") == 1

    run(story())


def test_a_node_that_stops_lets_acknowledgements_through_and_sends_streams_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"x")
            consumer, producer = Consuming(node), node.queues.PublishStream()
            await consumer.start(credit=1)
            await consumer.delivery()
            await producer.write(batch(1, b"y"))
            await producer.read()
            node.replica.holding = True
            await consumer.ack((1, 1))
            await until(lambda: node.replica.held, "the acknowledgement is in flight")

            stopping = asyncio.create_task(node.node.stop(5))
            await until(node.node.stopping.is_set, "the node stops")
            node.replica.let_go()

            assert pairs((await consumer.read("acked")).acked.ranges) == [(1, 1)]
            await consumer.read("reconnect")
            assert (await consumer.ended())[1] == "SHUTTING_DOWN"
            assert (await producer.read()).HasField("reconnect")
            await stopping

    run(story())
