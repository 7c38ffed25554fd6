import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from node import limits
from tests.node.single_node import refusal_of, run, running, until
from tests.node.stream_clients import batch


def test_a_producer_is_answered_batch_by_batch_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            call = node.queues.PublishStream()
            for sequence in (1, 2, 3):
                await call.write(batch(sequence, b"x", b"y"))

            answers = [await call.read() for _ in range(3)]
            await call.done_writing()

            assert [(each.producer_sequence, each.first_sequence, each.count) for each in answers] == [
                (1, 1, 2),
                (2, 3, 2),
                (3, 5, 2),
            ]
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    run(story())


def test_a_batch_that_fails_is_answered_and_the_stream_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", max_message_bytes=10)
            call = node.queues.PublishStream()
            for request in (
                batch(1, b"x" * 11),
                batch(1, b"x", queue="none"),
                batch(0, b"x"),
                batch(1),
                batch(1, b"x", producer=""),
                batch(1, b"x"),
                batch(3, b"x"),
                batch(1, b"x"),
            ):
                await call.write(request)

            answers = [await call.read() for _ in range(8)]

            assert [each.failure.reason for each in answers] == [
                "PAYLOAD_TOO_LARGE",
                "QUEUE_NOT_FOUND",
                "INVALID_FIELD",
                "INVALID_FIELD",
                "INVALID_FIELD",
                "",
                "SEQUENCE_GAP",
                "",
            ]
            assert [answers[5].duplicate, answers[7].duplicate] == [False, True]
            assert answers[0].failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]

    run(story())


def test_only_so_many_batches_are_taken_unanswered(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            node.replica.holding = True
            call = node.queues.PublishStream()
            for sequence in range(1, 2 * limits.PUBLISH_STREAM_UNANSWERED_MAX):
                await call.write(batch(sequence, b"x"))
            broker = node.node.broker
            in_entries = [len(payload) for payload, _ in node.replica.held]
            await until(
                lambda: len(broker._waiting) + len(in_entries) >= limits.PUBLISH_STREAM_UNANSWERED_MAX - 1,
                "the limit is reached",
            )
            await asyncio.sleep(0.05)
            assert len(broker._waiting) <= limits.PUBLISH_STREAM_UNANSWERED_MAX

            node.replica.let_go()

            for sequence in range(1, 2 * limits.PUBLISH_STREAM_UNANSWERED_MAX):
                assert (await call.read()).producer_sequence == sequence

    run(story())


def test_an_idle_producer_is_told_that_the_leader_moved(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            call = node.queues.PublishStream()
            await call.write(batch(1, b"x"))
            await call.read()

            node.replica.follow("n2")

            assert (await call.read()).HasField("reconnect")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert refusal_of(caught.value)[1] == "NOT_LEADER"

    run(story())


def test_a_batch_whose_leader_was_lost_is_answered_as_unknown(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            node.replica.holding = True
            call = node.queues.PublishStream()
            await call.write(batch(1, b"x"))
            await until(lambda: node.replica.held, "the batch is in flight")

            node.replica.follow()

            assert (await call.read()).failure.reason == "COMMIT_UNKNOWN"
            assert (await call.read()).HasField("reconnect")

    run(story())


def test_a_batch_that_does_not_decode_ends_its_stream_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            call: Any = node.channel.stream_stream("/taskraft.v1.QueueService/PublishStream")()
            await call.write(b"\xff\xff")

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()

            assert refusal_of(caught.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
            assert await node.publish("q", b"goes on") == 1

    run(story())
