"""Schedules of a cluster: tasks that are submitted again and again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from taskraft import errors
from taskraft._new_task import NewTask
from taskraft._settings import check_names
from taskraft._task_values import TaskInfo, task_info
from taskraft._times import duration, seconds_of, time_of
from taskraft.v1 import schedule_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from taskraft._connection import Connection

Overlap = Literal["skip", "queue", "cancel_running"]
Missed = Literal["none", "latest", "all"]

_OVERLAPS: dict[Overlap, schedule_pb2.OverlapPolicy] = {
    "skip": schedule_pb2.OVERLAP_POLICY_SKIP,
    "queue": schedule_pb2.OVERLAP_POLICY_QUEUE,
    "cancel_running": schedule_pb2.OVERLAP_POLICY_CANCEL_RUNNING,
}
_MISSED: dict[Missed, schedule_pb2.MissedPolicy] = {
    "none": schedule_pb2.MISSED_POLICY_NONE,
    "latest": schedule_pb2.MISSED_POLICY_LATEST,
    "all": schedule_pb2.MISSED_POLICY_ALL,
}
_FIELDS = {"overlap": "overlap_policy", "missed": "missed_policy"}  # where ours is shorter


class ScheduleSettings(TypedDict, total=False):
    """When a schedule ticks and what happens then. Lengths of time are in seconds."""

    cron: str
    """Five fields (minute, hour, day of month, month, day of week), six with seconds first, or @hourly and the like."""
    every: float | timedelta
    """Every so often, in seconds or as a timedelta, counted from `start_time` or else from its creation; in place of `cron`."""
    interval: float | timedelta
    """The same as `every`."""
    time_zone: str
    """For `cron`: a name such as Europe/Lisbon; UTC if not said."""
    overlap: Overlap
    """What happens to a tick while the task of an earlier one has not ended; skip if not said."""
    missed: Missed
    """What happens to ticks that passed while nobody could fire them; latest if not said."""
    missed_window: float
    """How late a missed tick may be; 3,600 if not said."""
    jitter: float
    """Each tick is fired up to this much later, always the same for the same tick."""
    start_time: datetime
    """No tick before."""
    end_time: datetime
    """No tick at or after."""
    paused: bool
    """True while nothing is fired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule. `task` is what it submits; of `cron` and `interval` one is None.

    `fired_ticks` were fired, `overlapped_ticks` left out because of `overlap`, `missed_ticks` because of `missed`.
    """

    name: str
    etag: str
    cron: str | None
    interval: float | None
    time_zone: str
    task: TaskInfo
    overlap: Overlap
    missed: Missed
    missed_window: float
    jitter: float
    start_time: datetime | None
    end_time: datetime | None
    paused: bool
    create_time: datetime | None
    update_time: datetime | None
    last_tick_time: datetime | None
    last_task_id: str
    next_tick_times: tuple[datetime, ...]
    fired_ticks: int
    overlapped_ticks: int
    missed_ticks: int


class Schedules:
    """The schedules of a cluster, as `client.schedules`. Names are 1 to 100 of letters, digits, `.`, `_`, `-`.

    Every method raises TaskraftError; ScheduleNotFound for a name that does not exist.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, name: str, task: NewTask, *, replace: bool = False, **settings: Unpack[ScheduleSettings]
    ) -> ScheduleInfo:
        """Submit `task` at the times that `cron` or `every` say; its id and dependencies are ignored.

        A schedule of that name with the same settings is returned as it is. One with others is ScheduleExists, or with
        `replace` gets these: what is not given here goes back to its default. InvalidArgument if the times make no
        sense or never come.
        """
        schedule, _ = _schedule(name, task, settings)
        request = schedule_pb2.CreateScheduleRequest(
            schedule_id=name.removeprefix("schedules/"), schedule=schedule, request_id=uuid.uuid4().hex
        )
        answer = schedule_pb2.CreateScheduleResponse.FromString
        try:
            response = await self._connection.call("ScheduleService/CreateSchedule", request, answer)
        except errors.ScheduleExists:
            if not replace:
                raise
            return await self._update(schedule, [*_every_field(schedule), "task"])
        return schedule_info(response.schedule)

    async def get(self, name: str) -> ScheduleInfo:
        """The schedule with its next ticks."""
        request = schedule_pb2.GetScheduleRequest(name=_name(name))
        response = await self._connection.call(
            "ScheduleService/GetSchedule", request, schedule_pb2.GetScheduleResponse.FromString
        )
        return schedule_info(response.schedule)

    async def list(self) -> AsyncGenerator[ScheduleInfo]:
        """All schedules by name, fetched page by page."""
        request = schedule_pb2.ListSchedulesRequest(page_size=1_000)
        while True:
            response = await self._connection.call(
                "ScheduleService/ListSchedules", request, schedule_pb2.ListSchedulesResponse.FromString
            )
            for schedule in response.schedules:
                yield schedule_info(schedule)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def update(
        self, name: str, *, task: NewTask | None = None, etag: str = "", **settings: Unpack[ScheduleSettings]
    ) -> ScheduleInfo:
        """Change what is given. EtagMismatch if `etag` is given and is not the current one."""
        schedule, paths = _schedule(name, task, settings)
        schedule.etag = etag
        return await self._update(schedule, paths)

    async def _update(self, schedule: schedule_pb2.Schedule, paths: Sequence[str]) -> ScheduleInfo:
        request = schedule_pb2.UpdateScheduleRequest(
            schedule=schedule, update_mask=FieldMask(paths=paths), request_id=uuid.uuid4().hex
        )
        response = await self._connection.call(
            "ScheduleService/UpdateSchedule", request, schedule_pb2.UpdateScheduleResponse.FromString
        )
        return schedule_info(response.schedule)

    async def pause(self, name: str) -> ScheduleInfo:
        """Fire nothing until it is resumed."""
        return await self.update(name, paused=True)

    async def resume(self, name: str) -> ScheduleInfo:
        """Fire its ticks again; for those that passed meanwhile see `missed`."""
        return await self.update(name, paused=False)

    async def delete(self, name: str) -> None:
        """Delete a schedule; tasks that it has submitted stay."""
        request = schedule_pb2.DeleteScheduleRequest(name=_name(name), request_id=uuid.uuid4().hex)
        await self._connection.call(
            "ScheduleService/DeleteSchedule", request, schedule_pb2.DeleteScheduleResponse.FromString
        )

    async def trigger(self, name: str) -> str:
        """Submit the schedule's task now, beside its ticks; returns the task's id."""
        request = schedule_pb2.TriggerScheduleRequest(name=_name(name), request_id=uuid.uuid4().hex)
        response = await self._connection.call(
            "ScheduleService/TriggerSchedule", request, schedule_pb2.TriggerScheduleResponse.FromString
        )
        return response.task.removeprefix("tasks/")


