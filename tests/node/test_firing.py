"""When schedules fire: whole nodes with clocks that the test moves."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from node.clock import Clock
from node.state.machine import Machine
from node.state.schedule_rows import ScheduleRow
from node.tasks import firing
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2
from tests.node.single_node import Running, run, running, until
from tests.node.task_clients import a_task, got, listed, submit, task_queue

NONE = schedule_pb2.MISSED_POLICY_NONE
LATEST = schedule_pb2.MISSED_POLICY_LATEST
ALL = schedule_pb2.MISSED_POLICY_ALL
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00Z


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
            assert node.node.tasking.firing._due == {}
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


def test_a_schedule_that_is_changed_often_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(node, cron="0 0 1 1 *")
            for place in range(4 * firing.VOID_MAX):
                schedule = schedule_pb2.Schedule(name="schedules/s", paused=place % 2 == 0)
                update = schedule_pb2.UpdateScheduleRequest(schedule=schedule)
                update.update_mask.paths.append("paused")
                await node.schedules.UpdateSchedule(update)

            assert list(node.node.tasking.firing._due) == ["schedules/s"]
            assert len(node.node.tasking.firing._heap) <= firing.VOID_MAX + 2
            hands.move(node, 366 * 24 * HOUR_MS)
            await until(lambda: state(node.machine).last_tick_ms > 0, "it has ticked all the same")

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
