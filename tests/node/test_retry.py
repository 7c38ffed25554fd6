"""RetryTasks in the state: what begins anew, from where, and what waits for it again."""

from pathlib import Path

import pytest

from taskraft.v1 import task_pb2
from tests.node.task_log import (
    QUEUE,
    Tasks,
    advance,
    cancel,
    failure,
    lease,
    on,
    retry,
    settle,
    submit,
    success,
    task,
)


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state", max_attempts=2)


def exhaust(tasks: Tasks, task_id: str) -> None:
    """All attempts of a task fail."""
    while tasks.state(task_id) != "DEAD_LETTERED":
        tasks.lease(task_id)
        tasks.do(settle([failure(tasks.row(task_id), permanent=False)]))
        tasks.do(advance(), time_ms=tasks.now_ms + 10_000)


def test_a_dead_letter_gets_all_its_attempts_again(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    exhaust(tasks, "a")
    assert tasks.do(retry("a")).count == 1
    row = tasks.row("a")
    assert (tasks.state("a"), row.attempt, row.error, row.end_ms) == ("QUEUED", 0, b"", 0)
    exhaust(tasks, "a")
    assert tasks.row("a").attempt == 2


def test_every_end_but_success_can_be_retried(tasks: Tasks) -> None:
    late = task("late")
    late.deadline.FromMilliseconds(tasks.now_ms + 60_000)
    tasks.do(submit(task("dead"), task("failed"), task("cancelled"), task("good"), task("runs")))
    exhaust(tasks, "dead")
    tasks.do(submit(late))
    tasks.fail("failed")
    tasks.do(cancel("cancelled"))
    tasks.succeed("good")
    tasks.lease("runs")
    tasks.do(advance(), time_ms=tasks.now_ms + 60_000)
    assert tasks.state("late") == "EXPIRED"
    ended = ["dead", "failed", "cancelled", "late"]
    assert tasks.do(retry(*ended, "good", "runs")).count == 4
    assert tasks.states(ended) == ["QUEUED"] * 4
    assert tasks.states(["good", "runs"]) == ["SUCCEEDED", "LEASED"]
    tasks.do(advance(), time_ms=tasks.now_ms + 60_000)
    assert tasks.state("late") == "QUEUED"  # its deadline is over and forgotten


def test_the_dead_letters_of_a_queue_are_retried_so_many_at_a_time(tasks: Tasks) -> None:
    tasks.do(submit(*(task(f"t{i}") for i in range(5))))
    tasks.fail("t4")
    for i in range(4):
        exhaust(tasks, f"t{i}")
    assert [tasks.do(retry(queue=QUEUE, limit=3)).count for _ in range(3)] == [3, 1, 0]
    assert tasks.state("t4") == "FAILED"


def test_a_workflow_goes_on_from_its_failures(tasks: Tasks) -> None:
    tasks.do(
        submit(
            task("a"),
            task("b", on("a")),
            task("c", on("b")),
            task("d", on("a")),
            task("e", [*on("c"), *on("d")]),
            workflow="w",
        )
    )
    tasks.succeed("a")
    tasks.succeed("d")
    tasks.fail("b")
    assert tasks.states("abcde") == ["SUCCEEDED", "FAILED", "FAILED", "SUCCEEDED", "FAILED"]
    assert tasks.workflow_state("w") == "FAILED"
    assert tasks.do(retry(workflow="w")).count == 3
    assert tasks.states("abcde") == ["SUCCEEDED", "QUEUED", "BLOCKED", "SUCCEEDED", "BLOCKED"]
    assert tasks.workflow_state("w") == "RUNNING"
    for each in "bce":
        tasks.succeed(each)
    assert tasks.workflow_state("w") == "SUCCEEDED"
    assert tasks.counts("w") == {"succeeded": 5}
    assert tasks.refusal(retry(workflow="v")).reason == "WORKFLOW_NOT_FOUND"


def test_a_cancelled_workflow_that_is_retried_is_not_cancelled_any_more(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a")), workflow="w"))
    tasks.do(cancel(workflow="w"))
    tasks.do(retry(workflow="w"))
    tasks.succeed("a")
    tasks.succeed("b")
    assert tasks.workflow_state("w") == "SUCCEEDED"


def test_all_of_a_workflow_runs_again_without_what_it_came_to(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a")), workflow="w"))
    tasks.lease("a")
    tasks.do(settle([success(tasks.row("a"), b"old")]))
    tasks.succeed("b")
    assert tasks.do(retry(workflow="w", all_=True)).count == 2
    assert tasks.states("ab") == ["QUEUED", "BLOCKED"]
    assert tasks.machine.results([tasks.row("a").number]) == {}
    tasks.succeed("a")
    tasks.succeed("b")
    assert tasks.counts("w") == {"succeeded": 2}


def test_what_is_blocked_waits_again_for_a_parent_that_is_retried(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", on("a", "b", condition="ENDED"))))
    tasks.fail("a")
    tasks.do(retry("a"))
    tasks.succeed("b")
    assert tasks.state("c") == "BLOCKED"
    tasks.succeed("a")
    assert tasks.state("c") == "QUEUED"


def test_an_alternative_that_is_taken_back_does_not_count(tasks: Tasks) -> None:
    any_of = on("a", "b", condition="ANY_SUCCEEDED")
    tasks.do(submit(task("x")))
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.do(submit(task("c", [*any_of, *on("x")])))
    tasks.succeed("a")
    tasks.fail("b")
    tasks.do(retry(workflow="w", all_=True))
    tasks.succeed("x")
    assert tasks.state("c") == "BLOCKED"
    tasks.fail("a")
    tasks.fail("b")
    assert tasks.state("c") == "FAILED"


def test_a_task_whose_parent_has_failed_and_is_not_retried_fails_again_and_with_it_what_depends_on_it(
    tasks: Tasks,
) -> None:
    tasks.do(submit(task("a"), task("b", on("a")), task("c", on("b"))))
    tasks.fail("a")
    assert tasks.do(retry("c", "b")).count == 2
    assert tasks.states("bc") == ["FAILED", "FAILED"]
    shown = tasks.machine.shown([tasks.row("b")], task_pb2.TASK_VIEW_FULL)[0]
    assert [event.reason for event in shown.events][-2:] == ["RETRIED", "DEPENDENCY_FAILED"]
    assert tasks.do(retry("a", "b", "c")).count == 3
    for each in "abc":
        tasks.succeed(each)


def test_a_task_is_retried_as_if_what_it_depended_on_and_was_forgotten_had_not_been(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a"))))
    tasks.succeed("a")
    tasks.fail("b")
    tasks.do(advance(), time_ms=tasks.now_ms + 3_600_001)
    assert tasks.machine.task("tasks/a") is None
    tasks.do(retry("b"))
    assert tasks.state("b") == "QUEUED"


def test_unknown_names_are_passed_over_unless_there_is_nothing_else(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.fail("a")
    assert tasks.do(retry("nobody", "a")).count == 1
    assert tasks.refusal(retry("nobody")).reason == "TASK_NOT_FOUND"


def test_a_task_that_is_retried_twice_in_one_entry_begins_once(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), workflow="w"))
    tasks.fail("a")
    number = tasks.row("a").number
    first, second, leased = tasks.together(retry("a"), retry("a"), lease([number, number]))
    assert (first.count, second.count) == (1, 0)
    assert leased.skipped == (number,)
    assert tasks.counts("w") == {"leased": 1}


def test_what_dies_is_retried_in_the_same_entry(tasks: Tasks) -> None:
    tasks.do(submit(task("a", max_attempts=1), task("b", on("a")), workflow="w"))
    tasks.lease("a")
    died = failure(tasks.row("a"), permanent=False)
    _, retried, again = tasks.together(settle([died]), retry(queue=QUEUE), retry(workflow="w"))
    assert (retried.count, again.count) == (1, 1)
    assert tasks.states("ab") == ["QUEUED", "BLOCKED"]
