"""LeaseTasks, SettleTasks and RecordProgress: attempts, outcomes, pauses, and what is given back or lost."""

from pathlib import Path
from typing import Any

import pytest

from node import limits
from node.state.results import Granted, Settlement
from node.state.task_rows import TaskRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import task_pb2, worker_pb2
from tests.node.task_log import QUEUE, Tasks, duration, lease, settle, submit, success, task
from tests.node.task_mirror import Mirror


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def failure(row: TaskRow, reason: str = "Boom", delay_ms: int | None = None, **settings: Any) -> Any:
    failed = worker_pb2.TaskFailure(
        error=task_pb2.TaskError(reason=reason, message="bang", detail="trace"), **settings
    )
    if delay_ms is not None:
        failed.delay.FromMilliseconds(delay_ms)
    return command_pb2.SettledLease(number=row.number, lease_id=row.lease_id, failure=failed)


def given_back(row: TaskRow, why: str, checkpoint: bytes = b"") -> command_pb2.SettledLease:
    settled = command_pb2.SettledLease(number=row.number, lease_id=row.lease_id)
    getattr(settled, "yield").CopyFrom(
        worker_pb2.TaskYield(checkpoint=checkpoint, reason=f"REVOKE_REASON_{why}")
    )
    return settled


def progress(row: TaskRow, fraction: float = 0, checkpoint: bytes = b"") -> command_pb2.Command:
    said = command_pb2.RecordedProgress(number=row.number, lease_id=row.lease_id, checkpoint=checkpoint)
    if fraction:
        said.progress.fraction = fraction
    return command_pb2.Command(record_progress=command_pb2.RecordProgress(tasks=[said]))


def queued(tasks: Tasks) -> list[str]:
    """Ids of the QUEUED tasks, first one first."""
    (lane,) = tasks.machine.lanes(tasks.machine.queue(QUEUE).id)
    ready = tasks.machine.ready(lane.id, None, 100)
    return [tasks.machine.task_by_number(each.number).name.partition("/")[2] for each in ready]


def reasons(tasks: Tasks, task_id: str) -> list[str]:
    (shown,) = tasks.machine.shown([tasks.row(task_id)], task_pb2.TASK_VIEW_FULL)
    return [event.reason for event in shown.events]


def test_a_lease_has_an_id_that_grows_and_tells_who_has_the_task(tasks: Tasks) -> None:
    tasks.do(submit(*(task(each) for each in "abc")))
    tasks.lease("a")
    first = tasks.row("a").lease_id
    tasks.together(lease([2]), lease([99, 3]))

    ids = [first, tasks.row("b").lease_id, tasks.row("c").lease_id]
    index = tasks.follower.log.last
    assert ids == [index - 1 << 24, index << 24, index << 24 | 1 << 12 | 1]
    row = tasks.row("a")
    assert (row.worker_id, row.instance_id, row.attempt, row.start_ms) == ("w", "i", 1, tasks.now_ms - 10)


def test_what_is_not_queued_any_more_is_skipped(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b")))
    tasks.lease("a")

    assert tasks.do(lease([1, 2, 2, 77])) == Granted((1, 2, 77))
    assert tasks.states("ab") == ["LEASED", "LEASED"]


def test_what_waits_in_another_lane_than_the_leader_saw_is_skipped(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("b")))
    a, b = tasks.row("a"), tasks.row("b")
    seen_in = a.lane_id
    tasks.do(submit(task("a", priority=1, resources={"gpu": 1})))

    assert tasks.do(lease([a.number, b.number], lane_ids=[seen_in, seen_in])) == Granted((a.number,))
    assert tasks.states("ab") == ["QUEUED", "LEASED"]
    assert tasks.row("a").attempt == 0
    assert tasks.do(lease([a.number], lane_ids=[tasks.row("a").lane_id])) == Granted(())


def test_a_task_that_succeeded_has_its_result_and_nothing_else_left(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("empty")))
    tasks.lease("a", "empty")
    tasks.do(progress(tasks.row("a"), 0.5, b"half"))
    tasks.do(settle([success(tasks.row("a"), b"done"), success(tasks.row("empty"))]))

    a, empty = tasks.machine.shown([tasks.row("a"), tasks.row("empty")], task_pb2.TASK_VIEW_FULL)
    assert (a.state, a.result.data, a.checkpoint, a.lease_id) == (
        task_pb2.TASK_STATE_SUCCEEDED,
        b"done",
        b"",
        0,
    )
    assert a.end_time.ToMilliseconds() == tasks.now_ms
    assert a.expire_time.ToMilliseconds() == tasks.now_ms + limits.RETAIN_SUCCEEDED_MS_DEFAULT
    assert empty.HasField("result")
    assert tasks.machine.results([1, 2]).keys() == {1}
    (basic,) = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_BASIC, with_results=True)
    assert basic.result.data == b"done"


