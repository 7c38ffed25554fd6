from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from node import commands
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running
from tests.node.stream_clients import Consuming, pairs, wire
from tests.node.test_api_queues import bodies, pulled, ranges

Code = grpc.StatusCode
REJECTED = queue_pb2.DEAD_LETTER_REASON_REJECTED
SPENT = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS


async def submit(node: Running, command: command_pb2.Command) -> None:
    await node.node.broker.submit(commands.plain(command))


async def create(node: Running, name: str, **settings: Any) -> None:
    queue = queue_pb2.Queue(name=f"queues/{name}", **settings)
    await submit(node, command_pb2.Command(create_queue=command_pb2.CreateQueue(queue=queue)))


async def shown(node: Running, name: str) -> queue_pb2.Queue:
    answer = await node.queues.GetQueue(queue_pb2.GetQueueRequest(name=f"queues/{name}"))
    queue: queue_pb2.Queue = answer.queue
    return queue


async def publish(node: Running, name: str, messages: Sequence[queue_pb2.Message]) -> None:
    await node.queues.Publish(queue_pb2.PublishRequest(queue=f"queues/{name}", messages=messages))


def dead(node: Running, reason: str) -> float | None:
    registry = node.node.metrics.registry
    return registry.get_sample_value("taskraft_dead_letters_total", {"reason": reason})


def refused(name: str, lease_id: str, *pairs: tuple[int, int], delay_s: int = 0) -> queue_pb2.RejectRequest:
    return queue_pb2.RejectRequest(
        queue=f"queues/{name}",
        lease_id=lease_id,
        ranges=ranges(*pairs),
        dead_letter=True,
        delay=Duration(seconds=delay_s),
    )


def test_what_is_rejected_for_good_is_in_the_dead_letter_queue(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "dead")
            await create(node, "q", dead_letter_queue="queues/dead")
            await node.publish("q", b"one", b"two", b"three")
            lease_id = (await pulled(node, "q", 2)).lease_id

            await node.queues.Reject(refused("q", lease_id, (2, 2)))

            (delivery,) = (await pulled(node, "dead")).deliveries
            letter = delivery.dead_letter
            assert [message.body for message in delivery.messages] == [b"two"]
            assert (letter.source, letter.source_sequence) == ("queues/q", 2)
            assert (letter.reason, letter.attempts) == (REJECTED, 1)
            assert (await shown(node, "q")).stats.messages == 2
            assert dead(node, "rejected") == 1

    run(story())


def test_only_what_is_leased_can_be_rejected_for_good(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "q")
            await node.publish("q", b"one", b"two", b"three")
            lease_id = (await pulled(node, "q", 2)).lease_id

            found = await refusal(node.queues.Reject(refused("q", lease_id, (2, 3))))
            assert found[:2] == (Code.ABORTED, "LEASE_LOST")
            assert found[2]["ranges"] == "3-3"
            assert (await shown(node, "q")).stats.messages == 2

            found = await refusal(node.queues.Reject(refused("q", lease_id, (1, 1), delay_s=1)))
            assert found[:2] == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
            assert (await shown(node, "q")).stats.leased_messages == 1

    run(story())


def test_a_stream_is_answered_when_its_dead_letters_are_committed(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "dead")
            await create(node, "q", dead_letter_queue="queues/dead")
            await node.publish("q", b"one", b"two")
            consumer = Consuming(node)
            await consumer.start(credit=2)
            await consumer.delivery()

            nack = queue_pb2.ConsumeNack(ranges=wire([(1, 1)]), dead_letter=True)
            await consumer.call.write(queue_pb2.ConsumeRequest(nack=nack))

            assert pairs((await consumer.read("acked")).acked.ranges) == [(1, 1)]
            assert (await shown(node, "dead")).stats.messages == 1
            await consumer.call.write(queue_pb2.ConsumeRequest(nack=nack))
            assert pairs((await consumer.read("lease_lost")).lease_lost.ranges) == [(1, 1)]

    run(story())


