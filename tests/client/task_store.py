"""What the brokers of the tests know of tasks: submitted, waited for, ended by the test or by `work`."""

from __future__ import annotations

import asyncio
import graphlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc

from taskraft.v1 import queue_pb2, task_pb2
from tests.client.store import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskraft import App
    from tests.client.store import Store

WAITING = (task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_BLOCKED, task_pb2.TASK_STATE_DELAYED)
ENDED = range(task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_DEAD_LETTERED + 1)


class TaskStore:
    """Tasks by name. A test calls `succeed`, `fail` and `end`, or lets `work` run the functions of an app."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tasks: dict[str, task_pb2.Task] = {}
        self.workflows: dict[str, task_pb2.Workflow] = {}
        self.cancel_max = 10_000  # of a queue, per call
        self._blocked: dict[str, task_pb2.Task] = {}
        self.submits: list[int] = []  # how many tasks came with each call that was done
        self.changed = asyncio.Event()

    def find(self, name: str) -> task_pb2.Task:
        if name not in self.tasks:
            raise Refused(grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND", task=name)
        return self.tasks[name]

    # Requests ----------------------------------------------------------------------------------------------------

    def submit(self, request: task_pb2.SubmitTasksRequest) -> task_pb2.SubmitTasksResponse:
        self._check(request)
        response = task_pb2.SubmitTasksResponse()
        known = request.workflow.name in self.workflows
        for task in request.tasks:
            outcome = task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED if known else self._outcome(task)
            response.tasks.add(name=task.name, outcome=outcome)
            if request.validate_only or outcome == task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED:
                continue
            stored = self.tasks[task.name] = task_pb2.Task()
            stored.CopyFrom(task)
            stored.workflow = request.workflow.name
            stored.create_time.GetCurrentTime()
            self._unblock(stored)
        if not request.validate_only:
            self.submits.append(len(request.tasks))
            if request.workflow.name:
                self.workflows.setdefault(request.workflow.name, request.workflow)
            self.wake()
        return response

    def _check(self, request: task_pb2.SubmitTasksRequest) -> None:
        graph = {task.name: [edge.task for edge in task.dependencies] for task in request.tasks}
        for task in request.tasks:
            if self._store.queue(task.queue).queue.kind != queue_pb2.QUEUE_KIND_TASK:
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_QUEUE_KIND", queue=task.queue)
            if len(task.labels) > 32:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="tasks.labels")
            for parent in graph[task.name]:
                if parent not in graph and parent not in self.tasks:
                    raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_DEPENDENCY", task=parent)
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "CYCLE", cycle=" ".join(error.args[1])) from None

    def _outcome(self, task: task_pb2.Task) -> task_pb2.SubmitOutcome:
        known = self.tasks.get(task.name)
        if known is None:
            return task_pb2.SUBMIT_OUTCOME_CREATED
        if known.state in WAITING and task.priority > known.priority:
            return task_pb2.SUBMIT_OUTCOME_REPLACED
        return task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED

    def matching(self, which: task_pb2.TaskFilter) -> Iterator[task_pb2.Task]:
        for task in self.tasks.values():
            if (
                which.queue in ("", task.queue)
                and which.workflow in ("", task.workflow)
                and (not which.states or task.state in which.states)
                and which.labels.items() <= task.labels.items()
            ):
                yield task

    def cancel(self, request: task_pb2.CancelTasksRequest) -> task_pb2.CancelTasksResponse:
        tasks = [task for task in self._meant(request) if task.state not in ENDED]
        tasks = tasks[: self.cancel_max] if request.queue else tasks
        for task in tasks:
            self.end(task, task_pb2.TASK_STATE_CANCELLED)
        return task_pb2.CancelTasksResponse(cancelled_tasks=len(tasks))

    def retry(self, request: task_pb2.RetryTasksRequest) -> task_pb2.RetryTasksResponse:
        failed = [one for one in self._meant(request) if one.state in ENDED[1:]]
        for task in failed:
            task.ClearField("error")
            task.attempt = 0
            self._unblock(task)
        self.wake()
        return task_pb2.RetryTasksResponse(retried_tasks=len(failed))

    def _meant(self, request: Any) -> list[task_pb2.Task]:
        if request.names:
            return [self.find(name) for name in request.names]
        return list(self.matching(task_pb2.TaskFilter(workflow=request.workflow, queue=request.queue)))

    def workflow(self, name: str) -> task_pb2.Workflow:
        if name not in self.workflows:
            raise Refused(grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND", workflow=name)
        out = task_pb2.Workflow(name=name, labels=self.workflows[name].labels)
        states = Counter(one.state for one in self.matching(task_pb2.TaskFilter(workflow=name)))
        for state, count in states.items():
            field = task_pb2.TaskState.Name(state).removeprefix("TASK_STATE_").lower()
            setattr(out.counts, field, count)
        out.state = task_pb2.TASK_STATE_RUNNING
        if all(state in ENDED for state in states):
            well = set(states) == {task_pb2.TASK_STATE_SUCCEEDED}
            out.state = task_pb2.TASK_STATE_SUCCEEDED if well else task_pb2.TASK_STATE_FAILED
        return out

    # Life --------------------------------------------------------------------------------------------------------

    def succeed(self, task_id: str, data: bytes, content_type: str = "application/json") -> None:
        task = self.tasks[f"tasks/{task_id}"]
        task.result.data, task.result.content_type = data, content_type
        self.end(task, task_pb2.TASK_STATE_SUCCEEDED)

    def fail(
        self, task_id: str, reason: str, message: str = "", *, state: task_pb2.TaskState | None = None
    ) -> None:
        task = self.tasks[f"tasks/{task_id}"]
        task.error.CopyFrom(task_pb2.TaskError(reason=reason, message=message, detail="Traceback: here"))
        self.end(task, state or task_pb2.TASK_STATE_FAILED)

    def end(self, task: task_pb2.Task, state: task_pb2.TaskState) -> None:
        task.state = state
        task.attempt += state != task_pb2.TASK_STATE_CANCELLED
        task.end_time.GetCurrentTime()
        self._blocked.pop(task.name, None)
        for other in list(self._blocked.values()):
            self._unblock(other)
        self.wake()

    def _unblock(self, task: task_pb2.Task) -> None:
        parents = [self.tasks.get(edge.task) for edge in task.dependencies]
        task.dependencies_open = sum(one is None or one.state not in ENDED for one in parents)
        task.state = task_pb2.TASK_STATE_QUEUED
        self._blocked.pop(task.name, None)
        if task.dependencies_open:
            task.state = task_pb2.TASK_STATE_BLOCKED
            self._blocked[task.name] = task

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def work(self, app: App) -> int:
        """Run all tasks that are ready, and those that become so; returns how many."""
        done = 0
        while ready := [one for one in self.tasks.values() if one.state == task_pb2.TASK_STATE_QUEUED]:
            for task in ready:
                args, kwargs = app.payloads.decode_call(
                    task.payload, task.content_type, self._parents(app, task)
                )
                value = app.tasks[task.type].function(*args, **kwargs)
                self.succeed(task.name.removeprefix("tasks/"), *app.payloads.encode_result(value))
                done += 1
        return done

    def _parents(self, app: App, task: task_pb2.Task) -> dict[str, Any]:
        parents: Iterable[task_pb2.Task] = [self.tasks[edge.task] for edge in task.dependencies]
        return {
            one.name.removeprefix("tasks/"): app.payloads.decode_result(
                one.result.data, one.result.content_type
            )
            for one in parents
        }
