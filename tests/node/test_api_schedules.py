import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from node.api import schedule_input
from node.clock import Clock
from node.errors import InvalidField
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import schedule_pb2, task_pb2
from tests.node.single_node import Running, refusal, run, running, until
from tests.node.task_clients import a_task, after, got, listed, task_queue

Code = grpc.StatusCode
HOUR_MS = 3_600_000
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00Z, a Thursday


class Hands:
    """The hands of a clock that a test moves."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.wall_ms = wall_ms

    @property
    def clock(self) -> Clock:
        return Clock(now_ms=lambda: self.wall_ms - NOW_MS, wall_ms=lambda: self.wall_ms)


def stamp(time_ms: int) -> Timestamp:
    found = Timestamp()
    found.FromMilliseconds(time_ms)
    return found


def a_schedule(**fields: Any) -> schedule_pb2.Schedule:
    if "interval" not in fields and "cron" not in fields:
        fields["cron"] = "@hourly"
    return schedule_pb2.Schedule(**{"task": a_task(), **fields})


async def created(
    node: Running, name: str = "s", request_id: str = "", **fields: Any
) -> schedule_pb2.Schedule:
    request = schedule_pb2.CreateScheduleRequest(
        schedule_id=name, schedule=a_schedule(**fields), request_id=request_id
    )
    schedule: schedule_pb2.Schedule = (await node.schedules.CreateSchedule(request)).schedule
    return schedule


async def shown(node: Running, name: str = "s") -> schedule_pb2.Schedule:
    request = schedule_pb2.GetScheduleRequest(name=f"schedules/{name}")
    schedule: schedule_pb2.Schedule = (await node.schedules.GetSchedule(request)).schedule
    return schedule


async def updated(node: Running, *paths: str, etag: str = "", **fields: Any) -> schedule_pb2.Schedule:
    schedule = schedule_pb2.Schedule(name="schedules/s", etag=etag, **fields)
    request = schedule_pb2.UpdateScheduleRequest(schedule=schedule, update_mask=FieldMask(paths=paths))
    answer: schedule_pb2.Schedule = (await node.schedules.UpdateSchedule(request)).schedule
    return answer


def ticks(schedule: schedule_pb2.Schedule) -> list[int]:
    """The next ticks, in hours from now."""
    return [(each.ToMilliseconds() - NOW_MS) // HOUR_MS for each in schedule.next_tick_times]


def test_a_schedule_is_created_with_its_defaults_and_next_ticks(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, clock=Hands().clock) as node:
            await task_queue(node)
            schedule = await created(
                node, task=a_task("ignored", dependencies=after("ignored"), state=6, labels={"k": "v"})
            )

            assert (schedule.name, ticks(schedule)) == ("schedules/s", [1, 2, 3, 4, 5])
            assert schedule.overlap_policy == schedule_pb2.OVERLAP_POLICY_SKIP
            assert schedule.missed_policy == schedule_pb2.MISSED_POLICY_LATEST
            assert schedule.missed_window.ToMilliseconds() == HOUR_MS
            assert schedule.task == a_task(labels={"k": "v"})
            assert await shown(node) == schedule
            assert await listed(node) == []

    run(story())


def test_the_same_schedule_again_is_answered_and_another_one_refused(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            first = await created(node)
            hands.wall_ms += 1_000

            assert await created(node) == first
            assert (await refusal(created(node, cron="@daily")))[:2] == (
                Code.ALREADY_EXISTS,
                "SCHEDULE_EXISTS",
            )

    run(story())


def test_schedules_are_listed_by_name_page_by_page(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            for name in ("b", "a", "c"):
                await created(node, name)
            first = await node.schedules.ListSchedules(schedule_pb2.ListSchedulesRequest(page_size=2))
            rest = await node.schedules.ListSchedules(
                schedule_pb2.ListSchedulesRequest(page_token=first.next_page_token)
            )

            assert [each.name for each in (*first.schedules, *rest.schedules)] == [
                "schedules/a",
                "schedules/b",
                "schedules/c",
            ]
            assert rest.next_page_token == ""
            assert len(first.schedules[0].next_tick_times) == 5

    run(story())


def test_settings_change_alone(tmp_path: Path) -> None:
    async def story() -> None:
        hands = Hands()
        async with running(tmp_path, clock=hands.clock) as node:
            await task_queue(node)
            await created(node, time_zone="Europe/Lisbon", jitter=Duration(seconds=5))

            times = await updated(node, "interval", interval=Duration(seconds=7200))
            assert (ticks(times), times.time_zone, times.jitter.seconds) == (
                [2, 4, 6, 8, 10],
                "Europe/Lisbon",
                5,
            )
            back = await updated(node, "cron", "jitter", cron="0 12 * * *")
            assert (ticks(back)[0], back.HasField("jitter")) == (12, False)
            paused = await updated(node, "paused", paused=True)
            assert (paused.paused, ticks(paused)) == (True, [])
            assert ticks(await updated(node, "paused"))[0] == 12
            by_fields = await updated(node, overlap_policy=schedule_pb2.OVERLAP_POLICY_QUEUE)
            assert by_fields.overlap_policy == schedule_pb2.OVERLAP_POLICY_QUEUE

    run(story())


def test_an_old_etag_is_refused_and_none_is_the_current_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            first = await created(node)
            second = await updated(node, "cron", cron="@daily")

            assert second.etag != first.etag
            late = updated(node, "cron", cron="@weekly", etag=first.etag)
            assert (await refusal(late))[:2] == (Code.ABORTED, "ETAG_MISMATCH")
            assert (await updated(node, "cron", cron="@weekly", etag=second.etag)).cron == "@weekly"

    run(story())


def test_a_schedule_is_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await created(node)
            await node.schedules.DeleteSchedule(schedule_pb2.DeleteScheduleRequest(name="schedules/s"))

            for call in (
                shown(node),
                updated(node, "paused"),
                node.schedules.DeleteSchedule(schedule_pb2.DeleteScheduleRequest(name="schedules/s")),
                node.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(name="schedules/s")),
            ):
                assert await refusal(call) == (
                    Code.NOT_FOUND,
                    "SCHEDULE_NOT_FOUND",
                    {"schedule": "schedules/s"},
                )

    run(story())


def test_a_schedule_is_triggered_beside_its_ticks_and_once_for_a_request(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await created(node, paused=True, task=a_task(payload=b"in"))
            trigger = schedule_pb2.TriggerScheduleRequest(name="schedules/s", request_id="r")
            first = (await node.schedules.TriggerSchedule(trigger)).task
            again = (await node.schedules.TriggerSchedule(trigger)).task
            other = await node.schedules.TriggerSchedule(
                schedule_pb2.TriggerScheduleRequest(name="schedules/s")
            )

            assert first == again
            assert len(await listed(node)) == 2
            assert first.startswith("tasks/s:t")
            assert other.task != first
            task = await got(node, first.removeprefix("tasks/"), task_pb2.TASK_VIEW_FULL)
            assert task.payload == b"in"

    run(story())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no times": ({"cron": ""}, "schedule.cron"),
    "nonsense": ({"cron": "every day"}, "schedule.cron"),
    "a date that never comes": ({"cron": "0 0 30 2 *"}, "schedule.cron"),
    "dates that never come together": ({"cron": "* * */20 * 1L"}, "schedule.cron"),
    "a long expression": ({"cron": ",".join(["1"] * 200) + " * * * *"}, "schedule.cron"),
    "a short interval": ({"interval": Duration(nanos=1)}, "schedule.interval"),
    "a long interval": ({"interval": Duration(seconds=367 * 86_400)}, "schedule.interval"),
    "no time zone": ({"time_zone": "Europe/Atlantis"}, "schedule.time_zone"),
    "a long time zone": ({"time_zone": "a" * 65}, "schedule.time_zone"),
    "an unknown overlap policy": ({"overlap_policy": 9}, "schedule.overlap_policy"),
    "an unknown missed policy": ({"missed_policy": 9}, "schedule.missed_policy"),
    "a long window": ({"missed_window": Duration(seconds=31 * 86_400)}, "schedule.missed_window"),
    "a negative window": ({"missed_window": Duration(seconds=-1)}, "schedule.missed_window"),
    "a long jitter": ({"jitter": Duration(seconds=3601)}, "schedule.jitter"),
    "an end before the start": (
        {"start_time": stamp(NOW_MS + 2), "end_time": stamp(NOW_MS + 1)},
        "schedule.end_time",
    ),
    "an end before the first tick": (
        {"start_time": stamp(NOW_MS), "end_time": stamp(NOW_MS + 1_000), "cron": "30 * * * *"},
        "schedule.end_time",
    ),
    "an impossible start": ({"start_time": Timestamp(seconds=-1)}, "schedule.start_time"),
    "no queue": ({"task": a_task(queue="")}, "schedule.task.queue"),
    "a task that breaks a limit": ({"task": a_task(resources={"cpu": -1})}, 'schedule.task.resources["cpu"]'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_schedule_that_makes_no_sense_is_refused_by_its_field(case: str) -> None:
    fields, field = WRONG[case]
    if fields.get("cron") == "":
        fields = {**fields, "interval": None}

    with pytest.raises(InvalidField) as refused:
        settings = schedule_input.settings(a_schedule(**fields), schedule_input.SETTINGS)
        schedule_input.first_tick_ms(settings, anchor_ms=NOW_MS, after_ms=NOW_MS)

    assert refused.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"cron": "0 3 * *"},
            "schedule.cron '0 3 * *' has 4 fields, it needs 5 (minute hour day month weekday) or 6 with seconds first",
        ),
        ({"cron": "0 25 * * *"}, "schedule.cron '0 25 * * *' has '25' as hour, which takes 0 to 23"),
        ({"cron": "99 0 3 * * *"}, "schedule.cron '99 0 3 * * *' has '99' as second, which takes 0 to 59"),
        ({"cron": "0 3 32 * *"}, "schedule.cron '0 3 32 * *' has '32' as day, which takes 1 to 31"),
        ({"cron": "0 3 31 2 *"}, "schedule.cron '0 3 31 2 *' never comes: no such month has a day 31"),
        ({"cron": "* * */20 * 1L"}, "schedule.cron '* * */20 * 1L' never comes"),
        ({"time_zone": "Lisbon"}, "schedule.time_zone 'Lisbon' must be an IANA name such as Europe/Lisbon"),
    ],
)
def test_times_that_make_no_sense_are_explained(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField) as refused:
        schedule_input.first_tick_ms(a_schedule(**fields), anchor_ms=NOW_MS, after_ms=NOW_MS)

    assert refused.value.message == message
    assert refused.value.reason == "INVALID_FIELD"


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await node.create("messages")
            await created(node)
            for call, reason, field in (
                (created(node, "a:b"), "INVALID_FIELD", "schedule_id"),
                (created(node, "a" * 101), "INVALID_FIELD", "schedule_id"),
                (created(node, "x", task=a_task(queue="none")), "QUEUE_NOT_FOUND", None),
                (created(node, "x", task=a_task(queue="messages")), "WRONG_QUEUE_KIND", None),
                (updated(node, "etag"), "INVALID_FIELD", "update_mask"),
                (updated(node), "INVALID_FIELD", "update_mask"),
                (updated(node, "cron"), "INVALID_FIELD", "schedule.cron"),
                (updated(node, "task", task=a_task(queue="none")), "QUEUE_NOT_FOUND", None),
                (updated(node, "time_zone", time_zone="x"), "INVALID_FIELD", "schedule.time_zone"),
            ):
                _, found, metadata = await refusal(call)
                assert (found, metadata.get("field")) == (reason, field)

    run(story())


def proposed(node: Running) -> int:
    """Updates of schedules that are on their way, several of them perhaps in one entry."""
    held = [command_pb2.Batch.FromString(payload) for payload, _ in node.replica.held]
    updates = [each for batch in held for each in batch.commands if each.HasField("update_schedule")]
    return len(updates) + len(node.node.broker._waiting)


def test_updates_at_the_same_time_are_all_made(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await created(node)

            node.replica.holding = True
            calls = asyncio.gather(
                updated(node, "jitter", jitter=Duration(seconds=5)),
                updated(node, "cron", cron="@daily"),
                updated(node, "time_zone", time_zone="Asia/Tokyo"),
            )
            await until(lambda: proposed(node) == 3, "all have read")
            node.replica.let_go()
            await calls

            schedule = await shown(node)
            assert (schedule.jitter.seconds, schedule.cron, schedule.time_zone) == (5, "@daily", "Asia/Tokyo")
            assert schedule.next_tick_times[0].ToMilliseconds() % (24 * HOUR_MS) == 15 * HOUR_MS

    run(story())
