"""The streams of TaskService as their clients see them."""

from __future__ import annotations

from typing import Any

import grpc

from taskraft.v1 import task_pb2
from tests.node.single_node import Running, refusal_of


class Reading:
    """A stream of tasks as a client sees it."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def tasks(self) -> list[tuple[str, int]]:
        """Id and state of the tasks of the next response."""
        response = await self.call.read()
        return [(task.name.removeprefix("tasks/"), task.state) for task in response.tasks]

    async def until(self, name: str, state: int) -> list[tuple[str, int]]:
        """All up to that one."""
        seen: list[tuple[str, int]] = []
        while (name, state) not in seen:
            seen += await self.tasks()
        return seen

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Code and reason of the end."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)[:2]
        return await self.call.code(), ""


async def watching(node: Running, *, metadata: Any = None, **fields: Any) -> Reading:
    """A watch that has begun."""
    reading = Reading(node.tasks.WatchTasks(task_pb2.WatchTasksRequest(**fields), metadata=metadata))
    if not fields.get("include_current"):
        assert (await reading.call.read()).current_sent
    return reading


def waiting(node: Running, *names: str, **fields: Any) -> Reading:
    request = task_pb2.WaitTaskRequest(names=[f"tasks/{name}" for name in names], **fields)
    return Reading(node.tasks.WaitTask(request))


def watchers(node: Running) -> int:
    return len(node.node.tasking.watchers._by_topic)
