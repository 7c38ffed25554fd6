"""Locks against a real node: what a holder is promised, and what it is told when that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import Client, SyncClient, _locks, errors
from taskraft._lock_keeper import LockKeeper, now_s
from taskraft._locks import Lock
from taskraft.local import Layout, LocalCluster, free_port
from tests.client.waiting import until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real node in another process."""
    directory: Path = tmp_path_factory.mktemp("node")
    layout = Layout.plan(directory, nodes=1, port=free_port(1))
    loop = asyncio.new_event_loop()
    cluster = LocalCluster(layout)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(cluster.__aenter__())
            yield cluster.address
            runner.run(cluster.stop())
    finally:
        loop.close()


def run(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await story

    asyncio.run(bounded())


async def waiters(client: Client, name: str, count: int) -> None:
    while (await client.locks.get(name)).waiter_count != count:
        await asyncio.sleep(0.01)


def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepalives are never sent, as if the cluster could not be reached."""

    async def nothing(self: LockKeeper) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LockKeeper, "_run", nothing)


def test_a_lock_is_held_within_a_block_and_free_after_it(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            async with client.lock("block", holder_id="me", labels={"job": "import"}) as lock:
                info = await client.locks.get("block")
                (holder,) = info.holders
                assert (holder.token, holder.holder_id, holder.labels) == (
                    lock.token,
                    "me",
                    {"job": "import"},
                )
                assert lock.held
                assert 8 < lock.remaining() <= 10
                assert not lock.lost.is_set()
            assert not lock.held
            assert (await client.locks.get("block")).holder_count == 0

    run(story())


def test_an_exception_passes_through_and_the_lock_is_free(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            with pytest.raises(ZeroDivisionError):
                async with client.lock("exception"):
                    _ = 1 / 0
            assert (await client.locks.get("exception")).holder_count == 0

    run(story())


def test_tokens_grow_and_waiters_are_served_in_order(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            served: list[tuple[int, int]] = []

            async def work(number: int) -> None:
                async with client.lock("line") as lock:
                    served.append((number, lock.token))

            async with client.lock("line") as first:
                tasks = []
                for number in range(5):
                    tasks.append(asyncio.create_task(work(number)))
                    await waiters(client, "line", number + 1)
            await asyncio.gather(*tasks)
            assert [number for number, _ in served] == [0, 1, 2, 3, 4]
            tokens = [first.token, *(token for _, token in served)]
            assert tokens == sorted(set(tokens))

    run(story())


def test_a_lock_that_is_held_is_refused_in_time_with_its_holder(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client, client.lock("held", holder_id="first"):
            for wait in (0, 0.2):
                with pytest.raises(errors.LockHeld) as caught:
                    async with client.lock("held", wait=wait):
                        pass
                assert caught.value.metadata["holder_id"] == "first"

    run(story())


def test_who_waits_without_end_stands_in_line_again_when_a_wait_is_over(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "WAIT_MAX_S", 0.5)
    asked: list[float] = []
    ask = Lock._ask

    async def noted(self: Lock, wait_s: float) -> Any:
        asked.append(wait_s)
        return await ask(self, wait_s)

    monkeypatch.setattr(Lock, "_ask", noted)

    async def story() -> None:
        async with Client(address) as client, client.lock("standby"):
            asked.clear()
            waiting = asyncio.create_task(client.lock("standby").acquire())
            await asyncio.sleep(1.3)
            assert 2 <= len(asked) <= 3
            assert set(asked) == {0.5}
            waiting.cancel()
            await asyncio.wait([waiting])

    run(story())


def test_who_is_cancelled_while_waiting_leaves_the_line(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client, client.lock("leaves"):
            waiting = asyncio.create_task(client.lock("leaves").acquire())
            await waiters(client, "leaves", 1)
            waiting.cancel()
            await waiters(client, "leaves", 0)

    run(story())


def test_readers_share_and_a_semaphore_has_permits(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            async with client.lock("shared", shared=True), client.lock("shared", shared=True):
                with pytest.raises(errors.LockHeld):
                    await client.lock("shared", wait=0).acquire()
            async with client.lock("permits", permits=2), client.lock("permits", permits=2):
                with pytest.raises(errors.LockHeld):
                    await client.lock("permits", permits=2, wait=0).acquire()
                with pytest.raises(errors.LockMismatch):
                    await client.lock("permits", permits=3).acquire()
            with pytest.raises(TypeError):
                client.lock("both", shared=True, permits=2)

    run(story())


def test_a_lock_is_kept_alive_for_longer_than_its_ttl(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client, client.lock("alive", ttl=2) as lock:
            began_s = now_s()
            while now_s() - began_s < 2.5:
                assert lock.remaining() > 0
                await asyncio.sleep(0.05)
            assert (await client.locks.get("alive")).holders[0].token == lock.token

    run(story())


def test_a_block_ends_before_anyone_else_can_have_its_lock(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with Client(address) as client, Client(address) as other:
            with monkeypatch.context() as patches:
                mute(patches)
                with pytest.raises(errors.LockLost) as caught:
                    async with client.lock("lost", ttl=3) as lock:
                        taking = asyncio.create_task(other.lock("lost").acquire())
                        try:
                            await asyncio.Event().wait()
                        finally:
                            assert not taking.done()
                            assert lock.lost.is_set()
            assert caught.value.metadata == {"lock": "locks/lost", "token": str(lock.token)}
            taken = await taking
            assert taken.token > lock.token
            await taken.release()

    run(story())


def test_a_lost_lock_cancels_nothing_else(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        mute(monkeypatch)
        async with Client(address) as client:
            with pytest.raises(errors.LockLost):
                async with client.lock("else", ttl=1):
                    await asyncio.Event().wait()
            await asyncio.sleep(0)  # would raise if the task were still to be cancelled
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    run(story())


def test_a_term_that_was_over_before_its_block_cancels_nothing_after_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        mute(monkeypatch)
        async with Client(address) as client:
            async for term in client.election("late", ttl=1):
                await term.lost.wait()
                async with term:
                    pass  # waits for nothing
                await asyncio.sleep(0)  # would raise if the task were still to be cancelled
                break
            async for term in client.election("late", ttl=1):
                await term.lost.wait()
                async with term:
                    await asyncio.Event().wait()
                break
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    run(story())


def test_without_cancel_the_block_is_told_and_fails_at_its_end(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        mute(monkeypatch)
        async with Client(address) as client:
            with pytest.raises(errors.LockLost):
                async with client.lock("told", ttl=1, cancel=False) as lock:
                    await lock.lost.wait()

    run(story())


def test_a_lock_that_is_taken_away_is_lost_at_once(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            with pytest.raises(errors.LockLost):
                async with client.lock("away", ttl=6) as lock:
                    await until(lambda: lock.remaining() > 5.9 and _followed(client), 5)
                    await client.locks.release("away", lock.token)
                    async with asyncio.timeout(2):
                        await asyncio.Event().wait()
            with pytest.raises(errors.LockNotHeld):
                await client.locks.release("away", lock.token)

    run(story())


def _followed(client: Client) -> bool:
    """A keepalive was answered, so the leader knows whom to tell."""
    keeper = client._connection.lock_keeper
    return bool(keeper._sequence) and not keeper._sent


def test_a_client_that_is_closed_has_lost_its_locks(address: str) -> None:
    async def story() -> None:
        client = Client(address)
        lock = await client.lock("closed", ttl=1).acquire()
        await client.close()
        assert lock.lost.is_set()
        assert lock.remaining() == 0

    run(story())


def test_locks_are_listed(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client, client.lock("list-a"), client.lock("list-b", permits=4):
            listed = {info.name: info async for info in client.locks.list()}
            assert listed["list-a"].holder_count == 1
            assert (listed["list-b"].permits, listed["list-b"].holders[0].mode) == (4, "semaphore")

    run(story())


def test_a_transaction_is_done_only_while_its_lock_is_held(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client:
            await client.create_queue("fenced", exist_ok=True)
            old = await client.lock("fence").acquire()
            async with client.transaction() as tx:
                tx.publish("fenced", b"in time")
                tx.check_lock(old)
            await client.locks.release("fence", old.token)
            async with client.lock("fence") as new:
                with pytest.raises(errors.LockNotHeld) as caught:
                    async with client.transaction() as tx:
                        tx.publish("fenced", b"too late")
                        tx.check_lock(old)
                assert caught.value.metadata["token"] == str(old.token) != str(new.token)
            pulled = await client.queue("fenced").pull(max_messages=10)
            assert [message.body for message in pulled.messages] == [b"in time"]

    run(story())


def test_one_leads_and_another_takes_over(address: str) -> None:
    async def story() -> None:
        async with Client(address) as client, Client(address) as other:
            async with other.election("reports", holder_id="other") as first:
                leader = await client.election("reports").leader()
                assert leader is not None
                assert leader.holder_id == "other"
                led: list[int] = []

                async def campaign() -> None:
                    async for term in client.election("reports", ttl=6):
                        async with term:
                            led.append(term.token)
                            await asyncio.Event().wait()

                campaigning = asyncio.create_task(campaign())
                await waiters(client, "reports", 1)
            await until(lambda: len(led) == 1)
            assert led[0] > first.token
            await until(lambda: _followed(client), 5)
            await other.locks.release("reports", led[0])
            await until(lambda: len(led) == 2)
            assert led[1] > led[0]
            campaigning.cancel()

    run(story())


def test_threads_hold_locks_too(address: str) -> None:
    with SyncClient(address) as client:
        with client.lock("sync", ttl=2) as lock:
            assert client.locks.get("sync").holders[0].token == lock.token
            assert not lock.lost.wait(0.01)
            with pytest.raises(errors.LockHeld), client.lock("sync", wait=0):
                pass
        assert client.locks.get("sync").holder_count == 0


def test_a_thread_is_told_that_its_lock_is_lost(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mute(monkeypatch)
    with SyncClient(address) as client:
        with pytest.raises(errors.LockLost), client.lock("sync-lost", ttl=1) as lock:
            assert lock.lost.wait(5)
        assert lock.remaining() == 0


def test_a_thread_leads_term_after_term(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mute(monkeypatch)
    with SyncClient(address) as client:
        tokens = []
        for term in client.election("sync-reports", ttl=1):
            with term:
                tokens.append(term.token)
                assert term.lost.wait(5)
            if len(tokens) == 2:
                break
        assert tokens[0] < tokens[1]
        with client.election("sync-one") as lock:
            assert lock.held
