"""How long a lock takes that nobody else wants, and how many are had and given back per second."""

import asyncio
import time
import uuid
from dataclasses import dataclass

from taskraft import Client
from taskraft.bench.figures import Percentiles

WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRun:
    """`outstanding` loops, each of which acquires a lock and releases it; `seconds` is how long they ran."""

    outstanding: int
    seconds: float
    locks: int
    acquire: Percentiles
    release: Percentiles

    @property
    def locks_per_s(self) -> float:
        return self.locks / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LocksResult:
    """One lock at a time, then many at once, each loop with a lock of its own, then all with the same one."""

    single: LockRun
    own: LockRun
    contended: LockRun


async def measure_locks(client: Client, *, duration_s: float, outstanding: int) -> LocksResult:
    """`duration_s` is for each of the three."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    await _run(client, [name], WARM_UP_S)
    names = [f"{name}-{number}" for number in range(outstanding)]
    return LocksResult(
        single=await _run(client, [name], duration_s),
        own=await _run(client, names, duration_s),
        contended=await _run(client, [name] * outstanding, duration_s),
    )


async def _run(client: Client, names: list[str], duration_s: float) -> LockRun:
    """A loop for each of these locks."""
    acquire_s: list[float] = []
    release_s: list[float] = []
    began_s = time.perf_counter()

    async def loop(name: str) -> None:
        while (asked_s := time.perf_counter()) < began_s + duration_s:
            lock = await client.lock(name, ttl=60).acquire()
            granted_s = time.perf_counter()
            await lock.release()
            acquire_s.append(granted_s - asked_s)
            release_s.append(time.perf_counter() - granted_s)

    await asyncio.gather(*map(loop, names))
    return LockRun(
        outstanding=len(names),
        seconds=time.perf_counter() - began_s,
        locks=len(acquire_s),
        acquire=Percentiles.of_seconds(acquire_s),
        release=Percentiles.of_seconds(release_s),
    )
