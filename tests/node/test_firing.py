"""When schedules fire: the decision by itself, and whole nodes with clocks that the test moves."""

import asyncio
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from node import limits
from node.clock import Clock
from node.state.machine import Machine
from node.state.schedule_rows import ScheduleRow, settings_of
from node.tasks import firing
from node.tasks.cron import Times, jitter_ms
from node.tasks.firing import Step, steps
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2
from tests.node.single_node import Running, run, running, until
from tests.node.task_clients import a_task, got, listed, submit, task_queue

NONE = schedule_pb2.MISSED_POLICY_NONE
LATEST = schedule_pb2.MISSED_POLICY_LATEST
ALL = schedule_pb2.MISSED_POLICY_ALL
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00Z


def row(next_tick_ms: int, **fields: Any) -> ScheduleRow:
    if "interval" not in fields:
        fields.setdefault("cron", "* * * * *")
    schedule = schedule_pb2.Schedule(**{"name": "schedules/s", "task": a_task(), **fields})
    return ScheduleRow(
        id=1,
        name=schedule.name,
        etag="e",
        config=settings_of(schedule),
        create_ms=0,
        update_ms=0,
        next_tick_ms=next_tick_ms,
    )


def fired(found: list[Step]) -> list[int]:
    return [step.tick_ms for step in found if not step.missed]


# The decision -----------------------------------------------------------------------------------------------------


def test_a_tick_is_fired_when_it_has_come_and_not_before() -> None:
    assert steps(row(NOW_MS), NOW_MS - 1) == []
    assert steps(row(NOW_MS), NOW_MS) == [
        Step(NOW_MS, missed=False, ticks=1, next_tick_ms=NOW_MS + MINUTE_MS)
    ]


@pytest.mark.parametrize("policy", [NONE, LATEST, ALL])
def test_a_tick_that_is_less_than_ten_seconds_late_is_not_missed(policy: Any) -> None:
    a_minute = row(NOW_MS, missed_policy=policy, missed_window=Duration())

    assert fired(steps(a_minute, NOW_MS + 9_999)) == [NOW_MS]
    assert fired(steps(a_minute, NOW_MS + 10_000)) == []


def test_what_was_missed_is_left_out_as_one_step() -> None:
    found = steps(row(NOW_MS, missed_policy=NONE), NOW_MS + 5 * MINUTE_MS)

    assert found == [
        Step(NOW_MS, missed=True, ticks=5, next_tick_ms=NOW_MS + 5 * MINUTE_MS),
        Step(NOW_MS + 5 * MINUTE_MS, missed=False, ticks=1, next_tick_ms=NOW_MS + 6 * MINUTE_MS),
    ]


def test_the_latest_of_the_missed_is_fired_if_it_is_not_too_late() -> None:
    late_ms = NOW_MS + 5 * MINUTE_MS + 30_000
    a_minute = row(NOW_MS, missed_policy=LATEST, missed_window=Duration(seconds=30))

    assert steps(a_minute, late_ms) == [
        Step(NOW_MS, missed=True, ticks=5, next_tick_ms=NOW_MS + 5 * MINUTE_MS),
        Step(NOW_MS + 5 * MINUTE_MS, missed=False, ticks=1, next_tick_ms=NOW_MS + 6 * MINUTE_MS),
    ]
    assert steps(a_minute, late_ms + 1) == [
        Step(NOW_MS, missed=True, ticks=6, next_tick_ms=NOW_MS + 6 * MINUTE_MS)
    ]


def test_of_many_only_the_latest_is_fired_also_if_it_is_in_time() -> None:
    assert fired(steps(row(NOW_MS, missed_policy=LATEST), NOW_MS + 7 * MINUTE_MS + 1_000)) == [
        NOW_MS + 7 * MINUTE_MS
    ]


