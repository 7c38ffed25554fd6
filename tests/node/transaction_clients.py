"""Commit as its clients see it."""

from __future__ import annotations

from typing import Any

from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running
from tests.node.stream_clients import Range, wire
from tests.node.task_clients import a_task


def publish(queue: str, *bodies: bytes, **fields: Any) -> queue_pb2.Operation:
    messages = [queue_pb2.Message(body=body) for body in bodies]
    asked = queue_pb2.PublishOperation(queue=f"queues/{queue}", messages=messages, **fields)
    return queue_pb2.Operation(publish=asked)


def acknowledge(queue: str, lease_id: str, *ranges: Range, group: str = "") -> queue_pb2.Operation:
    asked = queue_pb2.AcknowledgeOperation(
        queue=f"queues/{queue}", lease_id=lease_id, ranges=wire(ranges), group=group
    )
    return queue_pb2.Operation(acknowledge=asked)


def submit(*names: str, queue: str = "t", **fields: Any) -> queue_pb2.Operation:
    tasks = [a_task(name, queue, **fields) for name in names]
    return queue_pb2.Operation(submit_tasks=task_pb2.SubmitTasksRequest(tasks=tasks))


def complete(task: str, lease_id: int, data: bytes = b"") -> queue_pb2.Operation:
    result = task_pb2.TaskResult(data=data)
    asked = queue_pb2.CompleteTaskOperation(task=f"tasks/{task}", lease_id=lease_id, result=result)
    return queue_pb2.Operation(complete_task=asked)


def check_queue(queue: str, etag: str) -> queue_pb2.Operation:
    return queue_pb2.Operation(check_queue=queue_pb2.CheckQueueOperation(queue=f"queues/{queue}", etag=etag))


def check_lock(lock: str, token: int) -> queue_pb2.Operation:
    return queue_pb2.Operation(check_lock=queue_pb2.CheckLockOperation(lock=f"locks/{lock}", token=token))


async def commit(
    node: Running, *operations: queue_pb2.Operation, request_id: str = ""
) -> queue_pb2.CommitResponse:
    answer: queue_pb2.CommitResponse = await node.queues.Commit(
        queue_pb2.CommitRequest(operations=operations, request_id=request_id)
    )
    return answer


async def sequences(node: Running, queue: str) -> list[int]:
    """The live messages of a queue."""
    row = node.machine.queue(f"queues/{queue}")
    assert row is not None
    return [
        chunk.first_sequence + place
        for chunk in node.machine.chunks(row.id, 1, -1)
        for place in range(chunk.count)
        if not chunk.acked >> place & 1
    ]
