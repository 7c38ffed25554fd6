"""Workflows of a cluster: look at, wait for, cancel, retry. They are made by submitting their tasks together."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from taskraft import errors
from taskraft._task_values import ENDED, TaskState, WorkflowInfo, state_of, workflow_info
from taskraft._tasks import Tasks, state_numbers
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from taskraft._connection import Connection


class Workflows:
    """The workflows of a cluster, as `client.workflows`. Ids are taken with or without `workflows/` before them.

    Every method raises TaskraftError; WorkflowNotFound for an id that does not exist or was forgotten.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks = Tasks(connection)

    async def get(self, workflow_id: str) -> WorkflowInfo:
        """The workflow with the counts of its tasks."""
        request = task_pb2.GetWorkflowRequest(name=_name(workflow_id))
        response = await self._connection.call(
            "TaskService/GetWorkflow", request, task_pb2.GetWorkflowResponse.FromString
        )
        return workflow_info(response.workflow)

    async def list(self, *, states: Iterable[TaskState] = ()) -> AsyncGenerator[WorkflowInfo]:
        """Workflows, newest first, fetched page by page; of these states: running, succeeded, failed, cancelled."""
        request = task_pb2.ListWorkflowsRequest(page_size=1_000, states=state_numbers(states))
        while True:
            response = await self._connection.call(
                "TaskService/ListWorkflows", request, task_pb2.ListWorkflowsResponse.FromString
            )
            for workflow in response.workflows:
                yield workflow_info(workflow)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def wait(self, workflow_id: str, *, timeout: float | None = None) -> WorkflowInfo:
        """The workflow when all its tasks have ended, however. ResultTimeout after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._wait(workflow_id)
        except TimeoutError:
            raise errors.ResultTimeout(f"workflow {workflow_id} has not ended in {timeout:g} s") from None

    async def _wait(self, workflow_id: str) -> WorkflowInfo:
        info = await self.get(workflow_id)
        if info.ended:
            return info
        open_names: set[str] = set()
        current = False
        responses = self._tasks.watch_responses(include_current=True, workflow=workflow_id)
        async with aclosing(responses):
            async for response in responses:
                for task in response.tasks:
                    if state_of(task.state) in ENDED:
                        open_names.discard(task.name)
                    else:
                        open_names.add(task.name)
                current = current or response.current_sent
                if current and not open_names:
                    info = await self.get(workflow_id)
                    if info.ended:
                        return info
        raise AssertionError("a watch has no end")

    async def cancel(self, workflow_id: str, *, reason: str = "") -> int:
        """Cancel all its tasks that have not ended; returns how many."""
        return await self._tasks.cancel(workflow=workflow_id, reason=reason)

    async def retry(self, workflow_id: str, *, all_tasks: bool = False) -> int:
        """Run it again from its failures on, or all of it; returns how many tasks get new attempts."""
        return await self._tasks.retry(workflow=workflow_id, all_tasks=all_tasks)


def _name(workflow_id: str) -> str:
    return f"workflows/{workflow_id.removeprefix('workflows/')}"
