"""What a transaction may not say: each mistake is answered with the field, the limit and the operation."""

from pathlib import Path

import grpc
import pytest

from node import limits
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running, refusal, run, running
from tests.node.task_clients import a_task, task_queue
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
Operation = queue_pb2.Operation

BAD = {
    "operations": [[], [publish("q", b"x")] * 1_001],
    "operations[1].operation": [[publish("q", b"x"), Operation()]],
    "operations[0].publish.queue": [[publish("a b", b"x")]],
    "operations[0].publish.messages": [[publish("q")]],
    "operations[1].publish.messages[1]": [[publish("q", b"x"), publish("small", b"1", b"12345")]],
    "operations[0].acknowledge.queue": [[acknowledge("", "1.1", (1, 1))]],
    "operations[0].acknowledge.ranges": [[acknowledge("q", "1.1", (2, 1))], [acknowledge("q", "1.1")]],
    "operations[0].acknowledge.lease_id": [[acknowledge("q", "1" * 129, (1, 1))]],
    "operations[1].reject.ranges": [
        [publish("q", b"x"), Operation(reject=queue_pb2.AcknowledgeOperation(queue="queues/q"))]
    ],
    "operations[0].submit_tasks.tasks": [[submit()]],
    "operations[0].submit_tasks.tasks[1].type": [
        [
            Operation(
                submit_tasks=task_pb2.SubmitTasksRequest(tasks=[a_task("a", "t"), a_task("b", "t", type="")])
            )
        ]
    ],
    "operations[0].submit_tasks.request_id": [
        [Operation(submit_tasks=task_pb2.SubmitTasksRequest(tasks=[a_task("a", "t")], request_id="r"))]
    ],
    "operations[0].submit_tasks.validate_only": [
        [Operation(submit_tasks=task_pb2.SubmitTasksRequest(tasks=[a_task("a", "t")], validate_only=True))]
    ],
    "operations[0].complete_task.task": [[complete("a b", 1)]],
    "operations[0].complete_task.result.data": [[complete("a", 1, bytes(limits.RESULT_BYTES_MAX + 1))]],
    "operations[0].check_queue.queue": [[check_queue("", "e")]],
    "operations[0].check_queue.etag": [[check_queue("q", "")]],
    "operations[0].check_lock.lock": [[check_lock("a b", 1)]],
}
CASES = [(field, operations) for field, cases in BAD.items() for operations in cases]


async def prepared(node: Running) -> None:
    await node.create("q")
    await node.create("small", max_message_bytes=4)
    await task_queue(node, "t")


def test_a_field_that_is_out_of_its_limits_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            for field, operations in CASES:
                status, reason, metadata = await refusal(commit(node, *operations))

                assert status is Code.INVALID_ARGUMENT, field
                assert reason in ("INVALID_FIELD", "PAYLOAD_TOO_LARGE"), field
                assert metadata["field"] == field
                if field != "operations":
                    assert metadata["operation"] == field[len("operations[")], field
            assert await sequences(node, "q") == []

    run(story())


def test_a_transaction_is_bounded_as_a_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)
            many = [publish("q", *[b"x"] * 5_001), publish("q", *[b"x"] * 5_000)]
            large = [publish("q", bytes(limits.MESSAGE_BYTES_MAX - 10)) for _ in range(4)]
            most = [publish("q", *[b"x"] * 10)] * 1_000

            assert (await refusal(commit(node, *many)))[2]["field"] == "operations"
            assert (await refusal(commit(node, *large)))[:2] == (Code.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
            long = commit(node, publish("q", b"x"), request_id="r" * 65)
            assert (await refusal(long))[2]["field"] == "request_id"
            assert len((await commit(node, *most)).results) == 1_000
            assert len(await sequences(node, "q")) == 10_000

    run(story())


@pytest.mark.parametrize(
    ("operation", "status", "reason"),
    [
        (publish("none", b"x"), Code.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (publish("t", b"x"), Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND"),
        (acknowledge("none", "", (1, 1)), Code.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (acknowledge("t", "", (1, 1)), Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND"),
        (acknowledge("q", "x", (1, 1)), Code.ABORTED, "LEASE_LOST"),
        (acknowledge("q", "1.1.not-its-uid", (1, 1)), Code.ABORTED, "LEASE_LOST"),
        (submit("a", queue="none"), Code.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (submit("a", queue="q"), Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND"),
        (complete("none", 1), Code.NOT_FOUND, "TASK_NOT_FOUND"),
        (check_queue("none", "e"), Code.NOT_FOUND, "QUEUE_NOT_FOUND"),
    ],
)
def test_what_cannot_be_done_refuses_the_transaction_and_is_named(
    tmp_path: Path, operation: queue_pb2.Operation, status: Code, reason: str
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await prepared(node)

            refused = await refusal(commit(node, publish("q", b"x"), operation))

            assert (refused[:2], refused[2]["operation"]) == ((status, reason), "1")
            assert await sequences(node, "q") == []

    run(story())
