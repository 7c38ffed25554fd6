"""Tasks and workflows as the broker tells of them: frozen values without a connection.

Ids stand alone, without `tasks/` and the like. Lengths of time are in seconds, times in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from taskraft._times import seconds_of, time_of
from taskraft.v1 import task_pb2

TaskState = Literal[
    "unspecified",
    "queued",
    "blocked",
    "delayed",
    "leased",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "dead_lettered",
]
Condition = Literal["succeeded", "any_succeeded", "ended"]
SubmitOutcome = Literal["created", "replaced", "already_scheduled"]

STATES: tuple[TaskState, ...] = (
    "unspecified",
    "queued",
    "blocked",
    "delayed",
    "leased",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "dead_lettered",
)
ENDED: frozenset[TaskState] = frozenset({"succeeded", "failed", "cancelled", "expired", "dead_lettered"})
CONDITIONS: tuple[Condition, ...] = ("succeeded", "any_succeeded", "ended")
OUTCOMES: tuple[SubmitOutcome, ...] = ("created", "replaced", "already_scheduled")

assert all(
    task_pb2.TaskState.Name(number).endswith(f"STATE_{name.upper()}") for number, name in enumerate(STATES)
)


@dataclass(frozen=True, slots=True)
class Submission:
    """What came of submitting one task: it is new, it replaced one of lower priority, or it was known before."""

    id: str
    outcome: SubmitOutcome


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a task is, 0 to 1, as its worker last said."""

    fraction: float
    message: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class TaskFault:
    """Why the last attempt failed: `reason` is an exception's name or a broker's reason, `detail` a traceback."""

    reason: str
    message: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """One thing that happened to a task. `reason` is SUBMITTED, LEASED, LEASE_EXPIRED, SLICE_END and the like."""

    time: datetime | None
    state: TaskState
    attempt: int
    worker_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskDependency:
    """What a task waits for."""

    id: str
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task. `payload`, `dependencies`, `events` and `checkpoint` are empty unless it was asked for in full.

    `attempt` counts the attempts made, the current one included. `size`, `lease`, `backoff` and `timeout` are None,
    and `max_attempts` is 0, where the queue decides. `result` and `result_content_type` are set by `wait` and in a
    full view of a task that succeeded.
    """

    id: str
    queue: str
    type: str
    state: TaskState
    attempt: int
    priority: int
    workflow: str
    labels: Mapping[str, str]
    headers: Mapping[str, str]
    resources: Mapping[str, float]
    worker_labels: Mapping[str, str]
    tenant: str
    limit_key: str
    preemptible: bool
    size: float | None
    lease: float | None
    backoff: float | None
    timeout: float | None
    max_attempts: int
    not_before: datetime | None
    deadline: datetime | None
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    worker_id: str
    lease_id: int
    dependencies_open: int
    progress: TaskProgress | None
    error: TaskFault | None
    payload: bytes
    content_type: str
    result: bytes | None
    result_content_type: str
    dependencies: tuple[TaskDependency, ...]
    events: tuple[TaskEvent, ...]
    checkpoint: bytes

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """How many tasks are in each state; `leased` includes the running ones."""

    queued: int
    blocked: int
    delayed: int
    leased: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    dead_lettered: int

    @property
    def total(self) -> int:
        return self.open + self.ended

    @property
    def open(self) -> int:
        """Those that have not ended."""
        return self.queued + self.blocked + self.delayed + self.leased

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.expired + self.dead_lettered


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowInfo:
    """Tasks that belong together. `state` is running until all have ended, then succeeded, failed or cancelled."""

    id: str
    state: TaskState
    labels: Mapping[str, str]
    counts: TaskCounts
    create_time: datetime | None
    end_time: datetime | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why a task does not run, such as NO_WORKER or QUEUE_PAUSED; `metadata` says what it is about."""

    reason: str
    message: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A time that is not sure: as likely before `p50` as after, nine times in ten before `p90`."""

    p50: datetime | None
    p90: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a task does not run, most important reason first, and when it is expected to start and to finish.

    `start` and `finish` are None where that cannot be said; `work_ahead` is in seconds of worker time.
    """

    task: TaskInfo
    obstacles: tuple[Obstacle, ...]
    start: Estimate | None
    finish: Estimate | None
    tasks_ahead: int
    work_ahead: float