def test_an_outcome_of_a_lease_that_is_not_current_is_refused_and_changes_nothing(tasks: Tasks) -> None:
    tasks.do(submit(task("a", max_attempts=2)))
    tasks.lease("a")
    late = success(tasks.row("a"), b"late")
    stale = progress(tasks.row("a"), 0.9, b"stale")
    tasks.lose("a")
    assert tasks.do(settle([late])) == Settlement((late.lease_id,))
    tasks.lease("a")

    assert tasks.do(settle([late])) == Settlement((late.lease_id,))
    assert tasks.do(stale) == Settlement((late.lease_id,))
    assert (tasks.state("a"), tasks.row("a").progress) == ("LEASED", b"")
    assert tasks.do(settle([success(tasks.row("a"))])) == Settlement()


def test_failed_attempts_are_repeated_after_pauses_and_then_given_up(tasks: Tasks) -> None:
    tasks.do(submit(task("a", max_attempts=3, backoff=duration(1_000))))
    pauses = []
    for _ in range(2):
        tasks.lease("a")
        tasks.do(settle([failure(tasks.row("a"))]))
        assert tasks.state("a") == "DELAYED"
        pauses.append(tasks.row("a").due_ms - tasks.now_ms)
        tasks.advance_to(tasks.row("a").due_ms)
    tasks.lease("a")
    tasks.do(settle([failure(tasks.row("a"))]))

    assert tasks.state("a") == "DEAD_LETTERED"
    assert 750 <= pauses[0] <= 1_250
    assert 1_500 <= pauses[1] <= 2_500
    error = task_pb2.TaskError.FromString(tasks.row("a").error)
    assert (error.reason, error.message, error.detail) == ("Boom", "bang", "trace")
    assert reasons(tasks, "a") == ["SUBMITTED", *["LEASED", "FAILED", "READY"] * 2, "LEASED", "FAILED"]


def test_pauses_differ_from_task_to_task_and_have_a_limit(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "state", backoff=duration(60_000), backoff_max=duration(10_000))
    ids = [f"t{n}" for n in range(50)]
    tasks.do(submit(*(task(each) for each in ids)))
    tasks.lease(*ids)
    tasks.do(settle(failure(tasks.row(each)) for each in ids))

    pauses = {tasks.row(each).due_ms - tasks.now_ms for each in ids}
    assert len(pauses) > 40
    assert min(pauses) >= 7_500
    assert max(pauses) <= 12_500


@pytest.mark.parametrize(("delay_ms", "state"), [(0, "QUEUED"), (123, "DELAYED")])
def test_a_worker_may_say_how_long_the_pause_is(tasks: Tasks, delay_ms: int, state: str) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    tasks.do(settle([failure(tasks.row("a"), delay_ms=delay_ms)]))

    assert tasks.state("a") == state
    assert tasks.row("a").order_ms == tasks.now_ms + delay_ms


def test_a_permanent_failure_ends_a_task_at_once(tasks: Tasks) -> None:
    tasks.do(submit(task("a", max_attempts=9)))
    tasks.lease("a")
    tasks.do(settle([failure(tasks.row("a"), permanent=True)]))

    assert tasks.state("a") == "FAILED"
    (shown,) = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_BASIC)
    assert shown.expire_time.ToMilliseconds() == tasks.now_ms + limits.RETAIN_FAILED_MS_DEFAULT


