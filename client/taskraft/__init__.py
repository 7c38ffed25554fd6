"""Publish to and consume from durable queues, without knowing which node leads.

    async with Client("127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003") as client:
        await client.create_queue("orders")
        queue = client.queue("orders")
        await queue.publish(b"hello")
        async for message in queue.consume():
            print(message.body)
            await message.ack()

What it owes you: a publish that returned is on disk on a majority of the nodes, once, whatever failed on the way.
A message is delivered until it is acknowledged: at least once, and in order unless it comes again. Calls find the
leader, follow it when it changes and repeat what is safe to repeat, until their timeout.

What you owe it: close clients and consumers (or use `with`), and expect a message to come again whose
acknowledgement was not confirmed.

`SyncClient` is the same without `await`. Errors are in `taskraft.errors`.
"""

from taskraft import errors
from taskraft._client import Client
from taskraft._consumer import Consumer
from taskraft._message import Batch, Message
from taskraft._new_task import After, NewTask
from taskraft._pull import Pulled
from taskraft._queue import Queue
from taskraft._schedules import Missed, Overlap, ScheduleInfo
from taskraft._scheduling import Rate
from taskraft._sync import SyncBatch, SyncClient, SyncConsumer, SyncMessage, SyncPulled, SyncQueue
from taskraft._task_values import (
    Estimate,
    Explanation,
    Obstacle,
    Submission,
    TaskCounts,
    TaskEvent,
    TaskInfo,
    WorkflowInfo,
)
from taskraft._values import (
    ClusterInfo,
    MemberInfo,
    OutgoingMessage,
    Percentiles,
    QueueInfo,
    QueueStats,
    Receipt,
    SequenceRange,
    TaskRates,
)
from taskraft._workers import WorkerInfo
from taskraft.errors import TaskraftError

__all__ = [
    "After",
    "Batch",
    "Client",
    "ClusterInfo",
    "Consumer",
    "Estimate",
    "Explanation",
    "MemberInfo",
    "Message",
    "Missed",
    "NewTask",
    "Obstacle",
    "OutgoingMessage",
    "Overlap",
    "Percentiles",
    "Pulled",
    "Queue",
    "QueueInfo",
    "QueueStats",
    "Rate",
    "Receipt",
    "ScheduleInfo",
    "SequenceRange",
    "Submission",
    "SyncBatch",
    "SyncClient",
    "SyncConsumer",
    "SyncMessage",
    "SyncPulled",
    "SyncQueue",
    "TaskCounts",
    "TaskEvent",
    "TaskInfo",
    "TaskRates",
    "TaskraftError",
    "WorkerInfo",
    "WorkflowInfo",
    "errors",
]
