"""Queues and tasks of a cluster, without knowing which node leads.

    async with Client("127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003") as client:
        await client.create_queue("orders")
        queue = client.queue("orders")
        await queue.publish(b"hello")
        async for message in queue.consume():
            print(message.body)
            await message.ack()

    app = App()

    @app.task(queue="images", max_attempts=5)
    def resize(path: str, width: int) -> str: ...

    resize.submit("a.jpg", width=640).result(timeout=30)

What it owes you: what was published or submitted is on disk on a majority of the nodes when the call returns, once,
whatever failed on the way. A message is delivered until it is acknowledged: at least once, and in order unless it comes
again. A task is run until it succeeds, fails for good or has no attempts left; its outcome counts once. Calls find the
leader, follow it when it changes and repeat what is safe to repeat, until their timeout. What is done in the block of a
`client.transaction()` is done wholly or not at all.

What you owe it: close clients, apps and consumers (or use `with`), expect a message to come again whose
acknowledgement was not confirmed, and a task to run again whose worker was lost.

`SyncClient` is `Client` without `await`; task functions and handles have both ways. Errors are in `taskraft.errors`, stream
processing is in `taskraft.streams`.
"""

from taskraft import errors
from taskraft._app import App
from taskraft._client import Client
from taskraft._consumer import Consumer
from taskraft._context import Abort, Result, Retry, TaskContext, current_task
from taskraft._election import Election, Term
from taskraft._handle import Handle, Handles, gather
from taskraft._lock_values import LockHolder, LockInfo, LockWaiter, LostLockHolder
from taskraft._locks import Lock, Locks
from taskraft._message import Batch, Message
from taskraft._new_task import After, NewTask, SubmitSettings, TaskSettings
from taskraft._payload import Codec, GzipCodec, Payloads
from taskraft._positions import Position
from taskraft._pull import Pulled
from taskraft._queue import Queue
from taskraft._queue_values import (
    Binding,
    DeadLetter,
    DeadLetterReason,
    GroupInfo,
    MessageRates,
    PeekedMessage,
    Percentiles,
)
from taskraft._reader import Reader
from taskraft._schedules import Missed, Overlap, ScheduleInfo, Schedules, ScheduleSettings
from taskraft._scheduling import Rate, Scheduling
from taskraft._sync import (
    SyncBatch,
    SyncClient,
    SyncConsumer,
    SyncElection,
    SyncLock,
    SyncLocks,
    SyncMessage,
    SyncPulled,
    SyncQueue,
    SyncReader,
    SyncSchedules,
    SyncTasks,
    SyncTerm,
    SyncTopic,
    SyncTransaction,
    SyncWorkers,
    SyncWorkflows,
)
from taskraft._task import TaskFunction
from taskraft._task_values import (
    Estimate,
    Explanation,
    Obstacle,
    Submission,
    TaskCounts,
    TaskDependency,
    TaskEvent,
    TaskFault,
    TaskInfo,
    TaskProgress,
    TaskState,
    WorkflowInfo,
)
from taskraft._tasks import TaskFilter, Tasks
from taskraft._topic import Topic
from taskraft._transaction import Transaction
from taskraft._values import (
    ClusterInfo,
    MemberInfo,
    OutgoingMessage,
    QueueInfo,
    QueueStats,
    Receipt,
    SequenceRange,
    TaskRates,
)
from taskraft._workers import WorkerInfo, Workers
from taskraft._workflow import Workflow, WorkflowHandle
from taskraft._workflows import Workflows
from taskraft.errors import TaskraftError

__all__ = [
    "Abort",
    "After",
    "App",
    "Batch",
    "Binding",
    "Client",
    "ClusterInfo",
    "Codec",
    "Consumer",
    "DeadLetter",
    "DeadLetterReason",
    "Election",
    "Estimate",
    "Explanation",
    "GroupInfo",
    "GzipCodec",
    "Handle",
    "Handles",
    "Lock",
    "LockHolder",
    "LockInfo",
    "LockWaiter",
    "Locks",
    "LostLockHolder",
    "MemberInfo",
    "Message",
    "MessageRates",
    "Missed",
    "NewTask",
    "Obstacle",
    "OutgoingMessage",
    "Overlap",
    "Payloads",
    "PeekedMessage",
    "Percentiles",
    "Position",
    "Pulled",
    "Queue",
    "QueueInfo",
    "QueueStats",
    "Rate",
    "Reader",
    "Receipt",
    "Result",
    "Retry",
    "ScheduleInfo",
    "ScheduleSettings",
    "Schedules",
    "Scheduling",
    "SequenceRange",
    "Submission",
    "SubmitSettings",
    "SyncBatch",
    "SyncClient",
    "SyncConsumer",
    "SyncElection",
    "SyncLock",
    "SyncLocks",
    "SyncMessage",
    "SyncPulled",
    "SyncQueue",
    "SyncReader",
    "SyncSchedules",
    "SyncTasks",
    "SyncTerm",
    "SyncTopic",
    "SyncTransaction",
    "SyncWorkers",
    "SyncWorkflows",
    "TaskContext",
    "TaskCounts",
    "TaskDependency",
    "TaskEvent",
    "TaskFault",
    "TaskFilter",
    "TaskFunction",
    "TaskInfo",
    "TaskProgress",
    "TaskRates",
    "TaskSettings",
    "TaskState",
    "TaskraftError",
    "Tasks",
    "Term",
    "Topic",
    "Transaction",
    "WorkerInfo",
    "Workers",
    "Workflow",
    "WorkflowHandle",
    "WorkflowInfo",
    "Workflows",
    "current_task",
    "errors",
    "gather",
]
