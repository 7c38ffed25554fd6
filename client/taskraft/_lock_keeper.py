"""Keeps locks alive, and knows on this machine's clock how long each of them is certain.

A lock is certain for its TTL from the moment at which the last keepalive that was answered was SENT: the leader counts from a
later moment, so it cannot give the lock to anyone before. Some time before that ends, the margin, the lock counts as lost here:
whoever relies on it has that long to stop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

from taskraft import _limits, errors
from taskraft._retry import Backoff, Deadline, is_hopeless
from taskraft._streams import run_stream
from taskraft.v1 import lock_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskraft._pool import Pool

BEATS_PER_TTL = 3
LOCKS_PER_REQUEST = 1_000  # the broker's limit
FIND_S = 1.0  # then the search for a leader begins anew: locks may have come or gone
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def now_s() -> float:
    """A clock that is never set, and goes on while the machine sleeps where it has such a clock."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def margin_s(ttl_s: float) -> float:
    """How long before its TTL can have ended a lock counts as lost: a fifth of it, or about a second."""
    return min(ttl_s / 5, 1.0 + ttl_s / 100)


class Lease:
    """One grant of a lock. `on_lost` is called once, when it is not certain any more; not after `end`."""

    def __init__(self, name: str, token: int, ttl_s: float, on_lost: Callable[[], None]) -> None:
        self.name, self.token, self.ttl_s = name, token, ttl_s
        self.over = False
        """True once it was lost or given back."""
        self.sent_s = 0.0
        """When its last keepalive was sent, or what was as good as one; 0: one is due."""
        self.answered = asyncio.Event()
        """Set when a keepalive was answered, or it is over."""
        self._until_s = 0.0
        self._on_lost = on_lost
        self._timer: asyncio.TimerHandle | None = None

    def remaining_s(self) -> float:
        """How long it is certain, without the margin."""
        return 0.0 if self.over else max(0.0, self._until_s - now_s())

    def certain_from(self, sent_s: float) -> None:
        """It is held, and has been since that moment at the latest or was kept alive after it."""
        self._until_s = max(self._until_s, sent_s + self.ttl_s)
        if self._timer is None and not self.over:
            self._look()

    def kept(self, sent_s: float) -> None:
        """A keepalive that was sent then has been answered."""
        self.certain_from(sent_s)
        self.answered.set()

    def lose(self) -> None:
        """It is held no more, or not certainly."""
        if not self.over:
            self.end()
            self._on_lost()

    def end(self) -> None:
        """Nobody relies on it any more."""
        self.over = True
        self.answered.set()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Lose it if its time is over, or look again when it may be."""
        left_s = self._until_s - margin_s(self.ttl_s) - now_s()
        if left_s <= 0:
            self.lose()
        else:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)


class LockKeeper:
    """Keeps the locks of a client alive, all of them on one stream to the leader. Used in one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._leases: dict[int, Lease] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._sent: dict[int, tuple[float, list[Lease]]] = {}
        """Requests that were not answered, by sequence."""
        self._sequence = 0
        self._closed = False

    def add(self, lease: Lease) -> None:
        """Keep a lease alive from now on. ClientClosed."""
        if self._closed:
            raise errors.ClientClosed
        self._leases[lease.token] = lease
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="taskraft-locks")

    def remove(self, lease: Lease) -> None:
        """Let it be: it was given back, or it is lost."""
        self._leases.pop(lease.token, None)
        self._wake.set()

    async def close(self) -> None:
        """Keep nothing alive any more: what is held still counts as lost."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for lease in list(self._leases.values()):
            lease.lose()
        self._leases.clear()

    async def _run(self) -> None:
        """Have a stream from the first keepalive that is due until there is nothing to keep alive: locks that are held
        briefly need none.
        """
        backoff = Backoff()
        while self._leases:
            if not await self._due():
                continue
            try:
                address = await self._pool.find(Deadline(FIND_S))
            except errors.ClientClosed:
                return
            except errors.TaskraftError:
                await asyncio.sleep(backoff.next_s())
                continue
            failure = await self._stream(address, backoff)
            if self._leases:
                for lease in self._leases.values():
                    lease.sent_s = 0.0  # at once: who knows how long there was no leader
                self._pool.heed(failure, address)
                if is_hopeless(failure):
                    self._pool.suspect(address)
                await asyncio.sleep(backoff.next_s())

    async def _stream(self, address: str, backoff: Backoff) -> errors.TaskraftError:
        """Keep alive on one stream until it ends; returns why it did."""
        open_stream = self._pool.channel(address).stream_stream(
            "/taskraft.v1.LockService/KeepAliveLock",
            request_serializer=lock_pb2.KeepAliveLockRequest.SerializeToString,
            response_deserializer=lock_pb2.KeepAliveLockResponse.FromString,
        )
        self._sent.clear()
        call = open_stream(metadata=self._pool.metadata)
        return await run_stream(call, self._send(call), self._read(call, backoff), self._watch(address))

    async def _send(self, call: Any) -> NoReturn:
        """Send keepalives when they are due, until there is nothing to keep alive."""
        while self._leases:
            if await self._due():
                await self._beat(call)
        raise errors.ClientClosed("there is nothing to keep alive")

    async def _due(self) -> bool:
        """Wait until a keepalive is due; False if locks have come or gone meanwhile. There must be one."""
        self._wake.clear()
        wait_s = min(lease.sent_s + lease.ttl_s / BEATS_PER_TTL for lease in self._leases.values()) - now_s()
        if wait_s <= 0:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return True
        return False

    async def _beat(self, call: Any) -> None:
        """One keepalive for all locks that are due within half a beat: they travel together from then on."""
        at_s = now_s()
        due = [
            lease
            for lease in self._leases.values()
            if lease.sent_s + lease.ttl_s / (2 * BEATS_PER_TTL) <= at_s
        ]
        for start in range(0, len(due), LOCKS_PER_REQUEST):
            leases = due[start : start + LOCKS_PER_REQUEST]
            self._sequence += 1
            request = lock_pb2.KeepAliveLockRequest(sequence=self._sequence)
            for lease in leases:
                lease.sent_s = at_s
                request.locks.add(name=lease.name, token=lease.token)
            self._sent[self._sequence] = (now_s(), leases)  # before it is sent, never after
            await call.write(request)

    async def _read(self, call: Any, backoff: Backoff) -> NoReturn:
        async for answer in call:
            backoff.reset()
            sent_s, _ = self._sent.pop(answer.sequence, (0.0, []))
            for kept in answer.kept:
                if lease := self._leases.get(kept.token):
                    lease.kept(sent_s)
            for lost in answer.lost:
                if lease := self._leases.pop(lost.token, None):
                    lease.lose()
        raise errors.Unavailable("the stream was closed")

    async def _watch(self, address: str) -> NoReturn:
        """Go elsewhere when the leader is silent and another one leads; a silent one may be frozen or cut off."""
        while True:
            ttl_s = min((lease.ttl_s for lease in self._leases.values()), default=_limits.SILENCE_S)
            silence_s = min(_limits.SILENCE_S, ttl_s / (2 * BEATS_PER_TTL))
            await asyncio.sleep(silence_s / 2)
            if any(now_s() - sent_s > silence_s for sent_s, _ in self._sent.values()):
                await self._pool.check()
                if self._pool.leader not in (None, address):
                    raise errors.Unavailable(f"{address} is silent and another node leads")
