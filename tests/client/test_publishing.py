from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from taskraft import Client, OutgoingMessage, errors
from tests.client.broker import Broker
from tests.client.store import Refused
from tests.client.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def stored(broker: Broker) -> list[bytes]:
    return [message.body for message in broker.store.queue("queues/q").messages.values()]


def test_a_published_message_is_stored_with_its_headers(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        receipt = await client.queue("q").publish(b"hello", {"kind": "greeting"})

        message = broker.store.queue("queues/q").messages[receipt.sequence]
        assert (message.body, dict(message.headers)) == (b"hello", {"kind": "greeting"})

    play(story)


def test_concurrent_publishes_travel_together_and_get_their_own_sequences(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")

        receipts = await asyncio.gather(*(queue.publish(b"%d" % n) for n in range(500)))

        assert [broker.store.queue("queues/q").messages[r.sequence].body for r in receipts] == [
            b"%d" % n for n in range(500)
        ]
        assert len(broker.frames) <= 3

    play(story)


def test_many_messages_are_stored_in_order_whatever_their_sizes(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        bodies = [bytes(n % 7 * 1_000) + b"%d" % n for n in range(3_000)]
        mixed = [OutgoingMessage(body, {"n": "1"}) if n % 5 == 0 else body for n, body in enumerate(bodies)]

        receipts = await client.queue("q").publish_many(mixed)

        assert stored(broker) == bodies
        assert sum(receipt.count for receipt in receipts) == 3_000
        assert [r.last_sequence + 1 for r in receipts[:-1]] == [r.first_sequence for r in receipts[1:]]

    play(story)


def test_publishing_nothing_stores_nothing(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        assert await client.queue("q").publish_many([]) == []

    play(story)


def test_what_was_stored_when_the_leader_died_unanswered_is_not_stored_again(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"first")
        broker.answers.clear()
        publishing = asyncio.gather(*(queue.publish(b"%d" % n) for n in range(5)))
        await until(lambda: len(stored(broker)) == 6)

        await broker.nodes["n1"].kill()
        broker.answers.set()
        await broker.lead("n2")

        receipts = await publishing
        assert [receipt.sequence for receipt in receipts] == [2, 3, 4, 5, 6]
        assert stored(broker) == [b"first", b"0", b"1", b"2", b"3", b"4"]

    play(story)


def test_publishes_go_on_at_the_new_leader_while_the_old_one_lives(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        for n in range(6):
            await broker.lead(f"n{n % 3 + 1}")
            await queue.publish(b"%d" % n)

        assert stored(broker) == [b"%d" % n for n in range(6)]

    play(story)


def test_a_leader_that_freezes_is_left_as_soon_as_another_leads(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"first")
        broker.nodes["n1"].thawed.clear()
        publishing = asyncio.ensure_future(queue.publish(b"second"))
        await asyncio.sleep(0)
        broker.leader_id, broker.term = "n2", 2

        await publishing

        assert stored(broker) == [b"first", b"second"]

    play(story)


def test_an_unknown_commit_is_asked_again_with_the_same_number(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"first")
        broker.refusals.append(Refused(grpc.StatusCode.UNKNOWN, "COMMIT_UNKNOWN"))

        await queue.publish(b"second")

        assert [number for _, number, _ in broker.frames] == [1, 2, 2]
        assert stored(broker) == [b"first", b"second"]

    play(story)


def test_a_refused_message_fails_alone_and_those_behind_it_are_stored(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"first")
        broker.refusals.append(Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_LOW"))
        refused = asyncio.ensure_future(queue.publish(b"refused"))
        await until(lambda: len(broker.frames) == 2)
        behind = [asyncio.ensure_future(queue.publish(b"%d" % n)) for n in range(3)]

        with pytest.raises(errors.DiskLow):
            await refused
        await asyncio.gather(*behind)

        assert stored(broker) == [b"first", b"0", b"1", b"2"]

    play(story)


def test_an_error_names_reason_code_and_metadata(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.QueueNotFound) as error:
            await client.queue("nowhere").publish(b"x")

        assert error.value.reason == "QUEUE_NOT_FOUND"
        assert error.value.code is grpc.StatusCode.NOT_FOUND
        assert error.value.metadata == {"queue": "queues/nowhere"}

    play(story)


def test_when_a_part_of_many_fails_the_error_says_what_was_stored(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.update_queue("q", max_messages=15_000)

        with pytest.raises(errors.QueueFull) as error:
            await client.queue("q").publish_many([b"x"] * 20_000)

        assert [receipt.count for receipt in error.value.receipts] == [10_000]
        assert len(stored(broker)) == 10_000

    play(story)


def test_a_publish_without_an_answer_fails_in_time_and_the_next_one_works(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"first")
        broker.answers.clear()

        second = asyncio.ensure_future(queue.publish(b"second", timeout=0.4))
        await until(lambda: len(stored(broker)) == 2)
        await asyncio.wait([second], timeout=0.9)
        assert isinstance(second.exception(), errors.DeadlineExceeded)
        broker.answers.set()
        receipt = await queue.publish(b"third")

        assert not receipt.duplicate
        assert stored(broker) == [b"first", b"second", b"third"]

    play(story)


def test_without_any_node_a_publish_fails_in_time_and_says_why() -> None:
    async def story() -> None:
        async with Client("127.0.0.1:1", timeout=0.3) as client:
            with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1"):
                await client.queue("q").publish(b"x")

    asyncio.run(story())


def test_a_full_buffer_makes_publishers_wait_and_loses_nothing() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.start("n1")
        async with Client(broker.addresses, buffer_bytes=10_000, timeout=10) as client:
            queue = client.queue("q")
            await client.create_queue("q")
            broker.answers.clear()
            publishing = [asyncio.ensure_future(queue.publish(bytes(1_000))) for _ in range(100)]
            await until(lambda: len(broker.frames) > 0)
            taken = sum(count for _, _, count in broker.frames)

            broker.answers.set()
            await asyncio.gather(*publishing)

            assert taken < 20
            assert len(stored(broker)) == 100
        await broker.close()

    asyncio.run(story())


def test_a_cancelled_publish_that_was_not_sent_is_never_stored(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        broker.answers.clear()
        first = asyncio.ensure_future(queue.publish(b"first"))
        await until(lambda: len(broker.frames) == 1)
        cancelled = asyncio.ensure_future(queue.publish(b"cancelled"))
        await asyncio.sleep(0)
        cancelled.cancel()
        broker.answers.set()
        await first
        await queue.publish(b"last")

        assert stored(broker) == [b"first", b"last"]

    play(story)


def test_closing_the_client_sends_what_is_buffered_first(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        other = Client(broker.addresses)
        publishing = [asyncio.ensure_future(other.queue("q").publish(b"%d" % n)) for n in range(50)]
        await asyncio.sleep(0)

        await other.close()

        await asyncio.gather(*publishing)
        assert len(stored(broker)) == 50
        with pytest.raises(errors.ClientClosed):
            await other.queue("q").publish(b"late")

    play(story)
