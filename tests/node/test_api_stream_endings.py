"""How messages of streams end: for a group as dead letters, for all by age and topics, seen through the API of one node."""

import asyncio
from pathlib import Path
from typing import Any

from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, run, running
from tests.node.stream_clients import wire

STREAM = queue_pb2.QUEUE_KIND_STREAM
S, DEAD = "queues/s", "queues/dead"
WAIT_S = 10.0


def pull(queue: str = S, group: str = "g") -> queue_pb2.PullRequest:
    return queue_pb2.PullRequest(queue=queue, max_messages=10, group=group)


def reject(lease_id: str, first: int, last: int, **how: Any) -> queue_pb2.RejectRequest:
    return queue_pb2.RejectRequest(queue=S, group="g", lease_id=lease_id, ranges=wire([(first, last)]), **how)


async def group_of(node: Running) -> queue_pb2.ConsumerGroup:
    answer = await node.queues.GetQueue(queue_pb2.GetQueueRequest(name=S))
    (group,) = answer.queue.stats.groups
    assert isinstance(group, queue_pb2.ConsumerGroup)
    return group


async def until(node: Running, queue: str, messages: int) -> queue_pb2.Queue:
    """The queue once it holds so many messages."""
    async with asyncio.timeout(WAIT_S):
        while True:
            answer = await node.queues.GetQueue(queue_pb2.GetQueueRequest(name=queue))
            if answer.queue.stats.messages == messages:
                found: queue_pb2.Queue = answer.queue
                return found
            await asyncio.sleep(0.01)


def test_what_a_group_rejects_is_a_dead_letter_of_that_group_and_stays_in_the_stream(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")
            await node.create("s", kind=STREAM, dead_letter_queue=DEAD)
            await node.publish("s", b"1", b"2", b"3")
            pulled = await node.queues.Pull(pull())

            await node.queues.Reject(reject(pulled.lease_id, 1, 2, dead_letter=True))

            (letters,) = (await node.queues.Pull(pull(DEAD, ""))).deliveries
            letter = letters.dead_letter
            assert [message.body for message in letters.messages] == [b"1", b"2"]
            assert (letter.source, letter.source_sequence, letter.group) == (S, 1, "g")
            assert letter.reason == queue_pb2.DEAD_LETTER_REASON_REJECTED
            assert ((await group_of(node)).position, (await until(node, S, 3)).stats.messages) == (3, 3)
            assert len((await node.queues.Pull(pull(S, "other"))).deliveries[0].messages) == 3

    run(story())


def test_what_a_group_was_given_too_often_is_a_dead_letter_of_that_group(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")
            await node.create("s", kind=STREAM, dead_letter_queue=DEAD, max_attempts=2)
            await node.publish("s", b"1", b"2")
            for _ in range(2):
                pulled = await node.queues.Pull(pull())
                await node.queues.Reject(reject(pulled.lease_id, 1, 1))
                settle = queue_pb2.AcknowledgeRequest(
                    queue=S, group="g", lease_id=pulled.lease_id, ranges=wire([(2, 2)])
                )
                if len(pulled.deliveries[0].messages) == 2:
                    await node.queues.Acknowledge(settle)

            await until(node, DEAD, 1)

            (letters,) = (await node.queues.Pull(pull(DEAD, ""))).deliveries
            assert (letters.dead_letter.attempts, letters.dead_letter.group) == (2, "g")
            group = await group_of(node)
            assert (group.position, group.pending_messages) == (3, 0)
            assert not (await node.queues.Pull(pull())).deliveries

    run(story())


def test_what_is_too_old_is_gone_for_all_groups(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("s", kind=STREAM, max_age={"seconds": 1})
            await node.publish("s", b"1", b"2")
            await node.queues.Seek(queue_pb2.SeekRequest(queue=S, group="g"))
            assert (await group_of(node)).pending_messages == 2

            await until(node, S, 0)

            group = await group_of(node)
            assert (group.position, group.pending_messages) == (3, 0)
            await node.publish("s", b"3")
            assert (await node.queues.Pull(pull())).deliveries[0].first_sequence == 3

    run(story())


def test_one_publish_to_a_topic_is_read_as_a_stream_and_consumed_as_a_queue(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("s", kind=STREAM, bindings=[{"pattern": "orders.>"}])
            await node.create("work", bindings=[{"pattern": "orders.*"}])
            orders = queue_pb2.PublishRequest(queue="topics/orders.eu", messages=[{"body": b"1"}])
            await node.queues.Publish(orders)

            for queue, group in ((S, "g"), (S, "h"), ("queues/work", "")):
                (delivery,) = (await node.queues.Pull(pull(queue, group))).deliveries
                assert delivery.messages[0].body == b"1"

    run(story())