def test_all_within_the_window_are_fired_oldest_first() -> None:
    an_hour = row(NOW_MS, missed_policy=ALL, missed_window=Duration(seconds=180))

    found = steps(an_hour, NOW_MS + 60 * MINUTE_MS)

    assert found[0] == Step(NOW_MS, missed=True, ticks=57, next_tick_ms=NOW_MS + 57 * MINUTE_MS)
    assert fired(found) == [NOW_MS + minute * MINUTE_MS for minute in (57, 58, 59, 60)]


def test_at_most_a_thousand_of_the_missed_are_fired() -> None:
    second = row(NOW_MS, missed_policy=ALL, cron="* * * * * *", missed_window=Duration(seconds=86_400))
    now_ms = NOW_MS + 5_000_000

    ticks, left_out = settled(second, now_ms)

    assert ticks == [now_ms - (limits.MISSED_FIRED_MAX - 1 - place) * 1_000 for place in range(1_000)]
    assert left_out == 5_001 - 1_000


def test_after_the_last_tick_there_is_none() -> None:
    ends = row(NOW_MS)
    ends.config.end_time.FromMilliseconds(NOW_MS + 1)

    assert steps(ends, NOW_MS) == [Step(NOW_MS, missed=False, ticks=1, next_tick_ms=0)]


def test_an_interval_goes_on_from_the_tick_that_is_next() -> None:
    odd = row(NOW_MS + 7, interval=Duration(seconds=60))

    assert steps(odd, NOW_MS + 7)[0].next_tick_ms == NOW_MS + 7 + MINUTE_MS


def test_jitter_puts_each_tick_off_by_its_own_time() -> None:
    spread = row(NOW_MS, cron="0 * * * *", jitter=Duration(seconds=600))
    own_ms = jitter_ms("schedules/s", NOW_MS, 600_000)
    assert 0 < own_ms < 600_000

    assert steps(spread, NOW_MS + own_ms - 1) == []
    assert fired(steps(spread, NOW_MS + own_ms)) == [NOW_MS]


def test_a_tick_that_waits_for_the_jitter_of_the_one_before_is_not_missed() -> None:
    dense = row(NOW_MS, missed_policy=NONE, jitter=Duration(seconds=3600))
    now_ms, ticks = NOW_MS, []
    current = dense
    while now_ms < NOW_MS + 3 * HOUR_MS:
        now_ms += 1_000
        for step in steps(current, now_ms):
            assert not step.missed
            ticks.append(step.tick_ms)
            current = row(step.next_tick_ms, missed_policy=NONE, jitter=Duration(seconds=3600))

    assert ticks == [NOW_MS + place * MINUTE_MS for place in range(len(ticks))]
    assert len(ticks) > 100


def settled(schedule: ScheduleRow, now_ms: int) -> tuple[list[int], int]:
    """What is fired and how many are left out until nothing is due, as the state would do it."""
    ticks: list[int] = []
    left_out = 0
    while schedule.next_tick_ms and (found := steps(schedule, now_ms)):
        for step in found:
            assert step.tick_ms == schedule.next_tick_ms
            if step.missed:
                left_out += step.ticks
            else:
                ticks.append(step.tick_ms)
            schedule = ScheduleRow(
                **{name: getattr(schedule, name) for name in ScheduleRow.__slots__ if name != "next_tick_ms"},
                next_tick_ms=step.next_tick_ms,
            )
    return ticks, left_out


