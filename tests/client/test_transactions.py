"""Transactions of a client, with a node."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from raft.errors import CommitUnknown
from taskraft import Client, Message, NewTask, Pulled, Receipt, Submission, errors
from tests.node.single_node import Running, run, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def client_and_node(directory: Path) -> AsyncIterator[tuple[Client, Running]]:
    async with running(directory) as node, Client(node.address, timeout=10) as client:
        for name in ("in", "out"):
            await client.create_queue(name)
        await client.create_queue("jobs", kind="task")
        yield client, node


async def transform(client: Client, some: Message | Pulled) -> tuple[Any, ...]:
    """One message in, one out."""
    async with client.transaction() as tx:
        tx.publish("out", b"made")
        tx.ack(some)
    return tx.results


async def messages(client: Client, name: str) -> int:
    return (await client.get_queue(name)).stats.messages


def test_a_block_is_one_commit(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, node):
            await client.queue("in").publish_many([b"1", b"2"])
            async with client.queue("in").consume() as consumer:
                message = await anext(aiter(consumer))
                applied = node.machine.applied
                async with client.transaction() as tx:
                    tx.publish("out", b"a", {"k": "v"})
                    tx.ack(message)
                    task = tx.submit(NewTask(type="t", queue="jobs"))
                    tx.publish_many("out", [b"b", b"c"])
                    assert node.machine.applied == applied, "nothing is sent before the block ends"

                assert tx.results == (Receipt(1), None, Submission(task, "created"), Receipt(2, 2))
                assert await messages(client, "in") == 1
                assert (await client.queue("out").pull()).bodies() == [b"a", b"b", b"c"]
                assert (await client.tasks.get(task)).state == "queued"

    run(story())


def test_a_block_that_raises_does_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.queue("in").publish(b"1")
            async with client.queue("in").consume() as consumer:
                message = await anext(aiter(consumer))
                with pytest.raises(ZeroDivisionError):
                    async with client.transaction() as tx:
                        tx.publish("out", b"a")
                        tx.ack(message)
                        raise ZeroDivisionError

                await message.ack(confirm=True)
                assert await messages(client, "out") == 0

    run(story())


def test_what_a_refused_transaction_was_to_settle_is_held_as_before(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.queue("in").publish_many([b"1", b"2"])
            async with client.queue("in").consume() as consumer:
                received = aiter(consumer)
                one, two = await anext(received), await anext(received)
                with pytest.raises(errors.QueueNotFound) as refused:
                    async with client.transaction() as tx:
                        tx.ack(one)
                        tx.publish("none", b"x")
                assert refused.value.metadata["operation"] == "1"

                async with client.transaction() as tx:
                    tx.ack(one)
                    tx.publish("out", b"x")
                await two.ack(confirm=True)
                assert await messages(client, "in") == 0

    run(story())


def test_messages_that_may_be_delayed_do_not_disturb_the_sequences_of_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            async with client.transaction() as tx:
                tx.publish("out", b"1")
                tx.publish("out", b"2", priority=3, ttl=9.0, key="k")
                tx.publish("out", b"later", delay=60.0)
                tx.publish("out", b"3")

            one, two, _, three = (one.first_sequence for one in tx.results if isinstance(one, Receipt))
            assert two == one + 1
            assert three > two

    run(story())


def test_a_transaction_outlives_its_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, node):
            await client.queue("in").publish(b"1")
            async with client.queue("in").consume() as consumer:
                message = await anext(aiter(consumer))
                node.replica.holding = True
                committing = asyncio.ensure_future(transform(client, message))
                await until(lambda: node.replica.held, "the transaction is on its way")
                node.replica.holding = False
                node.replica.follow()
                node.replica.lead()

                assert await committing == (Receipt(1), None)
                assert (await messages(client, "in"), await messages(client, "out")) == (0, 1)

    run(story())


def test_a_transaction_whose_answer_was_lost_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, node):
            await client.queue("in").publish(b"1")
            pulled = await client.queue("in").pull()
            commit, lost = node.replica._commit, []

            def lose_answer(payload: bytes, future: asyncio.Future[object]) -> None:
                commit(payload, asyncio.get_running_loop().create_future())
                lost.append(payload)
                monkeypatch.setattr(node.replica, "_commit", commit)
                future.set_exception(CommitUnknown())

            monkeypatch.setattr(node.replica, "_commit", lose_answer)

            assert await transform(client, pulled) == (Receipt(1), None)
            assert len(lost) == 1
            assert (await messages(client, "in"), await messages(client, "out")) == (0, 1)

    run(story())


def test_a_transaction_goes_on_with_the_session_that_its_consumer_has_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.queue("in").publish(b"1")
            async with client.queue("in").consume() as consumer:
                message = await anext(aiter(consumer))
                now, before = consumer.lease_name(), iter([("queues/in", "", "1.99")])
                monkeypatch.setattr(consumer, "lease_name", lambda: next(before, now))

                assert await transform(client, message) == (Receipt(1), None)

    run(story())


def test_a_message_that_somebody_else_has_refuses_the_transaction(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.queue("in").publish(b"1")
            first = await client.queue("in").pull()
            await first.nack()
            second = await client.queue("in").pull(wait=5)

            with pytest.raises(errors.LeaseLost) as refused:
                await transform(client, first)
            assert refused.value.metadata["operation"] == "1"
            await transform(client, second)
            assert await messages(client, "out") == 1

    run(story())


def test_preconditions_of_queues_and_locks(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            info = await client.get_queue("in")
            async with client.lock("l") as lock, client.transaction() as tx:
                tx.check_queue(info)
                tx.check_lock(lock)
                tx.publish("out", b"1")
            with pytest.raises(errors.LockNotHeld):
                async with client.transaction() as tx:
                    tx.check_lock(lock)
                    tx.publish("out", b"2")
            await client.update_queue("in", max_messages=7)
            with pytest.raises(errors.EtagMismatch):
                async with client.transaction() as tx:
                    tx.publish("out", b"3")
                    tx.check_queue(info)

            assert await messages(client, "out") == 1

    run(story())


def test_what_was_rejected_in_a_transaction_is_a_dead_letter(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.create_queue("graves")
            await client.create_queue("hard", dead_letter_queue="graves")
            await client.queue("hard").publish(b"1")
            async with client.queue("hard").consume() as consumer:
                message = await anext(aiter(consumer))
                async with client.transaction() as tx:
                    tx.reject(message)
                    tx.publish("out", b"it is dead")

            (dead,) = (await client.queue("graves").pull()).messages
            assert dead.body == b"1"
            assert await messages(client, "hard") == 0

    run(story())


def test_groups_of_a_stream_acknowledge_in_transactions(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.create_queue("log", kind="stream")
            await client.queue("log").publish_many([b"1", b"2"])
            async with client.queue("log").consume(group="g") as consumer:
                received = aiter(consumer)
                await transform(client, await anext(received))
                second = await anext(received)
            with pytest.raises(errors.LeaseLost):
                await transform(client, second)

            assert (await client.queue("log").pull(group="g", wait=5)).bodies() == [b"2"]
            assert await messages(client, "out") == 1

    run(story())


def test_the_call_that_was_refused_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, _):
            await client.queue("in").publish(b"1")
            pulled = await client.queue("in").pull()
            info = await client.get_queue("in")
            for wrong in (0, 1, 2, 5):
                with pytest.raises(errors.TaskraftError) as refused:
                    async with client.transaction() as tx:
                        tx.publish("none" if wrong == 0 else "out", b"1")
                        tx.check_queue(replace(info, etag="old") if wrong == 1 else info)
                        tx.submit(NewTask(type="t", queue="none" if wrong == 2 else "jobs"))
                        tx.publish("out", b"2")
                        tx.ack(pulled)
                        if wrong == 5:
                            tx.reject(pulled)
                assert refused.value.metadata["operation"] == str(wrong), refused.value

    run(story())


def test_a_transaction_has_one_block(tmp_path: Path) -> None:
    async def story() -> None:
        async with client_and_node(tmp_path) as (client, node):
            applied = node.machine.applied
            async with client.transaction() as tx:
                pass
            with pytest.raises(RuntimeError, match="over"):
                tx.publish("out", b"1")

            assert (tx.results, node.machine.applied) == ((), applied)

    run(story())
