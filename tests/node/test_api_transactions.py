"""Commit over gRPC: several things in one commit, or none of them."""

import asyncio
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from node.clock import Clock
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running, refusal, run, running, until
from tests.node.stream_clients import Consuming, wire
from tests.node.task_clients import SUCCEEDED, Worker, a_task, got, task_queue
from tests.node.task_clients import submit as task_submit
from tests.node.test_api_queues import pulled
from tests.node.transaction_clients import (
    acknowledge,
    check_lock,
    check_queue,
    commit,
    complete,
    publish,
    sequences,
    submit,
)

Code = grpc.StatusCode


async def queues(node: Running, *names: str) -> None:
    for name in names:
        await node.create(name)


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


def test_a_lease_that_is_gone_refuses_all_of_it_and_the_others_are_held_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "a", "b", "out")
            await node.publish("a", b"1", b"2")
            await node.publish("b", b"1")
            held, other = await pulled(node, "a"), await pulled(node, "b")
            await node.queues.Reject(
                queue_pb2.RejectRequest(
                    queue="queues/b",
                    lease_id=other.lease_id,
                    ranges=wire([(1, 1)]),
                    delay=Duration(seconds=9),
                )
            )

            applied = node.machine.applied
            refused = await refusal(
                commit(
                    node,
                    publish("out", b"x"),
                    acknowledge("a", held.lease_id, (1, 2)),
                    acknowledge("b", other.lease_id, (1, 1)),
                )
            )

            assert refused[:2] == (Code.ABORTED, "LEASE_LOST")
            assert refused[2] == {"ranges": "1-1", "unnamed_ranges": "0", "operation": "2"}
            assert node.machine.applied == applied, "that needs no entry"
            await commit(node, acknowledge("a", held.lease_id, (1, 2)))
            assert (await sequences(node, "a"), await sequences(node, "out")) == ([], [])

    run(story())


def test_what_the_log_refuses_stays_leased_until_its_lease_ends(tmp_path: Path) -> None:
    async def story() -> None:
        real, ahead = Clock(), [0]
        async with running(tmp_path, clock=Clock(now_ms=lambda: real.now_ms() + ahead[0])) as node:
            await node.create("in", ack_deadline=Duration(seconds=5))
            await node.create("full", max_messages=1)
            await node.publish("in", b"1")
            await node.publish("full", b"1")
            held = await pulled(node, "in")
            too_much = commit(node, acknowledge("in", held.lease_id, (1, 1)), publish("full", b"2"))

            refused = await refusal(too_much)

            assert refused[:2] == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert refused[2]["operation"] == "1"
            assert not (await pulled(node, "in")).deliveries
            ahead[0] += 6_000
            again = await pulled(node, "in", wait_s=5)
            assert [each.attempt for each in again.deliveries] == [2]
            lost = await refusal(commit(node, acknowledge("in", held.lease_id, (1, 1))))
            assert lost[1] == "LEASE_LOST"

    run(story())


def test_a_refused_stream_that_has_ended_gives_its_messages_to_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "q")
            await node.create("full", max_messages=1)
            await node.publish("full", b"1")
            await node.publish("q", b"1")
            stream = Consuming(node)
            session = (await stream.start(credit=1)).session_id
            await stream.delivery()
            node.replica.holding = True
            asked = asyncio.ensure_future(
                refusal(commit(node, acknowledge("q", session, (1, 1)), publish("full", b"2")))
            )
            await until(lambda: node.replica.held, "the transaction is on its way")
            await stream.call.done_writing()
            await stream.ended()
            node.replica.let_go()

            assert (await asked)[1] == "QUEUE_FULL"
            assert [each.attempt for each in (await pulled(node, "q", wait_s=5)).deliveries] == [2]

    run(story())


def test_a_call_that_comes_again_is_answered_though_its_leases_are_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "in", "out")
            await node.publish("in", b"1")
            held = await pulled(node, "in")
            asked = (publish("out", b"x"), acknowledge("in", held.lease_id, (1, 1)))

            node.replica.holding = True
            first = asyncio.ensure_future(commit(node, *asked, request_id="r"))
            await until(lambda: node.replica.held, "the first call is on its way")
            again = asyncio.ensure_future(commit(node, *asked, request_id="r"))
            await until(lambda: len(node.replica.held) == 2, "and so is the second")
            node.replica.let_go()

            answered, repeated = await first, await again
            assert (answered.duplicate, repeated.duplicate) == (False, True)
            assert answered.results == repeated.results
            node.replica.follow()
            node.replica.lead()
            late = await commit(node, *asked, request_id="r")
            assert (late.duplicate, list(late.results)) == (True, list(answered.results))
            assert await sequences(node, "out") == [1]
            lost = await refusal(commit(node, *asked, request_id="other"))
            assert lost[1] == "LEASE_LOST"

    run(story())


