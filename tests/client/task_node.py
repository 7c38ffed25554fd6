"""TaskService of a node of the tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from taskraft.v1 import task_pb2, task_pb2_grpc
from tests.client.store import Refused
from tests.client.task_store import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.client.broker import Broker


class TaskNode(task_pb2_grpc.TaskServiceServicer):
    """A node has `broker` and says how a request enters, is done once and is refused."""

    broker: Broker
    deposed: asyncio.Event
    _enter: Callable[[Any], Any]
    _do: Callable[..., Any]
    abort: Callable[[Any, Refused], Any]
    not_leader: Callable[[], Refused]

    async def SubmitTasks(self, request: Any, context: Any) -> Any:
        return await self._do(context, lambda: self.broker.tasks.submit(request), request.request_id)

    async def GetTask(self, request: Any, context: Any) -> Any:
        return await self._do(
            context, lambda: task_pb2.GetTaskResponse(task=self.broker.tasks.find(request.name))
        )

    async def ListTasks(self, request: Any, context: Any) -> Any:
        def page() -> task_pb2.ListTasksResponse:
            newest_first = list(self.broker.tasks.matching(request.filter))[::-1]
            start = int(request.page_token or 0)
            more = str(start + 2) if start + 2 < len(newest_first) else ""
            return task_pb2.ListTasksResponse(tasks=newest_first[start : start + 2], next_page_token=more)

        return await self._do(context, page)

    async def CancelTasks(self, request: Any, context: Any) -> Any:
        return await self._do(context, lambda: self.broker.tasks.cancel(request), request.request_id)

    async def RetryTasks(self, request: Any, context: Any) -> Any:
        return await self._do(context, lambda: self.broker.tasks.retry(request), request.request_id)

    async def ExplainTask(self, request: Any, context: Any) -> Any:
        def explain() -> task_pb2.ExplainTaskResponse:
            response = task_pb2.ExplainTaskResponse(task=self.broker.tasks.find(request.name), tasks_ahead=3)
            response.obstacles.add(reason="NO_WORKER", message="no worker takes tasks from q")
            response.work_ahead.FromMilliseconds(1_500)
            return response

        return await self._do(context, explain)

    async def GetWorkflow(self, request: Any, context: Any) -> Any:
        return await self._do(
            context,
            lambda: task_pb2.GetWorkflowResponse(workflow=self.broker.tasks.workflow(request.name)),
        )

    async def ListWorkflows(self, request: Any, context: Any) -> Any:
        def page() -> task_pb2.ListWorkflowsResponse:
            return task_pb2.ListWorkflowsResponse(
                workflows=[self.broker.tasks.workflow(name) for name in self.broker.tasks.workflows]
            )

        return await self._do(context, page)

    async def WaitTask(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter(context)
        deposed, left = self.deposed, dict.fromkeys(request.names)
        self.broker.waits.append(len(left))
        while left:
            changed = self.broker.tasks.changed
            try:
                ended = [task for name in left if (task := self.broker.tasks.find(name)).state in ENDED]
            except Refused as refused:
                await self.abort(context, refused)
            if ended:
                yield task_pb2.WaitTaskResponse(tasks=ended)
            for task in ended:
                del left[task.name]
            if left:
                await self._sleep(context, changed, deposed)

    async def WatchTasks(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter(context)
        deposed, tasks = self.deposed, self.broker.tasks
        self.broker.watches += 1
        seen = {task.name: task.state for task in tasks.matching(request.filter)}
        if request.include_current:
            yield task_pb2.WatchTasksResponse(tasks=list(tasks.matching(request.filter)), current_sent=True)
        while True:
            changed = tasks.changed
            new = [one for one in tasks.matching(request.filter) if seen.get(one.name) != one.state]
            if new:
                seen |= {task.name: task.state for task in new}
                yield task_pb2.WatchTasksResponse(tasks=new)
            else:
                await self._sleep(context, changed, deposed)

    async def _sleep(self, context: Any, changed: asyncio.Event, deposed: asyncio.Event) -> None:
        """Until something changes; a stream ends when another node leads."""
        events = [asyncio.create_task(changed.wait()), asyncio.create_task(deposed.wait())]
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        if deposed.is_set():
            await self.abort(context, self.not_leader())
