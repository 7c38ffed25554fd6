"""What messages say about their way, from the arguments of a call to what travels and comes back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import Binding, Client, OutgoingMessage, Receipt, _wire, errors
from taskraft._producer import Piece, Producer
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.client.broker import Broker

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def parsed(wire: bytes) -> queue_pb2.Message:
    return queue_pb2.PublishStreamRequest.FromString(wire).messages[0]


def test_a_message_says_all_that_it_was_given() -> None:
    one = OutgoingMessage(b"x", {"a": "b"}, key="k", priority=9, ttl=1.5, deliver_at=NOON)

    message = parsed(_wire.outgoing(one))

    assert (message.body, dict(message.headers), message.key, message.priority) == (b"x", {"a": "b"}, "k", 9)
    assert message.ttl.ToMilliseconds() == 1_500
    assert message.deliver_time.ToDatetime(UTC) == NOON
    assert not message.HasField("delay")
    assert parsed(_wire.outgoing(OutgoingMessage(b"x", delay=0.25))).delay.ToMilliseconds() == 250


def test_a_ttl_of_zero_is_said_so_that_the_broker_refuses_it() -> None:
    assert parsed(_wire.outgoing(OutgoingMessage(b"x", ttl=0.0))).HasField("ttl")


def test_a_message_that_says_nothing_travels_as_a_bare_body() -> None:
    assert _wire.outgoing(OutgoingMessage(b"body")) == _wire.message(b"body")


def test_pieces_say_whether_a_message_in_them_may_be_delayed() -> None:
    plain, timed = OutgoingMessage(b"x", key="k"), OutgoingMessage(b"x", delay=1.0)

    assert [timed for _, _, timed in _wire.pieces([b"x"] * 3)] == [False]
    assert [timed for _, _, timed in _wire.pieces([b"x", plain])] == [False]
    assert [timed for _, _, timed in _wire.pieces([b"x", plain, timed])] == [True]


def put(producer: Producer, count: int = 1, *, timed: bool = False) -> asyncio.Future[Receipt]:
    done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    producer.put(Piece(_wire.message(b"x") * count, count, done, 1e9, timed))
    return done


def answered(producer: Producer, **answer: Any) -> int:
    """Write the next frame and answer it; returns how many messages it had."""
    frame = producer.next_frame(now_s=0.0)
    assert frame is not None
    request = queue_pb2.PublishStreamRequest.FromString(frame)
    response = queue_pb2.PublishStreamResponse(
        producer_sequence=request.producer_sequence, count=len(request.messages), **answer
    )
    producer.answered(response, now_s=0.0)
    return len(request.messages)


def test_delayed_messages_travel_apart_and_have_no_sequence() -> None:
    async def story() -> None:
        producer = Producer("queues/q", window=2)
        plain, later, again = put(producer), put(producer, timed=True), put(producer)

        assert answered(producer, first_sequence=7, queues=1) == 1
        assert answered(producer, delayed=1, queues=1) == 1
        assert answered(producer, first_sequence=8, queues=1) == 1

        assert plain.result() == Receipt(7)
        assert later.result() == Receipt(0, delayed=1)
        assert (later.result().sequence, later.result().last_sequence) == (0, 0)
        assert again.result() == Receipt(8)

    asyncio.run(story())


def test_of_messages_that_were_due_already_the_sequences_are_known() -> None:
    async def story() -> None:
        producer = Producer("queues/q", window=2)
        first, second = put(producer, timed=True), put(producer, timed=True)

        assert answered(producer, first_sequence=3, queues=1) == 2

        assert (first.result(), second.result()) == (Receipt(3), Receipt(4))

    asyncio.run(story())


def test_a_topic_answers_with_the_number_of_its_queues() -> None:
    async def story() -> None:
        producer = Producer("topics/a.b", window=2)
        first, second = put(producer, 2), put(producer)

        assert answered(producer, queues=10) == 3

        assert (first.result(), second.result()) == (Receipt(0, 2, queues=10), Receipt(0, queues=10))

    asyncio.run(story())


def test_an_unroutable_publish_fails_and_the_next_one_goes_on_with_the_same_producer() -> None:
    async def story() -> None:
        producer = Producer("topics/a.b", window=2)
        first = put(producer)
        assert answered(producer, first_sequence=0, queues=1) == 1
        lost = put(producer)
        frame = producer.next_frame(now_s=0.0)
        assert frame is not None
        request = queue_pb2.PublishStreamRequest.FromString(frame)
        failure = queue_pb2.Failure(code=5, reason="UNROUTABLE")
        refusal = queue_pb2.PublishStreamResponse(
            producer_sequence=request.producer_sequence, failure=failure
        )
        producer.answered(refusal, now_s=0.0)
        again = put(producer)
        frame = producer.next_frame(now_s=0.0)
        assert frame is not None
        following = queue_pb2.PublishStreamRequest.FromString(frame)

        assert first.result().queues == 1
        assert isinstance(lost.exception(), errors.Unroutable)
        assert not again.done()
        assert (following.producer_id, following.producer_sequence) == (request.producer_id, 2)

    asyncio.run(story())


def test_a_queue_of_messages_has_all_its_settings(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        info = await client.create_queue(
            "m",
            max_attempts=5,
            dead_letter_queue="q",
            max_age=60,
            bindings=["orders.>", ("*.created", {"country": "pt"}), Binding("a.b")],
            max_in_flight_per_key=1,
            hold_key=True,
        )
        stored = broker.store.queues["queues/m"].queue
        assert stored.dead_letter_queue == "queues/q"
        assert not stored.HasField("scheduling")

        changed = await client.update_queue(
            "m", max_attempts=0, dead_letter_queue="", max_age=0, bindings=["x"], max_in_flight_per_key=2
        )

        assert (info.max_attempts, info.dead_letter_queue, info.max_age) == (5, "q", 60)
        assert info.bindings == (
            Binding("orders.>"),
            Binding("*.created", {"country": "pt"}),
            Binding("a.b"),
        )
        assert (info.max_in_flight_per_key, info.hold_key) == (1, True)
        assert (changed.max_attempts, changed.dead_letter_queue, changed.max_age) == (0, "", 0)
        assert changed.bindings == (Binding("x"),)
        assert (changed.max_in_flight_per_key, changed.hold_key) == (2, True)

    play(story)


def test_a_stream_is_created_with_the_settings_of_a_stream(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        info = await client.create_queue("s", kind="stream", max_bytes=1 << 20, compaction=True)

        assert (info.kind, info.compaction, info.max_bytes) == ("stream", True, 1 << 20)
        assert broker.store.queues["queues/s"].queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_UNSPECIFIED

    play(story)


def test_attempts_mean_those_of_tasks_in_a_queue_of_tasks(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task", max_attempts=7)

        assert broker.store.queues["queues/t"].queue.scheduling.max_attempts == 7
        assert (await client.update_queue("t", max_attempts=8)).scheduling == {
            **((await client.get_queue("t")).scheduling or {}),
            "max_attempts": 8,
        }
        assert broker.store.queues["queues/t"].queue.max_attempts == 0

    play(story)


def test_a_received_message_says_what_was_published(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.queue("q").publish(b"x", key="k", priority=3, ttl=9)

        (message,) = (await client.queue("q").pull()).messages

        assert (message.key, message.priority, message.dead_letter) == ("k", 3, None)

    play(story)


@pytest.mark.parametrize("how", ["a pulled message", "all that was pulled", "a streamed message"])
def test_a_rejected_message_is_sent_to_the_dead_letters(play: Play, how: str) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"bad")

        if how == "a streamed message":
            async with queue.consume() as consumer:
                async for message in consumer:
                    await message.reject()
                    break
        else:
            pulled = await queue.pull()
            await (pulled.reject() if how == "all that was pulled" else pulled.messages[0].reject())

        assert broker.store.queue("queues/q").rejected == [1]

    play(story)