def test_an_attempt_that_ran_too_long_says_so_in_the_history(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    tasks.do(settle([failure(tasks.row("a"), "TIMEOUT")]))

    assert reasons(tasks, "a")[-1] == "TIMEOUT"


def test_a_result_that_is_too_large_fails_the_task(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    tasks.do(settle([success(tasks.row("a"), b"x" * (limits.PAYLOAD_BYTES_MAX + 1))]))

    assert tasks.state("a") == "FAILED"
    assert task_pb2.TaskError.FromString(tasks.row("a").error).reason == "RESULT_TOO_LARGE"
    assert tasks.machine.results([1]) == {}


def test_texts_of_errors_are_cut(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    settled = failure(tasks.row("a"), "R" * 9_999)
    settled.failure.error.message, settled.failure.error.detail = "M" * 9_999, "D" * 99_999
    tasks.do(settle([settled]))

    error = task_pb2.TaskError.FromString(tasks.row("a").error)
    assert (len(error.reason), len(error.message), len(error.detail)) == (256, 1_024, 8_192)


def test_a_lost_lease_counts_as_an_attempt_and_the_task_returns_to_its_place(tasks: Tasks) -> None:
    tasks.do(submit(task("a", max_attempts=2)))
    tasks.do(submit(task("b")))
    tasks.lease("a")
    tasks.lose("a")
    assert queued(tasks) == ["a", "b"]
    assert tasks.row("a").attempt == 1

    tasks.lease("a")
    tasks.lose("a", reason="INSTANCE_REPLACED")

    assert tasks.state("a") == "DEAD_LETTERED"
    assert reasons(tasks, "a") == ["SUBMITTED", "LEASED", "LEASE_EXPIRED", "LEASED", "INSTANCE_REPLACED"]
    assert task_pb2.TaskError.FromString(tasks.row("a").error).reason == "INSTANCE_REPLACED"


@pytest.mark.parametrize(
    ("why", "reason", "order"),
    [
        ("SLICE_END", "SLICE_END", ["b", "a"]),
        ("PREEMPTED", "PREEMPTED", ["a", "b"]),
        ("DRAINED", "HANDED_BACK", ["a", "b"]),
        ("UNSPECIFIED", "HANDED_BACK", ["a", "b"]),
    ],
)
def test_what_is_given_back_uses_up_no_attempt(tasks: Tasks, why: str, reason: str, order: list[str]) -> None:
    tasks.do(submit(task("a", max_attempts=1)))
    tasks.do(submit(task("b")))
    tasks.lease("a")
    tasks.do(settle([given_back(tasks.row("a"), why)]))

    assert queued(tasks) == order
    assert (tasks.row("a").attempt, reasons(tasks, "a")[-1]) == (0, reason)


def test_a_checkpoint_goes_to_the_next_lease_and_an_empty_one_keeps_it(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    tasks.do(settle([given_back(tasks.row("a"), "SLICE_END", b"one")]))
    tasks.lease("a")
    tasks.do(settle([given_back(tasks.row("a"), "SLICE_END")]))
    assert tasks.machine.checkpoints([1]) == {1: b"one"}
    tasks.lease("a")
    tasks.do(progress(tasks.row("a"), 0.25, b"two"))
    tasks.lose("a")
    tasks.follower.restart()

    tasks.lease("a")
    (leased,) = tasks.machine.leased_tasks()
    assert leased.has_checkpoint
    assert tasks.machine.checkpoints([1]) == {1: b"two"}
    assert task_pb2.TaskProgress.FromString(tasks.row("a").progress).fraction == 0.25


def test_run_times_are_learned_by_type_and_fill_in_for_what_is_not_declared(tasks: Tasks) -> None:
    def run(task_id: str, kind: str, run_ms: int) -> None:
        tasks.do(submit(task_pb2.Task(name=f"tasks/{task_id}", queue=QUEUE, type=kind)))
        tasks.lease(task_id)
        tasks.do(settle([success(tasks.row(task_id))]), time_ms=tasks.now_ms + run_ms)

    tasks.do(submit(task("unknown")))
    assert tasks.row("unknown").size_ms == 1_000
    for place, run_ms in enumerate((100, 300)):
        run(f"s{place}", "short", run_ms)
    run("l", "long", 8_000)

    sizes = tasks.machine.sizes(tasks.machine.queue(QUEUE).id)
    assert (sizes["short"].count, sizes["short"].mean_ms, sizes["short"].deviation_ms) == (2, 200, 125)
    assert (sizes[""].count, sizes[""].mean_ms) == (3, 2_800)
    tasks.do(
        submit(
            task_pb2.Task(name="tasks/x", queue=QUEUE, type="short"),
            task_pb2.Task(name="tasks/y", queue=QUEUE, type="new"),
            task_pb2.Task(name="tasks/z", queue=QUEUE, type="short", size=duration(7)),
        )
    )
    assert [tasks.row(each).size_ms for each in "xyz"] == [200, 2_800, 7]


def test_a_task_in_slices_has_run_as_long_as_all_of_them(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    for run_ms, checkpoint in ((100, b"x"), (50, b"y")):
        tasks.lease("a")
        tasks.do(settle([given_back(tasks.row("a"), "SLICE_END", checkpoint)]), time_ms=tasks.now_ms + run_ms)
    tasks.lease("a")
    tasks.do(settle([success(tasks.row("a"))]), time_ms=tasks.now_ms + 7)

    assert tasks.machine.sizes(tasks.machine.queue(QUEUE).id)["t"].mean_ms == 157


def test_the_end_of_a_lease_is_told_with_its_times(tasks: Tasks) -> None:
    mirror = Mirror()
    tasks.machine.listeners.append(mirror)
    tasks.do(submit(task("a")), time_ms=2_000_000)
    tasks.do(lease([1]), time_ms=2_000_300)
    tasks.do(settle([failure(tasks.row("a"), delay_ms=500)]), time_ms=2_001_000)
    tasks.advance_to(2_001_500)
    tasks.do(lease([1]), time_ms=2_001_600)
    tasks.do(settle([success(tasks.row("a"))]), time_ms=2_004_000)

    first, second = mirror.settled
    assert (first.wait_ms, first.run_ms, first.total_ms, first.state) == (300, 700, 0, 3)
    assert (second.wait_ms, second.run_ms, second.total_ms, second.state) == (100, 2_400, 4_000, 6)
    assert (first.reason, second.reason, second.worker_id) == ("FAILED", "SUCCEEDED", "w")