def test_a_message_that_was_delivered_as_often_as_it_may_is_a_dead_letter(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "dead")
            await create(node, "q", dead_letter_queue="queues/dead", max_attempts=3)
            await node.publish("q", b"poison")
            for _ in range(3):  # each time its consumer ends before it is done
                consumer = Consuming(node)
                await consumer.start(credit=1)
                await consumer.delivery()
                consumer.call.cancel()

            answer = await pulled(node, "dead", wait_s=5)

            (delivery,) = answer.deliveries
            assert (delivery.dead_letter.reason, delivery.dead_letter.attempts) == (SPENT, 3)
            assert (await shown(node, "q")).stats.messages == 0
            assert dead(node, "max_attempts") == 1

    run(story())


def test_what_a_group_cannot_do_is_a_dead_letter_and_stays_in_the_stream(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")
            await node.create(
                "q",
                kind=queue_pb2.QUEUE_KIND_STREAM,
                dead_letter_queue="queues/dead",
                max_attempts=2,
                max_in_flight_per_key=1,
            )
            message = queue_pb2.Message
            await publish(node, "q", [message(body=b"poison", key="a"), message(body=b"good", key="a")])
            pull = queue_pb2.PullRequest(
                queue="queues/q", group="g", max_messages=10, wait=Duration(seconds=5)
            )
            for _ in range(2):
                answer = await node.queues.Pull(pull)
                assert bodies(answer) == [b"poison"]
                back = queue_pb2.RejectRequest(
                    queue="queues/q", group="g", lease_id=answer.lease_id, ranges=ranges((1, 1))
                )
                await node.queues.Reject(back)

            assert bodies(await node.queues.Pull(pull)) == [b"good"]
            (delivery,) = (await pulled(node, "dead")).deliveries
            letter = delivery.dead_letter
            assert (letter.group, letter.reason, letter.attempts) == ("g", SPENT, 2)
            pull.group = "other"
            assert bodies(await node.queues.Pull(pull)) == [b"poison"]

    run(story())


def test_without_a_dead_letter_queue_what_is_given_up_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "q")
            await node.publish("q", b"poison", b"good")
            lease_id = (await pulled(node, "q", 1)).lease_id
            changed = queue_pb2.Queue(name="queues/q", max_attempts=1)
            update = command_pb2.UpdateQueue(queue=changed, fields=["max_attempts"])
            await submit(node, command_pb2.Command(update_queue=update))
            back = queue_pb2.RejectRequest(queue="queues/q", lease_id=lease_id, ranges=ranges((1, 1)))

            await node.queues.Reject(back)

            assert bodies(await pulled(node, "q")) == [b"good"]
            assert dead(node, "max_attempts") == 1

    run(story())


def test_priorities_and_keys_decide_what_a_pull_gets(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "q", max_in_flight_per_key=1)
            message = queue_pb2.Message
            await publish(node, "q", [message(body=b"a1", key="a"), message(body=b"a2", key="a")])
            await publish(
                node, "q", [message(body=b"b", key="b", priority=9), message(body=b"c", key="c", priority=2)]
            )

            first = await pulled(node, "q", wait_s=5)
            assert bodies(first) == [b"b", b"c", b"a1"]
            assert bodies(await pulled(node, "q")) == []
            done = queue_pb2.AcknowledgeRequest(
                queue="queues/q", lease_id=first.lease_id, ranges=ranges((1, 1), (3, 4))
            )
            await node.queues.Acknowledge(done)

            assert bodies(await pulled(node, "q")) == [b"a2"]

    run(story())


def test_a_queue_shows_what_happened_in_the_last_minute(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await create(node, "q")
            assert not (await shown(node, "q")).stats.HasField("message_rates")
            await node.publish("q", b"one", b"two")
            answer = await pulled(node, "q")
            request = queue_pb2.AcknowledgeRequest(
                queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 2))
            )
            await node.queues.Acknowledge(request)

            rates = (await shown(node, "q")).stats.message_rates

            assert (rates.published, rates.delivered, rates.acknowledged) == (2, 2, 2)
            assert rates.throughput > 0
            assert rates.HasField("end_to_end")

    run(story())
