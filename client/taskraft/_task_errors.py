"""What can go wrong with tasks, workflows and schedules, and how a task can end without a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from taskraft._error import DeadlineExceeded, TaskraftError

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskNotFound(TaskraftError):
    """There is no such task, or it was forgotten: its retention has ended."""

    default_reason = "TASK_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class WorkflowNotFound(TaskraftError):
    """There is no such workflow."""

    default_reason = "WORKFLOW_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class WorkflowExists(TaskraftError):
    """A workflow of that name exists."""

    default_reason = "WORKFLOW_EXISTS"
    default_code = grpc.StatusCode.ALREADY_EXISTS


class ScheduleNotFound(TaskraftError):
    """There is no such schedule."""

    default_reason = "SCHEDULE_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class ScheduleExists(TaskraftError):
    """A schedule of that name exists with other settings."""

    default_reason = "SCHEDULE_EXISTS"
    default_code = grpc.StatusCode.ALREADY_EXISTS


class WorkerNotFound(TaskraftError):
    """There is no such worker."""

    default_reason = "WORKER_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class DeadlineInfeasible(TaskraftError):
    """The task is not expected to end before its deadline, and its queue refuses such tasks."""

    default_reason = "DEADLINE_INFEASIBLE"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class TaskRevoked(TaskraftError):
    """Raised inside a task: the broker wants it to stop, its outcome does not count any more."""

    default_reason = "TASK_REVOKED"
    default_code = grpc.StatusCode.ABORTED


class TaskFailed(TaskraftError, RuntimeError):
    """The task ended without a result.

    `reason` is the name of the exception that its code raised, or DEPENDENCY_FAILED, TIMEOUT, RESULT_TOO_LARGE and
    the like; `detail` is the worker's traceback; `attempt` is how often the task was tried.
    """

    default_reason = "TASK_FAILED"

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        metadata: Mapping[str, str] | None = None,
        detail: str = "",
        attempt: int = 0,
    ) -> None:
        super().__init__(message, reason=reason, code=code, metadata=metadata)
        self.detail = detail
        self.attempt = attempt

    @property
    def task_id(self) -> str:
        return self.metadata.get("task", "")

    def __str__(self) -> str:
        return f"{super().__str__()} (attempt {self.attempt} of task {self.task_id})" + (
            f"\n\n{self.detail}" if self.detail else ""
        )


class TaskCancelled(TaskFailed):
    """The task was cancelled."""

    default_reason = "TASK_CANCELLED"
    default_code = grpc.StatusCode.CANCELLED


class TaskExpired(TaskFailed):
    """The task was not started before its deadline."""

    default_reason = "TASK_EXPIRED"
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class TaskTimedOut(TaskFailed):
    """The task's last attempt ran longer than its timeout."""

    default_reason = "TASK_TIMED_OUT"
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class WorkerLost(TaskFailed):
    """The worker that ran the task's last attempt was not heard of any more."""

    default_reason = "WORKER_LOST"
    default_code = grpc.StatusCode.ABORTED


class DependencyFailed(TaskFailed):
    """A task that this one depends on did not succeed."""

    default_reason = "DEPENDENCY_FAILED"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class ResultTimeout(DeadlineExceeded, TimeoutError):
    """The task has not ended in time; it goes on."""

    default_reason = "RESULT_TIMEOUT"
