"""Streams while leaders are killed: groups and readers get everything that was stored, in their ways."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from taskraft import Client, Consumer
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say

pytestmark = pytest.mark.cluster

KILLS = 3
RECOVERY_S = 15.0  # another leader, the grace, and clients that find it, beside other tests
DRAIN_S = 60.0
BATCH = 50
RETAINED = 2_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("streams")) as cluster:
        cluster.wait_healthy()
        yield cluster


@dataclass
class Seen:
    """What one group or reader was given: (when, sequence, body) each."""

    deliveries: list[tuple[float, int, bytes]] = field(default_factory=list)

    def add(self, sequence: int, body: bytes) -> None:
        self.deliveries.append((time.monotonic(), sequence, body))

    def bodies(self) -> dict[int, bytes]:
        return {sequence: body for _, sequence, body in self.deliveries}

    def again(self) -> list[tuple[float, int]]:
        """(when, sequence) of what came once more."""
        times = Counter[int]()
        found = []
        for at, sequence, _ in self.deliveries:
            times[sequence] += 1
            if times[sequence] > 1:
                found.append((at, sequence))
        return found


@dataclass
class Story:
    """A stream, who publishes to it, and who gets it. `kills` are when leaders were killed."""

    client: Client
    stored: dict[int, bytes] = field(default_factory=dict)
    groups: dict[str, Seen] = field(default_factory=lambda: {"a": Seen(), "b": Seen()})
    read: Seen = field(default_factory=Seen)
    kills: list[float] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self) -> None:
        numbers = itertools.count()
        while not self.stopping.is_set():
            bodies = [b"%d" % next(numbers) for _ in range(BATCH)]
            for receipt in await self.client.queue("s").publish_many(bodies):
                self.stored.update(enumerate(bodies[: receipt.count], receipt.first_sequence))
                del bodies[: receipt.count]

    async def consume(self, group: str) -> None:
        async with self.client.queue("s").consume(group=group, prefetch=200) as consumer:
            await self._all_of(consumer, self.groups[group])

    async def _all_of(self, consumer: Consumer, seen: Seen) -> None:
        async for message in consumer:
            seen.add(message.sequence, message.body)
            await message.ack()

    async def follow(self) -> None:
        async for message in self.client.queue("s").read(prefetch_bytes=100_000):
            self.read.add(message.sequence, message.body)

    async def drained(self) -> None:
        """Wait until both groups have done everything and the reader has it all."""
        async with asyncio.timeout(DRAIN_S):
            while True:
                stats = (await self.client.get_queue("s")).stats
                done = all(group.pending_messages == 0 for group in stats.groups)
                if done and self.read.deliveries[-1][1] == stats.published_messages:
                    return
                await asyncio.sleep(0.05)

    def explained(self, at: float) -> bool:
        """True if something may have come again then, because a leader was lost."""
        return any(0 <= at - killed < RECOVERY_S for killed in self.kills)


async def kill_leaders(cluster: Cluster, story: Story) -> None:
    for _ in range(KILLS):
        before = len(story.stored)
        leader = await asyncio.to_thread(cluster.leader)
        story.kills.append(time.monotonic())
        leader.kill()
        async with asyncio.timeout(DRAIN_S):
            while len(story.stored) < before + 1_000:
                await asyncio.sleep(0.02)
        leader.start()
        await asyncio.to_thread(cluster.wait_healthy)


def test_groups_and_readers_get_everything_while_leaders_are_killed(cluster: Cluster, say: Say) -> None:
    async def run() -> Story:
        async with Client(cluster.addresses, timeout=60) as client:
            await client.create_queue("s", kind="stream")
            story = Story(client)
            tasks = [asyncio.create_task(story.consume(group)) for group in story.groups for _ in range(2)]
            tasks.append(asyncio.create_task(story.follow()))
            publishing = asyncio.create_task(story.publish())
            await kill_leaders(cluster, story)
            story.stopping.set()
            await publishing
            await story.drained()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
            replay = [
                (message.sequence, message.body) async for message in client.queue("s").read(follow=False)
            ]
            assert replay == [(sequence, body) for _, sequence, body in story.read.deliveries]
            return story

    story = asyncio.run(run())

    again = {name: len(seen.again()) for name, seen in story.groups.items()}
    say(f"{len(story.stored)} stored over {KILLS} leaders; came again: {again}")
    sequences = [sequence for _, sequence, _ in story.read.deliveries]
    assert sequences == list(range(1, len(sequences) + 1))
    kept = story.read.bodies()
    assert story.stored.items() <= kept.items()
    for seen in story.groups.values():
        assert seen.bodies() == kept
        assert [sequence for at, sequence in seen.again() if not story.explained(at)] == []


def test_a_slow_reader_goes_on_at_the_oldest_message_that_is_kept(cluster: Cluster) -> None:
    async def run() -> list[tuple[int, bytes]]:
        async with Client(cluster.addresses, timeout=60) as client:
            await client.create_queue("kept", kind="stream", max_messages=RETAINED)
            stream, seen = client.queue("kept"), []
            reader = stream.read(prefetch_bytes=5_000).batches()
            for round_ in range(40):
                first = round_ * 500
                await stream.publish_many([b"%d" % (first + place) for place in range(1, 501)])
                if round_ % 10 == 0:
                    batch = await anext(reader)
                    seen += [(message.sequence, message.body) for message in batch.messages]
            while seen[-1][0] < 20_000:
                batch = await anext(reader)
                seen += [(message.sequence, message.body) for message in batch.messages]
            pulled = await stream.pull(group="late", max_messages=1)
            assert pulled.messages[0].sequence == 20_000 - RETAINED + 1
            (group,) = (await client.get_queue("kept")).stats.groups
            assert group.pending_messages == RETAINED
            return seen

    seen = asyncio.run(run())

    sequences = [sequence for sequence, _ in seen]
    assert sequences == sorted(set(sequences))
    assert sequences[-RETAINED:] == list(range(20_000 - RETAINED + 1, 20_001))
    assert len(sequences) < 20_000, "it was never behind what is kept: the test shows nothing"
    assert all(body == b"%d" % sequence for sequence, body in seen)
