from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import refusal, run, running, until
from tests.node.task_clients import (
    ALREADY_SCHEDULED,
    BLOCKED,
    CANCELLED,
    CREATED,
    QUEUED,
    REPLACED,
    RUNNING,
    SUCCEEDED,
    Worker,
    a_task,
    after,
    got,
    listed,
    submit,
    task_queue,
)

Code = grpc.StatusCode
FULL = task_pb2.TASK_VIEW_FULL
IN_ORDER = task_pb2.TASK_ORDER_SCHEDULE
OF_Q = task_pb2.TaskFilter(queue="queues/q")


def test_the_classic_small_scheduler(tmp_path: Path) -> None:
    """Tasks of {id, priority, size}: submitted again with a higher priority they are replaced, otherwise reported."""

    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node, policy=queue_pb2.SCHEDULING_POLICY_PRIORITY)
            first = await submit(
                node,
                a_task("a", priority=1, size=Duration(seconds=3)),
                a_task("b", priority=5, size=Duration(seconds=1)),
                a_task("c", priority=3, size=Duration(seconds=2)),
            )
            assert first == [("tasks/a", CREATED), ("tasks/b", CREATED), ("tasks/c", CREATED)]

            again = await submit(
                node, a_task("a", priority=9), a_task("b", priority=5), a_task("c", priority=2)
            )

            assert [outcome for _, outcome in again] == [REPLACED, ALREADY_SCHEDULED, ALREADY_SCHEDULED]
            assert await listed(node, filter=OF_Q, order=IN_ORDER) == ["a", "b", "c"]
            assert await listed(node) == ["c", "b", "a"]

    run(story())


def test_a_task_is_shown_with_what_was_submitted_and_what_became_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(
                node, a_task("a", payload=b"in", labels={"k": "v"}, content_type="text/plain", attempt=7)
            )
            waiting = await got(node, "a")
            assert (waiting.state, waiting.attempt, waiting.payload, dict(waiting.labels)) == (
                QUEUED,
                0,
                b"",
                {"k": "v"},
            )

            worker = Worker(node)
            await worker.start(credit=1)
            await worker.take(receive=False)
            assert (await got(node, "a")).state == task_pb2.TASK_STATE_LEASED
            await worker.receive("a")
            row = node.machine.task("tasks/a")
            assert row
            await until(lambda: node.node.tasking.scheduler.received(row.number), "received")
            assert (await got(node, "a")).state == RUNNING
            await worker.succeed("a", data=b"out")

            done = await got(node, "a", FULL)
            assert (done.state, done.attempt, done.payload, done.result.data) == (SUCCEEDED, 1, b"in", b"out")
            assert [event.reason for event in done.events] == ["SUBMITTED", "LEASED", "SUCCEEDED"]
            assert not (await got(node, "a")).HasField("result")

    run(story())


