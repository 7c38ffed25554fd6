"""Commands about tasks, workflows and schedules, and a machine to give them to."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from node.state.results import Refused, Result
from node.state.task_rows import TaskRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2, worker_pb2
from tests.sim.state_log import Follower, MemoryLog, create

QUEUE = "queues/q"


def duration(length_ms: int) -> Duration:
    return Duration(seconds=length_ms // 1000, nanos=length_ms % 1000 * 1_000_000)


def on(*parents: str, condition: str = "SUCCEEDED") -> list[task_pb2.Dependency]:
    """Dependencies on these task ids."""
    asked = f"DEPENDENCY_CONDITION_{condition}"
    return [task_pb2.Dependency(task=f"tasks/{parent}", condition=asked) for parent in parents]


def task(
    task_id: str, dependencies: Iterable[task_pb2.Dependency] = (), queue: str = QUEUE, **settings: Any
) -> task_pb2.Task:
    """A task as a leader puts it into a command."""
    return task_pb2.Task(
        name=f"tasks/{task_id}", queue=queue, type="t", dependencies=dependencies, **settings
    )


def submit(*tasks: task_pb2.Task, workflow: str = "", request_id: str = "") -> command_pb2.Command:
    command = command_pb2.SubmitTasks(tasks=tasks)
    if workflow:
        command.workflow.name = f"workflows/{workflow}"
    return command_pb2.Command(request_id=request_id, submit_tasks=command)


def cancel(
    *ids: str, workflow: str = "", queue: str = "", reason: str = "", limit: int = 10_000
) -> command_pb2.Command:
    return command_pb2.Command(
        cancel_tasks=command_pb2.CancelTasks(
            names=[f"tasks/{each}" for each in ids],
            workflow=workflow and f"workflows/{workflow}",
            queue=queue,
            reason=reason,
            limit=limit,
        )
    )


def retry(
    *ids: str, workflow: str = "", queue: str = "", all_: bool = False, limit: int = 10_000
) -> command_pb2.Command:
    return command_pb2.Command(
        retry_tasks=command_pb2.RetryTasks(
            names=[f"tasks/{each}" for each in ids],
            workflow=workflow and f"workflows/{workflow}",
            queue=queue,
            all=all_,
            limit=limit,
        )
    )


def lease(numbers: Sequence[int], lane_ids: Sequence[int] = ()) -> command_pb2.Command:
    return command_pb2.Command(
        lease_tasks=command_pb2.LeaseTasks(worker_id="w", instance_id="i", numbers=numbers, lane_ids=lane_ids)
    )


def success(row: TaskRow, data: bytes = b"") -> command_pb2.SettledLease:
    return command_pb2.SettledLease(
        number=row.number, lease_id=row.lease_id, result=task_pb2.TaskResult(data=data)
    )


def failure(row: TaskRow, *, permanent: bool = True) -> command_pb2.SettledLease:
    failed = worker_pb2.TaskFailure(error=task_pb2.TaskError(reason="Boom"), permanent=permanent)
    return command_pb2.SettledLease(number=row.number, lease_id=row.lease_id, failure=failed)


def settle(leases: Iterable[command_pb2.SettledLease]) -> command_pb2.Command:
    return command_pb2.Command(settle_tasks=command_pb2.SettleTasks(leases=leases))


def advance(limit: int = 10_000) -> command_pb2.Command:
    return command_pb2.Command(advance_tasks=command_pb2.AdvanceTasks(limit=limit))


def schedule_settings(name: str = "schedules/s", **settings: Any) -> schedule_pb2.Schedule:
    settings.setdefault("cron", "* * * * *")
    settings.setdefault("task", task_pb2.Task(queue=QUEUE, type="tick", payload=b"p"))
    return schedule_pb2.Schedule(name=name, **settings)


class Tasks:
    """A machine with a queue of tasks, and workers that do as they are told."""

    def __init__(self, directory: Path, **scheduling: Any) -> None:
        self.follower = Follower(MemoryLog(), directory)
        self.do(create(QUEUE, kind=queue_pb2.QUEUE_KIND_TASK, scheduling=queue_pb2.Scheduling(**scheduling)))

    @property
    def machine(self) -> Any:
        return self.follower.machine

    @property
    def now_ms(self) -> int:
        return self.follower.log.time_ms

    def do(self, command: command_pb2.Command, time_ms: int | None = None) -> Any:
        """Apply one command, which must not be refused; its result."""
        result = self.follower.one(command, time_ms)
        assert not isinstance(result, Refused), result
        return result

    def together(self, *commands: command_pb2.Command) -> list[Any]:
        """Apply one entry of these commands; their results."""
        return [*self.follower.do(*commands)]

    def refusal(self, command: command_pb2.Command) -> Refused:
        """Apply one command, which must be refused, and change nothing."""
        result: Result = self.follower.one(command)
        assert isinstance(result, Refused), result
        return result

    def row(self, task_id: str) -> TaskRow:
        row: TaskRow | None = self.machine.task(f"tasks/{task_id}")
        assert row is not None, task_id
        return row

    def state(self, task_id: str) -> str:
        """The state of a task, by name."""
        return task_pb2.TaskState.Name(self.row(task_id).state).removeprefix("TASK_STATE_")

    def states(self, ids: Iterable[str]) -> list[str]:
        return [self.state(each) for each in ids]

    def lease(self, *ids: str) -> None:
        self.do(lease([self.row(each).number for each in ids]))

    def succeed(self, *ids: str) -> None:
        """These tasks are leased and succeed."""
        self.lease(*ids)
        self.do(settle(success(self.row(each)) for each in ids))

    def fail(self, *ids: str) -> None:
        """These tasks are leased and fail for good."""
        self.lease(*ids)
        self.do(settle(failure(self.row(each)) for each in ids))

    def advance_to(self, time_ms: int) -> int:
        """Do all that is due by then; how many tasks were looked at."""
        count: int = self.do(advance(), time_ms=time_ms).count
        return count

    def lose(self, *ids: str, reason: str = "LEASE_EXPIRED") -> None:
        """The workers of these leased tasks are lost."""
        lost = command_pb2.LostLease(reason=reason)
        rows = [self.row(each) for each in ids]
        self.do(
            settle(
                command_pb2.SettledLease(number=row.number, lease_id=row.lease_id, lost=lost) for row in rows
            )
        )

    def counts(self, workflow: str) -> dict[str, int]:
        """The counts of a workflow that are not 0."""
        counts = self.machine.workflow(f"workflows/{workflow}").to_proto().counts
        return {field.name: value for field, value in counts.ListFields()}

    def workflow_state(self, workflow: str) -> str:
        row = self.machine.workflow(f"workflows/{workflow}")
        return task_pb2.TaskState.Name(row.to_proto().state).removeprefix("TASK_STATE_")
