"""A recipe: one of many leads, and another one takes over when it is gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from taskraft import errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from taskraft._lock_values import LockHolder
    from taskraft._locks import Lock, Locks


class Term:
    """A time of leading, from election to loss. Its block is cancelled when it is lost, and ends quietly then."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.lost_in_threads = lock.lost_in_threads

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every term before."""
        return self._lock.token

    @property
    def held(self) -> bool:
        """True while it is certain that nobody else leads."""
        return self._lock.held

    @property
    def lost(self) -> asyncio.Event:
        """Set when this term was lost."""
        return self._lock.lost

    def remaining(self) -> float:
        """Seconds for which it is certain, if nothing is heard of the cluster any more; 0 if it is over."""
        return self._lock.remaining()

    async def leave(self, *, failed: bool) -> None:
        """The block is over: another one may lead."""
        with suppress(errors.LockLost):
            await self._lock.leave(failed=failed)

    async def __aenter__(self) -> Self:
        self._lock.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            await self._lock.__aexit__(kind, error, trace)
        except errors.LockLost:
            return True
        return isinstance(error, errors.LockLost)


class Election:
    """Leads when it is its turn, again and again; who leads holds the lock of that name.

        async for term in client.election("reports"):
            async with term:
                await lead(term.token)

    The block is cancelled when its term is over, and the loop waits for the next one; `break` ends it. A thread is not
    cancelled: it looks at `term.lost`. With `async with client.election("reports") as lock` there is one term, and losing
    it raises LockLost.
    """

    def __init__(self, locks: Locks, name: str, new_lock: Callable[[], Lock]) -> None:
        self.name = name.removeprefix("locks/")
        self._locks, self._new_lock = locks, new_lock
        self._lock: Lock | None = None

    async def leader(self) -> LockHolder | None:
        """Who leads; None if nobody does."""
        info = await self._locks.get(self.name)
        return info.holders[0] if info.holders else None

    async def __aiter__(self) -> AsyncGenerator[Term]:
        """Terms, each when it begins; one that was not entered is over when the next one is asked for."""
        while True:
            lock = await self._new_lock().acquire()
            try:
                yield Term(lock)
            finally:
                with suppress(errors.LockLost):
                    await lock.release()

    async def begin(self) -> Lock:
        """Wait for a term; `end` ends it."""
        self._lock = await self._new_lock().acquire()
        return self._lock

    async def end(self, *, failed: bool) -> None:
        """The term is over. LockLost if it was lost, unless its block has failed by itself."""
        assert self._lock is not None
        await self._lock.leave(failed=failed)

    async def __aenter__(self) -> Lock:
        lock = await self.begin()
        lock.enter()
        return lock

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        await self._lock.__aexit__(kind, error, trace)
