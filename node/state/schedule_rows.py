"""Schedules as rows: what is kept of each, and where."""

from dataclasses import dataclass
from typing import Any, Final

from node.state.rows import duration, timestamp
from node.state.store import Execute
from taskraft.v1 import schedule_pb2, task_pb2

_HOUR_MS: Final = 3_600_000
OF_SERVER: Final = (
    "name",
    "dependencies",
    "workflow",
    "state",
    "attempt",
    "create_time",
    "start_time",
    "end_time",
    "expire_time",
    "worker_id",
    "lease_id",
    "progress",
    "result",
    "error",
    "dependencies_open",
    "events",
    "checkpoint",
)
"""Fields of the task of a schedule that are ignored."""
TIMES: Final = frozenset({"cron", "interval", "time_zone", "start_time", "end_time"})
"""The settings that say when a schedule ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule as of the last applied entry. `config` holds name and settings, defaults filled in, and is never changed.

    Invariant: every tick up to `last_tick_ms` is one of those counted as fired, overlapped or missed, or was skipped by
    a change of the settings.
    """

    id: int  # never given to another schedule; TaskRow.schedule_id of its tasks
    name: str  # `schedules/{schedule}`
    etag: str
    config: schedule_pb2.Schedule
    create_ms: int
    update_ms: int
    next_tick_ms: int  # 0: none
    last_tick_ms: int = 0  # the last one fired or left out; 0: none yet
    last_task: str = ""  # of the last tick that was fired, `tasks/{task}`
    fired: int = 0
    overlapped: int = 0
    missed: int = 0

    def task_name(self, tick_ms: int) -> str:
        """`tasks/{schedule}:{tick}`: the task that a tick becomes, the same however often it is tried."""
        return f"tasks/{self.name.partition('/')[2]}:{tick_ms}"

    def to_proto(self) -> schedule_pb2.Schedule:
        """The schedule as the API shows it, without its next ticks: the state knows only the first of them."""
        schedule = schedule_pb2.Schedule()
        schedule.CopyFrom(self.config)
        schedule.etag, schedule.last_task = self.etag, self.last_task
        schedule.create_time.CopyFrom(timestamp(self.create_ms))
        schedule.update_time.CopyFrom(timestamp(self.update_ms))
        if self.last_tick_ms:
            schedule.last_tick_time.CopyFrom(timestamp(self.last_tick_ms))
        schedule.fired_ticks, schedule.overlapped_ticks = self.fired, self.overlapped
        schedule.missed_ticks = self.missed
        return schedule


def settings_of(schedule: schedule_pb2.Schedule) -> schedule_pb2.Schedule:
    """The name and the settings of a schedule with all defaults filled in, and nothing else."""
    settings = schedule_pb2.Schedule(
        name=schedule.name,
        time_zone=schedule.time_zone,
        task=schedule.task,
        overlap_policy=schedule.overlap_policy or schedule_pb2.OVERLAP_POLICY_SKIP,
        missed_policy=schedule.missed_policy or schedule_pb2.MISSED_POLICY_LATEST,
        missed_window=schedule.missed_window if schedule.HasField("missed_window") else duration(_HOUR_MS),
        paused=schedule.paused,
    )
    for field in OF_SERVER:
        settings.task.ClearField(field)
    times = schedule.WhichOneof("times")
    if times == "cron":
        settings.cron = schedule.cron
    elif times == "interval":
        settings.interval.CopyFrom(schedule.interval)
    for name in ("jitter", "start_time", "end_time"):
        if schedule.HasField(name):
            getattr(settings, name).CopyFrom(getattr(schedule, name))
    return settings


_SELECT: Final = (
    "SELECT id, name, etag, config, create_ms, update_ms, next_tick_ms, last_tick_ms, last_task, fired, overlapped,"
    " missed FROM schedules"
)


def _row(found: tuple[Any, ...]) -> ScheduleRow:
    return ScheduleRow(
        id=found[0],
        name=found[1],
        etag=found[2],
        config=schedule_pb2.Schedule.FromString(found[3]),
        create_ms=found[4],
        update_ms=found[5],
        next_tick_ms=found[6],
        last_tick_ms=found[7],
        last_task=found[8],
        fired=found[9],
        overlapped=found[10],
        missed=found[11],
    )


def find(execute: Execute, name: str) -> ScheduleRow | None:
    """The schedule of the full name `schedules/{schedule}`."""
    found = execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    return None if found is None else _row(found)


def select(execute: Execute, after_name: str, limit: int) -> list[ScheduleRow]:
    """Schedules in the order of their full names, those after `after_name`; a negative limit is none."""
    rows = execute(f"{_SELECT} WHERE name > ? ORDER BY name LIMIT ?", (after_name, limit))
    return [_row(found) for found in rows]


def put(execute: Execute, row: ScheduleRow) -> None:
    """A schedule is new or has changed."""
    execute(
        "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.name,
            row.etag,
            row.config.SerializeToString(deterministic=True),
            row.create_ms,
            row.update_ms,
            row.next_tick_ms,
            row.last_tick_ms,
            row.last_task,
            row.fired,
            row.overlapped,
            row.missed,
        ),
    )


def delete(execute: Execute, row: ScheduleRow) -> None:
    """A schedule is gone."""
    execute("DELETE FROM schedules WHERE id = ?", (row.id,))


def task_of_tick(row: ScheduleRow, name: str) -> task_pb2.Task:
    """The task to submit under that name."""
    task = task_pb2.Task()
    task.CopyFrom(row.config.task)
    task.name = name
    return task
