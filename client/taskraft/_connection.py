"""What a client and its queues share: channels, publishers and consumers, and their end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from taskraft import _calls, _limits, errors
from taskraft._consumer import Consumer
from taskraft._lock_keeper import LockKeeper
from taskraft._pool import Pool
from taskraft._publisher import Publisher
from taskraft._reader import Reader
from taskraft._submitter import Submitter
from taskraft._waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc
    from google.protobuf.message import Message

    from taskraft.v1 import queue_pb2

_T = TypeVar("_T")


class Connection:
    """Opened by its first use, in the event loop of that; closed once."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        *,
        timeout_s: float,
        credentials: grpc.ChannelCredentials | None,
        direct: bool,
        buffer_bytes: int,
    ) -> None:
        self.pool = Pool(addresses, credentials, direct=direct)
        self.timeout_s = timeout_s
        self._buffer_bytes = buffer_bytes
        self._publishers: dict[str, Publisher] = {}
        self._consumers: set[Consumer | Reader] = set()
        self._submitter: Submitter | None = None
        self._waiter: Waiter | None = None
        self._lock_keeper: LockKeeper | None = None

    async def call(
        self,
        method: str,
        request: Message | bytes | Callable[[], bytes],
        answer: Callable[[bytes], _T],
        *,
        timeout_s: float | None = None,
    ) -> _T:
        """See _calls.call."""
        return await _calls.call(self.pool, method, request, answer, timeout_s=timeout_s or self.timeout_s)

    def publisher(self, target: str, *, allow_unroutable: bool = False) -> Publisher:
        """That of `queues/{queue}` or `topics/{topic}`."""
        name = f"{target} or nowhere" if allow_unroutable else target
        publisher = self._publishers.get(name)
        if publisher is None:
            if self.pool.closed:
                raise errors.ClientClosed
            publisher = Publisher(
                self.pool, target, buffer_bytes=self._buffer_bytes, allow_unroutable=allow_unroutable
            )
            self._publishers[name] = publisher
        return publisher

    @property
    def submitter(self) -> Submitter:
        if self._submitter is None:
            if self.pool.closed:
                raise errors.ClientClosed
            self._submitter = Submitter(self.pool)
        return self._submitter

    @property
    def waiter(self) -> Waiter:
        if self._waiter is None:
            if self.pool.closed:
                raise errors.ClientClosed
            self._waiter = Waiter(self.pool, self.timeout_s)
        return self._waiter

    @property
    def lock_keeper(self) -> LockKeeper:
        if self._lock_keeper is None:
            if self.pool.closed:
                raise errors.ClientClosed
            self._lock_keeper = LockKeeper(self.pool)
        return self._lock_keeper

    def consumer(self, start: queue_pb2.ConsumeStart, *, prefetch: int, prefetch_bytes: int) -> Consumer:
        """One that opens its streams with `start`."""
        consumer = Consumer(
            self.pool, start, prefetch=prefetch, prefetch_bytes=prefetch_bytes, timeout=self.timeout_s
        )
        self._consumers = {one for one in self._consumers if not one.closed} | {consumer}
        return consumer

    def reader(
        self, queue: str, position: queue_pb2.Position, *, follow: bool, prefetch_bytes: int
    ) -> Reader:
        reader = Reader(
            self.pool,
            queue,
            position,
            follow=follow,
            prefetch_bytes=prefetch_bytes,
            timeout=self.timeout_s,
        )
        self._consumers = {one for one in self._consumers if not one.closed} | {reader}
        return reader

    async def close(self) -> None:
        if self.pool.closed:
            return
        if self._waiter is not None:
            await self._waiter.close()
        if self._lock_keeper is not None:
            await self._lock_keeper.close()
        if self._submitter is not None:
            await self._submitter.close(_limits.CLOSE_S)
        await asyncio.gather(
            *(consumer.close() for consumer in self._consumers),
            *(publisher.close(_limits.CLOSE_S) for publisher in self._publishers.values()),
        )
        await self.pool.close()
