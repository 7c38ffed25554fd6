"""Dead letters and their way back while leaders are killed: each message is in one queue, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from taskraft import Client
from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.cluster

MESSAGES = 800
SETTLED_S_MAX = 60.0
GOOD, REJECTED, FAILING = 0, 1, 2  # what becomes of a message, by its number
BAD = sorted(number for number in range(MESSAGES) if number % 3 != GOOD)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("letters")) as cluster:
        cluster.wait_healthy()
        yield cluster


async def numbers(client: Client, name: str) -> list[int]:
    return [int(message.body) async for message in client.queue(name).peek()]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SETTLED_S_MAX):
        while not await condition():
            await asyncio.sleep(0.05)


async def work(client: Client, done: list[int]) -> None:
    """Do what can be done, reject what cannot, and give back what fails, again and again."""
    async with client.queue("work").consume(prefetch=40) as consumer:
        async for message in consumer:
            number = int(message.body)
            match number % 3:
                case 0:
                    await message.ack()
                    done.append(number)
                case 1:
                    await message.reject()
                case _:
                    await message.nack()


async def kill_the_leader(cluster: Cluster) -> None:
    """As if its plug was pulled; it comes back when the others have a leader."""

    def fault() -> None:
        leader = cluster.leader()
        leader.kill()
        cluster.leader(cluster.others(leader))
        leader.start()
        cluster.wait_healthy()

    await asyncio.to_thread(fault)


def test_each_dead_letter_is_in_one_queue_whichever_leaders_are_killed(cluster: Cluster) -> None:
    async def story() -> None:
        async with Client(cluster.addresses, timeout=SETTLED_S_MAX) as client:
            await client.create_queue("dead")
            await client.create_queue("work", dead_letter_queue="dead", max_attempts=20)
            done: list[int] = []
            working = [asyncio.create_task(work(client, done)) for _ in range(3)]

            # Messages are published, worked on and buried while two leaders die.
            for start in range(0, MESSAGES, 100):
                bodies = [b"%d" % number for number in range(start, min(start + 100, MESSAGES))]
                await client.queue("work").publish_many(bodies)
                if start in (200, 500):
                    await kill_the_leader(cluster)
            await until(lambda: is_empty(client, "work"))
            for task in working:
                task.cancel()
            await asyncio.wait(working)

            assert Counter(await numbers(client, "dead")) == Counter(BAD)
            assert set(done) == set(range(MESSAGES)) - set(BAD), "what could be done was done"
            reasons = {
                (int(message.body) % 3, message.dead_letter.reason)
                async for message in client.queue("dead").peek()
                if message.dead_letter
            }
            assert reasons == {(REJECTED, "rejected"), (FAILING, "max_attempts")}

            # They go back, page by page, while another leader dies.
            redriving = asyncio.create_task(client.queue("dead").redrive(rate=150))
            await until(lambda: has(client, "work", 30))
            await kill_the_leader(cluster)
            moved = await redriving

            assert Counter(await numbers(client, "work")) == Counter(BAD)
            assert (await numbers(client, "dead"), moved) == ([], len(BAD))

    asyncio.run(story())


async def is_empty(client: Client, name: str) -> bool:
    return not (await client.get_queue(name)).stats.messages


async def has(client: Client, name: str, count: int) -> bool:
    return (await client.get_queue(name)).stats.messages >= count