@settings(deadline=None)  # others may use the processor
@given(
    policy=st.sampled_from([NONE, LATEST, ALL]),
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "*/20 * * * * *"]),
    late_s=st.integers(0, 20_000),
    window_s=st.integers(0, 20_000),
    jitter_s=st.sampled_from([0, 0, 5, 120]),
)
def test_each_tick_is_fired_or_counted_whatever_was_missed(
    policy: Any, cron: str, late_s: int, window_s: int, jitter_s: int
) -> None:
    fields: dict[str, Any] = {
        "cron": cron,
        "missed_policy": policy,
        "missed_window": Duration(seconds=window_s),
        "jitter": Duration(seconds=jitter_s),
    }
    schedule, now_ms = row(NOW_MS, **fields), NOW_MS + late_s * 1_000

    ticks, left_out = settled(schedule, now_ms)

    every = [NOW_MS, *islice(Times(schedule.config, 0).after(NOW_MS), len(ticks) + left_out)]
    due = [tick for tick in every if tick + jitter_ms("schedules/s", tick, jitter_s * 1_000) <= now_ms]
    assert len(set(ticks)) == len(ticks)
    assert ticks == sorted(ticks)
    if not jitter_s:
        assert len(ticks) + left_out == len(due)
        in_time = [tick for tick in due if now_ms - tick < limits.MISSED_AFTER_MS]
        assert set(in_time) <= set(ticks)
        late = [tick for tick in due if tick not in in_time and now_ms - tick <= window_s * 1_000]
        latest = {NONE: [], LATEST: due[-1:], ALL: due[-limits.MISSED_FIRED_MAX :]}[policy]
        assert [tick for tick in ticks if tick not in in_time] == [tick for tick in late if tick in latest]


# Whole nodes ------------------------------------------------------------------------------------------------------


class Hands:
    """The hands of a clock that a test moves, and the pump that has to notice."""

    def __init__(self) -> None:
        self.wall_ms = NOW_MS

    @property
    def clock(self) -> Clock:
        return Clock(now_ms=lambda: self.wall_ms - NOW_MS, wall_ms=lambda: self.wall_ms)

    def move(self, node: Running, length_ms: int) -> None:
        self.wall_ms += length_ms
        node.node.tasking.firing._touch()


async def created(node: Running, **fields: Any) -> None:
    if "interval" not in fields:
        fields.setdefault("cron", "* * * * *")
    schedule = schedule_pb2.Schedule(**{"task": a_task(), **fields})
    await node.schedules.CreateSchedule(
        schedule_pb2.CreateScheduleRequest(schedule_id="s", schedule=schedule)
    )


async def shown(node: Running) -> schedule_pb2.Schedule:
    answer = await node.schedules.GetSchedule(schedule_pb2.GetScheduleRequest(name="schedules/s"))
    schedule: schedule_pb2.Schedule = answer.schedule
    return schedule


def state(machine: Machine) -> ScheduleRow:
    found = machine.schedule("schedules/s")
    assert found is not None
    return found


def has_fired(node: Running, count: int) -> bool:
    return state(node.machine).fired == count


def tick_ids(*minutes: int) -> list[str]:
    return [f"s:{NOW_MS + minute * MINUTE_MS}" for minute in minutes]


