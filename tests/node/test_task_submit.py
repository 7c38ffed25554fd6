"""SubmitTasks: what is stored, what is answered, and what is refused without a trace."""

from pathlib import Path

import pytest

from node.state.results import Code, Submitted
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import QUEUE, Tasks, advance, duration, submit, task
from tests.node.task_mirror import Mirror
from tests.sim.state_log import create, publish, update

CREATED = task_pb2.SUBMIT_OUTCOME_CREATED
REPLACED = task_pb2.SUBMIT_OUTCOME_REPLACED
ALREADY = task_pb2.SUBMIT_OUTCOME_ALREADY_SCHEDULED


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def outcomes(result: Submitted) -> list[int]:
    return [outcome for _, outcome in result.outcomes]


def test_tasks_are_numbered_in_the_order_of_submission_and_never_again(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b")))
    tasks.do(submit(task("c")))
    assert [tasks.row(each).number for each in "abc"] == [1, 2, 3]

    tasks.succeed("c")
    tasks.do(advance(), time_ms=tasks.now_ms + 3_600_000)
    assert tasks.machine.task("tasks/c") is None
    tasks.follower.restart()
    tasks.do(submit(task("d")))

    assert tasks.row("d").number == 4


def test_a_task_takes_over_what_it_does_not_say_from_its_queue(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "state", lease=duration(7_000), max_attempts=9, backoff=duration(70))
    tasks.do(
        submit(task("a"), task("b", lease=duration(2_000), max_attempts=1, backoff=duration(5), priority=3))
    )

    a, b = tasks.row("a"), tasks.row("b")
    assert (a.lease_ms, a.max_attempts, a.backoff_ms, a.priority) == (7_000, 9, 70, 0)
    assert (b.lease_ms, b.max_attempts, b.backoff_ms, b.priority) == (2_000, 1, 5, 3)


def test_what_was_submitted_is_shown_again(tasks: Tasks) -> None:
    given = task(
        "a",
        payload=b"input",
        labels={"x": "1"},
        resources={"gpu": 1.0},
        tenant="t",
        deadline={"seconds": 9_999_999},
        size=duration(1_500),
    )
    tasks.do(submit(given))

    (shown,) = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_FULL)
    assert (shown.payload, shown.labels, shown.resources) == (b"input", {"x": "1"}, {"gpu": 1.0})
    assert shown.state == task_pb2.TASK_STATE_QUEUED
    assert (shown.max_attempts, shown.create_time.ToMilliseconds()) == (3, tasks.now_ms)
    assert [event.reason for event in shown.events] == ["SUBMITTED"]
    (basic,) = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_BASIC)
    assert (basic.payload, basic.labels, len(basic.events)) == (b"", {"x": "1"}, 0)


def test_a_known_task_is_replaced_only_by_one_of_higher_priority(tasks: Tasks) -> None:
    tasks.do(submit(task("a", priority=1, payload=b"first")))

    assert outcomes(tasks.do(submit(task("a", priority=1, payload=b"second")))) == [ALREADY]
    assert outcomes(tasks.do(submit(task("a", priority=0, payload=b"third")))) == [ALREADY]
    assert outcomes(tasks.do(submit(task("a", priority=2, payload=b"fourth")))) == [REPLACED]

    (shown,) = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_FULL)
    assert (shown.payload, shown.priority, tasks.row("a").number) == (b"fourth", 2, 1)
    assert [event.reason for event in shown.events] == ["SUBMITTED", "REPLACED"]


def test_what_is_replaced_keeps_its_place_and_its_dependencies_and_forgets_its_attempts(
    tasks: Tasks,
) -> None:
    tasks.do(submit(task("parent"), task("a", max_attempts=5)))
    tasks.do(submit(task("child", [task_pb2.Dependency(task="tasks/parent")])))
    before = tasks.row("a")
    waiting_since_ms = before.order_ms
    tasks.lease("a")
    tasks.lose("a")

    tasks.do(submit(task("a", priority=1), task("child", priority=1, payload=b"new")))

    row = tasks.row("a")
    assert (row.order_ms, row.attempt, row.error, row.state) == (waiting_since_ms, 0, b"", 1)
    assert tasks.state("child") == "BLOCKED"
    tasks.succeed("parent")
    assert tasks.state("child") == "QUEUED"
    (shown,) = tasks.machine.shown([tasks.row("child")], task_pb2.TASK_VIEW_FULL)
    assert (shown.payload, shown.dependencies[0].task) == (b"new", "tasks/parent")


def test_a_delayed_task_that_is_replaced_waits_for_nothing_that_its_successor_does_not_ask_for(
    tasks: Tasks,
) -> None:
    far = {"seconds": 9_999_999}
    tasks.do(submit(task("now", not_before=far), task("later")))
    tasks.do(submit(task("now", priority=1), task("later", priority=1, not_before=far)))

    assert tasks.states(["now", "later"]) == ["QUEUED", "DELAYED"]
    assert (tasks.row("now").order_ms, tasks.row("later").order_ms) == (tasks.now_ms, 9_999_999_000)


def test_a_task_that_runs_or_has_ended_or_is_in_another_queue_stays(tasks: Tasks) -> None:
    tasks.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(submit(task("runs"), task("ended"), task("elsewhere", queue="queues/other")))
    tasks.lease("runs")
    tasks.succeed("ended")

    again = [task(name, priority=9) for name in ("runs", "ended", "elsewhere")]
    assert outcomes(tasks.do(submit(*again))) == [ALREADY] * 3
    assert [tasks.row(name).priority for name in ("runs", "ended", "elsewhere")] == [0, 0, 0]


