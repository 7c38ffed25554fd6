from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from node.api import task_input
from node.errors import InvalidField
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import refusal, run, running
from tests.node.task_clients import a_task, after, listed, submit, task_queue

Code = grpc.StatusCode
MIB = 1 << 20
DAY_S = 86_400


def seconds(length: int, nanos: int = 0) -> Duration:
    return Duration(seconds=length, nanos=nanos)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name without its collection": ({"name": "a"}, "name"),
    "a name with more behind it": ({"name": "tasks/a/b"}, "name"),
    "a long name": ({"name": "tasks/" + "a" * 129}, "name"),
    "a name that ends its line": ({"name": "tasks/a\n"}, "name"),
    "no queue": ({"queue": ""}, "queue"),
    "a queue without its collection": ({"queue": "q"}, "queue"),
    "no type": ({"type": ""}, "type"),
    "a long type": ({"type": "t" * 129}, "type"),
    "a large payload": ({"payload": bytes(MIB + 1)}, "payload"),
    "a long content type": ({"content_type": "c" * 65}, "content_type"),
    "too many labels": ({"labels": {f"{place}": "" for place in range(33)}}, "labels"),
    "a label without a key": ({"labels": {"": "x"}}, "labels"),
    "a long key of a label": ({"labels": {"é" * 33: "x"}}, "labels"),
    "a long label": ({"labels": {"k": "é" * 129}}, 'labels["k"]'),
    "a high priority": ({"priority": 1001}, "priority"),
    "a low priority": ({"priority": -1001}, "priority"),
    "a negative size": ({"size": seconds(-1)}, "size"),
    "a size of years": ({"size": seconds(367 * DAY_S)}, "size"),
    "a negative resource": ({"resources": {"cpu": -1}}, 'resources["cpu"]'),
    "none of a resource": ({"resources": {"cpu": 0}}, 'resources["cpu"]'),
    "endless resources": ({"resources": {"cpu": float("inf")}}, 'resources["cpu"]'),
    "a resource that is no number": ({"resources": {"cpu": float("nan")}}, 'resources["cpu"]'),
    "a resource without a name": ({"resources": {"": 1}}, "resources"),
    "too many resources": ({"resources": {f"{place}": 1 for place in range(17)}}, "resources"),
    "too many worker labels": ({"worker_labels": {f"{place}": "" for place in range(17)}}, "worker_labels"),
    "a time before 1970": ({"not_before": Timestamp(seconds=-1)}, "not_before"),
    "a time after 9999": ({"deadline": Timestamp(seconds=1 << 40)}, "deadline"),
    "a time with too many nanoseconds": ({"deadline": Timestamp(nanos=1 << 30)}, "deadline"),
    "a short lease": ({"lease": seconds(0, 999_000_000)}, "lease"),
    "a long lease": ({"lease": seconds(12 * 3600 + 1)}, "lease"),
    "too many attempts": ({"max_attempts": 1001}, "max_attempts"),
    "no backoff": ({"backoff": seconds(0)}, "backoff"),
    "a long backoff": ({"backoff": seconds(DAY_S + 1)}, "backoff"),
    "a short timeout": ({"timeout": seconds(0)}, "timeout"),
    "a long timeout": ({"timeout": seconds(31 * DAY_S)}, "timeout"),
    "a long tenant": ({"tenant": "t" * 129}, "tenant"),
    "a long limit key": ({"limit_key": "k" * 129}, "limit_key"),
    "too many headers": ({"headers": {f"{place}": "" for place in range(33)}}, "headers"),
    "a dependency without its collection": (
        {"dependencies": [task_pb2.Dependency(task="a")]},
        "dependencies[0].task",
    ),
    "an unknown condition": ({"dependencies": after("a", "b", condition=9)}, "dependencies[0].condition"),
    "too many dependencies": ({"dependencies": after(*map(str, range(10_001)))}, "dependencies"),
}

RIGHT: dict[str, dict[str, Any]] = {
    "all characters of a name": {"name": "tasks/aZ09._-:" + "x" * 120},
    "the longest type": {"type": "é" * 128},
    "the largest payload": {"payload": bytes(MIB)},
    "the most labels": {"labels": {f"{place:064}": "é" * 128 for place in range(32)}},
    "the highest priority": {"priority": 1000},
    "the lowest priority": {"priority": -1000},
    "no size": {"size": seconds(0)},
    "very little of a resource": {"resources": {"cpu": 1e-9}},
    "the shortest lease": {"lease": seconds(1)},
    "the longest lease": {"lease": seconds(12 * 3600)},
    "the most attempts": {"max_attempts": 1000},
    "the queue's attempts": {"max_attempts": 0},
    "the shortest backoff": {"backoff": seconds(0, 1)},
    "the longest timeout": {"timeout": seconds(30 * DAY_S)},
    "the first moment": {"not_before": Timestamp(seconds=0)},
    "the last moment": {"deadline": Timestamp(seconds=253_402_300_799, nanos=999_999_999)},
}


