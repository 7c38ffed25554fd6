from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from node import limits
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running

Code = grpc.StatusCode


async def redriven(node: Running, name: str = "dead", **request: Any) -> queue_pb2.RedriveResponse:
    answer: queue_pb2.RedriveResponse = await node.queues.Redrive(
        queue_pb2.RedriveRequest(queue=f"queues/{name}", **request)
    )
    return answer


async def pulled(node: Running, name: str, count: int = 100) -> queue_pb2.PullResponse:
    """What there is, also if consumers of an earlier leader may claim it for a moment."""
    request = queue_pb2.PullRequest(queue=f"queues/{name}", max_messages=count, wait=Duration(seconds=5))
    answer: queue_pb2.PullResponse = await node.queues.Pull(request)
    return answer


def bodies(answer: queue_pb2.PullResponse) -> list[bytes]:
    return [message.body for delivery in answer.deliveries for message in delivery.messages]


async def held(node: Running, name: str) -> list[bytes]:
    """The bodies of all messages of a queue."""
    answer = await node.queues.Peek(queue_pb2.PeekRequest(queue=f"queues/{name}"))
    return [message.message.body for message in answer.messages]


async def rejected(node: Running, name: str, count: int, **message: Any) -> None:
    """Messages that a consumer of the queue has rejected."""
    messages = [queue_pb2.Message(body=f"{name}{n}".encode(), **message) for n in range(count)]
    await node.queues.Publish(queue_pb2.PublishRequest(queue=f"queues/{name}", messages=messages))
    lease = await pulled(node, name)
    ranges = [
        queue_pb2.SequenceRange(
            first=delivery.first_sequence, last=delivery.first_sequence + len(delivery.messages) - 1
        )
        for delivery in lease.deliveries
    ]
    await node.queues.Reject(
        queue_pb2.RejectRequest(
            queue=f"queues/{name}", lease_id=lease.lease_id, ranges=ranges, dead_letter=True
        )
    )


async def prepared(node: Running) -> None:
    """Two queues, and one with the dead letters of both: a0, a1, a2, b0."""
    await node.create("dead")
    for name in ("a", "b"):
        await node.create(name, dead_letter_queue="queues/dead")
    await rejected(node, "a", 3, key="k", headers={"x": "1"})
    await rejected(node, "b", 1)
    assert await held(node, "dead") == [b"a0", b"a1", b"a2", b"b0"]


def test_dead_letters_go_back_to_where_they_came_from(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            answer = await redriven(node)

            assert (answer.moved_messages, answer.next_sequence) == (4, 0)
            assert await held(node, "dead") == []
            again = await pulled(node, "a")
            assert bodies(again) == [b"a0", b"a1", b"a2"]
            assert not again.deliveries[0].HasField("dead_letter")
            assert again.deliveries[0].attempt == 1
            assert bodies(await pulled(node, "b")) == [b"b0"]

    run(story())


def test_dead_letters_go_to_another_queue_if_one_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            await node.create("other")

            assert (await redriven(node, target="queues/other")).moved_messages == 4

            assert await held(node, "other") == [b"a0", b"a1", b"a2", b"b0"]

    run(story())


FILTERS: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "a source": ({"source": "queues/b"}, [b"a0", b"a1", b"a2"]),
    "a key": ({"key": "k"}, [b"b0"]),
    "headers": ({"headers": {"x": "1"}}, [b"b0"]),
    "headers that none has": ({"headers": {"x": "2"}}, [b"a0", b"a1", b"a2", b"b0"]),
    "a reason": ({"reason": queue_pb2.DEAD_LETTER_REASON_REJECTED}, []),
    "a reason that none has": (
        {"reason": queue_pb2.DEAD_LETTER_REASON_EXPIRED},
        [b"a0", b"a1", b"a2", b"b0"],
    ),
    "a first sequence": ({"first_sequence": 3}, [b"a0", b"a1"]),
}


@pytest.mark.parametrize(("request_", "staying"), FILTERS.values(), ids=FILTERS.keys())
def test_only_what_is_meant_is_moved(tmp_path: Path, request_: dict[str, Any], staying: list[bytes]) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            answer = await redriven(node, **request_)

            assert answer.moved_messages == 4 - len(staying)
            assert await held(node, "dead") == staying
            if staying:
                assert bodies(await pulled(node, "dead")) == staying, "what stays can be delivered"

    run(story())


