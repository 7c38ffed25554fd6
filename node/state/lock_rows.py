"""Locks as rows: what someone has of a lock, and all that is had of one lock."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from node.state.rows import duration, timestamp
from node.state.store import Execute
from taskraft.v1 import lock_pb2

ENDED: Final = 0
WAITING: Final = 1
HELD: Final = 2
LOST: Final = 3
"""Its holder was lost, and its lock delay is not over: nobody may have its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """What one request has of a lock: a place in the line, the lock, or the place of one who was lost.

    Invariant: `token` is set unless it is WAITING. One that is ENDED is in no table; it is what is told of its end.
    """

    number: int  # never given to another claim; those that were asked for later have greater ones
    lock: str  # `locks/{lock}`
    state: int
    mode: int  # taskraft.v1.LockMode, never UNSPECIFIED
    permits: int
    ttl_ms: int
    lock_delay_ms: int
    create_ms: int
    holder_id: str
    labels: bytes
    token: int = 0
    grant_ms: int = 0

    def granted(self, token: int, time_ms: int) -> Self:
        return replace(self, state=HELD, token=token, grant_ms=time_ms)

    def lost(self) -> Self:
        return replace(self, state=LOST)

    def ended(self) -> Self:
        return replace(self, state=ENDED)

    def as_waiter(self) -> lock_pb2.LockWaiter:
        """A claim that waits, as the API shows it."""
        waiter = lock_pb2.LockWaiter.FromString(self.labels)
        waiter.holder_id = self.holder_id
        waiter.mode = self.mode  # type: ignore[assignment]
        waiter.create_time.CopyFrom(timestamp(self.create_ms))
        return waiter

    def as_holder(self, expire_ms: int) -> lock_pb2.LockHolder:
        """A claim that is held, as the API shows it."""
        return lock_pb2.LockHolder(
            token=self.token,
            holder_id=self.holder_id,
            mode=self.mode,  # type: ignore[arg-type]
            labels=lock_pb2.LockWaiter.FromString(self.labels).labels,
            ttl=duration(self.ttl_ms),
            lock_delay=duration(self.lock_delay_ms),
            create_time=timestamp(self.create_ms),
            grant_time=timestamp(self.grant_ms),
            expire_after=duration(expire_ms),
        )

    def as_lost(self, free_ms: int) -> lock_pb2.LostLockHolder:
        """A claim whose holder was lost, as the API shows it."""
        return lock_pb2.LostLockHolder(
            token=self.token,
            holder_id=self.holder_id,
            labels=lock_pb2.LockWaiter.FromString(self.labels).labels,
            free_after=duration(free_ms),
        )


@dataclass(slots=True)
class LockRow:
    """All claims of one lock; one that is idle has none.

    Invariants: `claims` is in the order of their numbers, and each of them is in one of the others; all have the same
    `permits`; either all that are held or lost may be held together, or there is one.
    """

    name: str
    claims: dict[int, ClaimRow] = field(default_factory=dict)
    holders: dict[int, int] = field(default_factory=dict)  # numbers by token, in the order of the grants
    waiters: dict[int, None] = field(default_factory=dict)  # in the order in which they asked
    lost: dict[int, None] = field(default_factory=dict)

    @property
    def permits(self) -> int:
        """Of a semaphore; 0 for other kinds. There must be a claim."""
        return next(iter(self.claims.values())).permits

    def holder(self, token: int) -> ClaimRow | None:
        """Who holds it by that token."""
        number = self.holders.get(token)
        return None if number is None else self.claims[number]

    def admits(self, claim: ClaimRow) -> bool:
        """Whether there is a place for that claim, apart from those who wait before it."""
        taken = len(self.holders) + len(self.lost)
        if claim.permits:
            return taken < claim.permits
        if not taken:
            return True
        if claim.mode != lock_pb2.LOCK_MODE_SHARED:
            return False
        one = next(iter(self.lost), None) or next(iter(self.holders.values()))
        return self.claims[one].mode == lock_pb2.LOCK_MODE_SHARED

    def put(self, claim: ClaimRow) -> None:
        """A claim is new, or in another state."""
        self.leave(claim.number)
        self.claims[claim.number] = claim
        if claim.state == HELD:
            self.holders[claim.token] = claim.number
        else:
            (self.waiters if claim.state == WAITING else self.lost)[claim.number] = None

    def leave(self, number: int) -> None:
        """A claim is not in its state any more; `claims` has it still."""
        before = self.claims.get(number)
        if before is not None and before.state == HELD:
            del self.holders[before.token]
        elif before is not None:
            del (self.waiters if before.state == WAITING else self.lost)[number]

    def in_state(self, state: int, limit: int = -1) -> list[ClaimRow]:
        """The claims in that state, the oldest first: by grant if they are held."""
        numbers: Iterator[int] = iter(
            self.holders.values() if state == HELD else self.waiters if state == WAITING else self.lost
        )
        return [self.claims[number] for place, number in enumerate(numbers) if limit < 0 or place < limit]


_SELECT: Final = (
    "SELECT number, lock, state, mode, permits, ttl_ms, lock_delay_ms, token, create_ms, grant_ms, holder_id, labels"
    " FROM lock_claims"
)


def claim_of(found: tuple[Any, ...]) -> ClaimRow:
    return ClaimRow(
        number=found[0],
        lock=found[1],
        state=found[2],
        mode=found[3],
        permits=found[4],
        ttl_ms=found[5],
        lock_delay_ms=found[6],
        token=found[7],
        create_ms=found[8],
        grant_ms=found[9],
        holder_id=found[10],
        labels=found[11],
    )


def values(claim: ClaimRow) -> tuple[object, ...]:
    """A row of the table."""
    return (
        claim.lock,
        claim.number,
        claim.state,
        claim.mode,
        claim.permits,
        claim.ttl_ms,
        claim.lock_delay_ms,
        claim.token,
        claim.create_ms,
        claim.grant_ms,
        claim.holder_id,
        claim.labels,
    )


def of_lock(execute: Execute, name: str) -> LockRow:
    """The lock of that name, idle if it has no rows."""
    lock = LockRow(name)
    found = execute(f"{_SELECT} WHERE lock = ? ORDER BY number", (name,)).fetchall()
    for claim in sorted((claim_of(each) for each in found), key=lambda claim: (claim.token, claim.number)):
        lock.put(claim)
    lock.claims = dict(sorted(lock.claims.items()))
    return lock


def claims_after(execute: Execute, lock: str, number: int, limit: int) -> list[ClaimRow]:
    """Claims of all locks, by name and number, those after that one."""
    rows = execute(
        f"{_SELECT} WHERE (lock, number) > (?, ?) ORDER BY lock, number LIMIT ?", (lock, number, limit)
    )
    return [claim_of(found) for found in rows]


def names_after(execute: Execute, name: str, limit: int) -> list[str]:
    """Names of locks in use, in their order, those after that one."""
    rows = execute(
        "SELECT DISTINCT lock FROM lock_claims WHERE lock > ? ORDER BY lock LIMIT ?", (name, limit)
    )
    return [found[0] for found in rows]
