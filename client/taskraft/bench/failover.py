"""From kill -9 of the leader to the next acknowledged publish, and whether anything was lost on the way."""

import asyncio
import itertools
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from taskraft import Client, Queue
from taskraft.bench.figures import Spread, milliseconds
from taskraft.bench.queues import fresh_queue
from taskraft.errors import TaskraftError
from taskraft.local import LocalClusterError, wait_until_whole

IDENTITY = struct.Struct("<Q")
PACE_S = 0.002  # 500 messages a second, one call each
STEADY_MESSAGES = 100  # acknowledged before each kill
RECOVERY_TIMEOUT_S = 60.0


class Crashable(Protocol):
    """A cluster on this machine whose nodes we may kill."""

    @property
    def address(self) -> str: ...
    def kill(self, node_id: str) -> int: ...
    async def restart(self, node_id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverResult:
    """`kill_to_ack_ms`: from the kill to the first acknowledgement of a message that was published after it.

    `lost` were acknowledged and never delivered; `stored_twice` were delivered with two sequences.
    """

    trials: int
    size_bytes: int
    messages_per_s: float
    kill_to_ack_ms: Spread
    acknowledged: int
    failed: int
    lost: int
    stored_twice: int


class Stream:
    """Publishes numbered messages at a steady pace, never waiting for one before it sends the next."""

    def __init__(self, queue: Queue, size_bytes: int) -> None:
        self._queue, self._size_bytes = queue, max(size_bytes, IDENTITY.size)
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()
        self._kill_time = float("inf")
        self._changed = asyncio.Event()
        self.first_ack_after_kill: float | None = None
        self.acknowledged: set[int] = set()
        self.failed = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            call = asyncio.create_task(self._publish(next(self._numbers)))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            await asyncio.sleep(PACE_S)

    async def finish(self) -> None:
        """Wait for the calls that are under way."""
        if self._calls:
            await asyncio.wait(self._calls)

    def killed(self) -> None:
        """The leader dies now: from here on the next acknowledgement is what we measure."""
        self._kill_time, self.first_ack_after_kill = time.perf_counter(), None

    async def recovered(self) -> float:
        """Seconds from the kill to the first acknowledgement of a message published after it."""
        while self.first_ack_after_kill is None:
            await self._change()
        return self.first_ack_after_kill - self._kill_time

    async def steady(self) -> None:
        """Wait for a good number of further acknowledgements."""
        goal = len(self.acknowledged) + STEADY_MESSAGES
        while len(self.acknowledged) < goal:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), RECOVERY_TIMEOUT_S)
        except TimeoutError:
            raise LocalClusterError(
                f"nothing was acknowledged for {RECOVERY_TIMEOUT_S:.0f} s", "the nodes' logs say more"
            ) from None

    async def _publish(self, number: int) -> None:
        started = time.perf_counter()
        try:
            await self._queue.publish(IDENTITY.pack(number).ljust(self._size_bytes, b"x"))
        except TaskraftError:
            self.failed += 1
            return
        if started >= self._kill_time and self.first_ack_after_kill is None:
            self.first_ack_after_kill = time.perf_counter()
        self.acknowledged.add(number)
        self._changed.set()


async def measure_failover(
    cluster: Crashable, *, trials: int, size_bytes: int, progress: Callable[[int, float], None]
) -> FailoverResult:
    """Kill the leader `trials` times, restarting it each time, while messages are published; then read all back."""
    async with Client(cluster.address) as client, fresh_queue(client) as queue:
        stream = Stream(queue, size_bytes)
        publishing = asyncio.create_task(stream.run())
        seconds = []
        try:
            for trial in range(trials):
                await stream.steady()
                leader = (await wait_until_whole(client, RECOVERY_TIMEOUT_S)).leader_id
                stream.killed()
                cluster.kill(leader)
                seconds.append(await stream.recovered())
                progress(trial + 1, seconds[-1])
                await cluster.restart(leader)
            await wait_until_whole(client, RECOVERY_TIMEOUT_S)
        finally:
            publishing.cancel()
            await stream.finish()
        delivered = await read_back(queue, stream.acknowledged)
        return FailoverResult(
            trials=trials,
            size_bytes=size_bytes,
            messages_per_s=1 / PACE_S,
            kill_to_ack_ms=Spread.of([milliseconds(sample) for sample in seconds]),
            acknowledged=len(stream.acknowledged),
            failed=stream.failed,
            lost=len(stream.acknowledged - delivered.keys()),
            stored_twice=sum(count > 1 for count in delivered.values()),
        )


async def read_back(queue: Queue, expected: set[int]) -> dict[int, int]:
    """Consume until everything expected came, or nothing comes any more; how often each number was stored."""
    sequences: dict[int, set[int]] = {}
    while len(sequences.keys() & expected) < len(expected):
        pulled = await queue.pull(max_messages=10_000, wait=2.0)
        if not pulled.messages:
            break
        for message in pulled.messages:
            sequences.setdefault(IDENTITY.unpack_from(message.body)[0], set()).add(message.sequence)
        await pulled.ack()
    return {number: len(stored) for number, stored in sequences.items()}
