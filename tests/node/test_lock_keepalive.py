"""Keepalives: what has passed a barrier is answered, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from node.clock import Clock
from node.errors import NotLeader, ShuttingDown
from node.locks.keepalive import Barrier, KeepAlive
from node.locks.keeper import Keeper
from raft import errors as raft_errors
from tests.node.lock_log import EXPIRED, NAME, Locks, acquire, end, release
from tests.node.single_node import run
from tests.sim.state_log import ManualClock


class Asked:
    """A replica that counts its barriers; they pass when the test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.passes = asyncio.Event()
        self.error: Exception | None = None

    async def read_barrier(self) -> int:
        self.count += 1
        await self.passes.wait()
        if self.error is not None:
            raise self.error
        return 1


def desk(
    directory: Path, passed: Callable[[], Awaitable[None]]
) -> tuple[Locks, KeepAlive, Keeper, ManualClock]:
    locks, clock = Locks(directory), ManualClock(1_000)
    times = Clock(clock.now_ms, clock.now_ms)
    machine = locks.follower.machine
    keeper = Keeper(machine, clock=times, touch=lambda: None, wake=lambda: None)
    keepalive = KeepAlive(keeper, passed, clock=times, not_leader=NotLeader)
    machine.listeners += [keeper, keepalive]
    keeper.lead(1)
    return locks, keepalive, keeper, clock


def test_all_who_ask_at_one_moment_share_a_barrier_and_who_asks_later_has_another() -> None:
    async def story() -> None:
        replica = Asked()
        barrier = Barrier(replica)  # type: ignore[arg-type]
        first = [asyncio.create_task(barrier.passed()) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert replica.count == 1
        later = asyncio.create_task(barrier.passed())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert replica.count == 2
        replica.passes.set()
        await asyncio.gather(*first, later)

    run(story())


def test_a_leader_that_was_replaced_answers_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        replica = Asked()
        locks, keepalive, _, _ = desk(tmp_path / "state", Barrier(replica).passed)  # type: ignore[arg-type]
        token = locks.ask(acquire("a")).token
        answer = asyncio.create_task(keepalive.keep(keepalive.open(), 1, [(NAME, token)]))
        await asyncio.sleep(0)
        replica.error = raft_errors.NotLeader(None)
        replica.passes.set()

        with pytest.raises(raft_errors.NotLeader):
            await answer

    run(story())


def test_what_ends_while_the_barrier_is_under_way_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        replica = Asked()
        locks, keepalive, _, _ = desk(tmp_path / "state", Barrier(replica).passed)  # type: ignore[arg-type]
        claim = locks.ask(acquire("a"))
        answer = asyncio.create_task(keepalive.keep(keepalive.open(), 7, [(NAME, claim.token)]))
        await asyncio.sleep(0)
        locks.one(end(EXPIRED, claim))
        replica.passes.set()

        said = await answer

        assert (said.sequence, [lost.token for lost in said.lost], list(said.kept)) == (7, [claim.token], [])

    run(story())


def test_a_keepalive_under_way_holds_up_the_end_of_its_lease(tmp_path: Path) -> None:
    async def story() -> None:
        replica = Asked()
        locks, keepalive, keeper, clock = desk(tmp_path / "state", Barrier(replica).passed)  # type: ignore[arg-type]
        token = locks.ask(acquire("a", ttl_ms=5_000)).token
        clock.ms += 4_999
        answer = asyncio.create_task(keepalive.keep(keepalive.open(), 1, [(NAME, token)]))
        await asyncio.sleep(0)
        clock.ms += 1_000
        keeper.pump()
        assert list(keeper.commands()) == []
        replica.passes.set()

        assert [kept.token for kept in (await answer).kept] == [token]

    run(story())


def test_news_come_once_and_only_of_what_the_stream_has_kept_alive(tmp_path: Path) -> None:
    async def story() -> None:
        async def passed() -> None:
            pass

        locks, keepalive, _, _ = desk(tmp_path / "state", passed)
        mine, other = locks.ask(acquire("a")), locks.ask(acquire("b", name="locks/m"))
        stream, closed = keepalive.open(), keepalive.open()
        await keepalive.keep(stream, 1, [(NAME, mine.token)])
        await keepalive.keep(closed, 1, [(NAME, mine.token)])
        keepalive.close(closed)

        locks.do(release(mine.token), release(other.token, "locks/m"))

        news = stream.news()
        assert news is not None
        assert [(lost.name, lost.token) for lost in news.lost] == [(NAME, mine.token)]
        assert stream.news() is None
        assert closed.news() is None

    run(story())


@pytest.mark.parametrize(("ends", "error"), [("follow", NotLeader), ("stop", ShuttingDown)])
def test_streams_end_with_leadership_and_with_the_node(ends: str, error: type[Any], tmp_path: Path) -> None:
    async def story() -> None:
        async def passed() -> None:
            pass

        _, keepalive, keeper, _ = desk(tmp_path / "state", passed)
        stream = keepalive.open()
        getattr(keepalive, ends)()
        keeper.follow()

        assert isinstance(stream.error, error)
        with pytest.raises(error):
            keepalive.open()

    run(story())
