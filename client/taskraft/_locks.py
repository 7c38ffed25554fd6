"""Locks of a cluster: held within a block, kept alive meanwhile, and given up before anyone else can have them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import uuid
from typing import TYPE_CHECKING, Self

from taskraft import errors
from taskraft._lock_keeper import BEATS_PER_TTL, Lease, now_s
from taskraft._lock_values import LockInfo, lock_info
from taskraft._retry import Deadline
from taskraft._times import duration, seconds_of
from taskraft.v1 import lock_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from types import TracebackType

    from taskraft._connection import Connection

WAIT_MAX_S = 24 * 3600.0  # the broker's limit of one call


class Lock:
    """A lock, held within `async with`: exclusively, or with others if it is `shared` or has `permits`.

        async with client.lock("import", ttl=10) as lock:
            store.write(data, token=lock.token)

    It is kept alive meanwhile. If that fails for so long that someone else could have it, the block is cancelled before
    that moment and LockLost is raised. A thread is not cancelled, nor a task with `cancel=False`: they look at `lost`, and
    LockLost is raised at the end. A process that was paused can do none of this in time: only what checks `token`, which
    grows from grant to grant, is safe from one that wakes up and goes on. An object is held by one task at a time.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        ttl: float,
        shared: bool,
        permits: int,
        wait: float | None,
        lock_delay: float,
        holder_id: str,
        labels: Mapping[str, str] | None,
        cancel: bool,
    ) -> None:
        if shared and permits:
            raise TypeError("a lock is shared or has permits, not both")
        self.name = name.removeprefix("locks/")
        self.lost_in_threads = threading.Event()
        self._connection = connection
        self._lost = asyncio.Event()
        self._wait_s, self._cancels = wait, cancel
        self._lease: Lease | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0  # requests to cancel the block's task that are not ours
        self._cancelled = False  # there is one of ours
        mode = lock_pb2.LOCK_MODE_SHARED if shared else lock_pb2.LOCK_MODE_EXCLUSIVE
        self._request = lock_pb2.AcquireLockRequest(
            name=f"locks/{self.name}",
            mode=lock_pb2.LOCK_MODE_SEMAPHORE if permits else mode,
            permits=permits,
            ttl=duration(ttl),
            holder_id=holder_id or f"{socket.gethostname()}:{os.getpid()}",
            labels=labels or {},
            lock_delay=duration(lock_delay),
        )

    @property
    def token(self) -> int:
        """The fencing token of the grant; RuntimeError if it was not acquired."""
        if self._lease is None:
            raise RuntimeError(f"the lock {self.name} was not acquired")
        return self._lease.token

    @property
    def held(self) -> bool:
        """True while it is certain that nobody else has it, or could have it if it is exclusive."""
        return self._lease is not None and not self._lease.over

    @property
    def lost(self) -> asyncio.Event:
        """Set when it was lost."""
        return self._lost

    def remaining(self) -> float:
        """Seconds for which it is certain, if nothing is heard of the cluster any more; 0 if it is not held."""
        return 0.0 if self._lease is None else self._lease.remaining_s()

    async def acquire(self) -> Self:
        """Acquire it, waiting as long as `wait` says. LockHeld if it is not granted in that time.

        Without `async with` the task that waits is not cancelled when it is lost: look at `lost`, and `release` it.
        """
        if self.held:
            raise RuntimeError(f"the lock {self.name} is held already")
        waited = None if self._wait_s is None else Deadline(self._wait_s)
        while True:
            try:
                lease = await self._ask(WAIT_MAX_S if waited is None else max(0.0, waited.left_s()))
            except errors.LockNotHeld:  # what a repeated call has found had ended
                continue
            except errors.LockHeld:
                if waited is not None:
                    raise
                continue
            if lease is not None:
                break
        self._lost.clear()
        self.lost_in_threads.clear()
        self._lease = lease
        return self

    async def _ask(self, wait_s: float) -> Lease | None:
        """Ask once. None if it was granted and not heard of again.

        It is certain for its TTL from the moment of asking; when the answer has come so late that little of that is left,
        a keepalive says more.
        """
        self._request.request_id = uuid.uuid4().hex
        self._request.wait.CopyFrom(duration(wait_s))
        timeout_s, asked_s = wait_s + self._connection.timeout_s, now_s()
        try:
            response = await self._connection.call(
                "LockService/AcquireLock",
                self._request,
                lock_pb2.AcquireLockResponse.FromString,
                timeout_s=timeout_s,
            )
        except errors.DeadlineExceeded as error:
            why = f"{self._request.name} was not granted in {wait_s:g} s"
            raise errors.LockHeld(why, metadata={"lock": self._request.name}) from error
        ttl_s = seconds_of(response.ttl)
        lease = Lease(self._request.name, response.token, ttl_s, self._lose)
        if now_s() - asked_s < ttl_s / BEATS_PER_TTL:
            lease.sent_s = asked_s
            lease.certain_from(asked_s)
            self._connection.lock_keeper.add(lease)
            return lease
        self._connection.lock_keeper.add(lease)
        try:
            async with asyncio.timeout(ttl_s):
                await lease.answered.wait()
        except TimeoutError:
            pass
        except BaseException:
            self._drop(lease)
            raise
        if not lease.remaining_s():
            self._drop(lease)
            return None
        return lease

    def _drop(self, lease: Lease) -> None:
        lease.end()
        self._connection.lock_keeper.remove(lease)

    def _lose(self) -> None:
        """The lease has ended: nothing that relies on it may go on."""
        lease = self._lease
        if lease is None or not lease.over:
            return  # it is not acquired yet
        self._connection.lock_keeper.remove(lease)
        self._lost.set()
        self.lost_in_threads.set()
        self._cancel()

    def _cancel(self) -> None:
        """End the block, if there is one, because the lock is lost."""
        if self._task is not None and self._cancels and self._lost.is_set() and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    async def release(self) -> None:
        """Give it back; LockLost if it was lost before. If the cluster cannot be reached, it ends with its TTL."""
        lease = self._lease
        if lease is None:
            raise RuntimeError(f"the lock {self.name} was not acquired")
        if self._lost.is_set():
            raise self._lock_lost()
        if lease.over:
            return
        left_s = lease.remaining_s()
        self._drop(lease)
        request = lock_pb2.ReleaseLockRequest(name=lease.name, token=lease.token, request_id=uuid.uuid4().hex)
        try:
            await self._connection.call(
                "LockService/ReleaseLock",
                request,
                lock_pb2.ReleaseLockResponse.FromString,
                timeout_s=min(self._connection.timeout_s, left_s),
            )
        except errors.LockNotHeld as error:
            raise self._lock_lost() from error
        except (errors.Unavailable, errors.CommitUnknown, errors.DeadlineExceeded):
            return  # nobody keeps it alive any more

    async def leave(self, *, failed: bool) -> None:
        """The block is over: give the lock back. LockLost if it was lost, unless the block has failed by itself."""
        try:
            await self.release()
        except errors.LockLost:
            if not failed:
                raise

    def _lock_lost(self) -> errors.LockLost:
        metadata = {"lock": f"locks/{self.name}", "token": str(self.token)}
        return errors.LockLost(f"the lock {self.name} was lost, token {self.token}", metadata=metadata)

    async def __aenter__(self) -> Self:
        await self.acquire()
        self.enter()
        return self

    def enter(self) -> None:
        """The block begins: this task is cancelled when the lock is lost."""
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling, self._cancelled = self._task.cancelling(), False
        if (
            self._lost.is_set()
        ):  # not at once: a block that waits for nothing would leave it to what comes after
            asyncio.get_running_loop().call_soon(self._cancel)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        if self._lost.is_set() and self._cancels:
            left = task.uncancel() if self._cancelled else task.cancelling()
            others = left > self._cancelling  # who wanted the task to end for another reason
            if kind is None or (kind is asyncio.CancelledError and not others):
                raise self._lock_lost() from error
            return
        await self.leave(failed=kind is not None)