def with_fields(fields: dict[str, Any]) -> task_pb2.Task:
    return task_pb2.Task(**{"queue": "queues/q", "type": "noop", **fields})


@pytest.mark.parametrize("case", WRONG)
def test_a_task_that_breaks_a_limit_is_refused_by_its_field(case: str) -> None:
    fields, field = WRONG[case]
    request = task_pb2.SubmitTasksRequest(tasks=[a_task("x"), a_task("y"), with_fields(fields)])

    with pytest.raises(InvalidField) as refused:
        task_input.submission(request, request.ByteSize())

    assert refused.value.metadata["field"] == f"tasks[2].{field}"
    assert refused.value.message.startswith(f"tasks[2].{field} must be ")


@pytest.mark.parametrize("case", RIGHT)
def test_a_task_at_a_limit_is_accepted_as_it_is(case: str) -> None:
    task = with_fields({"name": "tasks/x", **RIGHT[case]})
    request = task_pb2.SubmitTasksRequest(tasks=[task])

    assert task_input.submission(request, request.ByteSize()) == {"queues/q"}

    assert request.tasks[0] == task


def test_every_field_of_a_task_is_checked_or_the_servers() -> None:
    checked = task_input.CHECKS.keys() | task_input.LENGTHS.keys() | task_input.FREE | {"dependencies"}
    fields = task_pb2.Task.DESCRIPTOR.fields_by_name

    assert {name for name in fields if name not in checked} == {
        name for name, field in fields.items() if field.number >= 40 or name == "workflow"
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": [a_task()] * 10_001}, "tasks"),
        ({"tasks": [a_task()], "request_id": "r" * 65}, "request_id"),
        ({"tasks": [a_task()], "workflow": task_pb2.Workflow()}, "workflow.name"),
        ({"tasks": [a_task()], "workflow": task_pb2.Workflow(name="w")}, "workflow.name"),
        (
            {"tasks": [a_task()], "workflow": task_pb2.Workflow(name="workflows/w", labels={"": ""})},
            "workflow.labels",
        ),
    ],
)
def test_a_submit_that_makes_no_sense_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        task_input.submission(task_pb2.SubmitTasksRequest(**fields), 0)

    assert refused.value.metadata["field"] == field


def test_tasks_that_are_too_much_together_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            large = [a_task(f"t{place}", payload=bytes(MIB - 1_000)) for place in range(4)]
            code, reason, metadata = await refusal(submit(node, *large))

            assert (code, reason, metadata["field"]) == (
                Code.INVALID_ARGUMENT,
                "PAYLOAD_TOO_LARGE",
                "tasks",
            )
            await submit(node, *large[:3])
            assert await listed(node) == ["t2", "t1", "t0"]

    run(story())


