"""CancelTasks in the state: what ends, what is told, and what depends on it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from node.state.listener import Silence
from node.state.task_rows import ReadyTask, Settled
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import QUEUE, Tasks, cancel, lease, on, settle, submit, success, task
from tests.sim.state_log import create


class Heard(Silence):
    """What the state tells of tasks."""

    def __init__(self) -> None:
        self.settled: list[Settled] = []
        self.unready: list[int] = []

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        self.settled.extend(settled)

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        self.unready.extend(number for _, number in tasks)

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        self.unready = [number for number in self.unready if number not in {task.number for task in tasks}]


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


@pytest.fixture
def heard(tasks: Tasks) -> Heard:
    listener = Heard()
    tasks.machine.listeners.append(listener)
    return listener


def later() -> task_pb2.Task:
    delayed = task("delayed")
    delayed.not_before.FromMilliseconds(10**12)
    return delayed


def test_waiting_tasks_are_cancelled_wherever_they_wait(tasks: Tasks, heard: Heard) -> None:
    tasks.do(submit(task("queued"), task("blocked", on("queued")), later()))
    number = tasks.row("queued").number
    assert tasks.do(cancel("queued", "blocked", "delayed", reason="enough")).count == 3
    assert tasks.states(["queued", "blocked", "delayed"]) == ["CANCELLED"] * 3
    assert heard.unready == [number]
    shown = tasks.machine.shown([tasks.row("queued")], task_pb2.TASK_VIEW_FULL)[0]
    assert [(event.reason, event.message) for event in shown.events][-1] == ("CANCELLED", "enough")


def test_a_running_task_is_cancelled_at_once_and_its_late_outcome_refused(tasks: Tasks, heard: Heard) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    late = success(tasks.row("a"))
    assert tasks.do(cancel("a")).count == 1
    assert tasks.state("a") == "CANCELLED"
    (settled,) = heard.settled
    assert (settled.lease_id, settled.reason) == (late.lease_id, "CANCELLED")
    assert tasks.do(settle([late])).refused == (late.lease_id,)
    assert tasks.state("a") == "CANCELLED"


def test_tasks_that_have_ended_are_not_cancelled(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b")))
    tasks.succeed("a")
    assert tasks.do(cancel("a", "b", "b")).count == 1
    assert tasks.states("ab") == ["SUCCEEDED", "CANCELLED"]


def test_what_depends_on_a_cancelled_task_fails_or_goes_on_as_it_said(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a")), task("c", on("a", condition="ENDED"))))
    tasks.do(cancel("a"))
    assert tasks.states("abc") == ["CANCELLED", "FAILED", "QUEUED"]


def test_unknown_names_are_passed_over_unless_there_is_nothing_else(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    assert tasks.do(cancel("nobody", "a")).count == 1
    refused = tasks.refusal(cancel("nobody", "no-one"))
    assert (refused.reason, refused.metadata) == ("TASK_NOT_FOUND", {"task": "tasks/nobody"})


def test_a_workflow_is_cancelled_as_a_whole(tasks: Tasks) -> None:
    tasks.do(
        submit(task("a"), task("b"), task("c", on("b")), task("d", on("c", condition="ENDED")), workflow="w")
    )
    tasks.succeed("a")
    tasks.lease("b")
    assert tasks.do(cancel(workflow="w")).count == 3
    assert tasks.counts("w") == {"succeeded": 1, "cancelled": 3}
    assert tasks.workflow_state("w") == "CANCELLED"
    assert tasks.refusal(cancel(workflow="v")).reason == "WORKFLOW_NOT_FOUND"


def test_a_workflow_that_had_ended_is_not_cancelled_afterwards(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), workflow="w"))
    tasks.succeed("a")
    assert tasks.do(cancel(workflow="w")).count == 0
    assert tasks.workflow_state("w") == "SUCCEEDED"


def test_a_workflow_whose_tasks_were_cancelled_one_by_one_has_failed(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.do(cancel("a", "b"))
    assert tasks.workflow_state("w") == "FAILED"


def test_the_waiting_tasks_of_a_queue_are_cancelled_so_many_at_a_time(tasks: Tasks) -> None:
    tasks.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(submit(*(task(f"t{i}") for i in range(6)), later(), task("last", on("t0"))))
    tasks.do(submit(task("elsewhere", queue="queues/other")))
    tasks.lease("t0")
    counts = [tasks.do(cancel(queue=QUEUE, limit=3)).count for _ in range(4)]
    assert counts == [3, 3, 1, 0]
    assert tasks.states(["t0", "elsewhere"]) == ["LEASED", "QUEUED"]
    assert tasks.machine.queue_counts(tasks.row("t0").queue_id).cancelled == 7
    assert tasks.refusal(cancel(queue="queues/none")).reason == "QUEUE_NOT_FOUND"


def test_no_more_tasks_are_cancelled_than_was_said(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c"), workflow="w"))
    assert tasks.do(cancel("a", "b", "c", limit=1)).count == 1
    assert tasks.do(cancel(workflow="w", limit=1)).count == 1
    assert tasks.states("abc") == ["CANCELLED", "CANCELLED", "QUEUED"]


def test_cancelling_what_waits_does_not_look_at_what_has_ended(tasks: Tasks) -> None:
    plan = tasks.machine._store.execute(
        "EXPLAIN QUERY PLAN SELECT number FROM tasks"
        " WHERE state IN (2, 3) AND queue_id = ? AND stamp > ? ORDER BY number LIMIT ?",
        (1, 0, 1),
    ).fetchall()
    assert "tasks_held" in str(plan)


def test_a_task_that_waits_again_can_be_leased_and_cancelled_in_one_entry(tasks: Tasks, heard: Heard) -> None:
    tasks.do(submit(task("a"), task("b")))
    number = tasks.row("a").number
    tasks.together(lease([number]), cancel("a"), cancel(queue=QUEUE))
    assert tasks.states("ab") == ["CANCELLED", "CANCELLED"]
    assert [settled.number for settled in heard.settled] == [number]


def test_what_is_submitted_is_cancelled_in_the_same_entry(tasks: Tasks) -> None:
    results = tasks.together(
        submit(task("a"), task("b", on("a")), workflow="w"),
        cancel(workflow="w"),
        submit(task("c"), task("d", on("c", condition="ENDED")), later()),
        cancel(queue=QUEUE),
    )
    assert [result.count for result in results[1::2]] == [2, 3]
    assert tasks.states(["a", "b", "c", "d", "delayed"]) == ["CANCELLED"] * 5
