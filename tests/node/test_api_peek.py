from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from node.api import browsing
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running

Code = grpc.StatusCode
Position = queue_pb2.Position


async def peeked(node: Running, name: str = "q", **request: Any) -> queue_pb2.PeekResponse:
    answer: queue_pb2.PeekResponse = await node.queues.Peek(
        queue_pb2.PeekRequest(queue=f"queues/{name}", **request)
    )
    return answer


def sequences(answer: queue_pb2.PeekResponse) -> list[int]:
    return [each.sequence for each in answer.messages]


async def filled(node: Running) -> None:
    """A queue with six messages: three publishes of two."""
    await node.create("q")
    for first in (1, 3, 5):
        messages = [
            queue_pb2.Message(body=b"%d" % n, key=f"k{n % 2}", headers={"n": str(n), "odd": str(n % 2)})
            for n in (first, first + 1)
        ]
        await node.queues.Publish(queue_pb2.PublishRequest(queue="queues/q", messages=messages))


async def pulled(node: Running, count: int) -> queue_pb2.PullResponse:
    answer: queue_pb2.PullResponse = await node.queues.Pull(
        queue_pb2.PullRequest(queue="queues/q", max_messages=count)
    )
    return answer


def test_messages_are_looked_at_and_stay(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)

            first = await peeked(node)
            again = await peeked(node)

            assert first == again
            assert sequences(first) == [1, 2, 3, 4, 5, 6]
            assert first.next_sequence == 0
            assert (first.messages[2].message.body, first.messages[2].message.key) == (b"3", "k1")
            assert first.messages[2].publish_time.seconds > 0
            assert len((await pulled(node, 10)).deliveries[0].messages) == 6

    run(story())


def test_what_is_delivered_is_shown_as_leased_with_its_attempts(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)
            lease = await pulled(node, 3)
            given_back = queue_pb2.SequenceRange(first=1, last=1)
            done = queue_pb2.SequenceRange(first=2, last=2)
            of: dict[str, Any] = {"queue": "queues/q", "lease_id": lease.lease_id}
            await node.queues.Reject(queue_pb2.RejectRequest(ranges=[given_back], **of))
            await node.queues.Acknowledge(queue_pb2.AcknowledgeRequest(ranges=[done], **of))
            await pulled(node, 1)

            found = await peeked(node)

            assert [(each.sequence, each.leased) for each in found.messages] == [
                (1, True),
                (3, True),
                (4, False),
                (5, False),
                (6, False),
            ]
            assert [each.attempts for each in found.messages][1:] == [1, 0, 0, 0]

    run(story())


def test_a_page_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)
            found: list[int] = []
            at, pages = 1, 0
            while at:
                answer = await peeked(node, max_messages=4, position=Position(sequence=at))
                found += sequences(answer)
                at, pages = answer.next_sequence, pages + 1

            assert (found, pages) == ([1, 2, 3, 4, 5, 6], 2)

    run(story())


def test_only_messages_of_the_key_and_with_all_the_headers_are_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)

            assert sequences(await peeked(node, key="k1")) == [1, 3, 5]
            assert sequences(await peeked(node, headers={"odd": "0"})) == [2, 4, 6]
            assert sequences(await peeked(node, headers={"odd": "0", "n": "4"})) == [4]
            assert sequences(await peeked(node, key="k1", headers={"odd": "0"})) == []

    run(story())


def test_a_call_looks_at_so_many_messages_and_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEEK_LOOKED_MAX", 4)

    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)

            answer = await peeked(node, headers={"n": "6"})
            rest = await peeked(node, headers={"n": "6"}, position=Position(sequence=answer.next_sequence))

            assert (sequences(answer), answer.next_sequence) == ([], 5)
            assert (sequences(rest), rest.next_sequence) == ([6], 0)

    run(story())


def test_an_answer_holds_what_passes_and_the_rest_comes_with_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            for _ in range(4):
                await node.publish("q", bytes(1_000_000))

            answer = await peeked(node)
            rest = await peeked(node, position=Position(sequence=answer.next_sequence))

            assert sequences(answer) + sequences(rest) == [1, 2, 3, 4]
            assert len(rest.messages) >= 1

    run(story())