def test_the_largest_submit_of_nameless_tasks_fits_an_entry(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            size = limits.SUBMIT_BYTES_MAX // limits.SUBMIT_TASKS_MAX - 26
            tasks = [a_task(payload=bytes(size)) for _ in range(limits.SUBMIT_TASKS_MAX)]
            assert (
                0.97 * limits.SUBMIT_BYTES_MAX
                < task_pb2.SubmitTasksRequest(tasks=tasks).ByteSize()
                <= limits.SUBMIT_BYTES_MAX
            )

            assert len({name for name, _ in await submit(node, *tasks)}) == limits.SUBMIT_TASKS_MAX
            assert max(map(len, node.replica.entries.values())) < limits.ENTRY_BYTES_MAX

    run(story())


Call = Callable[[Any], Any]

REQUESTS: dict[str, tuple[str, Any, str]] = {
    "a task without a name": ("GetTask", task_pb2.GetTaskRequest(), "name"),
    "an unknown view": ("GetTask", task_pb2.GetTaskRequest(name="tasks/a", view=9), "view"),  # type: ignore[arg-type]
    "an unknown order": ("ListTasks", task_pb2.ListTasksRequest(order=9), "order"),  # type: ignore[arg-type]
    "a scheduling order of no queue": ("ListTasks", task_pb2.ListTasksRequest(order=2), "filter.queue"),  # type: ignore[arg-type]
    "a negative page": ("ListTasks", task_pb2.ListTasksRequest(page_size=-1), "page_size"),
    "a made up page token": ("ListTasks", task_pb2.ListTasksRequest(page_token="?"), "page_token"),
    "a token of another list": ("ListTasks", task_pb2.ListTasksRequest(page_token="YQ=="), "page_token"),
    "a token beyond all numbers": (
        "ListTasks",
        task_pb2.ListTasksRequest(page_token="OTk5OTk5OTk5OTk5OTk5OTk5OQ=="),
        "page_token",
    ),
    "an unknown state": (
        "ListTasks",
        task_pb2.ListTasksRequest(filter=task_pb2.TaskFilter(states=[77])),  # type: ignore[list-item]
        "filter.states",
    ),
    "a filter by half a name": (
        "ListTasks",
        task_pb2.ListTasksRequest(filter=task_pb2.TaskFilter(queue="q")),
        "filter.queue",
    ),
    "a filter by a worker that cannot be": (
        "ListTasks",
        task_pb2.ListTasksRequest(filter=task_pb2.TaskFilter(worker_id="a b")),
        "filter.worker_id",
    ),
    "cancelling nothing": ("CancelTasks", task_pb2.CancelTasksRequest(), "names"),
    "cancelling two things": (
        "CancelTasks",
        task_pb2.CancelTasksRequest(names=["tasks/a"], queue="queues/q"),
        "names",
    ),
    "cancelling too many": ("CancelTasks", task_pb2.CancelTasksRequest(names=["tasks/a"] * 1001), "names"),
    "cancelling a name that is none": ("CancelTasks", task_pb2.CancelTasksRequest(names=["a"]), "names[0]"),
    "cancelling at length": (
        "CancelTasks",
        task_pb2.CancelTasksRequest(names=["tasks/a"], reason="r" * 257),
        "reason",
    ),
    "retrying nothing": ("RetryTasks", task_pb2.RetryTasksRequest(), "names"),
    "retrying all of a queue": ("RetryTasks", task_pb2.RetryTasksRequest(queue="queues/q", all=True), "all"),
    "a workflow without a name": ("GetWorkflow", task_pb2.GetWorkflowRequest(), "name"),
    "a state that no workflow has": (
        "ListWorkflows",
        task_pb2.ListWorkflowsRequest(states=[task_pb2.TASK_STATE_QUEUED]),
        "states",
    ),
    "an explanation of nothing": ("ExplainTask", task_pb2.ExplainTaskRequest(), "name"),
}


def test_bad_requests_are_refused_with_their_field(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            refused = {}
            for case, (method, request, _) in REQUESTS.items():
                code, reason, metadata = await refusal(getattr(node.tasks, method)(request))
                refused[case] = (code, reason, metadata["field"])

            assert refused == {
                case: (Code.INVALID_ARGUMENT, "INVALID_FIELD", field)
                for case, (_, _, field) in REQUESTS.items()
            }

    run(story())


# Queues of tasks --------------------------------------------------------------------------------------------------

SCHEDULINGS: dict[str, tuple[queue_pb2.Scheduling, str]] = {
    "an unknown policy": (queue_pb2.Scheduling(policy=77), "policy"),  # type: ignore[arg-type]
    "an unknown placement": (queue_pb2.Scheduling(placement=77), "placement"),  # type: ignore[arg-type]
    "a long aging": (queue_pb2.Scheduling(aging=seconds(31 * DAY_S)), "aging"),
    "a short slice": (queue_pb2.Scheduling(time_slice=seconds(0, 9_000_000)), "time_slice"),
    "a weight of nothing": (queue_pb2.Scheduling(tenant_weights={"t": 0}), 'tenant_weights["t"]'),
    "a weight that is none": (
        queue_pb2.Scheduling(tenant_weights={"t": float("nan")}),
        'tenant_weights["t"]',
    ),
    "a heavy tenant": (queue_pb2.Scheduling(tenant_weights={"t": 1e7}), 'tenant_weights["t"]'),
    "too many tenants": (
        queue_pb2.Scheduling(tenant_weights={f"{place}": 1 for place in range(10_001)}),
        "tenant_weights",
    ),
    "a rate of nothing": (queue_pb2.Scheduling(rate=queue_pb2.RateLimit()), "rate.per_second"),
    "a rate that is none": (
        queue_pb2.Scheduling(rate_per_key=queue_pb2.RateLimit(per_second=float("nan"))),
        "rate_per_key.per_second",
    ),
    "a large burst": (
        queue_pb2.Scheduling(rate=queue_pb2.RateLimit(per_second=1, burst=2_000_000)),
        "rate.burst",
    ),
    "a short lease": (queue_pb2.Scheduling(lease=seconds(0)), "lease"),
    "too many attempts": (queue_pb2.Scheduling(max_attempts=1001), "max_attempts"),
    "no backoff": (queue_pb2.Scheduling(backoff=seconds(0)), "backoff"),
    "a long pause": (queue_pb2.Scheduling(backoff_max=seconds(31 * DAY_S)), "backoff_max"),
    "a long memory": (queue_pb2.Scheduling(retain_failed=seconds(367 * DAY_S)), "retain_failed"),
    "a large memory": (queue_pb2.Scheduling(max_ended=10_000_001), "max_ended"),
}


def test_settings_of_a_queue_of_tasks_that_break_a_limit_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            refused = {}
            for case, (scheduling, _) in SCHEDULINGS.items():
                call = node.create("q", kind=queue_pb2.QUEUE_KIND_TASK, scheduling=scheduling)
                refused[case] = (await refusal(call))[2]["field"]

            assert refused == {case: f"queue.scheduling.{field}" for case, (_, field) in SCHEDULINGS.items()}

    run(story())
