"""Stream processing against a real node: transactions that only the right processor can make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskraft import Client, testing
from taskraft.errors import QueueNotFound, WrongQueueKind
from taskraft.streams import StateMismatch, Topology, tumbling
from taskraft.streams import _limits as limits
from taskraft.streams._cluster import ClusterLog
from taskraft.streams._processor import Processor
from taskraft.streams.errors import Superseded
from tests.client.streams_model import Event, Model, orders
from tests.client.streams_runs import settle

MODEL = Model(tumbling(0.01), lateness_ms=10, disorder_ms=5)
PLAN = orders(MODEL.windows, lateness_ms=MODEL.lateness_ms, disorder_ms=MODEL.disorder_ms)
EVENTS = [Event("abc"[number % 3], number * 7 % 83 + number) for number in range(200)]

Story = Callable[[Client], Awaitable[None]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with testing.node() as address:
        yield address


@asynccontextmanager
async def queues(address: str) -> AsyncIterator[Client]:
    """A client of a node that has nothing but the queues of the topology, all empty."""
    async with asyncio.timeout(30), Client(address) as client:
        for queue in [one async for one in client.list_queues()]:
            await client.delete_queue(queue.name)
        await client.create_queue("orders", kind="stream")
        await client.create_queue("results")
        await client.create_queue("late")
        yield client


@pytest.fixture
def play(address: str) -> Callable[[Story], None]:
    async def stage(story: Story) -> None:
        async with queues(address) as client:
            await story(client)

    return lambda story: asyncio.run(stage(story))


async def publish(client: Client, events: list[Event]) -> None:
    await client.queue("orders").publish_many([json.dumps(event._asdict()).encode() for event in events])


async def published(client: Client, queue: str = "results") -> list[Any]:
    """All that a queue has got so far; it is acknowledged."""
    found: list[Any] = []
    while True:
        pulled = await client.queue(queue).pull(max_messages=1_000)
        if not pulled.messages:
            return found
        found += [json.loads(message.body) for message in pulled.messages]
        await pulled.ack()


async def run(client: Client, group: str = "g") -> None:
    await Topology(PLAN).run(client, group=group, until_idle=0.0)


async def opened(client: Client, group: str = "g") -> tuple[ClusterLog, Processor]:
    """A processor that has loaded what is stored."""
    log = ClusterLog(client, source="orders", group=group)
    processor = Processor(PLAN, await log.load(0.0))
    settle(processor)
    return log, processor


async def take(log: ClusterLog, processor: Processor) -> None:
    for record in await log.receive(processor.clock.position, 5.0):
        processor.take(record)
        settle(processor)


def test_results_are_those_of_the_model_wherever_the_runs_end(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        for start in range(0, len(EVENTS), 60):
            await publish(client, EVENTS[start : start + 60])
            await run(client)

        expected, late = MODEL.emissions(EVENTS)
        assert [tuple(one) for one in await published(client)] == expected
        assert [Event(**one) for one in await published(client, "late")] == late

    play(story)


def test_a_new_group_begins_at_the_beginning_and_has_its_own_state(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        await run(client, "one")
        first = await published(client)

        await run(client, "two")

        assert await published(client) == first

    play(story)


def test_of_two_processors_with_the_same_state_one_can_go_on(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        for _ in range(2):  # without a clock, and with one
            (log, processor), (other_log, other) = await opened(client), await opened(client)
            await take(log, processor)
            await take(other_log, other)
            await log.commit(processor.cut())

            with pytest.raises(Superseded):
                await other_log.commit(other.cut())
            await log.close()
            await other_log.close()
            await publish(client, EVENTS)

    play(story)


def test_a_processor_that_was_paused_cannot_even_store_that_time_has_passed(
    play: Callable[[Story], None],
) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        await run(client)
        log, processor = await opened(client)
        await publish(client, EVENTS)
        await run(client)

        processor.pass_time(1_000)
        settle(processor)
        assert processor.changed
        with pytest.raises(Superseded):
            await log.commit(processor.cut())

    play(story)


def test_a_processor_can_commit_again_and_again_without_a_record(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        log, processor = await opened(client)
        await take(log, processor)
        await log.commit(processor.cut())
        for _ in range(3):
            processor.pass_time(5)
            settle(processor)
            await log.commit(processor.cut())
        await log.close()

        _, other = await opened(client)
        assert other.clock == processor.clock
        assert other.open_slots == processor.open_slots

    play(story)


def test_state_of_many_transactions_is_read_whole(
    play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAKEN_MAX", 50)

    async def story(client: Client) -> None:
        await publish(client, [Event(f"key {number}", 0) for number in range(120)])
        await run(client)
        log, processor = await opened(client)

        assert processor.open_slots == 120
        assert processor.clock.position == 120
        state = await client.get_queue("g-state")
        assert state.stats.messages == 120 + 1  # the newest of each key, and the clock
        await log.close()

    play(story)


def test_the_group_of_the_source_shows_how_far_it_is(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        await run(client)

        (group,) = (await client.get_queue("orders")).stats.groups
        assert (group.name, group.position, group.pending_messages) == ("g", len(EVENTS) + 1, 0)

    play(story)


def test_a_group_that_is_sought_forward_skips_records_and_says_so(
    play: Callable[[Story], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        await run(client)
        before = await published(client)
        await publish(client, [Event("skipped", 10**5)] * 3)
        await client.queue("orders").seek("g", "end")
        await publish(client, [Event("end", 10**6)])

        await run(client)

        assert "records 201 to 203 of orders were gone, or skipped" in caplog.text
        after = await published(client)
        assert before
        assert after
        assert not any(key == "skipped" for _, key, *_ in after)

    play(story)


def test_what_is_no_source_is_refused(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        with pytest.raises(WrongQueueKind):
            await Topology(orders(tumbling(1))).run(client, group="g")

    async def compacted(client: Client) -> None:
        await client.delete_queue("orders")
        await client.create_queue("orders", kind="stream", compaction=True)
        await story(client)

    async def work_queue(client: Client) -> None:
        await client.delete_queue("orders")
        await client.create_queue("orders")
        await story(client)

    play(compacted)
    play(work_queue)


def test_a_source_or_a_target_that_does_not_exist_ends_the_run(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        for queue in ("results", "orders"):
            await client.delete_queue(queue)
            with pytest.raises(QueueNotFound):
                await run(client)

    play(story)


def test_a_source_that_was_made_anew_does_not_go_on_with_the_old_state(play: Callable[[Story], None]) -> None:
    async def story(client: Client) -> None:
        await publish(client, EVENTS)
        await run(client)
        await client.delete_queue("orders")
        await client.create_queue("orders", kind="stream")

        with pytest.raises(StateMismatch):
            await run(client)

    play(story)
