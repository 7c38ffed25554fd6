from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from taskraft import Client, errors
from tests.client.broker import Broker
from tests.client.store import Refused
from tests.client.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def test_a_queue_is_created_with_its_settings_and_changed_by_name(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        created = await client.create_queue(
            "orders", ack_deadline=2.5, max_messages=7, overflow="drop_oldest"
        )
        changed = await client.update_queue("orders", max_messages=9, paused=True)

        assert (created.name, created.ack_deadline, created.overflow) == ("orders", 2.5, "drop_oldest")
        assert (changed.max_messages, changed.paused, changed.overflow) == (9, True, "drop_oldest")
        assert not (await client.resume_queue("orders")).paused
        with pytest.raises(errors.EtagMismatch):
            await client.update_queue("orders", max_messages=1, etag="old")

    play(story)


def test_a_queue_with_other_settings_exists_unless_that_is_fine(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("orders", max_messages=7)

        with pytest.raises(errors.QueueExists):
            await client.create_queue("orders", max_messages=8)
        assert (await client.create_queue("orders", max_messages=8, exist_ok=True)).max_messages == 7

    play(story)


def test_all_queues_are_listed_over_many_pages(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        for n in range(6):
            await client.create_queue(f"a{n}")

        assert [queue.name async for queue in client.list_queues()] == [*(f"a{n}" for n in range(6)), "q"]

    play(story)


def test_the_error_of_a_call_has_the_metadata_of_the_broker(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.QueueNotFound, match="QUEUE_NOT_FOUND") as error:
            await client.get_queue("nowhere")

        assert error.value.code is grpc.StatusCode.NOT_FOUND
        assert error.value.metadata == {"queue": "queues/nowhere"}

    play(story)


def test_purging_says_how_many_messages_there_were(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.queue("q").publish_many([b"x"] * 5)

        assert await client.purge_queue("q") == 5
        assert (await client.get_queue("q")).stats.messages == 0

    play(story)


def test_a_call_whose_answer_is_lost_is_repeated_and_done_once(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.queue("q").publish_many([b"x"] * 5)
        broker.answers.clear()
        purging = asyncio.ensure_future(client.purge_queue("q"))
        await until(lambda: not broker.store.queue("queues/q").messages)

        await broker.nodes["n1"].kill()
        broker.answers.set()
        await broker.lead("n2")

        assert await purging == 5

    play(story)


def test_a_call_is_repeated_after_an_unknown_commit_and_an_overload(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        broker.refusals.append(Refused(grpc.StatusCode.UNKNOWN, "COMMIT_UNKNOWN"))
        broker.refusals.append(Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"))

        assert await client.purge_queue("q") == 0

    play(story)


def test_when_nobody_leads_calls_fail_in_time_with_no_leader(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        broker.leader_id = ""
        async with Client(broker.addresses, timeout=0.2) as hasty:
            began = time.monotonic()
            with pytest.raises(errors.NoLeader):
                await hasty.get_queue("q")

            assert time.monotonic() - began < 1

    play(story)


def test_the_next_leader_is_found_soon_after_the_last_one_died(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish(b"x")
        await broker.lead("n2")
        await queue.publish(b"x")
        await broker.nodes["n2"].kill()
        broker.leader_id = ""
        publishing = asyncio.ensure_future(queue.publish(b"y"))
        await asyncio.wait([publishing], timeout=0.3)

        await broker.lead("n3")
        began = time.monotonic()
        await publishing

        assert time.monotonic() - began < 0.25

    play(story)


def test_one_address_is_enough_to_learn_the_others(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        async with Client(broker.nodes["n3"].address, timeout=5) as modest:
            await modest.get_queue("q")
            await broker.nodes["n3"].kill()
            await broker.lead("n2")

            await modest.queue("q").publish(b"x")

            assert (await modest.cluster()).leader_id == "n2"

    play(story)


def test_a_dead_address_among_the_given_ones_does_not_slow_calls_down(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        async with Client(f"127.0.0.1:1,{broker.addresses}") as other:
            began = time.monotonic()
            await other.get_queue("q")

            assert time.monotonic() - began < 0.2

    play(story)


def test_through_a_follower_alone_everything_works_without_direct(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        async with Client(broker.nodes["n3"].address, direct=False) as outsider:
            await outsider.queue("q").publish(b"x")
            async for message in outsider.queue("q").consume():
                await message.ack(confirm=True)
                break

            assert not broker.store.queue("queues/q").messages

    play(story)


def test_the_cluster_can_be_seen_watched_and_led_by_another(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        seen = []
        async for cluster in client.watch_cluster():
            seen.append(cluster.leader_id)
            if len(seen) == 2:
                break
            assert await client.transfer_leadership("n3") == "n3"

        assert seen == ["n1", "n3"]
        leader = (await client.cluster()).leader
        assert leader is not None
        assert leader.role == "leader"

    play(story)


def test_members_come_and_go_and_mistakes_are_named(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        grown = await client.add_member("n4", "127.0.0.1:7204")
        with pytest.raises(errors.MemberExists):
            await client.add_member("n4", "127.0.0.1:7204")
        shrunk = await client.remove_member("n4")

        assert [member.id for member in grown.members] == ["n1", "n2", "n3", "n4"]
        assert [member.id for member in shrunk.members] == ["n1", "n2", "n3"]
        with pytest.raises(errors.MemberNotFound):
            await client.remove_member("n4")

    play(story)


def test_pulled_messages_are_acknowledged_extended_and_given_back(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"a", b"b", b"c"])
        first = await queue.pull(max_messages=2)
        await first.extend(60)
        await first.messages[0].ack()
        await first.messages[1].nack()

        second = await queue.pull()
        assert second.bodies() == [b"b", b"c"]
        assert [message.attempt for message in second] == [2, 1]
        await second.ack()
        assert len(await queue.pull()) == 0
        with pytest.raises(errors.LeaseLost):
            await first.ack()

    play(story)


def test_a_pull_waits_for_the_first_message(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        pulling = asyncio.ensure_future(queue.pull(wait=5))
        await asyncio.wait([pulling], timeout=0.05)
        await queue.publish(b"x")

        assert (await pulling).bodies() == [b"x"]

    play(story)


def test_a_closed_client_says_so(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        other = Client(broker.addresses)
        await other.get_queue("q")
        await other.close()
        await other.close()

        with pytest.raises(errors.ClientClosed):
            await other.get_queue("q")

    play(story)


def test_a_client_needs_an_address() -> None:
    with pytest.raises(errors.InvalidArgument):
        Client(" , ")