def test_a_position_is_a_sequence_or_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)
            everything = await peeked(node)
            late = Timestamp(seconds=everything.messages[-1].publish_time.seconds + 60)

            assert sequences(await peeked(node, position=Position(sequence=5))) == [5, 6]
            assert sequences(await peeked(node, position=Position(sequence=7))) == []
            assert sequences(await peeked(node, position=Position(beginning=True))) == [1, 2, 3, 4, 5, 6]
            assert sequences(await peeked(node, position=Position(time=Timestamp()))) == [1, 2, 3, 4, 5, 6]
            since = everything.messages[-1].publish_time
            assert 6 in sequences(await peeked(node, position=Position(time=since)))
            assert sequences(await peeked(node, position=Position(time=late))) == []

    run(story())


def test_a_position_beyond_the_end_is_out_of_range(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)

            refused = await refusal(peeked(node, position=Position(sequence=8)))

            assert refused == (
                Code.OUT_OF_RANGE,
                "OUT_OF_RANGE",
                {"queue": "queues/q", "next_sequence": "7"},
            )

    run(story())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a negative count": ({"max_messages": -1}, "max_messages"),
    "the end": ({"position": Position(end=True)}, "position.end"),
    "a time that is none": ({"position": Position(time=Timestamp(nanos=-1))}, "position.time"),
    "a long key": ({"key": "k" * 257}, "key"),
    "many headers": ({"headers": {str(n): "" for n in range(17)}}, "headers"),
    "a header without a name": ({"headers": {"": "x"}}, "headers"),
}


@pytest.mark.parametrize(("request_", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_the_name_of_its_field(
    tmp_path: Path, request_: dict[str, Any], field: str
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await filled(node)

            code, reason, metadata = await refusal(peeked(node, **request_))

            assert (code, reason, metadata["field"]) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", field)

    run(story())


def test_only_queues_of_messages_are_looked_into(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("t", kind=queue_pb2.QUEUE_KIND_TASK)

            assert (await refusal(peeked(node, "t")))[1] == "WRONG_QUEUE_KIND"
            assert (await refusal(peeked(node, "none")))[1] == "QUEUE_NOT_FOUND"

    run(story())


@pytest.mark.parametrize("rows_max", [1, 2, 64])
def test_messages_of_all_priorities_are_shown_in_the_order_of_their_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    monkeypatch.setattr(browsing, "PAGE_ROWS", rows_max)

    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            for first in range(1, 13, 4):
                messages = [
                    queue_pb2.Message(body=b"%d" % n, priority=(0, 9, 9, 3)[(n - 1) % 4])
                    for n in range(first, first + 4)
                ]
                await node.queues.Publish(queue_pb2.PublishRequest(queue="queues/q", messages=messages))
            highest = await pulled(node, 2)

            found = await peeked(node)

            assert sequences(found) == list(range(1, 13))
            assert [each.message.body for each in found.messages] == [b"%d" % n for n in range(1, 13)]
            leased = [each.sequence for each in found.messages if each.leased]
            assert leased == [2, 3]
            assert [each.attempts for each in found.messages][:4] == [0, 1, 1, 0]
            assert [delivery.first_sequence for delivery in highest.deliveries] == [2]
            assert sequences(await peeked(node, position=Position(sequence=7), max_messages=3)) == [7, 8, 9]

    run(story())


def test_what_one_queue_gets_of_a_publish_is_shown_and_nothing_else(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            binding = queue_pb2.Binding(pattern="a.>", headers={"odd": "1"})
            await node.create("q", bindings=[binding])
            await node.create("dead")
            messages = [queue_pb2.Message(body=b"%d" % n, headers={"odd": str(n % 2)}) for n in range(1, 8)]
            await node.queues.Publish(queue_pb2.PublishRequest(queue="topics/a.b", messages=messages))

            found = await peeked(node)

            assert [each.message.body for each in found.messages] == [b"1", b"3", b"5", b"7"]

    run(story())


def test_a_dead_letter_says_its_own_sequence_in_the_queue_it_comes_from(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("dead")
            await node.create("q", dead_letter_queue="queues/dead")
            await node.publish("q", b"1", b"2", b"3", b"4")
            lease = await pulled(node, 4)
            rejected = [queue_pb2.SequenceRange(first=2, last=4)]
            await node.queues.Reject(
                queue_pb2.RejectRequest(
                    queue="queues/q", lease_id=lease.lease_id, ranges=rejected, dead_letter=True
                )
            )

            found = (await peeked(node, "dead")).messages

            assert [(each.sequence, each.dead_letter.source_sequence) for each in found] == [
                (1, 2),
                (2, 3),
                (3, 4),
            ]
            assert {each.dead_letter.source for each in found} == {"queues/q"}
            assert {each.dead_letter.attempts for each in found} == {1}
            assert {each.dead_letter.reason for each in found} == {queue_pb2.DEAD_LETTER_REASON_REJECTED}

    run(story())
