"""What time brings to queues, on a node that does it by itself."""

from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from node.clock import Clock
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, run, running

EXPIRED = queue_pb2.DEAD_LETTER_REASON_EXPIRED


def of_ms(length_ms: int) -> Duration:
    length = Duration()
    length.FromMilliseconds(length_ms)
    return length


async def published(node: Running, name: str, **message: Any) -> queue_pb2.PublishResponse:
    request = queue_pb2.PublishRequest(queue=f"queues/{name}", messages=[queue_pb2.Message(**message)])
    answer: queue_pb2.PublishResponse = await node.queues.Publish(request)
    return answer


async def pulled(node: Running, name: str, wait_s: int = 10) -> queue_pb2.PullResponse:
    request = queue_pb2.PullRequest(queue=f"queues/{name}", max_messages=10, wait=Duration(seconds=wait_s))
    answer: queue_pb2.PullResponse = await node.queues.Pull(request)
    return answer


def test_a_delayed_message_is_delivered_when_its_time_has_come(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("a")

            published_ms = Clock().wall_ms()
            stored = await published(node, "a", body=b"later", delay=of_ms(300))
            assert (stored.first_sequence, stored.count, stored.delayed) == (0, 1, 1)
            (late,) = (await pulled(node, "a")).deliveries

            assert [message.body for message in late.messages] == [b"later"]
            assert late.publish_time.ToMilliseconds() >= published_ms + 300

    run(story())


def test_an_expired_message_is_a_dead_letter_but_not_while_a_consumer_holds_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")
            await node.create("a", dead_letter_queue="queues/dead")
            await published(node, "a", body=b"held", ttl=of_ms(1_000))
            lease = await pulled(node, "a")
            await published(node, "a", body=b"waits", ttl=of_ms(1_000))

            (letter,) = (await pulled(node, "dead")).deliveries

            assert [message.body for message in letter.messages] == [b"waits"]
            assert (letter.dead_letter.source, letter.dead_letter.reason) == ("queues/a", EXPIRED)
            await node.queues.Acknowledge(
                queue_pb2.AcknowledgeRequest(
                    queue="queues/a",
                    lease_id=lease.lease_id,
                    ranges=[queue_pb2.SequenceRange(first=1, last=1)],
                )
            )

    run(story())