def test_a_call_moves_so_many_and_says_where_to_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            first = await redriven(node, max_messages=2)
            second = await redriven(node, max_messages=2, first_sequence=first.next_sequence)

            assert (first.moved_messages, first.next_sequence) == (2, 3)
            assert (second.moved_messages, second.next_sequence) == (2, 0)
            assert await held(node, "a") == [b"a0", b"a1", b"a2"]

    run(story())


def test_a_call_looks_at_so_many_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REDRIVE_LOOKED_MAX", 3)

    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            answer = await redriven(node, source="queues/b")

            assert (answer.moved_messages, answer.next_sequence) == (0, 4)
            assert (await redriven(node, source="queues/b", first_sequence=4)).moved_messages == 1

    run(story())


def test_what_is_delivered_stays_with_its_consumer(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            lease = await pulled(node, "dead", 1)

            assert (await redriven(node)).moved_messages == 3

            assert await held(node, "dead") == [b"a0"]
            done = queue_pb2.SequenceRange(first=1, last=1)
            await node.queues.Acknowledge(
                queue_pb2.AcknowledgeRequest(queue="queues/dead", lease_id=lease.lease_id, ranges=[done])
            )
            assert await held(node, "dead") == []

    run(story())


def test_dead_letters_whose_queue_is_gone_stay_and_can_be_delivered(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/b"))

            answer = await redriven(node)

            assert (answer.moved_messages, answer.next_sequence) == (3, 0)
            assert bodies(await pulled(node, "dead")) == [b"b0"]

    run(story())


def test_messages_that_are_no_dead_letters_stay(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            await node.create("other")
            await node.publish("dead", b"published here")

            assert (await redriven(node, target="queues/other")).moved_messages == 4

            assert await held(node, "dead") == [b"published here"]

    run(story())


def test_a_retry_is_told_what_the_first_call_did(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            first = await redriven(node, max_messages=2, request_id="r")
            retry = await redriven(node, max_messages=2, request_id="r")

            assert retry == first
            assert await held(node, "dead") == [b"a2", b"b0"]
            assert bodies(await pulled(node, "dead")) == [b"a2", b"b0"], "what was not moved can be delivered"

    run(story())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a queue to itself": ({"target": "queues/dead"}, "target"),
    "no queue": ({"target": "dead"}, "target"),
    "a source that is none": ({"source": "a"}, "source"),
    "too many": ({"max_messages": 10_001}, "max_messages"),
    "a sequence that cannot be": ({"first_sequence": 1 << 63}, "first_sequence"),
    "an unknown reason": ({"reason": 77}, "reason"),
    "a long key": ({"key": "k" * 257}, "key"),
    "many headers": ({"headers": {str(n): "" for n in range(17)}}, "headers"),
    "a long request id": ({"request_id": "r" * 65}, "request_id"),
}


@pytest.mark.parametrize(("request_", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_the_name_of_its_field(
    tmp_path: Path, request_: dict[str, Any], field: str
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")

            code, reason, metadata = await refusal(redriven(node, **request_))

            assert (code, reason, metadata["field"]) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", field)
            assert metadata["limit"]

    run(story())


def test_only_dead_letters_of_a_work_queue_are_moved_and_only_to_queues_of_messages(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            await node.create("s", kind=queue_pb2.QUEUE_KIND_STREAM)
            await node.create("t", kind=queue_pb2.QUEUE_KIND_TASK)

            assert (await refusal(redriven(node, "s")))[1] == "WRONG_QUEUE_KIND"
            assert (await refusal(redriven(node, "t")))[1] == "WRONG_QUEUE_KIND"
            assert (await refusal(redriven(node, "none")))[1] == "QUEUE_NOT_FOUND"
            assert (await refusal(redriven(node, target="queues/t")))[1] == "WRONG_QUEUE_KIND"
            assert (await refusal(redriven(node, target="queues/none")))[1] == "QUEUE_NOT_FOUND"
            assert len(bodies(await pulled(node, "dead"))) == 4, "what was refused can be delivered"

    run(story())
