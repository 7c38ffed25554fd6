"""A long queue that nobody consumes: how much memory the nodes take, and how soon they are back with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from taskraft import Client
from taskraft.bench.figures import Memory
from taskraft.bench.throughput import Load, Publishing
from taskraft.local import LocalCluster

QUEUE = "bench-backlog"
PUBLISH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogResult:
    """Memory is per node: at the start, with the backlog, and after the restart.

    `restart_to_ready_s` and `restart_to_publish_s` count from the start of the processes to every node knowing
    the leader, and to the first acknowledged publish. `messages_after` is what the queue says it holds then.
    """

    messages: int
    size_bytes: int
    fill_messages_per_s: float
    memory_before: dict[str, Memory]
    memory_with_backlog: dict[str, Memory]
    memory_after_restart: dict[str, Memory]
    stop_s: float
    restart_to_ready_s: float
    restart_to_publish_s: float
    messages_after: int
    first_message_delivered: bool


def memory(cluster: LocalCluster) -> dict[str, Memory]:
    return {place.id: Memory.of(cluster.pid(place.id)) for place in cluster.layout.nodes}


async def measure_backlog(
    cluster: LocalCluster, *, messages: int, size_bytes: int, progress: Callable[[int], None]
) -> BacklogResult:
    """Fill a queue, stop all nodes, start them again. `cluster` runs before and after; its queue is deleted."""
    load = Load(size_bytes=size_bytes, messages=messages)
    before = memory(cluster)
    async with Client(cluster.address, timeout=PUBLISH_TIMEOUT_S) as client:
        await client.create_queue(QUEUE)
        publishing = Publishing(client.queue(QUEUE), load, progress)
        start = time.perf_counter()
        await publishing.run()
        fill_s = time.perf_counter() - start
    filled = memory(cluster)
    start = time.perf_counter()
    await cluster.stop()
    stop_s = time.perf_counter() - start

    start = time.perf_counter()
    cluster.start()
    await cluster.wait_until_led(PUBLISH_TIMEOUT_S)
    ready_s = time.perf_counter() - start
    async with Client(cluster.address, timeout=PUBLISH_TIMEOUT_S) as client:
        queue = client.queue(QUEUE)
        await queue.publish(bytes(size_bytes))
        publish_s = time.perf_counter() - start
        info = await client.get_queue(QUEUE)
        pulled = await queue.pull(max_messages=1, wait=10.0)
        delivered = [(m.sequence, len(m.body)) for m in pulled.messages] == [(1, size_bytes)]
        after = memory(cluster)
        await client.delete_queue(QUEUE)
    return BacklogResult(
        messages=publishing.acknowledged,
        size_bytes=size_bytes,
        fill_messages_per_s=round(publishing.acknowledged / fill_s),
        memory_before=before,
        memory_with_backlog=filled,
        memory_after_restart=after,
        stop_s=round(stop_s, 3),
        restart_to_ready_s=round(ready_s, 3),
        restart_to_publish_s=round(publish_s, 3),
        messages_after=info.stats.messages,
        first_message_delivered=delivered,
    )