_ADVICE = {
    "NO_WORKER": "`taskraft worker MODULE:APP` starts one",
    "NO_WORKER_FOR_TYPE": "was the worker started before the function was written?",
}


def why_late(why: Explanation) -> str:
    """The state of a task and the first of what keeps it there, for a message."""
    if not why.obstacles:
        return why.task.state
    first = why.obstacles[0]
    advice = f"; {_ADVICE[first.reason]}" if first.reason in _ADVICE else ""
    return f"{why.task.state}: {first.message}{advice}"


def state_of(number: int) -> TaskState:
    """The state's name; one that this version does not know is unspecified."""
    return STATES[number] if number < len(STATES) else "unspecified"


def task_info(task: task_pb2.Task) -> TaskInfo:
    return TaskInfo(
        id=task.name.removeprefix("tasks/"),
        queue=task.queue.removeprefix("queues/"),
        type=task.type,
        state=state_of(task.state),
        attempt=task.attempt,
        priority=task.priority,
        workflow=task.workflow.removeprefix("workflows/"),
        labels=dict(task.labels),
        headers=dict(task.headers),
        resources=dict(task.resources),
        worker_labels=dict(task.worker_labels),
        tenant=task.tenant,
        limit_key=task.limit_key,
        preemptible=task.preemptible,
        size=seconds_of(task.size) if task.HasField("size") else None,
        lease=seconds_of(task.lease) if task.HasField("lease") else None,
        backoff=seconds_of(task.backoff) if task.HasField("backoff") else None,
        timeout=seconds_of(task.timeout) if task.HasField("timeout") else None,
        max_attempts=task.max_attempts,
        not_before=time_of(task.not_before),
        deadline=time_of(task.deadline),
        create_time=time_of(task.create_time),
        start_time=time_of(task.start_time),
        end_time=time_of(task.end_time),
        expire_time=time_of(task.expire_time),
        worker_id=task.worker_id,
        lease_id=task.lease_id,
        dependencies_open=task.dependencies_open,
        progress=_progress(task.progress) if task.HasField("progress") else None,
        error=TaskFault(task.error.reason, task.error.message, task.error.detail)
        if task.HasField("error")
        else None,
        payload=task.payload,
        content_type=task.content_type,
        result=task.result.data if task.HasField("result") else None,
        result_content_type=task.result.content_type,
        dependencies=tuple(_dependency(one) for one in task.dependencies),
        events=tuple(_event(one) for one in task.events),
        checkpoint=task.checkpoint,
    )


def _progress(progress: task_pb2.TaskProgress) -> TaskProgress:
    return TaskProgress(progress.fraction, progress.message, time_of(progress.time))


def _dependency(one: task_pb2.Dependency) -> TaskDependency:
    return TaskDependency(one.task.removeprefix("tasks/"), CONDITIONS[max(0, one.condition - 1)])


def _event(event: task_pb2.TaskEvent) -> TaskEvent:
    return TaskEvent(
        time=time_of(event.time),
        state=state_of(event.state),
        attempt=event.attempt,
        worker_id=event.worker_id,
        reason=event.reason,
        message=event.message,
    )


def task_counts(counts: task_pb2.TaskCounts) -> TaskCounts:
    return TaskCounts(
        queued=counts.queued,
        blocked=counts.blocked,
        delayed=counts.delayed,
        leased=counts.leased,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        expired=counts.expired,
        dead_lettered=counts.dead_lettered,
    )


def workflow_info(workflow: task_pb2.Workflow) -> WorkflowInfo:
    return WorkflowInfo(
        id=workflow.name.removeprefix("workflows/"),
        state=state_of(workflow.state),
        labels=dict(workflow.labels),
        counts=task_counts(workflow.counts),
        create_time=time_of(workflow.create_time),
        end_time=time_of(workflow.end_time),
    )


def explanation(response: task_pb2.ExplainTaskResponse) -> Explanation:
    return Explanation(
        task=task_info(response.task),
        obstacles=tuple(Obstacle(one.reason, one.message, dict(one.metadata)) for one in response.obstacles),
        start=_estimate(response.start) if response.HasField("start") else None,
        finish=_estimate(response.finish) if response.HasField("finish") else None,
        tasks_ahead=response.tasks_ahead,
        work_ahead=seconds_of(response.work_ahead),
    )


def _estimate(estimate: task_pb2.Estimate) -> Estimate:
    return Estimate(time_of(estimate.p50), time_of(estimate.p90))