def test_what_the_server_sets_cannot_be_submitted(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            pretended = a_task("a", state=SUCCEEDED, worker_id="w", workflow="workflows/x", lease_id=5)
            pretended.result.data = b"lie"

            await submit(node, pretended)

            task = await got(node, "a", FULL)
            assert (task.state, task.worker_id, task.workflow, task.lease_id) == (QUEUED, "", "", 0)
            assert not task.HasField("result")

    run(story())


def test_tasks_without_names_get_some_and_a_retry_of_the_call_gets_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            first = await submit(node, a_task(), a_task(), request_id="r1")
            other = await submit(node, a_task())

            assert await submit(node, a_task(), a_task(), request_id="r1") == first
            names = {name for name, _ in (*first, *other)}
            assert len(names) == 3
            assert set(await listed(node)) == {name.removeprefix("tasks/") for name in names}

    run(story())


def test_ten_thousand_tasks_are_one_entry_and_answered_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            before = node.replica.index

            answer = await submit(node, *(a_task(f"t-{place}") for place in range(10_000)))

            assert answer == [(f"tasks/t-{place}", CREATED) for place in range(10_000)]
            assert node.replica.index == before + 1
            assert (await node.tasks.ListTasks(task_pb2.ListTasksRequest(page_size=1))).tasks[
                0
            ].name == "tasks/t-9999"

    run(story())


def test_checking_only_answers_as_the_submit_would_and_stores_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a", priority=1))
            before = node.machine.fingerprint()

            tried = await submit(
                node,
                a_task("a", priority=2),
                a_task("b", dependencies=after("a")),
                workflow=task_pb2.Workflow(name="workflows/w"),
                validate_only=True,
            )
            refused = await refusal(submit(node, a_task("c", dependencies=after("none")), validate_only=True))

            assert [outcome for _, outcome in tried] == [REPLACED, CREATED]
            assert refused[1] == "UNKNOWN_DEPENDENCY"
            assert node.machine.fingerprint() == before
            assert await submit(node, a_task("b")) == [("tasks/b", CREATED)]

    run(story())


def test_a_submit_is_refused_as_a_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await node.create("messages")
            for tasks, code, reason in (
                ([a_task("a"), a_task("b", queue="none")], Code.NOT_FOUND, "QUEUE_NOT_FOUND"),
                ([a_task("a"), a_task("b", queue="messages")], Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND"),
                (
                    [a_task("a"), a_task("b", dependencies=after("none"))],
                    Code.INVALID_ARGUMENT,
                    "UNKNOWN_DEPENDENCY",
                ),
            ):
                assert (await refusal(submit(node, *tasks)))[:2] == (code, reason)

            assert await listed(node) == []

    run(story())


def test_a_cycle_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            tasks = [
                a_task("free"),
                a_task("a", dependencies=after("free", "c")),
                a_task("b", dependencies=after("a")),
                a_task("c", dependencies=after("b")),
            ]

            code, reason, metadata = await refusal(submit(node, *tasks))

            assert (code, reason) == (Code.INVALID_ARGUMENT, "CYCLE")
            assert metadata["cycle"] == "tasks/a -> tasks/c -> tasks/b -> tasks/a"
            assert await listed(node) == []

    run(story())


def test_a_long_cycle_is_named_in_part_so_that_the_answer_travels(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            ring = [
                a_task(f"{place:0128}", dependencies=after(f"{(place + 1) % 3_000:0128}"))
                for place in range(3_000)
            ]

            _, reason, metadata = await refusal(submit(node, *ring))

            assert reason == "CYCLE"
            assert metadata["cycle"].endswith(" -> ...")
            assert metadata["tasks"] == "3000"

    run(story())


def test_a_workflow_is_submitted_shown_and_listed(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            for name in ("one", "two"):
                workflow = task_pb2.Workflow(name=f"workflows/{name}", labels={"n": name}, state=SUCCEEDED)
                await submit(
                    node,
                    a_task(f"{name}-a"),
                    a_task(f"{name}-b", dependencies=after(f"{name}-a")),
                    workflow=workflow,
                )
            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(workflow="workflows/one"))

            shown = await node.tasks.GetWorkflow(task_pb2.GetWorkflowRequest(name="workflows/two"))
            page = await node.tasks.ListWorkflows(task_pb2.ListWorkflowsRequest(page_size=1))
            rest = await node.tasks.ListWorkflows(
                task_pb2.ListWorkflowsRequest(page_token=page.next_page_token)
            )
            cancelled = await node.tasks.ListWorkflows(task_pb2.ListWorkflowsRequest(states=[CANCELLED]))

            assert (shown.workflow.state, dict(shown.workflow.labels)) == (RUNNING, {"n": "two"})
            assert (shown.workflow.counts.queued, shown.workflow.counts.blocked) == (1, 1)
            assert [each.name for each in (*page.workflows, *rest.workflows)] == [
                "workflows/two",
                "workflows/one",
            ]
            assert [each.name for each in cancelled.workflows] == ["workflows/one"]
            assert (await got(node, "two-b")).state == BLOCKED
            missing = node.tasks.GetWorkflow(task_pb2.GetWorkflowRequest(name="workflows/none"))
            assert (await refusal(missing))[:2] == (Code.NOT_FOUND, "WORKFLOW_NOT_FOUND")

    run(story())


def test_tasks_are_cancelled_and_given_new_attempts(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"), a_task("b"), a_task("c"))
            names = task_pb2.CancelTasksRequest(names=["tasks/a", "tasks/b"], reason="enough")
            assert (await node.tasks.CancelTasks(names)).cancelled_tasks == 2
            assert (await node.tasks.CancelTasks(names)).cancelled_tasks == 0
            assert (await got(node, "a", FULL)).events[-1].message == "enough"

            retry = task_pb2.RetryTasksRequest(names=["tasks/a"])
            assert (await node.tasks.RetryTasks(retry)).retried_tasks == 1
            assert (await got(node, "a")).state == QUEUED
            queue = task_pb2.CancelTasksRequest(queue="queues/q", request_id="x")
            assert (await node.tasks.CancelTasks(queue)).cancelled_tasks == 2
            assert (await node.tasks.CancelTasks(queue)).cancelled_tasks == 2

    run(story())


def test_what_does_not_exist_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            for call in (
                node.tasks.GetTask(task_pb2.GetTaskRequest(name="tasks/none")),
                node.tasks.ExplainTask(task_pb2.ExplainTaskRequest(name="tasks/none")),
                node.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/none"])),
                node.tasks.RetryTasks(task_pb2.RetryTasksRequest(names=["tasks/none"])),
            ):
                assert await refusal(call) == (Code.NOT_FOUND, "TASK_NOT_FOUND", {"task": "tasks/none"})
            for listing in (
                task_pb2.TaskFilter(queue="queues/none"),
                task_pb2.TaskFilter(workflow="workflows/none"),
            ):
                request = task_pb2.ListTasksRequest(filter=listing)
                assert (await refusal(node.tasks.ListTasks(request)))[0] == Code.NOT_FOUND

    run(story())


def test_a_queue_of_tasks_says_what_it_holds(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"), a_task("b"), a_task("c", not_before=Timestamp(seconds=1 << 33)))
            worker = Worker(node)
            await worker.start(credit=1)
            await worker.take()

            stats = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))).queue.stats

            assert (stats.messages, stats.leased_messages, stats.consumers, stats.published_messages) == (
                3,
                1,
                1,
                3,
            )
            assert (stats.tasks.queued, stats.tasks.delayed, stats.tasks.leased) == (1, 1, 1)

    run(story())
