"""TaskService and a worker as their clients see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.node.single_node import Running

QUEUED = task_pb2.TASK_STATE_QUEUED
BLOCKED = task_pb2.TASK_STATE_BLOCKED
RUNNING = task_pb2.TASK_STATE_RUNNING
SUCCEEDED = task_pb2.TASK_STATE_SUCCEEDED
CANCELLED = task_pb2.TASK_STATE_CANCELLED
FAILED = task_pb2.TASK_STATE_FAILED

CREATED = task_pb2.SUBMIT_OUTCOME_CREATED
REPLACED = task_pb2.SUBMIT_OUTCOME_REPLACED
ALREADY_SCHEDULED = task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED


async def task_queue(node: Running, name: str = "q", **scheduling: Any) -> None:
    """Create a queue of tasks."""
    settings = queue_pb2.Scheduling(**scheduling)
    await node.create(name, kind=queue_pb2.QUEUE_KIND_TASK, scheduling=settings)


def a_task(name: str = "", queue: str = "q", **fields: Any) -> task_pb2.Task:
    fields = {"type": "noop", **fields}
    return task_pb2.Task(name=f"tasks/{name}" if name else "", queue=f"queues/{queue}", **fields)


def after(*names: str, condition: int = 0) -> list[task_pb2.Dependency]:
    return [task_pb2.Dependency(task=f"tasks/{name}", condition=condition) for name in names]  # type: ignore[arg-type]


async def submit(node: Running, *tasks: task_pb2.Task, **fields: Any) -> list[tuple[str, int]]:
    """Name and outcome of each task."""
    answer = await node.tasks.SubmitTasks(task_pb2.SubmitTasksRequest(tasks=tasks, **fields))
    return [(each.name, each.outcome) for each in answer.tasks]


async def got(node: Running, name: str, view: task_pb2.TaskView = task_pb2.TASK_VIEW_BASIC) -> task_pb2.Task:
    answer = await node.tasks.GetTask(task_pb2.GetTaskRequest(name=f"tasks/{name}", view=view))
    task: task_pb2.Task = answer.task
    return task


async def listed(node: Running, **fields: Any) -> list[str]:
    """The ids of all tasks of a list, page by page."""
    request = task_pb2.ListTasksRequest(**fields)
    ids: list[str] = []
    while True:
        answer = await node.tasks.ListTasks(request)
        ids += [task.name.removeprefix("tasks/") for task in answer.tasks]
        if not answer.next_page_token:
            return ids
        request.page_token = answer.next_page_token


class Worker:
    """A worker that does what the test says."""

    def __init__(self, node: Running, worker_id: str = "w", queues: Iterable[str] = ("q",)) -> None:
        self.call: Any = node.workers.Work()
        self.hello = worker_pb2.Hello(
            worker_id=worker_id,
            instance_id="1",
            queues=[f"queues/{queue}" for queue in queues],
            protocol_version=1,
            slots=100,
            capacity={"cpu": 100},
        )
        self.leases: dict[str, int] = {}

    async def start(self, credit: int = 0) -> None:
        await self.call.write(worker_pb2.WorkRequest(hello=self.hello))
        await self.read("welcome")
        if credit:
            await self.call.write(worker_pb2.WorkRequest(credit=worker_pb2.WorkCredit(tasks=credit)))

    async def read(self, kind: str) -> worker_pb2.WorkResponse:
        response: worker_pb2.WorkResponse = await self.call.read()
        assert response.WhichOneof("response") == kind, response
        return response

    async def take(self, count: int = 1, *, receive: bool = True) -> list[str]:
        """Get so many tasks; their ids in the order of assignment."""
        ids: list[str] = []
        while len(ids) < count:
            for each in (await self.read("assign")).assign.assignments:
                ids.append(each.task.name.removeprefix("tasks/"))
                self.leases[ids[-1]] = each.lease_id
        if receive:
            await self.receive(*ids)
        return ids

    async def receive(self, *ids: str) -> None:
        received = worker_pb2.Received(lease_ids=[self.leases[each] for each in ids])
        await self.call.write(worker_pb2.WorkRequest(received=received))

    async def succeed(self, *ids: str, data: bytes = b"") -> None:
        outcomes = [
            worker_pb2.Outcome(lease_id=self.leases.pop(each), result=task_pb2.TaskResult(data=data))
            for each in ids
        ]
        await self.call.write(worker_pb2.WorkRequest(outcomes=worker_pb2.Outcomes(outcomes=outcomes)))
        await self.read("acked")
