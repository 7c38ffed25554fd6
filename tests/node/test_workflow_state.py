"""Workflows as a whole: what they are, how they end, and how long they are remembered."""

from pathlib import Path

import pytest

from node.state.listener import Silence
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import Tasks, advance, cancel, duration, on, retry, submit, task
from tests.sim.state_log import create, delete

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS


class Heard(Silence):
    def __init__(self) -> None:
        self.ids: list[int] = []

    def workflow_changed(self, workflow_id: int) -> None:
        self.ids.append(workflow_id)


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def exists(tasks: Tasks, workflow: str) -> bool:
    return tasks.machine.workflow(f"workflows/{workflow}") is not None


def wait(tasks: Tasks, pause_ms: int) -> None:
    """Time passes, and what it brings happens."""
    tasks.do(advance(), time_ms=tasks.now_ms + pause_ms)


def test_a_workflow_is_shown_with_its_labels_counts_and_times(tasks: Tasks) -> None:
    command = command_pb2.SubmitTasks(
        tasks=[task("b", on("a")), task("a")],
        workflow=task_pb2.Workflow(
            name="workflows/w", labels={"z": "1", "a": "2"}, state=task_pb2.TASK_STATE_FAILED
        ),
    )
    tasks.do(command_pb2.Command(submit_tasks=command))
    shown = tasks.machine.workflow("workflows/w").to_proto()
    assert (shown.name, dict(shown.labels), shown.state) == (
        "workflows/w",
        {"z": "1", "a": "2"},
        task_pb2.TASK_STATE_RUNNING,
    )
    assert shown.counts == task_pb2.TaskCounts(queued=1, blocked=1)
    assert shown.create_time.ToMilliseconds() == tasks.now_ms
    assert not shown.HasField("end_time")
    tasks.succeed("a")
    tasks.succeed("b")
    shown = tasks.machine.workflow("workflows/w").to_proto()
    assert (shown.state, shown.end_time.ToMilliseconds()) == (task_pb2.TASK_STATE_SUCCEEDED, tasks.now_ms)
    (full,) = tasks.machine.shown([tasks.row("b")], task_pb2.TASK_VIEW_BASIC)
    assert full.workflow == "workflows/w"


def test_a_workflow_runs_until_its_last_task_has_ended(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.fail("a")
    assert tasks.workflow_state("w") == "RUNNING"
    tasks.succeed("b")
    assert tasks.workflow_state("w") == "FAILED"


def test_a_workflow_that_is_retried_has_not_ended_before(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), workflow="w"))
    tasks.fail("a")
    tasks.do(retry("a"))
    assert not tasks.machine.workflow("workflows/w").to_proto().HasField("end_time")
    tasks.succeed("a")
    ended = tasks.machine.workflow("workflows/w").to_proto()
    assert (ended.end_time.ToMilliseconds(), ended.state) == (tasks.now_ms, task_pb2.TASK_STATE_SUCCEEDED)


