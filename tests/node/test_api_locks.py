"""LockService over real gRPC, on one node with a log in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from taskraft.v1 import cluster_pb2, lock_pb2
from tests.node.lock_calls import (
    NAME,
    PRECONDITION,
    KeepAlive,
    acquire,
    clocked,
    kept,
    lost,
    release,
    seconds,
    shown,
    waiting,
)
from tests.node.single_node import Running, refusal, refusal_of, run, running, until


def test_a_lock_is_granted_held_and_given_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            granted = await acquire(node, "a", ttl=seconds(5), labels={"job": "import"})
            assert granted.ttl == seconds(5)
            lock = await shown(node)
            (holder,) = lock.holders
            assert (holder.token, holder.holder_id, dict(holder.labels)) == (
                granted.token,
                "a",
                {"job": "import"},
            )
            assert 4 <= holder.expire_after.ToTimedelta().total_seconds() <= 5

            await release(node, granted.token)

            assert await shown(node) == lock_pb2.Lock(name=NAME)

    run(story())


def test_who_waits_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            first = await acquire(node, "a")
            second = asyncio.ensure_future(acquire(node, "b", wait_s=60))
            await waiting(node, 1)
            assert [waiter.holder_id for waiter in (await shown(node)).waiters] == ["b"]

            await release(node, first.token)

            assert (await second).token > first.token

    run(story())


def test_who_does_not_wait_is_told_who_has_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            first = await acquire(node, "a", labels={"job": "import"})

            code, reason, metadata = await refusal(acquire(node, "b"))

            assert (code, reason) == (PRECONDITION, "LOCK_HELD")
            assert metadata["holder_id"] == "a"
            assert metadata["token"] == str(first.token)
            assert metadata["labels.job"] == "import"

    run(story())


def test_who_has_waited_long_enough_is_told_the_same_and_waits_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await acquire(node, "a")

            code, reason, metadata = await refusal(acquire(node, "b", wait_s=0.05))

            assert (code, reason, metadata["holder_id"]) == (PRECONDITION, "LOCK_HELD", "a")
            assert (await shown(node)).waiter_count == 0

    run(story())


def test_whoever_hangs_up_waits_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            first = await acquire(node, "a")
            second, third = acquire(node, "b", wait_s=60), acquire(node, "c", wait_s=60)
            await waiting(node, 2)

            second.cancel()

            await waiting(node, 1)
            await release(node, first.token)
            assert (await third).token > first.token

    run(story())


def test_whoever_hangs_up_while_the_lock_is_being_granted_does_not_keep_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            first = await acquire(node, "a")
            second = acquire(node, "b", wait_s=60)
            await waiting(node, 1)
            node.replica.holding = True
            released = asyncio.ensure_future(release(node, first.token))
            await until(lambda: node.replica.held, "the release is on its way")
            second.cancel()
            await until(lambda: not node.node.locking.calls._waiting, "the call is gone")
            node.replica.let_go()
            await released

            await until(lambda: not node.machine.lock(NAME).claims, "the lock is idle")

    run(story())


def test_a_call_that_is_repeated_finds_its_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            first = await acquire(node, "a")
            calls = [
                asyncio.ensure_future(acquire(node, "b", wait_s=60, request_id="r")),
                asyncio.ensure_future(acquire(node, "b", wait_s=60, request_id="r")),
            ]
            await until(lambda: len(_calls_of(node)) == 2, "both wait")
            assert (await shown(node)).waiter_count == 1
            calls[0].cancel()
            await until(lambda: len(_calls_of(node)) == 1, "one is gone")
            assert (await shown(node)).waiter_count == 1

            await release(node, first.token)

            token = (await calls[1]).token
            assert (await acquire(node, "b", wait_s=60, request_id="r")).token == token

    run(story())


def _calls_of(node: Running) -> list[Any]:
    return [call for waiting in node.node.locking.calls._waiting.values() for call in waiting.calls]


def test_a_request_whose_grant_has_ended_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            granted = await acquire(node, "a", request_id="r")
            await release(node, granted.token)

            code, reason, metadata = await refusal(acquire(node, "a", request_id="r"))

            assert (code, reason, metadata) == (PRECONDITION, "LOCK_NOT_HELD", {"lock": NAME})

    run(story())


def test_a_holder_that_is_silent_loses_the_lock_after_its_ttl(tmp_path: Path) -> None:
    async def story() -> None:
        async with clocked(tmp_path) as world:
            node = world.node
            first = await acquire(node, "a", ttl=seconds(5))
            second = asyncio.ensure_future(acquire(node, "b", wait_s=60))
            await waiting(node, 1)
            world.pass_time(4_999)
            assert [holder.holder_id for holder in (await shown(node)).holders] == ["a"]
            assert not second.done()

            world.pass_time(1)

            assert (await second).token > first.token
            assert (await refusal(release(node, first.token)))[:2] == (PRECONDITION, "LOCK_NOT_HELD")

    run(story())


def test_a_holder_that_keeps_its_lock_alive_keeps_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with clocked(tmp_path) as world:
            node = world.node
            token = (await acquire(node, "a", ttl=seconds(5))).token
            stream = KeepAlive(node)
            for _ in range(3):
                world.pass_time(4_000)
                answer = await stream.keep((NAME, token))
                assert (answer.sequence, kept(answer), lost(answer)) == (stream.sequence, [token], [])
                assert answer.kept[0].ttl == seconds(5)

            world.pass_time(5_000)

            news = await stream.read()
            assert (news.sequence, lost(news)) == (0, [token])
            assert lost(await stream.keep((NAME, token))) == [token]

    run(story())


def test_a_lock_that_someone_else_released_is_reported_to_its_holder(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            token = (await acquire(node, "a")).token
            stream = KeepAlive(node)
            await stream.keep((NAME, token))

            await release(node, token)

            assert lost(await stream.read()) == [token]

    run(story())


def test_a_token_that_holds_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            token = (await acquire(node, "a")).token

            answer = await KeepAlive(node).keep((NAME, token), (NAME, token + 1), ("locks/other", token))

            assert (kept(answer), lost(answer)) == ([token], [token + 1, token])

    run(story())


def test_a_keepalive_is_not_answered_by_a_leader_that_no_majority_follows(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            token = (await acquire(node, "a")).token
            stream = KeepAlive(node)
            await stream.keep((NAME, token))
            asked, cut_off = asyncio.Event(), asyncio.Event()

            async def barrier() -> int:
                asked.set()
                await cut_off.wait()
                return node.replica.index

            node.replica.read_barrier = barrier  # type: ignore[method-assign]
            answer = asyncio.ensure_future(stream.keep((NAME, token)))
            await asked.wait()
            await node.cluster.GetCluster(cluster_pb2.GetClusterRequest())  # time enough for an answer
            assert not answer.done()

            cut_off.set()

            assert kept(await answer) == [token]

    run(story())


def test_a_lost_holder_with_a_lock_delay_is_shown_until_it_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with clocked(tmp_path) as world:
            node = world.node
            token = (await acquire(node, "a", ttl=seconds(5), lock_delay=seconds(15))).token
            world.pass_time(5_000)
            await until(lambda: node.machine.lock(NAME).lost, "it is lost")
            (lost_holder,) = (await shown(node)).lost_holders
            assert (lost_holder.token, lost_holder.holder_id) == (token, "a")
            assert lost_holder.free_after == seconds(15)
            assert (await refusal(acquire(node, "b")))[1] == "LOCK_HELD"

            world.pass_time(15_000)

            await until(lambda: not node.machine.lock(NAME).claims, "it is free")

    run(story())


def test_a_new_leader_gives_each_holder_one_ttl_and_each_place_as_long(tmp_path: Path) -> None:
    async def story() -> None:
        async with clocked(tmp_path) as world:
            node = world.node
            first = await acquire(node, "a", ttl=seconds(5))
            second = acquire(node, "b", wait_s=60, ttl=seconds(8))
            await waiting(node, 1)
            world.pass_time(4_000)
            node.replica.follow()
            code, reason, _ = await refusal(second)
            assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER")
            world.pass_time(4_000)
            node.replica.lead()
            await shown(node)
            world.pass_time(4_999)
            assert [holder.token for holder in (await shown(node)).holders] == [first.token]

            world.pass_time(1)
            await until(lambda: first.token not in node.machine.lock(NAME).holders, "a is lost")
            world.pass_time(8_000)
            await until(lambda: not node.machine.lock(NAME).claims, "b has not come back")

    run(story())


def test_locks_are_listed_by_name_in_pages(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            for name in ("c", "a", "b"):
                await acquire(node, f"holder of {name}", name=f"locks/{name}")

            first = await node.locks.ListLocks(lock_pb2.ListLocksRequest(page_size=2))
            rest = await node.locks.ListLocks(
                lock_pb2.ListLocksRequest(page_size=2, page_token=first.next_page_token)
            )

            assert [lock.name for lock in first.locks] == ["locks/a", "locks/b"]
            assert [lock.name for lock in rest.locks] == ["locks/c"]
            assert rest.locks[0].holders[0].holder_id == "holder of c"
            assert not rest.next_page_token

    run(story())


def test_a_node_that_stops_lets_waiting_calls_go_on_elsewhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            token = (await acquire(node, "a")).token
            request = lock_pb2.AcquireLockRequest(name=NAME, holder_id="b", wait=seconds(60))
            second = node.locks.AcquireLock(request, metadata=(("taskraft-direct", "1"),))
            await waiting(node, 1)
            stream = KeepAlive(node)
            await stream.keep((NAME, token))

            await node.node.stop(1.0)

            assert (await refusal(second))[1] == "SHUTTING_DOWN"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.call.read()
            assert refusal_of(caught.value)[1] == "SHUTTING_DOWN"
            assert [claim.holder_id for claim in node.machine.lock_claims()] == ["a", "b"]

    run(story())