def _name(name: str) -> str:
    return f"schedules/{name.removeprefix('schedules/')}"


def _schedule(
    name: str, task: NewTask | None, settings: ScheduleSettings
) -> tuple[schedule_pb2.Schedule, list[str]]:
    """A Schedule with these settings, and the names of its fields that were set."""
    given = _given(settings)
    schedule, paths = schedule_pb2.Schedule(name=_name(name)), []
    if task is not None:
        schedule.task.CopyFrom(task.proto())
        paths.append("task")
    for key, value in given.items():
        field = _FIELDS.get(key, key)
        if key in ("overlap", "missed"):
            setattr(schedule, field, _choice(key, value, _OVERLAPS if key == "overlap" else _MISSED))
        elif key in ("interval", "missed_window", "jitter"):
            getattr(schedule, field).CopyFrom(duration(_seconds(key, value)))
            getattr(schedule, field).SetInParent()
        elif key in ("start_time", "end_time"):
            if not isinstance(value, datetime):
                raise TypeError(f"{key} is a datetime, not {value!r}")
            getattr(schedule, field).FromDatetime(value.astimezone())
        else:
            _set(schedule, field, value)
        paths.append(field)
    return schedule, paths


def _given(settings: ScheduleSettings) -> dict[str, Any]:
    """The settings, with `every` as `interval`. TypeError for names that are none and for two kinds of times."""
    given: dict[str, Any] = dict(settings)
    check_names("a schedule", given, ScheduleSettings.__annotations__)
    if times := [key for key in ("cron", "every", "interval") if key in given][1:]:
        raise TypeError(
            f"a schedule has one of cron, every and interval (the same as every), not {times[0]} too"
        )
    if "every" in given:
        given["interval"] = _seconds("every", given.pop("every"))
    return given


def _set(schedule: schedule_pb2.Schedule, key: str, value: Any) -> None:
    try:
        setattr(schedule, key, value)
    except TypeError as error:
        raise TypeError(f"{key}={value!r} is not what the setting takes: {error}") from None


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{key} is a number of seconds or a timedelta, not {value!r}")
    return value


def _choice(key: str, value: Any, choices: Mapping[Any, Any]) -> Any:
    if value not in choices:
        raise errors.InvalidArgument(
            f"{key} is one of {', '.join(choices)}, not {value!r}", metadata={"field": _FIELDS[key]}
        )
    return choices[value]


def _every_field(schedule: schedule_pb2.Schedule) -> list[str]:
    """All settings but `task`, with the one of `cron` and `interval` that is set."""
    times = schedule.WhichOneof("times") or "cron"
    others = [
        _FIELDS.get(key, key)
        for key in ScheduleSettings.__annotations__
        if key not in ("cron", "every", "interval")
    ]
    return [times, *others]


def _word(choices: Mapping[Any, int], number: int, default: str) -> Any:
    return next((word for word, one in choices.items() if one == number), default)


def schedule_info(schedule: schedule_pb2.Schedule) -> ScheduleInfo:
    times = schedule.WhichOneof("times")
    return ScheduleInfo(
        name=schedule.name.removeprefix("schedules/"),
        etag=schedule.etag,
        cron=schedule.cron if times == "cron" else None,
        interval=seconds_of(schedule.interval) if times == "interval" else None,
        time_zone=schedule.time_zone,
        task=task_info(schedule.task),
        overlap=_word(_OVERLAPS, schedule.overlap_policy, "skip"),
        missed=_word(_MISSED, schedule.missed_policy, "latest"),
        missed_window=seconds_of(schedule.missed_window),
        jitter=seconds_of(schedule.jitter),
        start_time=time_of(schedule.start_time),
        end_time=time_of(schedule.end_time),
        paused=schedule.paused,
        create_time=time_of(schedule.create_time),
        update_time=time_of(schedule.update_time),
        last_tick_time=time_of(schedule.last_tick_time),
        last_task_id=schedule.last_task.removeprefix("tasks/"),
        next_tick_times=tuple(stamp.ToDatetime(UTC) for stamp in schedule.next_tick_times),
        fired_ticks=schedule.fired_ticks,
        overlapped_ticks=schedule.overlapped_ticks,
        missed_ticks=schedule.missed_ticks,
    )
