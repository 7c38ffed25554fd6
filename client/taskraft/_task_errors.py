"""How a task can end without a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from taskraft._error import DeadlineExceeded, TaskraftError

if TYPE_CHECKING:
    from collections.abc import Mapping


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
