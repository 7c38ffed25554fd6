"""Commit over gRPC: several things in one commit, or none of them."""

from pathlib import Path

import grpc

from tests.node.single_node import run, running
from tests.node.stream_clients import Consuming
from tests.node.task_clients import got, task_queue
from tests.node.test_api_queues import pulled
from tests.node.transaction_clients import acknowledge, commit, publish, sequences, submit

Code = grpc.StatusCode


def test_what_was_pulled_is_acknowledged_with_what_is_made_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            for name in ("in", "out"):
                await node.create(name)
            await task_queue(node, "t")
            await node.publish("in", b"1", b"2", b"3")
            answer = await pulled(node, "in", 2)

            done = await commit(
                node, publish("out", b"made"), acknowledge("in", answer.lease_id, (1, 2)), submit("job")
            )

            assert not done.duplicate
            assert done.results[0].publish.first_sequence == 1
            assert done.results[0].publish.count == 1
            assert done.results[1].WhichOneof("result") is None
            assert [one.name for one in done.results[2].submit_tasks.tasks] == ["tasks/job"]
            assert await sequences(node, "in") == [3]
            assert await sequences(node, "out") == [1]
            assert (await got(node, "job")).name == "tasks/job"

    run(story())


def test_messages_of_a_stream_are_acknowledged_by_its_session(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            for name in ("q", "out"):
                await node.create(name)
            await node.publish("q", b"1", b"2", b"3")
            stream = Consuming(node)
            started = await stream.start(credit=10)
            await stream.delivery()

            await commit(node, acknowledge("q", started.session_id, (1, 2)), publish("out", b"x"))

            assert await sequences(node, "q") == [3]
            await stream.ack((3, 3))
            assert [(one.first, one.last) for one in (await stream.read("acked")).acked.ranges] == [(3, 3)]

    run(story())
