"""The order in which tasks of a queue wait: lanes, keys, and the steps that put them in another order."""

from pathlib import Path

import pytest

from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.node.task_log import QUEUE, Tasks, duration, submit, task
from tests.node.task_mirror import Mirror
from tests.sim.state_log import update

FIFO = queue_pb2.SCHEDULING_POLICY_FIFO
PRIORITY = queue_pb2.SCHEDULING_POLICY_PRIORITY
SHORTEST = queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST
EARLIEST = queue_pb2.SCHEDULING_POLICY_EARLIEST_DEADLINE


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def queue_id(tasks: Tasks) -> int:
    found: int = tasks.machine.queue(QUEUE).id
    return found


def lanes(tasks: Tasks, window: int = 100) -> list[list[int]]:
    """The numbers that wait, lane by lane, read in windows of that size."""
    found = []
    for lane in tasks.machine.lanes(queue_id(tasks)):
        numbers: list[int] = []
        after = None
        while ready := tasks.machine.ready(lane.id, after, window):
            assert len(ready) <= window
            numbers += [one.number for one in ready]
            after = (ready[-1].key, ready[-1].number)
        found.append(numbers)
    return found


def policy(tasks: Tasks, policy: int, **settings: object) -> None:
    scheduling = queue_pb2.Scheduling(policy=policy, **settings)  # type: ignore[arg-type]
    tasks.do(update(QUEUE, ["scheduling"], scheduling=scheduling))


def reorder(tasks: Tasks, limit: int = 1_000, uid: str = "") -> int:
    command = command_pb2.ReorderTasks(queue=QUEUE, queue_uid=uid, limit=limit)
    count: int = tasks.do(command_pb2.Command(reorder_tasks=command)).count
    return count


def test_tasks_that_are_alike_share_a_lane(tasks: Tasks) -> None:
    tasks.do(
        submit(
            task("a", resources={"cpu": 1, "gpu": 2}, labels={"x": "1"}),
            task("b", resources={"gpu": 2, "cpu": 1}, priority=7, payload=b"other"),
            task("c", resources={"cpu": 1}),
            task("d", worker_labels={"zone": "x"}),
            task("e", tenant="t"),
            task("f", limit_key="t"),
            task("g", preemptible=True),
            task("h"),
        )
    )
    assert lanes(tasks) == [[1, 2], [3], [4], [5], [6], [7], [8]]
    assert dict(tasks.machine.lane(tasks.row("a").lane_id).demand.resources) == {"cpu": 1, "gpu": 2}

    tasks.follower.restart()
    tasks.do(submit(task("i", resources={"gpu": 2, "cpu": 1})))

    assert tasks.row("i").lane_id == tasks.row("a").lane_id
    assert tasks.machine.lane(tasks.row("a").lane_id).tasks == 3


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_a_lane_is_read_in_windows_also_where_keys_are_equal(tasks: Tasks, window: int) -> None:
    policy(tasks, PRIORITY)
    tasks.do(submit(*(task(f"t{n}", priority=n % 2) for n in range(7))))

    assert lanes(tasks, window) == [[2, 4, 6, 1, 3, 5, 7]]


@pytest.mark.parametrize(
    ("wanted", "order"),
    [(FIFO, [1, 2, 3, 4]), (PRIORITY, [3, 1, 2, 4]), (SHORTEST, [2, 1, 4, 3]), (EARLIEST, [4, 1, 2, 3])],
)
def test_a_queue_orders_its_tasks_by_its_policy(tasks: Tasks, wanted: int, order: list[int]) -> None:
    policy(tasks, wanted)
    far = {"seconds": 9_000_000}
    tasks.do(submit(task("a", size=duration(50), deadline=far)))
    tasks.do(submit(task("b", size=duration(5))))
    tasks.do(submit(task("c", size=duration(5_000), priority=1)))
    tasks.do(submit(task("d", size=duration(500), deadline={"seconds": 8_000_000})))

    assert lanes(tasks) == [order]


def test_another_policy_puts_waiting_tasks_in_its_order_step_by_step(tasks: Tasks) -> None:
    mirror = Mirror()
    tasks.machine.listeners.append(mirror)
    for place in range(10):
        tasks.do(submit(task(f"t{place}", size=duration(1_000 - place))))
    tasks.lease("t4")
    tasks.succeed("t7")
    policy(tasks, SHORTEST)
    assert tasks.machine.reordering(queue_id(tasks))
    uid = tasks.machine.queue(QUEUE).uid

    looked_at = [reorder(tasks, 4, uid), reorder(tasks, 4, uid)]
    assert tasks.machine.reordering(queue_id(tasks))
    tasks.follower.restart()
    tasks.machine.listeners.append(mirror)
    looked_at.append(reorder(tasks, 4, uid))

    assert looked_at == [4, 4, 2]
    assert not tasks.machine.reordering(queue_id(tasks))
    assert lanes(tasks) == [[10, 9, 7, 6, 4, 3, 2, 1]]
    mirror.compare(tasks.machine)
    assert reorder(tasks) == 0


