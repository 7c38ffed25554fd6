"""Queues of tasks that are purged or deleted: at once for everyone, in small steps in the store."""

from pathlib import Path

import pytest

from node.state.results import Done, Purged, Settlement
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import QUEUE, Tasks, advance, lease, on, retry, settle, submit, success, task
from tests.node.task_mirror import Mirror
from tests.sim.state_log import create, delete, purge

OTHER = "queues/other"


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    tasks = Tasks(tmp_path / "state")
    tasks.do(create(OTHER, kind=queue_pb2.QUEUE_KIND_TASK))
    return tasks


def bury(tasks: Tasks, limit: int = 8) -> int:
    """Step by step, until nothing is due; how many steps that took."""
    steps = 0
    while (due_ms := tasks.machine.next_due_ms()) is not None and due_ms <= tasks.now_ms:
        tasks.do(advance(limit=limit), time_ms=tasks.now_ms)
        steps += 1
    return steps


def stored(tasks: Tasks) -> dict[str, int]:
    """How many rows each table of tasks has."""
    tables = ("tasks", "task_specs", "task_results", "task_checkpoints", "edges", "graves", "workflows")
    execute = tasks.machine._store.execute
    return {table: execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def counts(tasks: Tasks) -> tuple[int, ...]:
    found: tuple[int, ...] = tasks.machine.queue_counts(tasks.machine.queue(QUEUE).id)
    return found


def test_a_purge_takes_all_that_waits_and_nothing_else(tasks: Tasks) -> None:
    future = {"seconds": 9_999_999}
    tasks.do(submit(*(task(each) for each in ("runs", "ended", "parent", "waits"))))
    tasks.do(submit(task("blocked", on("parent")), task("delayed", not_before=future)))
    tasks.do(submit(task("elsewhere", queue=OTHER)))
    tasks.lease("runs")
    tasks.succeed("ended")

    assert tasks.do(purge(QUEUE)) == Purged(4)

    assert [row.name for row in tasks.machine.tasks_list()[0]] == [
        "tasks/elsewhere",
        "tasks/ended",
        "tasks/runs",
    ]
    assert counts(tasks)[:5] == (0, 0, 0, 1, 1)
    assert tasks.machine.queue(QUEUE).messages == 1
    assert tasks.machine.queue(QUEUE).bytes == tasks.row("runs").bytes
    assert tasks.machine.lanes(tasks.machine.queue(QUEUE).id) == []
    assert tasks.do(lease([4])).skipped == (4,)
    assert tasks.do(purge(QUEUE)) == Purged(0)


def test_what_ran_at_a_purge_comes_back_and_stands_in_another_lane(tasks: Tasks) -> None:
    tasks.do(submit(task("runs"), task("waits")))
    tasks.lease("runs")
    lane_id = tasks.row("runs").lane_id
    tasks.do(purge(QUEUE))
    tasks.lose("runs")
    tasks.do(submit(task("new")))

    assert tasks.states(["runs", "new"]) == ["QUEUED", "QUEUED"]
    (lane,) = tasks.machine.lanes(tasks.machine.queue(QUEUE).id)
    assert lane.id > lane_id
    assert [each.number for each in tasks.machine.ready(lane.id, None, 9)] == [1, 3]
    bury(tasks)
    assert tasks.states(["runs", "new"]) == ["QUEUED", "QUEUED"]
    assert counts(tasks)[:5] == (2, 0, 0, 0, 0)


def test_the_name_of_a_dead_task_is_free_at_once(tasks: Tasks) -> None:
    tasks.do(submit(task("a", payload=b"old"), task("b")))
    tasks.together(purge(QUEUE), submit(task("a", payload=b"new"), task("a", priority=1)))
    assert tasks.row("a").number == 3
    bury(tasks)

    assert tasks.row("a").number == 3
    assert stored(tasks)["tasks"] == 1


def test_dead_tasks_are_buried_in_steps_and_leave_nothing(tasks: Tasks) -> None:
    tasks.do(submit(*(task(f"t{place}") for place in range(40))))
    tasks.lease("t0", "t1")
    tasks.do(settle([success(tasks.row("t0"), b"result")]))
    tasks.do(submit(task("child", on("t2"), queue=QUEUE)))
    assert tasks.do(delete(QUEUE)) == Done()
    assert tasks.machine.task("tasks/t5") is None
    assert tasks.machine.leased_tasks() == []
    assert stored(tasks)["tasks"] == 41

    assert bury(tasks) > 5

    assert stored(tasks) == dict.fromkeys(stored(tasks), 0)
    tasks.follower.restart()
    assert tasks.machine.next_due_ms() is not None  # its lanes are still there
    tasks.advance_to(tasks.now_ms + 60_000)
    assert tasks.machine.next_due_ms() is None
    assert tasks.machine._store.execute("SELECT count(*) FROM lanes").fetchone() == (0,)
    assert tasks.machine._store.execute("SELECT count(*) FROM task_queues").fetchone() == (1,)


def test_a_lease_of_a_deleted_queue_is_void_also_if_the_queue_is_made_again(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    late = success(tasks.row("a"))
    tasks.do(delete(QUEUE))
    tasks.do(create(QUEUE, kind=queue_pb2.QUEUE_KIND_TASK))

    assert tasks.do(settle([late])) == Settlement((late.lease_id,))
    assert counts(tasks) == (0,) * 11
    tasks.do(submit(task("a")))
    bury(tasks)
    assert (tasks.row("a").number, tasks.state("a")) == (2, "QUEUED")


@pytest.mark.parametrize("end", [purge(QUEUE), delete(QUEUE)])
def test_tasks_that_depend_on_dead_ones_do_not_hang(tasks: Tasks, end: object) -> None:
    tasks.do(submit(task("parent")))
    tasks.do(
        submit(
            task("needs", on("parent"), queue=OTHER),
            task("after", on("parent", condition="ENDED"), queue=OTHER),
            task("later", on("needs"), queue=OTHER),
        )
    )
    tasks.do(end)  # type: ignore[arg-type]
    bury(tasks)

    assert tasks.states(["needs", "after", "later"]) == ["FAILED", "QUEUED", "FAILED"]
    error = task_pb2.TaskError.FromString(tasks.row("needs").error)
    assert error.reason == "DEPENDENCY_FAILED"
    assert tasks.machine.parents(tasks.row("after").number) == []


@pytest.mark.parametrize("end", [purge(QUEUE), delete(QUEUE)])
def test_a_workflow_counts_its_dead_tasks_as_cancelled(tasks: Tasks, end: object) -> None:
    tasks.do(submit(task("a"), task("b", queue=OTHER), workflow="w"))
    tasks.do(end)  # type: ignore[arg-type]
    bury(tasks)
    assert tasks.workflow_state("w") == "RUNNING"
    tasks.succeed("b")

    assert tasks.workflow_state("w") == "FAILED"
    assert tasks.counts("w") == {"succeeded": 1, "cancelled": 1}


def test_a_dead_parent_does_not_let_its_child_run_before_it_is_buried(tasks: Tasks) -> None:
    tasks.do(submit(task("parent"), task("child", on("parent", condition="ENDED"), queue=OTHER)))
    tasks.do(purge(QUEUE))
    assert tasks.state("child") == "BLOCKED"
    tasks.do(submit(task("late", on("child"), queue=OTHER)))
    assert tasks.refusal(submit(task("more", on("parent"), queue=OTHER))).reason == "UNKNOWN_DEPENDENCY"
    assert tasks.refusal(retry("parent")).reason == "TASK_NOT_FOUND"

    bury(tasks)

    assert tasks.states(["child", "late"]) == ["QUEUED", "BLOCKED"]


def test_dead_tasks_are_told_as_cancelled_when_they_are_buried(tasks: Tasks) -> None:
    mirror = Mirror()
    tasks.machine.listeners.append(mirror)
    tasks.do(submit(task("a"), task("b", not_before={"seconds": 2_000})))
    tasks.do(purge(QUEUE))
    assert ("purged", tasks.machine.queue(QUEUE).id) in mirror.told
    mirror.compare(tasks.machine)

    bury(tasks)

    assert mirror.states == {1: task_pb2.TASK_STATE_CANCELLED, 2: task_pb2.TASK_STATE_CANCELLED}
    mirror.compare(tasks.machine)


def test_dead_tasks_that_are_due_are_left_alone(tasks: Tasks) -> None:
    tasks.do(submit(task("a", not_before={"seconds": 2_000}), *(task(f"t{n}") for n in range(20))))
    tasks.do(purge(QUEUE))
    tasks.do(advance(limit=8), time_ms=3_000_000)

    assert tasks.machine.task("tasks/a") is None
    assert counts(tasks)[:5] == (0, 0, 0, 0, 0)
    bury(tasks)
    assert stored(tasks)["tasks"] == 0


def test_a_purge_in_the_middle_of_another_one_takes_what_came_since(tasks: Tasks) -> None:
    tasks.do(submit(*(task(f"t{place}") for place in range(20))))
    tasks.do(purge(QUEUE))
    tasks.do(advance(limit=8))
    tasks.do(submit(task("new"), task("t3")))
    assert tasks.do(purge(QUEUE)) == Purged(2)
    bury(tasks)

    assert stored(tasks)["tasks"] == 0
    assert counts(tasks)[:9] == (0,) * 9
