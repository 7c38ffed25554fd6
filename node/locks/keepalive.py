"""Streams that keep locks alive: each answer has passed a barrier, which all requests of one moment share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from node.clock import Clock
from node.errors import ApiError, NotLeader, ShuttingDown, SlowReader
from node.locks.keeper import Keeper
from node.replication import Replicated
from node.state.listener import Silence
from node.state.lock_rows import HELD, WAITING, ClaimRow
from node.state.rows import duration
from taskraft.v1 import lock_pb2

Grant: TypeAlias = tuple[str, int]
"""A lock and the token that holds it."""

NEWS_MAX: Final = 10_000  # of one stream that were not read


class Barrier:
    """One read barrier for all who ask in the same turn of the event loop."""

    def __init__(self, replica: Replicated) -> None:
        self._replica = replica
        self._gathering: asyncio.Task[None] | None = None

    async def passed(self) -> None:
        """A majority follows this node at some moment after this call, and what was committed before it is applied.
        Raises NotLeader, NoQuorum of `raft.errors`.
        """
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._pass())
        await asyncio.shield(self._gathering)

    async def _pass(self) -> None:
        self._gathering = None  # who asks from now on needs a later one
        await self._replica.read_barrier()


class Stream:
    """What one stream keeps alive, and news of it that were not written. `signal` is set when there is something to write,
    or `error` says that it is over.
    """

    def __init__(self) -> None:
        self.signal = asyncio.Event()
        self.error: ApiError | None = None
        self.kept: dict[int, str] = {}
        """Locks by token."""
        self._lost: list[Grant] = []

    def lose(self, lock: str, token: int) -> None:
        """What was kept alive has ended."""
        self._lost.append((lock, token))
        if len(self._lost) > NEWS_MAX:
            self.end(SlowReader())
        self.signal.set()

    def end(self, error: ApiError) -> None:
        """Nothing more is kept alive by it; the first reason stays."""
        self.error = self.error or error
        self.signal.set()

    def news(self) -> lock_pb2.KeepAliveLockResponse | None:
        """What has ended since the last time, if anything."""
        if not self._lost:
            return None
        lost, self._lost = self._lost, []
        return lock_pb2.KeepAliveLockResponse(
            lost=[lock_pb2.HeldLock(name=name, token=token) for name, token in lost]
        )


class KeepAlive(Silence):
    """All streams of this leader."""

    def __init__(
        self,
        keeper: Keeper,
        passed: Callable[[], Awaitable[None]],
        *,
        clock: Clock,
        not_leader: Callable[[], NotLeader],
    ) -> None:
        """`passed` is that of a `Barrier`."""
        self._keeper, self._passed, self._clock, self._not_leader = keeper, passed, clock, not_leader
        self._streams: set[Stream] = set()
        self._by_token: dict[int, set[Stream]] = {}
        self._stopping = False

    def open(self) -> Stream:
        """A new stream. Raises NotLeader, ShuttingDown."""
        if self._stopping:
            raise ShuttingDown
        if self._keeper.term is None:
            raise self._not_leader()
        stream = Stream()
        self._streams.add(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Nobody reads it any more; what it kept alive lasts as long as it does."""
        self._streams.discard(stream)
        for token in stream.kept:
            self._by_token[token].discard(stream)
            if not self._by_token[token]:
                del self._by_token[token]
        stream.kept.clear()

    async def keep(
        self, stream: Stream, sequence: int, grants: Sequence[Grant]
    ) -> lock_pb2.KeepAliveLockResponse:
        """Keep these alive from now on. Raises the errors of a barrier.

        Leases are longer from the moment of asking, so that nothing ends while the barrier is under way; whether they are
        is said when that has passed, by what is true then.
        """
        since_ms = self._clock.now_ms()
        for name, token in grants:
            self._keeper.keep(name, token, since_ms)
        await self._passed()
        answer = lock_pb2.KeepAliveLockResponse(sequence=sequence)
        for name, token in grants:
            claim = self._keeper.keep(name, token, since_ms)
            if claim is None:
                answer.lost.add(name=name, token=token)
            else:
                answer.kept.add(name=name, token=token, ttl=duration(claim.ttl_ms))
                self._follow(stream, name, token)
        return answer

    def _follow(self, stream: Stream, name: str, token: int) -> None:
        if stream in self._streams and token not in stream.kept:
            stream.kept[token] = name
            self._by_token.setdefault(token, set()).add(stream)

    # What the state machine and the node say ----------------------------------------------------------------------

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        if claim.state in (WAITING, HELD) or claim.token not in self._by_token:
            return
        for stream in self._by_token.pop(claim.token):
            del stream.kept[claim.token]
            stream.lose(claim.lock, claim.token)

    def lead(self, term: int) -> None:
        """Streams come when they come."""

    def follow(self) -> None:
        self._end_all(self._not_leader())

    def stop(self) -> None:
        """This node stops: streams go on elsewhere."""
        self._stopping = True
        self._end_all(ShuttingDown())

    def _end_all(self, error: ApiError) -> None:
        for stream in self._streams:
            stream.end(error)
