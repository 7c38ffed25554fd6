"""AdvanceTasks: what time brings, and when it is worth an entry."""

from pathlib import Path
from typing import Any

import pytest

from node import limits
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.node.task_log import QUEUE, Tasks, advance, duration, on, settle, submit, task
from tests.node.task_mirror import Mirror
from tests.sim.state_log import create, update

HOUR_MS = 3_600_000


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state", max_ended=5)


def at(time_ms: int) -> dict[str, int]:
    return {"seconds": time_ms // 1000, "nanos": time_ms % 1000 * 1_000_000}


def known(tasks: Tasks) -> list[str]:
    """Ids of all tasks that are remembered, by number."""
    rows, _ = tasks.machine.tasks_list()
    return [row.name.partition("/")[2] for row in reversed(rows)]


def test_a_delayed_task_becomes_ready_when_its_time_has_come(tasks: Tasks) -> None:
    due_ms = tasks.now_ms + 5_000
    tasks.do(submit(task("a", not_before=at(due_ms))))
    assert tasks.machine.next_due_ms() == due_ms

    tasks.advance_to(due_ms - 1)
    assert tasks.state("a") == "DELAYED"
    tasks.advance_to(due_ms + 70)

    row = tasks.row("a")
    assert (tasks.state("a"), row.order_ms, row.ready_ms) == ("QUEUED", due_ms, due_ms + 70)


def test_nothing_is_ahead_of_tasks_that_wait_for_workers(tasks: Tasks) -> None:
    assert tasks.machine.next_due_ms() is None
    tasks.do(submit(task("a"), task("b")))
    tasks.lease("b")

    assert tasks.machine.next_due_ms() is None
    assert tasks.advance_to(tasks.now_ms + HOUR_MS) == 0


@pytest.mark.parametrize("waits", ["QUEUED", "DELAYED", "BLOCKED"])
def test_a_task_that_has_not_begun_at_its_deadline_expires(tasks: Tasks, waits: str) -> None:
    deadline_ms = tasks.now_ms + 5_000
    late: dict[str, Any] = {"not_before": at(deadline_ms + 1_000)} if waits == "DELAYED" else {}
    dependencies = on("parent") if waits == "BLOCKED" else []
    tasks.do(submit(task("parent"), task("a", dependencies, deadline=at(deadline_ms), **late)))
    assert (tasks.state("a"), tasks.machine.next_due_ms()) == (waits, deadline_ms)

    tasks.advance_to(deadline_ms)

    assert tasks.state("a") == "EXPIRED"


def test_a_task_that_has_begun_does_not_expire(tasks: Tasks) -> None:
    deadline_ms = tasks.now_ms + 5_000
    ids = ["runs", "lost", "failed"]
    tasks.do(submit(*(task(each, deadline=at(deadline_ms), backoff=duration(5_000)) for each in ids)))
    tasks.lease(*ids)
    tasks.lose("lost")
    boom = worker_pb2.TaskFailure(error=task_pb2.TaskError(reason="Boom"))
    row = tasks.row("failed")
    tasks.do(settle([command_pb2.SettledLease(number=row.number, lease_id=row.lease_id, failure=boom)]))

    tasks.advance_to(deadline_ms + 9_000)

    assert tasks.states(ids) == ["LEASED", "QUEUED", "QUEUED"]
    assert tasks.machine.next_due_ms() is None


def test_ended_tasks_are_forgotten_when_their_retention_is_over(tasks: Tasks) -> None:
    tasks.do(submit(task("good"), task("bad"), task("waits")))
    tasks.succeed("good")
    good_ms = tasks.now_ms
    tasks.fail("bad")
    bad_ms = tasks.now_ms

    assert tasks.machine.next_due_ms() == good_ms + HOUR_MS
    tasks.advance_to(good_ms + HOUR_MS - 1)
    assert known(tasks) == ["good", "bad", "waits"]
    tasks.advance_to(good_ms + HOUR_MS)
    assert known(tasks) == ["bad", "waits"]
    assert tasks.machine.next_due_ms() == bad_ms + 7 * 24 * HOUR_MS
    tasks.advance_to(bad_ms + 7 * 24 * HOUR_MS)
    assert known(tasks) == ["waits"]
    assert tasks.machine.queue_counts(tasks.machine.queue(QUEUE).id)[:9] == (1, 0, 0, 0, 0, 0, 0, 0, 0)


def test_another_retention_is_that_of_ended_tasks_too(tasks: Tasks) -> None:
    tasks.do(submit(task("a"), task("waits")))
    tasks.succeed("a")
    ended_ms = tasks.now_ms
    assert tasks.machine.next_due_ms() == ended_ms + HOUR_MS

    short = queue_pb2.Scheduling(retain_succeeded=duration(2_000))
    tasks.do(update(QUEUE, ["scheduling.retain_succeeded"], scheduling=short))

    assert tasks.machine.next_due_ms() == ended_ms + 2_000
    (shown,) = tasks.machine.shown([tasks.row("a")], 0)
    assert shown.expire_time.ToMilliseconds() == ended_ms + 2_000
    tasks.advance_to(ended_ms + 2_000)
    assert known(tasks) == ["waits"]


def test_of_too_many_ended_tasks_the_oldest_are_forgotten_first(tasks: Tasks) -> None:
    tasks.do(submit(task("waits")))
    for place in range(8):
        tasks.do(submit(task(f"t{place}")))
        (tasks.fail if place % 2 else tasks.succeed)(f"t{place}")

    due_ms = tasks.machine.next_due_ms()
    assert due_ms is not None
    assert tasks.now_ms <= due_ms <= tasks.now_ms + limits.FORGET_PAUSE_MS
    tasks.do(advance())

    assert known(tasks) == ["waits", "t3", "t4", "t5", "t6", "t7"]
    assert tasks.machine.next_due_ms() == tasks.row("t4").end_ms + HOUR_MS


def test_a_lower_number_to_be_remembered_is_one_for_what_has_ended_already(tasks: Tasks) -> None:
    tasks.do(submit(task("waits"), *(task(f"t{place}") for place in range(4))))
    tasks.succeed(*(f"t{place}" for place in range(4)))
    tasks.do(update(QUEUE, ["scheduling.max_ended"], scheduling=queue_pb2.Scheduling(max_ended=2)))

    assert tasks.machine.next_due_ms() == tasks.now_ms + limits.FORGET_PAUSE_MS
    tasks.do(advance())

    assert known(tasks) == ["waits", "t2", "t3"]
    assert tasks.machine.next_due_ms() == tasks.row("t2").end_ms + HOUR_MS


def test_a_task_is_kept_while_a_child_of_it_has_not_ended(tasks: Tasks) -> None:
    tasks.do(submit(task("parent"), task("child", on("parent"))))
    tasks.succeed("parent")
    tasks.do(submit(*(task(f"t{place}") for place in range(7))))
    tasks.succeed(*(f"t{place}" for place in range(7)))

    tasks.advance_to(tasks.now_ms + HOUR_MS)
    assert known(tasks) == ["parent", "child"]
    assert tasks.machine.parents(2) == [("tasks/parent", 6, 1)]
    tasks.succeed("child")
    tasks.advance_to(tasks.now_ms + HOUR_MS)

    assert known(tasks) == []


def test_tasks_of_a_workflow_are_remembered_until_the_last_of_them_may_go(tasks: Tasks) -> None:
    tasks.do(submit(task("waits")))
    tasks.do(submit(task("a"), task("b"), workflow="w"))
    tasks.succeed("a")
    tasks.advance_to(tasks.now_ms + 2 * HOUR_MS)
    assert known(tasks) == ["waits", "a", "b"]
    tasks.succeed("b")

    assert tasks.machine.next_due_ms() == tasks.now_ms + HOUR_MS
    tasks.advance_to(tasks.now_ms + HOUR_MS)

    assert known(tasks) == ["waits"]
    assert tasks.machine.workflow("workflows/w") is None


def test_a_step_is_bounded_and_what_is_left_is_due_at_once(tasks: Tasks) -> None:
    due_ms = tasks.now_ms + 5_000
    ids = [f"t{place}" for place in range(50)]
    tasks.do(submit(*(task(each, not_before=at(due_ms)) for each in ids)))

    counts = []
    while (next_ms := tasks.machine.next_due_ms()) is not None and next_ms <= due_ms:
        counts.append(tasks.do(advance(limit=20), time_ms=due_ms).count)

    assert counts == [15, 15, 15, 5]
    assert set(tasks.states(ids)) == {"QUEUED"}


def test_what_is_due_and_what_is_to_be_forgotten_do_not_wait_for_each_other(tasks: Tasks) -> None:
    tasks.do(submit(*(task(f"old{place}") for place in range(5))))
    tasks.succeed(*(f"old{place}" for place in range(5)))
    due_ms = tasks.now_ms + HOUR_MS
    tasks.do(submit(*(task(f"t{place}", not_before=at(due_ms)) for place in range(100))))

    tasks.do(advance(limit=20), time_ms=due_ms)

    counts = tasks.machine.queue_counts(tasks.machine.queue(QUEUE).id)
    assert (counts.queued, counts.succeeded) == (15, 0)


def test_an_empty_lane_goes_some_time_after_its_last_task(tasks: Tasks) -> None:
    mirror = Mirror()
    tasks.machine.listeners.append(mirror)
    tasks.do(submit(task("a", tenant="x"), task("b", tenant="y")))
    lane_id = tasks.row("a").lane_id
    assert lane_id != tasks.row("b").lane_id
    tasks.succeed("a")
    idle_ms = tasks.now_ms

    tasks.advance_to(idle_ms + limits.LANE_IDLE_MS - 1)
    assert tasks.machine.lane(lane_id).tasks == 0
    assert tasks.machine.next_due_ms() == idle_ms + limits.LANE_IDLE_MS
    tasks.advance_to(idle_ms + limits.LANE_IDLE_MS)

    assert tasks.machine.lane(lane_id) is None
    assert ("gone", lane_id) in mirror.told
    tasks.do(submit(task("c", tenant="x")))
    assert tasks.row("c").lane_id > lane_id


def test_a_lane_that_is_used_again_stays(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.succeed("a")
    tasks.do(submit(task("b")))

    tasks.advance_to(tasks.now_ms + 2 * limits.LANE_IDLE_MS)

    assert tasks.machine.lane(tasks.row("b").lane_id).tasks == 1


def test_queues_forget_apart_from_each_other(tasks: Tasks) -> None:
    tasks.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(submit(*(task(f"o{place}", queue="queues/other") for place in range(7))))
    tasks.succeed(*(f"o{place}" for place in range(7)))
    tasks.do(submit(*(task(f"q{place}") for place in range(7))))
    tasks.succeed(*(f"q{place}" for place in range(7)))

    tasks.do(advance())

    assert known(tasks) == [*(f"o{place}" for place in range(7)), *(f"q{place}" for place in range(2, 7))]