def test_a_new_leader_takes_the_leases_of_the_old_one_for_a_transaction(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "q", "out")
            await node.publish("q", b"1", b"2")
            pull = await pulled(node, "q", 1)
            stream = Consuming(node)
            session = (await stream.start(credit=1)).session_id
            assert (await stream.delivery()).first_sequence == 2
            await commit(node, publish("out", b"now it is recorded what was delivered"))
            node.replica.follow()
            node.replica.lead()

            await commit(node, acknowledge("q", pull.lease_id, (1, 1)), acknowledge("q", session, (2, 2)))

            assert await sequences(node, "q") == []

    run(story())


def test_nobody_knows_what_became_of_a_transaction_whose_leader_was_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "out")
            node.replica.holding = True
            asked = asyncio.ensure_future(refusal(commit(node, publish("out", b"x"))))
            await until(lambda: node.replica.held, "the transaction is on its way")
            node.replica.follow()

            assert (await asked)[:2] == (Code.UNKNOWN, "COMMIT_UNKNOWN")

    run(story())


def test_a_node_without_disk_space_does_transactions_that_store_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "q")
            await node.publish("q", b"1")
            held = await pulled(node, "q")
            node.node.disk.low = True
            done = acknowledge("q", held.lease_id, (1, 1))

            refused = await refusal(commit(node, done, publish("q", b"2")))
            assert refused[:2] == (Code.RESOURCE_EXHAUSTED, "DISK_LOW")
            await commit(node, done)
            assert await sequences(node, "q") == []

    run(story())


def test_preconditions_are_looked_at_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "a", "out")
            etag = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/a"))).queue.etag

            await commit(node, publish("out", b"x"), check_queue("a", etag))
            changed = await refusal(commit(node, publish("out", b"y"), check_queue("a", "old")))
            free = await refusal(commit(node, publish("out", b"y"), check_lock("l", 7)))

            assert (changed[:2], changed[2]["operation"]) == ((Code.ABORTED, "ETAG_MISMATCH"), "1")
            assert (free[:2], free[2]["operation"]) == ((Code.FAILED_PRECONDITION, "LOCK_NOT_HELD"), "1")
            assert await sequences(node, "out") == [1]

    run(story())


def test_a_worker_completes_its_task_together_with_what_it_made(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "out")
            await task_queue(node, "q", max_running=1)
            await task_submit(node, a_task("a"), a_task("b"))
            worker = Worker(node)
            await worker.start(credit=2)
            await worker.take()
            lease_id = worker.leases["a"]

            await commit(node, complete("a", lease_id, b"result"), publish("out", b"x"))

            done = await got(node, "a", task_pb2.TASK_VIEW_FULL)
            assert (done.state, done.result.data) == (SUCCEEDED, b"result")
            assert await worker.take() == ["b"], "and no revocation before"
            await worker.succeed("a", data=b"late")
            assert (await got(node, "a", task_pb2.TASK_VIEW_FULL)).result.data == b"result"

    run(story())


def test_a_task_that_is_not_leased_any_more_refuses_its_completion(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "out")
            await task_queue(node, "q")
            await task_submit(node, a_task("a"))
            worker = Worker(node)
            await worker.start(credit=1)
            await worker.take()
            lease_id = worker.leases["a"]
            asked = (publish("out", b"x"), complete("a", lease_id))

            other = await refusal(commit(node, publish("out", b"x"), complete("a", lease_id + 1)))
            none = await refusal(commit(node, publish("out", b"x"), complete("none", 1)))
            await commit(node, *asked, request_id="r")
            twice = await refusal(commit(node, *asked))
            again = await commit(node, *asked, request_id="r")

            assert (other[:2], other[2]["operation"]) == ((Code.ABORTED, "LEASE_LOST"), "1")
            assert (none[:2], none[2]["operation"]) == ((Code.NOT_FOUND, "TASK_NOT_FOUND"), "1")
            assert twice[1] == "LEASE_LOST"
            assert again.duplicate
            assert await sequences(node, "out") == [1]

    run(story())


def test_what_the_answer_of_another_call_does_not_settle_stays_leased(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await queues(node, "in")
            await node.publish("in", b"1", b"2")
            one, other = await pulled(node, "in", 1), await pulled(node, "in", 1)
            await commit(node, acknowledge("in", one.lease_id, (1, 1)), request_id="r")

            answer = await commit(node, acknowledge("in", other.lease_id, (2, 2)), request_id="r")

            assert answer.duplicate
            assert await sequences(node, "in") == [2]
            await commit(node, acknowledge("in", other.lease_id, (2, 2)), request_id="its own")
            assert await sequences(node, "in") == []

    run(story())
