from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from node.api import validate
from node.errors import InvalidField
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running

Code = grpc.StatusCode
CREATED = queue_pb2.Binding(pattern="orders.*.created")
ALL = queue_pb2.Binding(pattern="orders.>")
PORTUGUESE = queue_pb2.Binding(pattern="orders.>", headers={"country": "pt"})


async def published(
    node: Running, topic: str, *messages: queue_pb2.Message, **request: Any
) -> queue_pb2.PublishResponse:
    answer: queue_pb2.PublishResponse = await node.queues.Publish(
        queue_pb2.PublishRequest(queue=f"topics/{topic}", messages=messages, **request)
    )
    return answer


async def held(node: Running, name: str) -> list[bytes]:
    """The bodies of all messages of a queue."""
    answer = await node.queues.Peek(queue_pb2.PeekRequest(queue=f"queues/{name}"))
    return [message.message.body for message in answer.messages]


def message(body: bytes, **headers: str) -> queue_pb2.Message:
    return queue_pb2.Message(body=body, headers=headers)


def test_a_publish_to_a_topic_reaches_all_queues_that_are_bound(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("created", bindings=[CREATED])
            await node.create("all", bindings=[ALL])
            await node.create("pt", bindings=[PORTUGUESE])
            await node.create("none")

            first = await published(
                node, "orders.eu.created", message(b"1", country="pt"), message(b"2", country="es")
            )
            second = await published(node, "orders.eu.paid", message(b"3"))

            assert (first.first_sequence, first.count, first.queues) == (0, 2, 3)
            assert (second.count, second.queues) == (1, 1)
            assert await held(node, "created") == [b"1", b"2"]
            assert await held(node, "all") == [b"1", b"2", b"3"]
            assert await held(node, "pt") == [b"1"]
            assert await held(node, "none") == []

    run(story())


def test_an_unroutable_publish_is_reported_unless_that_is_no_error(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("created", bindings=[CREATED])

            refused = await refusal(published(node, "refunds.eu", message(b"x")))
            allowed = await published(node, "refunds.eu", message(b"x"), allow_unroutable=True)

            assert refused == (Code.NOT_FOUND, "UNROUTABLE", {"topic": "topics/refunds.eu"})
            assert (allowed.count, allowed.queues) == (0, 0)

    run(story())


def test_bindings_that_change_change_where_messages_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", bindings=[CREATED])
            update = queue_pb2.UpdateQueueRequest(
                queue=queue_pb2.Queue(name="queues/q", bindings=[queue_pb2.Binding(pattern="refunds.*")])
            )
            changed = (await node.queues.UpdateQueue(update)).queue

            await published(node, "refunds.eu", message(b"refund"))

            assert [binding.pattern for binding in changed.bindings] == ["refunds.*"]
            assert (await refusal(published(node, "orders.eu.created", message(b"x"))))[1] == "UNROUTABLE"
            assert await held(node, "q") == [b"refund"]
            unbind = queue_pb2.UpdateQueueRequest(queue=queue_pb2.Queue(name="queues/q"))
            unbind.update_mask.paths.append("bindings")
            await node.queues.UpdateQueue(unbind)
            assert (await refusal(published(node, "refunds.eu", message(b"x"))))[1] == "UNROUTABLE"

    run(story())


def test_a_message_must_not_be_too_large_for_any_queue_of_its_topic(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("large", bindings=[ALL])
            await node.create("small", bindings=[ALL], max_message_bytes=10)

            refused = await refusal(published(node, "orders.eu", message(bytes(11))))

            assert refused[:2] == (Code.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
            assert await held(node, "large") == []
            assert (await published(node, "orders.eu", message(bytes(10)))).queues == 2

    run(story())


def test_a_queue_that_is_full_keeps_the_others_from_getting_anything(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("large", bindings=[ALL])
            await node.create("small", bindings=[ALL], max_messages=1)

            code, reason, metadata = await refusal(published(node, "orders.eu", message(b"1"), message(b"2")))

            assert (code, reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert metadata["queue"] == "queues/small"
            assert await held(node, "large") == []

    run(story())


def test_a_stream_of_batches_may_go_to_topics(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("a", bindings=[ALL])
            await node.create("b", bindings=[ALL])
            call: Any = node.queues.PublishStream()
            later = queue_pb2.Message(body=b"2", delay=Duration(seconds=60))
            for sequence, one in ((1, message(b"1")), (1, message(b"1")), (2, later)):
                await call.write(
                    queue_pb2.PublishStreamRequest(
                        queue="topics/orders.eu",
                        producer_id="p",
                        producer_sequence=sequence,
                        messages=[one],
                    )
                )

            stored, again, delayed = [await call.read() for _ in range(3)]

            assert (stored.count, stored.queues, stored.first_sequence) == (1, 2, 0)
            assert (again.duplicate, again.count, again.queues) == (True, 1, 2)
            assert (delayed.count, delayed.delayed) == (1, 1)
            assert await held(node, "a") == [b"1"]

    run(story())


def test_a_delayed_message_has_no_sequence_and_is_counted_apart(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            later = queue_pb2.Message(body=b"later", delay=Duration(seconds=60))
            publish = queue_pb2.PublishRequest(queue="queues/q", messages=[later, message(b"now")])

            answer = await node.queues.Publish(publish)
            shown = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))).queue

            assert (answer.first_sequence, answer.count, answer.delayed, answer.queues) == (1, 2, 1, 1)
            assert (shown.stats.messages, shown.stats.delayed_messages) == (1, 1)
            assert await held(node, "q") == [b"now"]

    run(story())


@pytest.mark.parametrize(
    "topic", ["", ".", "a.", ".a", "a..b", "a.*", ">", "a b", "é", "a/b", "a\n", "t" * 257]
)
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(InvalidField) as caught:
        validate.topic(f"topics/{topic}", "queue")

    assert caught.value.metadata["field"] == "queue"


@pytest.mark.parametrize("pattern", ["a", "*", ">", "a.*.b", "*.*", "a.>", "*.>", "a-b_c.0", "t" * 256])
def test_patterns_are_words_stars_and_a_rest(pattern: str) -> None:
    assert validate.pattern(pattern, "pattern") == pattern


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", ">.a", "a.>.b", "a*", "*a", "a.>b", "a b", "a\n", "t" * 257]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidField):
        validate.pattern(pattern, "pattern")
