from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from taskraft.v1 import queue_pb2
from tests.node.single_node import refusal, run, running
from tests.node.stream_clients import wire

Code = grpc.StatusCode

REQUESTS: dict[str, tuple[str, Any, str]] = {
    "a queue without a name": ("GetQueue", queue_pb2.GetQueueRequest(), "name"),
    "a queue name without its collection": ("GetQueue", queue_pb2.GetQueueRequest(name="q"), "name"),
    "a queue name with more behind it": ("GetQueue", queue_pb2.GetQueueRequest(name="queues/q/x"), "name"),
    "a queue id with a slash": ("CreateQueue", queue_pb2.CreateQueueRequest(queue_id="a/b"), "queue_id"),
    "a queue id that ends its line": (
        "CreateQueue",
        queue_pb2.CreateQueueRequest(queue_id="a\n"),
        "queue_id",
    ),
    "a short deadline": (
        "CreateQueue",
        queue_pb2.CreateQueueRequest(queue_id="a", queue=queue_pb2.Queue(ack_deadline=Duration(nanos=1))),
        "queue.ack_deadline",
    ),
    "too large messages": (
        "CreateQueue",
        queue_pb2.CreateQueueRequest(queue_id="a", queue=queue_pb2.Queue(max_message_bytes=1 << 30)),
        "queue.max_message_bytes",
    ),
    "an unknown policy": (
        "CreateQueue",
        queue_pb2.CreateQueueRequest(queue_id="a", queue=queue_pb2.Queue(overflow_policy=77)),  # type: ignore[arg-type]
        "queue.overflow_policy",
    ),
    "an unknown setting": (
        "UpdateQueue",
        queue_pb2.UpdateQueueRequest(
            queue=queue_pb2.Queue(name="queues/q"), update_mask=FieldMask(paths=["uid"])
        ),
        "update_mask",
    ),
    "no settings": (
        "UpdateQueue",
        queue_pb2.UpdateQueueRequest(queue=queue_pb2.Queue(name="queues/q")),
        "update_mask",
    ),
    "a negative page": ("ListQueues", queue_pb2.ListQueuesRequest(page_size=-1), "page_size"),
    "a made up page token": ("ListQueues", queue_pb2.ListQueuesRequest(page_token="?"), "page_token"),
    "no messages": ("Publish", queue_pb2.PublishRequest(queue="queues/q"), "messages"),
    "a header without a name": (
        "Publish",
        queue_pb2.PublishRequest(queue="queues/q", messages=[queue_pb2.Message(headers={"": "x"})]),
        "messages[0].headers",
    ),
    "a long request id": (
        "Publish",
        queue_pb2.PublishRequest(queue="queues/q", request_id="r" * 65, messages=[queue_pb2.Message()]),
        "request_id",
    ),
    "a pull of nothing": ("Pull", queue_pb2.PullRequest(queue="queues/q"), "max_messages"),
    "a long wait": (
        "Pull",
        queue_pb2.PullRequest(queue="queues/q", max_messages=1, wait=Duration(seconds=61)),
        "wait",
    ),
    "a negative wait": (
        "Pull",
        queue_pb2.PullRequest(queue="queues/q", max_messages=1, wait=Duration(seconds=-1)),
        "wait",
    ),
    "no ranges": ("Acknowledge", queue_pb2.AcknowledgeRequest(queue="queues/q"), "ranges"),
    "a range that ends before it begins": (
        "Acknowledge",
        queue_pb2.AcknowledgeRequest(queue="queues/q", ranges=wire([(2, 1)])),
        "ranges",
    ),
    "too many ranges": (
        "Reject",
        queue_pb2.RejectRequest(queue="queues/q", ranges=wire([(i, i) for i in range(1, 2_003, 2)])),
        "ranges",
    ),
}


@pytest.mark.parametrize(("method", "request_", "field"), REQUESTS.values(), ids=REQUESTS.keys())
def test_bad_input_is_refused_by_the_name_of_its_field(
    tmp_path: Path, method: str, request_: Any, field: str
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")

            code, reason, metadata = await refusal(getattr(node.queues, method)(request_))

            assert (code, reason, metadata["field"]) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", field)
            assert metadata["limit"]
            assert await node.publish("q", b"goes on") == 1

    run(story())


def test_messages_that_are_too_large_are_refused_and_those_just_within_the_limit_are_not(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", max_message_bytes=100)

            large = await refusal(node.publish("q", b"", b"x" * 101))
            headers = queue_pb2.Message(body=b"x" * 60, headers={"k" * 20: "v" * 21})
            request = queue_pb2.PublishRequest(queue="queues/q", messages=[headers])
            with_headers = await refusal(node.queues.Publish(request))

            assert large[:2] == with_headers[:2] == (Code.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
            assert (large[2]["field"], large[2]["bytes"]) == ("messages[1]", "101")
            assert await node.publish("q", b"x" * 100, b"y" * 100) == 1

    run(story())


@pytest.mark.parametrize("method", ["Publish", "GetQueue", "Pull", "CreateQueue"])
def test_bytes_that_are_no_request_are_refused_as_such(tmp_path: Path, method: str) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            call: Any = node.channel.unary_unary(f"/taskraft.v1.QueueService/{method}")

            assert (await refusal(call(b"\xff\xff\xff")))[:2] == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")

    run(story())


def test_an_unknown_queue_is_not_found_by_any_method(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            calls = [
                node.publish("none", b"x"),
                node.queues.Pull(queue_pb2.PullRequest(queue="queues/none", max_messages=1)),
                node.queues.Acknowledge(
                    queue_pb2.AcknowledgeRequest(queue="queues/none", lease_id="1.1.u", ranges=wire([(1, 1)]))
                ),
                node.queues.PurgeQueue(queue_pb2.PurgeQueueRequest(name="queues/none")),
                node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/none")),
            ]
            assert {(await refusal(call))[1] for call in calls} == {"QUEUE_NOT_FOUND"}

    run(story())
