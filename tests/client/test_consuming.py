from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from taskraft import Client, SequenceRange, errors
from tests.client.broker import GRACE_S, Broker
from tests.client.store import QueueState
from tests.client.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from taskraft import Consumer, Message

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def state_of(broker: Broker) -> QueueState:
    return broker.store.queue("queues/q")


async def take(consumer: Consumer, count: int) -> list[Message]:
    out: list[Message] = []
    async for message in consumer:
        out.append(message)
        if len(out) == count:
            return out
    raise AssertionError(f"the consumer ended after {len(out)} messages")


def test_messages_come_in_order_and_are_gone_once_acknowledged(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"%d" % n for n in range(5_000)])
        async with queue.consume() as consumer:
            messages = []
            async for message in consumer:
                messages.append(message)
                await message.ack()
                if len(messages) == 5_000:
                    break

            assert [message.body for message in messages] == [b"%d" % n for n in range(5_000)]
            assert await consumer.settle() == ()
            assert not state_of(broker).messages

    play(story)


def test_batches_carry_all_messages_and_are_acknowledged_whole(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue, bodies = client.queue("q"), [b"%d" % n for n in range(2_500)]
        await queue.publish_many(bodies)
        found: list[bytes] = []
        async with queue.consume(prefetch=2_000) as consumer:
            async for batch in consumer.batches():
                assert len(batch) == len(batch.messages) == len(batch.bodies())
                assert batch.messages[-1].sequence == batch.last_sequence
                found += batch.bodies()
                await batch.ack()
                if len(found) == 2_500:
                    break
            await consumer.settle()

        assert found == bodies
        assert not state_of(broker).messages
        assert broker.acks < 20

    play(story)


def test_a_message_says_all_about_itself(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        receipt = await client.queue("q").publish(b"x", {"k": "v"})
        async with client.queue("q").consume() as consumer:
            [message] = await take(consumer, 1)

            assert (message.sequence, message.attempt) == (receipt.sequence, 1)
            assert dict(message.headers) == {"k": "v"}
            assert message.publish_time.tzinfo is not None

    play(story)


def test_no_more_than_prefetch_messages_are_unacknowledged(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 100)
        async with queue.consume(prefetch=10) as consumer:
            messages = await take(consumer, 10)
            waiting = asyncio.ensure_future(take(consumer, 1))
            await asyncio.wait([waiting], timeout=0.1)
            assert not waiting.done()
            assert len(state_of(broker).leased) == 10

            await messages[0].ack()

            assert (await waiting)[0].sequence == 11

    play(story)


def test_a_consumer_that_acknowledges_everything_gets_everything_with_the_smallest_prefetch(
    play: Play,
) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"%d" % n for n in range(50)])
        async with queue.consume(prefetch=1, prefetch_bytes=1) as consumer:
            for n in range(50):
                [message] = await take(consumer, 1)
                assert message.body == b"%d" % n
                await message.ack()

    play(story)


def test_a_rejected_message_comes_again_and_says_so(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"x")
        async with queue.consume() as consumer:
            [message] = await take(consumer, 1)
            await message.nack()

            [again] = await take(consumer, 1)
            assert (again.sequence, again.attempt) == (1, 2)

    play(story)


def test_several_tasks_share_a_consumer_and_each_message_goes_to_one(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue, seen = client.queue("q"), list[int]()
        await queue.publish_many([b"x"] * 300)
        async with queue.consume() as consumer:

            async def work() -> int:
                mine = 0
                async for message in consumer:
                    await asyncio.sleep(0)
                    await message.ack()
                    seen.append(message.sequence)
                    mine += 1
                    if len(seen) == 300:
                        await consumer.close()
                return mine

            shares = await asyncio.gather(*(work() for _ in range(3)))

        assert sorted(seen) == list(range(1, 301))
        assert min(shares) > 50

    play(story)


def test_what_a_consumer_held_stays_its_own_when_the_leader_changes(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"%d" % n for n in range(100)])
        async with queue.consume(prefetch=100) as consumer:
            begun = await take(consumer, 10)
            await begun[0].ack(confirm=True)

            await broker.nodes["n1"].kill()
            await broker.lead("n2")
            rest = await take(consumer, 90)
            for message in (*begun[1:], *rest):
                await message.ack()

            assert [message.sequence for message in rest] == list(range(11, 101))
            assert await consumer.settle() == ()
            assert not state_of(broker).messages
            assert set(state_of(broker).attempts.values()) == {1}

    play(story)


