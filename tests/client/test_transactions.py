"""Transactions of a client, with a node."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskraft import Client, NewTask, Receipt, Submission, errors
from tests.node.single_node import Running, run, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def client_and_node(directory: Path) -> AsyncIterator[tuple[Client, Running]]:
    async with running(directory) as node, Client(node.address, timeout=10) as client:
        for name in ("in", "out"):
            await client.create_queue(name)
        await client.create_queue("jobs", kind="task")
        yield client, node


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
