"""Tasks that depend on others: when they become ready, when they fail, and what a submit may say of them."""

from pathlib import Path

import pytest

from node.state.dependencies import waits_for
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import QUEUE, Tasks, advance, cancel, on, submit, task
from tests.sim.state_log import create, purge

ALREADY_SCHEDULED = task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def test_a_task_waits_until_all_that_it_depends_on_have_succeeded(tasks: Tasks) -> None:
    tasks.do(submit(task("c", on("a", "b")), task("a"), task("b")))
    assert tasks.states("abc") == ["QUEUED", "QUEUED", "BLOCKED"]
    tasks.succeed("a")
    assert tasks.state("c") == "BLOCKED"
    tasks.succeed("b")
    assert tasks.state("c") == "QUEUED"


def test_a_task_fails_as_soon_as_one_that_had_to_succeed_did_not(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", on("a", "b"))))
    tasks.fail("a")
    assert tasks.states("bc") == ["QUEUED", "FAILED"]
    error = task_pb2.TaskError.FromString(tasks.row("c").error)
    assert (error.reason, error.message) == ("DEPENDENCY_FAILED", "tasks/a FAILED")
    tasks.succeed("b")
    assert tasks.state("c") == "FAILED"


def test_a_failure_runs_down_a_chain_of_thousands(tasks: Tasks) -> None:
    count = 3_000
    tasks.do(submit(*(task(f"t{i}", on(f"t{i - 1}") if i else ()) for i in range(count)), workflow="w"))
    tasks.fail("t0")
    assert tasks.counts("w") == {"failed": count}
    assert tasks.workflow_state("w") == "FAILED"


def test_one_success_is_enough_where_any_will_do(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c"), task("d", on("a", "b", "c", condition="ANY_SUCCEEDED"))))
    tasks.fail("a")
    assert tasks.state("d") == "BLOCKED"
    tasks.succeed("b")
    assert tasks.state("d") == "QUEUED"
    tasks.fail("c")
    assert tasks.state("d") == "QUEUED"


def test_one_alternative_that_has_succeeded_before_is_enough(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("bad")))
    tasks.succeed("a")
    tasks.fail("bad")
    tasks.do(submit(task("c", on("bad", "a", "b", condition="ANY_SUCCEEDED"))))
    tasks.do(submit(task("d", on("bad", "b", condition="ANY_SUCCEEDED"))))
    tasks.do(submit(task("e", on("bad", condition="ANY_SUCCEEDED"))))
    assert tasks.states("cde") == ["QUEUED", "BLOCKED", "FAILED"]


def test_a_thousand_tasks_fan_out_and_in(tasks: Tasks) -> None:
    middle = [f"m{i}" for i in range(1_000)]
    tasks.do(submit(task("first"), *(task(each, on("first")) for each in middle), task("last", on(*middle))))
    tasks.succeed("first")
    assert set(tasks.states(middle)) == {"QUEUED"}
    tasks.succeed(*middle[1:])
    assert tasks.state("last") == "BLOCKED"
    assert waits_for(tasks.row("last").open) == 1
    tasks.succeed(middle[0])
    assert tasks.state("last") == "QUEUED"


def test_a_task_fails_when_none_of_its_alternatives_is_left(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", on("a", "b", condition="ANY_SUCCEEDED"))))
    tasks.fail("a")
    tasks.do(cancel("b"))
    assert tasks.state("c") == "FAILED"


def test_a_success_among_alternatives_does_not_stand_for_the_other_dependencies(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", [*on("a", condition="ANY_SUCCEEDED"), *on("b")])))
    tasks.succeed("a")
    assert tasks.state("c") == "BLOCKED"
    tasks.succeed("b")
    assert tasks.state("c") == "QUEUED"


def test_a_task_that_waits_for_an_end_takes_any_end(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", on("a", "b", condition="ENDED"))))
    tasks.fail("a")
    tasks.do(cancel("b"))
    assert tasks.state("c") == "QUEUED"


def test_a_task_may_depend_on_one_that_was_submitted_before(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("bad")))
    tasks.do(submit(task("b", on("a"))))
    assert tasks.state("b") == "BLOCKED"
    tasks.succeed("a")
    tasks.fail("bad")
    assert tasks.state("b") == "QUEUED"
    tasks.do(submit(task("c", on("a")), task("d", on("bad")), task("e", on("d"))))
    assert tasks.states("cde") == ["QUEUED", "FAILED", "FAILED"]


def test_parents_are_given_in_the_order_of_the_dependencies(tasks: Tasks) -> None:
    tasks.do(submit(task("z", on("b", "a", "c")), task("a"), task("b"), task("c")))
    tasks.succeed("a")
    parents = tasks.machine.parents(tasks.row("z").number)
    assert [(name, state) for name, state, _ in parents] == [
        ("tasks/b", task_pb2.TASK_STATE_QUEUED),
        ("tasks/a", task_pb2.TASK_STATE_SUCCEEDED),
        ("tasks/c", task_pb2.TASK_STATE_QUEUED),
    ]


def test_a_dependency_that_does_not_exist_is_refused_by_its_place_and_changes_nothing(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    refused = tasks.refusal(submit(task("a"), task("b", on("a")), task("c", on("a", "nobody"))))
    assert refused.reason == "UNKNOWN_DEPENDENCY"
    assert refused.metadata == {
        "task": "tasks/c",
        "dependency": "tasks/nobody",
        "field": "tasks[2].dependencies[1]",
    }
    assert tasks.machine.task("tasks/b") is None
    assert tasks.machine.queue_counts(tasks.row("a").queue_id).queued == 1


def test_a_dependency_that_was_forgotten_does_not_exist(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "state")
    tasks.do(submit(task("a")))
    tasks.succeed("a")
    tasks.do(advance(), time_ms=tasks.now_ms + 3_600_001)
    assert tasks.machine.task("tasks/a") is None
    assert tasks.refusal(submit(task("b", on("a")))).reason == "UNKNOWN_DEPENDENCY"


def test_a_cycle_is_refused_and_named(tasks: Tasks) -> None:
    refused = tasks.refusal(submit(task("a", on("b")), task("b", on("a")), task("c")))
    assert refused.reason == "CYCLE"
    assert refused.metadata["cycle"] == "tasks/a -> tasks/b -> tasks/a"
    assert tasks.machine.task("tasks/c") is None


def test_a_workflow_that_exists_is_answered_and_stays_as_it_is(tasks: Tasks) -> None:
    workflow = submit(task("a"), task("b", on("a"), priority=1), workflow="w")
    tasks.do(workflow)
    tasks.succeed("a")
    before = tasks.counts("w")
    again = submit(task("b", priority=9), task("c"), workflow="w")
    assert tasks.do(again).outcomes == (("tasks/b", ALREADY_SCHEDULED), ("tasks/c", ALREADY_SCHEDULED))
    assert tasks.machine.task("tasks/c") is None
    assert tasks.counts("w") == before == {"queued": 1, "succeeded": 1}


def test_a_task_is_remembered_while_one_that_depends_on_it_has_not_ended(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b", on("a"))))
    tasks.succeed("a")
    tasks.do(advance(), time_ms=tasks.now_ms + 3_600_001)
    assert tasks.state("a") == "SUCCEEDED"
    tasks.succeed("b")
    tasks.do(advance(), time_ms=tasks.now_ms + 3_600_001)
    assert tasks.machine.task("tasks/a") is None


def test_what_depends_on_tasks_that_are_purged_is_told(tasks: Tasks) -> None:
    tasks.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(
        submit(
            task("a"),
            task("b", on("a"), queue="queues/other"),
            task("c", on("a", condition="ENDED"), queue="queues/other"),
        )
    )
    tasks.do(purge(QUEUE))
    tasks.do(advance())
    assert tasks.states("bc") == ["FAILED", "QUEUED"]


def test_ten_thousand_tasks_in_a_hundred_layers_are_stored_at_once(tasks: Tasks) -> None:
    layers, width, parents = 100, 100, 10
    layered = [
        task(
            f"{layer}.{place}",
            on(*(f"{layer - 1}.{(place + step) % width}" for step in range(parents))) if layer else (),
        )
        for layer in range(layers)
        for place in range(width)
    ]
    command = submit(*layered, workflow="w")
    tasks.do(command)
    assert tasks.counts("w") == {"queued": 100, "blocked": 9_900}