def test_acknowledgements_that_were_stored_but_not_confirmed_are_reported_as_unsure(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 3)
        async with queue.consume() as consumer:
            messages = await take(consumer, 3)
            broker.answers.clear()
            await messages[0].ack()
            sure = asyncio.ensure_future(messages[1].ack(confirm=True))
            await until(lambda: 1 not in state_of(broker).messages)

            await broker.nodes["n1"].kill()
            broker.answers.set()
            await broker.lead("n2")

            await sure
            assert await consumer.settle() == (SequenceRange(1, 1),)
            assert list(state_of(broker).messages) == [3]

    play(story)


def test_what_somebody_else_has_got_meanwhile_is_not_handed_out(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 20)
        async with queue.consume(prefetch=20) as consumer:
            [first] = await take(consumer, 1)
            await broker.nodes["n1"].kill()
            state_of(broker).leased = dict.fromkeys(range(1, 20), "somebody else") | {20: ""}
            broker.leader_id, broker.term = "n2", 2
            await until(lambda: list(consumer._leases.open) == [(20, 20)])

            [next_one] = await take(consumer, 1)

            assert next_one.sequence == 20
            with pytest.raises(errors.LeaseLost):
                await first.ack(confirm=True)

    play(story)


def test_a_lease_that_the_broker_takes_away_is_lost_for_good(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"x")
        async with queue.consume() as consumer:
            [message] = await take(consumer, 1)
            state_of(broker).leased[1] = "somebody else"

            with pytest.raises(errors.LeaseLost):
                await message.ack(confirm=True)
            assert await consumer.settle() == (SequenceRange(1, 1),)

    play(story)


def test_a_consumer_leaves_a_frozen_leader_when_another_leads(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        async with queue.consume() as consumer:
            broker.nodes["n1"].thawed.clear()
            broker.leader_id, broker.term = "n2", 2
            await queue.publish(b"x")

            [message] = await take(consumer, 1)

            assert message.body == b"x"

    play(story)


def test_closing_stores_acknowledgements_and_gives_the_rest_back_at_once(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 50)
        async with queue.consume(prefetch=50) as consumer:
            for message in await take(consumer, 20):
                await message.ack()

        assert list(state_of(broker).messages) == list(range(21, 51))
        assert not state_of(broker).leased
        with pytest.raises(errors.ClientClosed):
            await message.ack()

    play(story)


def test_a_bare_loop_closes_its_consumer_when_it_ends(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 3)
        consumer = queue.consume()
        async for message in consumer:
            await message.ack()
            break

        await until(lambda: consumer.closed and not state_of(broker).leased)
        assert list(state_of(broker).messages) == [2, 3]
        assert set(state_of(broker).attempts.values()) == {1}, "they came again to the consumer that closes"

    play(story)


def test_consuming_a_queue_that_does_not_exist_fails_at_once(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.QueueNotFound):
            async with client.queue("nowhere").consume():
                pass

    play(story)


def test_without_any_node_consuming_fails_in_time_and_says_why() -> None:
    async def story() -> None:
        async with Client("127.0.0.1:1", timeout=0.3) as client:
            with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1"):
                async with client.queue("q").consume():
                    pass

    asyncio.run(story())


def test_deleting_a_queue_ends_the_iteration_with_an_error(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        async with client.queue("q").consume() as consumer:
            waiting = asyncio.ensure_future(take(consumer, 1))
            await client.delete_queue("q")

            with pytest.raises(errors.QueueNotFound):
                await waiting

    play(story)


def test_a_consumer_survives_many_leaders_and_no_message_is_lost(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue, seen = client.queue("q"), set[bytes]()

        async def publish() -> None:
            for n in range(200):
                await queue.publish(b"%d" % n)

        async def unrest() -> None:
            for n in range(6):
                node = broker.nodes[f"n{n % 3 + 1}"]
                await asyncio.sleep(GRACE_S / 3)
                await broker.lead(f"n{(n + 1) % 3 + 1}")
                await node.kill()
                await node.start()

        async with queue.consume(prefetch=20) as consumer:
            troubles = asyncio.gather(publish(), unrest())
            while len(seen) < 200:
                [message] = await take(consumer, 1)
                seen.add(message.body)
                await message.ack()
            await troubles
            await consumer.settle()

        assert len(seen) == 200
        assert state_of(broker).next_sequence == 201

    play(story)


def test_limits_that_cannot_be_are_refused(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.InvalidArgument, match="prefetch"):
            client.queue("q").consume(prefetch=0)

    play(story)
