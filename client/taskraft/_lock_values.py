"""What a cluster says of its locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from taskraft._times import seconds_of, time_of
from taskraft.v1 import lock_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LockMode = Literal["exclusive", "shared", "semaphore"]

_MODES: dict[int, LockMode] = {
    lock_pb2.LOCK_MODE_SHARED: "shared",
    lock_pb2.LOCK_MODE_SEMAPHORE: "semaphore",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who holds a lock. `expire_after` is in seconds: it is lost then unless it is kept alive meanwhile."""

    token: int
    holder_id: str
    mode: LockMode
    labels: Mapping[str, str]
    ttl: float
    lock_delay: float
    create_time: datetime | None
    grant_time: datetime | None
    expire_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWaiter:
    """Who waits for a lock."""

    holder_id: str
    mode: LockMode
    labels: Mapping[str, str]
    create_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLockHolder:
    """Who held a lock and was lost. `free_after` is in seconds: so long nobody gets its place."""

    token: int
    holder_id: str
    labels: Mapping[str, str]
    free_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """A lock, idle if it has neither holders nor waiters. `permits` is 0 unless it is a semaphore.

    Of holders, waiters and lost holders there may be more than are listed; the counts are exact.
    """

    name: str
    permits: int
    holders: tuple[LockHolder, ...]
    holder_count: int
    waiters: tuple[LockWaiter, ...]
    waiter_count: int
    lost_holders: tuple[LostLockHolder, ...]
    lost_holder_count: int


def lock_info(lock: lock_pb2.Lock) -> LockInfo:
    return LockInfo(
        name=lock.name.removeprefix("locks/"),
        permits=lock.permits,
        holders=tuple(map(_holder, lock.holders)),
        holder_count=lock.holder_count,
        waiters=tuple(
            LockWaiter(
                holder_id=one.holder_id,
                mode=_MODES.get(one.mode, "exclusive"),
                labels=dict(one.labels),
                create_time=time_of(one.create_time),
            )
            for one in lock.waiters
        ),
        waiter_count=lock.waiter_count,
        lost_holders=tuple(
            LostLockHolder(
                token=one.token,
                holder_id=one.holder_id,
                labels=dict(one.labels),
                free_after=seconds_of(one.free_after),
            )
            for one in lock.lost_holders
        ),
        lost_holder_count=lock.lost_holder_count,
    )


def _holder(holder: lock_pb2.LockHolder) -> LockHolder:
    return LockHolder(
        token=holder.token,
        holder_id=holder.holder_id,
        mode=_MODES.get(holder.mode, "exclusive"),
        labels=dict(holder.labels),
        ttl=seconds_of(holder.ttl),
        lock_delay=seconds_of(holder.lock_delay),
        create_time=time_of(holder.create_time),
        grant_time=time_of(holder.grant_time),
        expire_after=seconds_of(holder.expire_after),
    )