def test_a_schedule_fires_its_ticks_and_names_their_tasks(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(node, task=a_task(payload=b"in"), overlap_policy=schedule_pb2.OVERLAP_POLICY_QUEUE)
            for minute in (1, 2):
                hands.move(node, MINUTE_MS)
                await until(partial(has_fired, node, minute), "fired")

            assert await listed(node) == tick_ids(2, 1)
            task = await got(node, tick_ids(1)[0], task_pb2.TASK_VIEW_FULL)
            assert task.payload == b"in"
            schedule = await shown(node)
            assert (schedule.fired_ticks, schedule.last_task) == (2, f"tasks/{tick_ids(2)[0]}")
            assert schedule.next_tick_times[0].ToMilliseconds() == NOW_MS + 3 * MINUTE_MS

    run(story())


def test_a_schedule_fires_by_the_real_clock(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await created(
                node, interval=Duration(seconds=1), overlap_policy=schedule_pb2.OVERLAP_POLICY_QUEUE
            )

            await until(lambda: state(node.machine).fired >= 2, "two seconds have passed")

    run(story())


def test_what_is_paused_does_not_fire_and_catches_up_by_its_policy(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(node, paused=True)
            hands.move(node, 3 * MINUTE_MS + 30_000)
            await submit(node, a_task("other"))
            assert state(node.machine).fired == 0

            update = schedule_pb2.UpdateScheduleRequest(schedule=schedule_pb2.Schedule(name="schedules/s"))
            update.update_mask.paths.append("paused")
            await node.schedules.UpdateSchedule(update)
            await until(lambda: state(node.machine).fired == 1, "the latest was fired")

            schedule = await shown(node)
            assert (schedule.missed_ticks, schedule.last_task) == (2, f"tasks/{tick_ids(3)[0]}")

    run(story())


def test_a_tick_that_the_queue_refuses_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await node.create("q", kind=queue_pb2.QUEUE_KIND_TASK, max_messages=1)
            await submit(node, a_task("first"))
            await created(node)
            before = node.replica.index
            hands.move(node, MINUTE_MS)
            await until(lambda: node.replica.index > before, "it was tried")
            assert state(node.machine).next_tick_ms == NOW_MS + MINUTE_MS

            await node.tasks.CancelTasks(task_pb2.CancelTasksRequest(queue="queues/q"))
            hands.move(node, firing.AGAIN_MS)
            await until(lambda: state(node.machine).fired == 1, "it was fired")

            assert (await shown(node)).last_task == f"tasks/{tick_ids(1)[0]}"

    run(story())


def test_a_deleted_schedule_and_one_that_is_over_fire_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(node)
            await node.schedules.DeleteSchedule(schedule_pb2.DeleteScheduleRequest(name="schedules/s"))
            hands.move(node, 2 * MINUTE_MS)
            await submit(node, a_task("other"))

            assert await listed(node) == ["other"]
            assert node.node.tasking.firing._due == {}

    run(story())


def test_a_new_leader_goes_on_without_a_tick_lost_or_doubled(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(
                node,
                overlap_policy=schedule_pb2.OVERLAP_POLICY_QUEUE,
                missed_policy=ALL,
                missed_window=Duration(seconds=3600),
            )
            hands.move(node, MINUTE_MS)
            await until(lambda: state(node.machine).fired == 1, "fired")
            node.replica.holding = True
            hands.move(node, MINUTE_MS)
            await until(lambda: node.replica.held, "a tick is on its way")
            node.replica.follow()
            node.replica.holding = False
            assert node.node.tasking.firing._due == {}
            hands.wall_ms += 3 * MINUTE_MS

            node.replica.lead()
            await until(lambda: state(node.machine).fired == 5, "the new leader has fired what was missed")

            assert await listed(node) == tick_ids(5, 4, 3, 2, 1)
            assert (await shown(node)).missed_ticks == 0

    run(story())


def test_many_schedules_are_taken_over_by_a_new_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "LOADED_AT_ONCE", 7)

    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            schedule = schedule_pb2.Schedule(cron="@hourly", task=a_task())
            await asyncio.gather(
                *(
                    node.schedules.CreateSchedule(
                        schedule_pb2.CreateScheduleRequest(schedule_id=f"s{place}", schedule=schedule)
                    )
                    for place in range(50)
                )
            )
            node.replica.follow()
            node.replica.lead()
            await until(lambda: len(node.node.tasking.firing._due) == 50, "all are known again")
            hands.move(node, HOUR_MS)

            await until(
                lambda: all(each.fired == 1 for each in node.machine.schedules()), "each has fired once"
            )
            assert len(await listed(node)) == 50

    run(story())


def test_a_thousand_missed_ticks_are_fired_in_few_entries(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(
                node,
                cron="* * * * * *",
                overlap_policy=schedule_pb2.OVERLAP_POLICY_QUEUE,
                missed_policy=ALL,
                missed_window=Duration(seconds=86_400),
            )
            before = node.replica.index
            hands.move(node, 5_000_000)
            await until(lambda: state(node.machine).next_tick_ms > hands.wall_ms, "all is settled")

            schedule = await shown(node)
            assert (schedule.fired_ticks, schedule.missed_ticks) == (1_000, 4_000)
            assert node.replica.index - before < 30

    run(story())