def test_tasks_that_become_ready_meanwhile_stand_where_they_belong(tasks: Tasks) -> None:
    for place in range(4):
        tasks.do(submit(task(f"t{place}", size=duration(100 + place))))
    tasks.lease("t0")
    policy(tasks, SHORTEST)
    reorder(tasks, 2)
    tasks.do(submit(task("new", size=duration(102))))
    tasks.lose("t0")
    while tasks.machine.reordering(queue_id(tasks)):
        reorder(tasks, 2)

    assert lanes(tasks) == [[1, 2, 3, 5, 4]]


def test_a_change_in_the_middle_of_another_one_begins_anew(tasks: Tasks) -> None:
    for place in range(6):
        tasks.do(submit(task(f"t{place}", size=duration(100 - place), priority=place % 3)))
    policy(tasks, SHORTEST)
    reorder(tasks, 4)
    policy(tasks, PRIORITY, aging=duration(0))
    assert reorder(tasks, 4) == 4
    assert reorder(tasks, 4) == 2

    assert lanes(tasks) == [[3, 6, 2, 5, 1, 4]]


def test_only_what_changes_the_order_makes_work(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    policy(tasks, FIFO, max_running=7, lease=duration(5_000))
    assert not tasks.machine.reordering(queue_id(tasks))
    policy(tasks, queue_pb2.SCHEDULING_POLICY_ROUND_ROBIN)
    assert not tasks.machine.reordering(queue_id(tasks))
    policy(tasks, PRIORITY)
    assert tasks.machine.reordering(queue_id(tasks))
    reorder(tasks)
    scheduling = queue_pb2.Scheduling(aging=duration(1_000))
    tasks.do(update(QUEUE, ["scheduling.aging"], scheduling=scheduling))
    assert tasks.machine.reordering(queue_id(tasks))
    assert tasks.machine.queue(QUEUE).config.scheduling.policy == PRIORITY


def test_a_queue_without_waiting_tasks_is_in_order(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.lease("a")
    policy(tasks, SHORTEST)

    assert not tasks.machine.reordering(queue_id(tasks))


def test_steps_for_a_queue_that_is_gone_do_nothing(tasks: Tasks) -> None:
    command = command_pb2.ReorderTasks(queue=QUEUE, queue_uid="another", limit=1)
    assert tasks.refusal(command_pb2.Command(reorder_tasks=command)).reason == "QUEUE_NOT_FOUND"


def test_settings_of_tasks_have_defaults_and_change_alone(tasks: Tasks) -> None:
    scheduling = tasks.machine.queue(QUEUE).config.scheduling
    assert (scheduling.policy, scheduling.placement) == (FIFO, queue_pb2.PLACEMENT_LEAST_LOADED)
    assert (scheduling.max_attempts, scheduling.max_ended) == (3, 100_000)
    lengths = ("aging", "time_slice", "lease", "backoff", "backoff_max", "retain_succeeded", "retain_failed")
    assert [getattr(scheduling, name).ToSeconds() for name in lengths] == [
        60,
        1,
        10,
        1,
        300,
        3_600,
        7 * 24 * 3_600,
    ]

    given = queue_pb2.Scheduling(
        max_attempts=5, rate=queue_pb2.RateLimit(per_second=2), tenant_weights={"a": 2.0}, max_running=3
    )
    tasks.do(update(QUEUE, ["scheduling.rate", "scheduling.max_attempts"], scheduling=given))
    changed = tasks.machine.queue(QUEUE).config.scheduling
    assert (changed.max_attempts, changed.rate.per_second, changed.rate.burst) == (5, 2, 1)
    assert (changed.max_running, dict(changed.tenant_weights)) == (0, {})
    tasks.do(update(QUEUE, ["scheduling.tenant_weights"], scheduling=given))
    tasks.do(update(QUEUE, ["scheduling.rate"]))
    changed = tasks.machine.queue(QUEUE).config.scheduling
    assert (changed.HasField("rate"), dict(changed.tenant_weights)) == (False, {"a": 2.0})


def test_settings_that_no_queue_of_tasks_has_are_refused(tasks: Tasks) -> None:
    dropping = update(QUEUE, ["overflow_policy"], overflow_policy=queue_pb2.OVERFLOW_POLICY_DROP_OLDEST)
    assert tasks.refusal(dropping).metadata == {"field": "overflow_policy"}
    assert tasks.refusal(update(QUEUE, ["scheduling.none"])).metadata == {"field": "scheduling.none"}
    assert tasks.refusal(update(QUEUE, ["kind"])).metadata == {"field": "kind"}