def test_one_submit_may_name_a_task_twice(tasks: Tasks) -> None:
    result = tasks.do(submit(task("a"), task("a"), task("a", priority=2, payload=b"last"), task("b")))

    assert outcomes(result) == [CREATED, ALREADY, REPLACED, CREATED]
    assert [tasks.row(each).number for each in "ab"] == [1, 2]
    assert tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_FULL)[0].payload == b"last"
    assert tasks.machine.queue(QUEUE).messages == 2


def test_a_task_of_the_future_waits_for_its_time(tasks: Tasks) -> None:
    then_ms = tasks.now_ms + 60_000
    tasks.do(submit(task("a", not_before={"seconds": then_ms // 1000 + 1})))

    row = tasks.row("a")
    assert (tasks.state("a"), row.order_ms, row.due_ms) == (
        "DELAYED",
        (then_ms // 1000 + 1) * 1000,
        row.order_ms,
    )


def test_queues_of_messages_and_queues_of_tasks_are_not_mixed_up(tasks: Tasks) -> None:
    tasks.do(create("queues/messages"))

    refused = tasks.refusal(submit(task("a"), task("b", queue="queues/messages")))
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND")
    assert refused.metadata == {"queue": "queues/messages"}
    refused = tasks.refusal(publish(QUEUE, b"x"))
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "WRONG_QUEUE_KIND")
    assert tasks.refusal(submit(task("a", queue="queues/none"))).reason == "QUEUE_NOT_FOUND"
    assert tasks.machine.task("tasks/a") is None


def test_a_full_queue_refuses_all_and_keeps_none(tasks: Tasks) -> None:
    tasks.do(update(QUEUE, ["max_messages"], max_messages=3))
    tasks.do(submit(task("a"), task("b")))
    before = tasks.machine.fingerprint()
    told = Mirror()
    tasks.machine.listeners.append(told)

    refused = tasks.refusal(submit(task("c"), task("d", tenant="a lane of its own")))

    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert (refused.metadata["messages"], refused.metadata["max_messages"]) == ("2", "3")
    assert tasks.machine.task("tasks/c") is None
    assert told.told == []
    assert before != tasks.machine.fingerprint()  # an entry was applied
    assert tasks.machine._store.execute("SELECT count(*) FROM lanes").fetchone() == (1,)
    assert tasks.do(submit(task("c"))).outcomes == (("tasks/c", CREATED),)
    assert tasks.row("c").number == 3


def test_what_ended_or_is_known_takes_no_room(tasks: Tasks) -> None:
    tasks.do(update(QUEUE, ["max_messages"], max_messages=1))
    tasks.do(submit(task("a")))
    assert outcomes(tasks.do(submit(task("a"), task("a", priority=1)))) == [ALREADY, REPLACED]

    tasks.succeed("a")

    tasks.do(submit(task("b")))
    assert tasks.refusal(submit(task("c"))).reason == "QUEUE_FULL"


def test_bytes_are_limited_also_when_tasks_are_replaced(tasks: Tasks) -> None:
    tasks.do(submit(task("a", payload=b"x" * 100)))
    held = tasks.machine.queue(QUEUE).bytes
    tasks.do(update(QUEUE, ["max_bytes"], max_bytes=held + 10))

    assert tasks.refusal(submit(task("b"))).reason == "QUEUE_FULL"
    assert tasks.refusal(submit(task("a", priority=1, payload=b"x" * 120))).reason == "QUEUE_FULL"
    assert outcomes(tasks.do(submit(task("a", priority=1, payload=b"x" * 100)))) == [REPLACED]
    assert tasks.machine.queue(QUEUE).bytes == held + 2  # the priority


def test_a_repeated_request_is_answered_as_the_first_one(tasks: Tasks) -> None:
    first = tasks.do(submit(task("made-1"), task("made-2"), task("other"), request_id="r"))
    tasks.do(submit(task("other", priority=1)))

    again = tasks.do(submit(task("made-8"), task("made-9"), task("other", priority=2), request_id="r"))

    assert again == first
    assert tasks.machine.task("tasks/made-8") is None
    assert tasks.row("other").priority == 1


def test_no_number_is_too_large_to_be_stored(tasks: Tasks) -> None:
    huge = {"seconds": 1 << 62}
    tasks.do(
        submit(
            task("a", not_before=huge, deadline=huge, priority=1 << 30),
            task("b", size=huge, lease=huge, backoff=huge, timeout=huge, max_attempts=(1 << 32) - 1),
        )
    )
    tasks.follower.restart()

    assert tasks.states("ab") == ["DELAYED", "QUEUED"]
    tasks.fail("b")


def test_a_queue_counts_the_tasks_that_have_not_ended(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b"), task("c", not_before={"seconds": 9_999_999}), task("d")))
    tasks.lease("b")
    tasks.succeed("d")

    row = tasks.machine.queue(QUEUE)
    counts = tasks.machine.queue_counts(row.id)
    assert (counts.queued, counts.delayed, counts.leased, counts.succeeded) == (1, 1, 1, 1)
    assert (row.messages, row.next_sequence - 1, counts.submitted) == (3, 4, 4)
    assert row.bytes == counts.bytes == sum(tasks.row(each).bytes for each in "abc")
    assert counts.to_proto() == task_pb2.TaskCounts(queued=1, delayed=1, leased=1, succeeded=1)