def test_tasks_that_are_known_do_not_become_part_of_a_new_workflow(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.do(submit(task("a"), workflow="empty"))
    assert not exists(tasks, "empty")
    tasks.do(submit(task("a"), task("b", on("a")), workflow="w"))
    assert tasks.counts("w") == {"blocked": 1}


def test_workflows_are_listed_newest_first_and_every_change_is_told_once_an_entry(tasks: Tasks) -> None:
    heard = Heard()
    tasks.machine.listeners.append(heard)
    tasks.do(submit(task("a"), task("b"), workflow="one"))
    tasks.do(submit(task("c"), workflow="two"))
    newest, oldest = tasks.machine.workflows()
    assert [newest.name, oldest.name] == ["workflows/two", "workflows/one"]
    assert [row.name for row in tasks.machine.workflows(newest.id, 5)] == ["workflows/one"]
    assert [row.name for row in tasks.machine.workflows(0, 1)] == ["workflows/two"]
    tasks.do(cancel("a", "b"))
    assert heard.ids == [oldest.id, newest.id, oldest.id]


def test_no_task_of_a_workflow_is_forgotten_while_it_runs(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.succeed("a")
    wait(tasks, HOUR_MS + 1)
    assert tasks.state("a") == "SUCCEEDED"
    tasks.succeed("b")
    wait(tasks, HOUR_MS + 1)
    assert tasks.machine.task("tasks/a") is None
    assert not exists(tasks, "w")


def test_the_tasks_of_a_workflow_are_remembered_as_long_as_the_one_that_is_kept_longest(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a")), workflow="w"))
    tasks.succeed("a")
    tasks.fail("b")
    wait(tasks, WEEK_MS - 1_000)
    tasks.do(retry("b"))  # it finds what it needs
    assert [name for name, _, _ in tasks.machine.parents(tasks.row("b").number)] == ["tasks/a"]
    tasks.fail("b")
    wait(tasks, WEEK_MS + 1)
    assert tasks.machine.task("tasks/b") is None
    assert not exists(tasks, "w")
    tasks.do(submit(task("a"), workflow="w"))
    assert tasks.counts("w") == {"queued": 1}


def test_a_success_after_a_failure_does_not_shorten_how_long_a_workflow_is_remembered(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.fail("a")
    tasks.succeed("b")
    wait(tasks, 2 * HOUR_MS)
    assert tasks.states("ab") == ["FAILED", "SUCCEEDED"]


def test_forgetting_takes_steps_which_do_not_move_the_end_of_a_workflow(tasks: Tasks) -> None:
    heard, names = Heard(), [f"t{i}" for i in range(40)]
    tasks.do(submit(*(task(each) for each in names), workflow="w"))
    tasks.succeed(*names)
    tasks.machine.listeners.append(heard)
    before = tasks.machine.workflow("workflows/w")
    tasks.do(advance(limit=20), time_ms=tasks.now_ms + HOUR_MS + 1)
    now = tasks.machine.workflow("workflows/w")
    assert 0 < now.tasks < 40
    assert (now.counts, now.end_ms) == (before.counts, before.end_ms)
    while exists(tasks, "w"):
        heard.ids.clear()
        tasks.do(advance(limit=20))
    assert heard.ids == [before.id]


def test_a_workflow_that_ends_anew_in_the_entry_that_retried_it_has_ended_then(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), workflow="w"))
    tasks.fail("a")
    tasks.together(retry(workflow="w"), cancel("a"))
    assert tasks.machine.workflow("workflows/w").end_ms == tasks.now_ms


def test_a_workflow_that_could_never_run_is_remembered_like_any_failure(tasks: Tasks) -> None:
    tasks.do(submit(task("bad")))
    tasks.fail("bad")
    tasks.do(submit(task("a", on("bad")), workflow="w"))
    assert (tasks.workflow_state("w"), tasks.counts("w")) == ("FAILED", {"failed": 1})
    wait(tasks, WEEK_MS - 1_000)
    assert exists(tasks, "w")
    wait(tasks, 2_000)
    assert not exists(tasks, "w")


def test_a_workflow_is_remembered_while_a_task_beside_it_waits_for_one_of_its_own(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("z"), workflow="w"))
    tasks.do(submit(task("outside", [*on("a"), *on("z", condition="ENDED")], size=duration(5))))
    tasks.succeed("a")
    tasks.succeed("z")
    wait(tasks, HOUR_MS + 1)
    assert [name for name, _, _ in tasks.machine.parents(tasks.row("outside").number)] == [
        "tasks/a",
        "tasks/z",
    ]
    tasks.succeed("outside")
    wait(tasks, HOUR_MS + 1)
    assert not exists(tasks, "w")


def test_a_workflow_ends_when_the_queue_of_its_last_tasks_is_deleted(tasks: Tasks) -> None:
    tasks.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(
        submit(
            task("a"),
            task("b", queue="queues/other"),
            task("c", on("b", condition="ENDED")),
            workflow="w",
        )
    )
    tasks.succeed("a")
    tasks.do(delete("queues/other"))
    tasks.do(advance())
    assert tasks.counts("w") == {"succeeded": 1, "cancelled": 1, "queued": 1}
    tasks.succeed("c")
    assert tasks.workflow_state("w") == "FAILED"


def test_the_counts_of_a_workflow_are_of_all_its_tasks_whatever_a_batch_does(tasks: Tasks) -> None:
    tasks.together(
        submit(task("a"), task("b", on("a")), workflow="w"),
        cancel("a"),
        retry("a", "b"),
        cancel(workflow="w"),
        retry(workflow="w"),
    )
    assert tasks.counts("w") == {"queued": 1, "blocked": 1}
    assert tasks.workflow_state("w") == "RUNNING"
