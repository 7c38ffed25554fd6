"""What queues of messages can do, by the SDK and the command line, against a real node."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from taskraft import Binding, Client, OutgoingMessage, SyncClient, errors, testing
from taskraft.bench.throughput import Load
from taskraft.bench.topics import measure_delays, measure_topic
from taskraft.cli.app import run

Story = Callable[[Client], Awaitable[None]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with testing.node() as address:
        yield address


@pytest.fixture
def play(address: str) -> Callable[[Story], None]:
    """Run a story with a client of a node that has no queues."""

    async def stage(story: Story) -> None:
        async with asyncio.timeout(30), Client(address) as client:
            for queue in [one async for one in client.list_queues()]:
                await client.update_queue(queue.name, dead_letter_queue="")
            for queue in [one async for one in client.list_queues()]:
                await client.delete_queue(queue.name)
            await story(client)

    return lambda story: asyncio.run(stage(story))


async def bodies(client: Client, name: str) -> list[bytes]:
    return [message.body async for message in client.queue(name).peek()]


def test_a_publish_to_a_topic_reaches_all_queues_that_are_bound(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await client.create_queue("created", bindings=["orders.*.created"])
        await client.create_queue("pt", bindings=[("orders.>", {"country": "pt"}), Binding("refunds.>")])
        topic = client.topic("orders.eu.created")

        both = await topic.publish(b"1", {"country": "pt"})
        one = await topic.publish(b"2")
        many = await topic.publish_many([b"3", OutgoingMessage(b"4", {"country": "pt"})])

        assert (both.queues, one.queues, [(part.count, part.queues) for part in many]) == (2, 1, [(2, 2)])
        assert await bodies(client, "created") == [b"1", b"2", b"3", b"4"]
        assert await bodies(client, "pt") == [b"1", b"4"]
        with pytest.raises(errors.Unroutable):
            await client.topic("elsewhere").publish(b"x")
        assert (await client.topic("elsewhere").publish(b"x", allow_unroutable=True)).queues == 0

    play(story)


def test_messages_come_by_their_priority_and_at_their_time(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await client.create_queue("q")
        queue = client.queue("q")
        soon = await queue.publish(b"soon", priority=9, delay=0.5)
        much_later = await queue.publish(b"later", deliver_at=datetime.now(UTC) + timedelta(hours=1))
        await queue.publish_many([b"plain", OutgoingMessage(b"urgent", priority=5)])

        first = await queue.pull(max_messages=10)
        started = time.monotonic()
        second = await queue.pull(max_messages=10, wait=10)

        assert [message.body for message in first] == [b"urgent", b"plain"]
        assert [message.priority for message in first] == [5, 0]
        assert [message.body for message in second] == [b"soon"]
        assert time.monotonic() - started < 5
        assert (soon.delayed, soon.sequence, much_later.delayed) == (1, 0, 1)
        assert (await client.get_queue("q")).stats.delayed_messages == 1

    play(story)


def test_messages_of_one_key_are_delivered_one_after_the_other(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await client.create_queue("q", max_in_flight_per_key=1)
        queue = client.queue("q")
        for body in (b"a1", b"a2", b"b1"):
            await queue.publish(body, key=body[:1].decode())

        first = await queue.pull(max_messages=10, wait=10)
        await first.ack()
        second = await queue.pull(max_messages=10, wait=10)

        assert [message.body for message in first] == [b"a1", b"b1"]
        assert [(message.body, message.key) for message in second] == [(b"a2", "a")]

    play(story)


def test_dead_letters_say_where_they_come_from_and_go_back_at_a_rate(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await client.create_queue("dead")
        await client.create_queue("q", dead_letter_queue="dead", max_attempts=1)
        queue, dead = client.queue("q"), client.queue("dead")
        await queue.publish_many([b"%d" % n for n in range(6)])
        pulled = await queue.pull(max_messages=6, wait=10)
        await pulled.messages[0].reject()
        for message in pulled.messages[1:]:
            await message.nack()
        async with asyncio.timeout(10):
            while (await client.get_queue("dead")).stats.messages < 6:
                await asyncio.sleep(0.02)

        letters = [message.dead_letter async for message in dead.peek()]
        assert [letter.reason for letter in letters if letter] == ["rejected"] + ["max_attempts"] * 5
        assert {letter.source for letter in letters if letter} == {"q"}
        (letter,) = (await dead.pull(max_messages=1, wait=10)).messages
        assert letter.dead_letter is not None
        assert letter.dead_letter.source_sequence == 1
        await letter.nack()

        started = time.monotonic()
        assert await dead.redrive(reason="max_attempts", rate=5, limit=4) == 4
        assert time.monotonic() - started > 0.5, "four at five a second"
        assert await dead.redrive() == 2
        assert len(await bodies(client, "q")) == 6
        assert await bodies(client, "dead") == []

    play(story)


def test_settings_that_cannot_be_are_refused_with_their_reason(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await client.create_queue("dead")
        await client.create_queue("q", dead_letter_queue="dead")

        with pytest.raises(errors.DeadLetterLoop):
            await client.update_queue("dead", dead_letter_queue="q")
        with pytest.raises(errors.DeadLetterLoop):
            await client.update_queue("dead", dead_letter_queue="dead")
        with pytest.raises(errors.QueueInUse):
            await client.delete_queue("dead")
        with pytest.raises(errors.QueueNotFound):
            await client.update_queue("q", dead_letter_queue="none")
        with pytest.raises(errors.InvalidArgument) as refused:
            await client.update_queue("q", bindings=["orders.>.x"])
        assert refused.value.metadata["field"] == "queue.bindings[0].pattern"
        with pytest.raises(errors.OutOfRange):
            _ = [message async for message in client.queue("q").peek(99)]
        with pytest.raises(errors.InvalidArgument) as refused:
            await client.queue("q").publish(b"x", ttl=367 * 86_400)
        assert refused.value.metadata["field"] == "messages[0].ttl"

    play(story)


def test_the_blocking_twin_does_the_same(address: str, play: Callable[[Story], None]) -> None:
    async def nothing(client: Client) -> None:
        await client.create_queue("q", bindings=["a.>"])

    play(nothing)
    with SyncClient(address) as client:
        assert client.topic("a.b").publish(b"x", key="k").queues == 1
        assert [message.key for message in client.queue("q").peek()] == ["k"]
        assert client.queue("q").redrive() == 0


def test_the_command_line_publishes_looks_and_redrives(
    address: str, play: Callable[[Story], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert run([*arguments, "--address", address]) == 0
        return capsys.readouterr().out

    async def nothing(client: Client) -> None:
        pass

    play(nothing)
    said("queue", "create", "dead")
    shown = said(
        *("queue", "create", "q", "--bind", "orders.*.paid", "--bind", "a.> country=pt"),
        *("--dead-letter-queue", "dead", "--max-attempts", "3", "--max-age", "1d"),
    )
    said("topic", "publish", "orders.eu.paid", "hello", "--key", "k", "--priority", "3")
    said("queue", "publish", "q", "later", "--delay", "1h", "--ttl", "2h")
    peeked = json.loads(said("queue", "peek", "q", "--output", "json"))
    queue = said("queue", "show", "q")

    assert "a.> country=pt" in shown
    assert (peeked["body"], peeked["key"], peeked["priority"]) == ("hello", "k", 3)
    assert "delayed" in queue
    assert "dead letters to" in queue
    assert "hello" in said("queue", "peek", "q")
    assert "Moved no messages" in said("queue", "redrive", "dead") or "0 messages" in said(
        "queue", "redrive", "dead"
    )
    assert "orders.*.paid" not in said("queue", "update", "q", "--no-bindings")
    assert run(["topic", "publish", "orders.eu.paid", "x", "--address", address]) == 1
    assert "UNROUTABLE" in capsys.readouterr().err


def test_the_benchmarks_of_topics_and_delays_measure_what_they_say(address: str) -> None:
    async def story() -> None:
        async with asyncio.timeout(30), Client(address) as client:
            load = Load(batch=10, outstanding=2, messages=100)
            run = await measure_topic(client, load, 3)
            delays = await measure_delays(client, pending=50, samples=20, duration_s=0.2)

            assert (run.queues, run.messages) == (3, 100)
            assert run.copies_per_s == 3 * run.messages_per_s
            assert (delays.pending, delays.samples, delays.early, delays.lag.count) == (50, 20, 0, 20)
            assert not [queue async for queue in client.list_queues() if queue.name.startswith("bench-")]

    asyncio.run(story())
