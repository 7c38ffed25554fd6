"""Streams through the SDK: consumer groups and readers, with a whole node."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import Client, OutgoingMessage, SyncClient, errors
from tests.node.single_node import Running, run, running

if TYPE_CHECKING:
    from pathlib import Path


async def made(node: Running, **settings: Any) -> Client:
    """A client with a stream named `s`."""
    client = Client(node.address, timeout=10)
    await client.create_queue("s", kind="stream", **settings)
    return client


def test_consumers_of_different_groups_get_all_messages_each(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await stream.publish_many([b"%d" % each for each in range(1, 2_001)])
            for group in ("a", "b"):
                seen = []
                async with stream.consume(group=group, prefetch=100) as consumer:
                    async for message in consumer:
                        seen.append(message.sequence)
                        await message.ack()
                        if len(seen) == 2_000:
                            break
                    await consumer.settle()
                assert seen == list(range(1, 2_001))

            info = await client.get_queue("s")

            assert [(each.name, each.position, each.pending_messages) for each in info.stats.groups] == [
                ("a", 2_001, 0),
                ("b", 2_001, 0),
            ]
            assert info.stats.messages == 2_000

    run(story())


def test_a_group_begins_where_it_is_told_and_is_moved(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await stream.publish_many([b"1", b"2", b"3"])
            async with stream.consume(group="g", position=3) as consumer:
                messages = aiter(consumer)
                assert (await anext(messages)).sequence == 3

                moved = await stream.seek("g", "beginning")

                assert (moved.position, moved.pending_messages) == (1, 3)
                assert [(await anext(messages)).sequence for _ in range(3)] == [1, 2, 3]
            assert (await stream.seek("g", datetime.now(UTC))).position == 4
            await stream.delete_group("g")
            with pytest.raises(errors.GroupNotFound):
                await stream.delete_group("g")

    run(story())


def test_what_is_pulled_in_a_group_is_settled_in_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await stream.publish_many([b"1", b"2", b"3"])
            pulled = await stream.pull(group="g", max_messages=2)
            await pulled.extend(20)
            await pulled.messages[1].nack()
            await pulled.messages[0].ack()

            again = await stream.pull(group="g")

            assert [(each.sequence, each.attempt) for each in again] == [(2, 2), (3, 1)]
            await again.ack()
            assert len(await stream.pull(group="g")) == 0

    run(story())


def test_a_reader_follows_the_stream_or_ends_where_it_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await stream.publish_many([b"1", b"2", b"3"])

            assert [each.body async for each in stream.read(position=2, follow=False)] == [b"2", b"3"]
            assert [each.body async for each in stream.read(position="end", follow=False)] == []
            async with stream.read(position="end") as reader:
                batches = reader.batches()
                next_batch = asyncio.ensure_future(anext(batches))
                await stream.publish(b"4")
                assert (await next_batch).bodies() == [b"4"]
                assert reader.position == 5

    run(story())


def test_a_reader_that_waits_for_the_application_holds_no_more_than_it_may(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            for _ in range(30):
                await stream.publish_many([bytes(1_000)] * 10)

            reader = stream.read(follow=False, prefetch_bytes=20_000)
            held = []
            async for batch in reader.batches():
                held.append(reader._waiting_bytes)
                await asyncio.sleep(0)
                last = batch.last_sequence

            assert last == 300
            assert max(held) < 32_000

    run(story())


def test_a_reader_goes_on_where_it_was_when_the_leader_changes(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await stream.publish_many([b"%d" % each for each in range(500)])
            seen = []
            async for batch in stream.read(follow=False, prefetch_bytes=600).batches():
                seen += batch.bodies()
                if len(seen) % 7 == 0:
                    node.replica.follow()
                    node.replica.lead()

            assert seen == [b"%d" % each for each in range(500)]

    run(story())


def test_a_reader_is_told_of_what_it_cannot_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            await client.create_queue("m")
            stream = client.queue("s")
            await stream.publish(b"1")
            with pytest.raises(errors.OutOfRange):
                await stream.read(position=3).start()
            with pytest.raises(errors.WrongQueueKind):
                await client.queue("m").read().start()
            with pytest.raises(errors.WrongQueueKind):
                await client.queue("m").consume(group="g").start()
            with pytest.raises(errors.QueueNotFound):
                await client.queue("none").read().start()
            for position in (-1, 1 << 63, "middle", True):
                with pytest.raises(ValueError, match="a position is"):
                    stream.read(position=position)  # type: ignore[arg-type]
            async for message in stream.read(follow=False):
                with pytest.raises(errors.InvalidArgument):
                    await message.ack()
                with pytest.raises(errors.InvalidArgument):
                    await message.nack()

    run(story())


def test_a_stream_with_compaction_holds_the_last_value_of_each_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node, compaction=True) as client:
            stream = client.queue("s")
            await stream.publish_many([OutgoingMessage(b"1", key="a"), OutgoingMessage(b"2", key="b")])
            await stream.publish(b"3", key="a")

            read = [(each.key, each.body) async for each in stream.read(follow=False)]

            assert read == [("b", b"2"), ("a", b"3")]

    run(story())


def test_a_stream_is_read_without_an_event_loop(tmp_path: Path) -> None:
    async def story() -> None:
        def use() -> tuple[list[bytes], list[int], list[int]]:
            with SyncClient(node.address, timeout=10) as client:
                client.create_queue("s", kind="stream")
                stream = client.queue("s")
                stream.publish_many([b"1", b"2"])
                bodies = [each.body for each in stream.read(follow=False)]
                with stream.read(position=2) as reader:
                    sequences = [next(iter(reader)).sequence]
                sizes = [len(batch) for batch in stream.read(follow=False).batches()]
                return bodies, sequences, sizes

        async with running(tmp_path) as node:
            assert await asyncio.to_thread(use) == ([b"1", b"2"], [2], [2])

    run(story())


def test_a_stream_takes_no_more_groups_than_it_may_have(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            await asyncio.gather(*(stream.seek(f"g{place}", "end") for place in range(100)))

            with pytest.raises(errors.TooManyGroups):
                await stream.pull(group="more")
            with pytest.raises(errors.TooManyGroups):
                await stream.consume(group="more").start()

            assert len((await client.get_queue("s")).stats.groups) == 100

    run(story())


def test_credit_in_bytes_is_counted_as_the_broker_counts_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node, await made(node) as client:
            stream = client.queue("s")
            async with stream.consume(group="g", prefetch_bytes=1_000) as consumer:
                messages = aiter(consumer)
                for sequence in range(1, 151):
                    await stream.publish(b"x")
                    message = await anext(messages)
                    await message.ack()
                    assert message.sequence == sequence

    run(story())