class Locks:
    """The locks of a cluster, for whoever wants to know who holds what. To hold one: `client.lock(name)`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, name: str) -> LockInfo:
        """The lock with its holders and those who wait; one that nobody uses has neither."""
        request = lock_pb2.GetLockRequest(name=_name(name))
        response = await self._connection.call(
            "LockService/GetLock", request, lock_pb2.GetLockResponse.FromString
        )
        return lock_info(response.lock)

    async def list(self) -> AsyncGenerator[LockInfo]:
        """All locks in use by name, fetched page by page."""
        request = lock_pb2.ListLocksRequest(page_size=1_000)
        while True:
            response = await self._connection.call(
                "LockService/ListLocks", request, lock_pb2.ListLocksResponse.FromString
            )
            for lock in response.locks:
                yield lock_info(lock)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def release(self, name: str, token: int) -> None:
        """Take a lock away from whoever holds it by that token; LockNotHeld. The holder is told, and finds it lost."""
        request = lock_pb2.ReleaseLockRequest(name=_name(name), token=token, request_id=uuid.uuid4().hex)
        await self._connection.call(
            "LockService/ReleaseLock", request, lock_pb2.ReleaseLockResponse.FromString
        )


def _name(name: str) -> str:
    return f"locks/{name.removeprefix('locks/')}"
