"""What commands do to schedules. Each tick is fired once: it is fired only while it is the next one.

Which tick is next is decided by the leader, who knows time zones, and comes with the command; what has become of the
tasks of earlier ticks is decided here, where everything else that happened is known.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from node.state import cancel, schedule_rows
from node.state.results import Code, Done, Refused, Result, ScheduleResult, Triggered, schedule_not_found
from node.state.schedule_rows import TIMES, ScheduleRow, settings_of
from node.state.submit import submit
from node.state.tables import Position, Tables
from node.state.task_rows import TaskRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import schedule_pb2

OVERLAPPED: Final = "a later tick of its schedule came"

_OF_TIMES: Final = frozenset({"cron", "interval"})  # one of them is set
_MESSAGES: Final = frozenset({"interval", "task", "missed_window", "jitter", "start_time", "end_time"})
_CHANGEABLE: Final = TIMES | _MESSAGES | {"overlap_policy", "missed_policy", "paused"}


def create(tables: Tables, at: Position, command: command_pb2.CreateSchedule) -> Result:
    """A new schedule, or the one that is there if it has the same settings."""
    config = settings_of(command.schedule)
    there = schedule_rows.find(tables.store.execute, config.name)
    if there is not None:
        if there.config == config:
            return ScheduleResult(there.to_proto())
        message = f"there is a schedule {config.name} with other settings"
        return Refused(Code.ALREADY_EXISTS, "SCHEDULE_EXISTS", message, {"schedule": config.name})
    row = ScheduleRow(
        id=tables.store.new_id(),
        name=config.name,
        etag=at.tag(),
        config=config,
        create_ms=at.time_ms,
        update_ms=at.time_ms,
        next_tick_ms=command.next_tick_ms,
    )
    _put(tables, row)
    return ScheduleResult(row.to_proto())


def update(tables: Tables, at: Position, command: command_pb2.UpdateSchedule) -> Result:
    """Other settings, and the next tick that follows from them.

    Unless the times change the next tick stays what it is here: what the leader knew of it may have been fired, or left
    out as one of many, meanwhile.
    """
    given = command.schedule
    row = schedule_rows.find(tables.store.execute, given.name)
    if row is None:
        return schedule_not_found(given.name)
    if refused := _other_etag(row, given.etag):
        return refused
    changed = schedule_pb2.Schedule()
    changed.CopyFrom(row.config)
    for field in command.fields:
        if field not in _CHANGEABLE:
            message = f"{field} is not a setting that can change"
            return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": field})
        _take_over(changed, given, field)
    config = settings_of(changed)
    if config != row.config:
        next_ms = row.next_tick_ms if TIMES.isdisjoint(command.fields) else command.next_tick_ms
        row = replace(row, config=config, etag=at.tag(), update_ms=at.time_ms, next_tick_ms=next_ms)
        _put(tables, row)
    return ScheduleResult(row.to_proto())


def _take_over(changed: schedule_pb2.Schedule, given: schedule_pb2.Schedule, name: str) -> None:
    """Give `changed` that one setting of `given`; one that is unset there becomes unset."""
    if name in _OF_TIMES and given.WhichOneof("times") != name:
        changed.ClearField(name)
    elif name not in _MESSAGES:
        setattr(changed, name, getattr(given, name))
    elif given.HasField(name):
        getattr(changed, name).CopyFrom(getattr(given, name))
    else:
        changed.ClearField(name)


def delete(tables: Tables, at: Position, command: command_pb2.DeleteSchedule) -> Result:
    """No schedule; the tasks that it has submitted stay."""
    row = schedule_rows.find(tables.store.execute, command.name)
    if row is None:
        return schedule_not_found(command.name)
    if refused := _other_etag(row, command.etag):
        return refused
    schedule_rows.delete(tables.store.execute, row)
    tables.events.append(("schedule_changed", row.name))
    return Done()


def fire(tables: Tables, at: Position, command: command_pb2.FireSchedule) -> Result:
    """Fire the next tick of a schedule, or leave out `count` of them that were missed.

    What its overlap policy makes of it is decided here. If its task is refused, because the queue is full for instance,
    nothing has happened and the tick is still the next one.
    """
    row = schedule_rows.find(tables.store.execute, command.name)
    if row is None:
        return schedule_not_found(command.name)
    if refused := _other_etag(row, command.etag):
        return refused
    tick_ms, next_ms = command.tick_ms, command.next_tick_ms
    if tick_ms != row.next_tick_ms or not tick_ms:
        message = f"the next tick of {row.name} is {row.next_tick_ms}, not {tick_ms}"
        return Refused(
            Code.ABORTED,
            "TICK_NOT_NEXT",
            message,
            {"schedule": row.name, "next_tick_ms": str(row.next_tick_ms)},
        )
    assert next_ms == 0 or next_ms > tick_ms
    if tick_ms <= row.last_tick_ms:  # the settings were changed while it was fired
        _put(tables, replace(row, next_tick_ms=next_ms))
        return Done()
    moved = replace(row, next_tick_ms=next_ms, last_tick_ms=tick_ms)
    if command.missed:
        _put(tables, replace(moved, missed=row.missed + max(1, command.count)))
        return Done()
    policy = row.config.overlap_policy
    earlier = [] if policy == schedule_pb2.OVERLAP_POLICY_QUEUE else unended(tables, row.id)
    if earlier and policy == schedule_pb2.OVERLAP_POLICY_SKIP:
        _put(tables, replace(moved, overlapped=row.overlapped + 1))
        return Done()
    name = row.task_name(tick_ms)
    overlapped = [task for task in earlier if task.name != name]
    if refused := _submit(tables, at, row, name, overlapped):
        return refused
    cancel.end_all(tables, at, overlapped, OVERLAPPED)
    _put(tables, replace(moved, last_task=name, fired=row.fired + 1))
    return Triggered(name)


def trigger(tables: Tables, at: Position, command: command_pb2.TriggerSchedule) -> Result:
    """Submit the schedule's task beside its ticks."""
    row = schedule_rows.find(tables.store.execute, command.name)
    if row is None:
        return schedule_not_found(command.name)
    return _submit(tables, at, row, command.task) or Triggered(command.task)


def unended(tables: Tables, schedule_id: int) -> list[TaskRow]:
    """The tasks that a schedule has submitted and that have not ended, triggered ones included."""
    rows = tables.tasks.select(
        "schedule_id = ? AND schedule_id > 0 AND state < 6 ORDER BY number", (schedule_id,)
    )
    return [row for row in rows if not tables.tasks.is_dead(row)]


def _submit(
    tables: Tables, at: Position, row: ScheduleRow, name: str, leaving: Sequence[TaskRow] = ()
) -> Refused | None:
    """Submit the schedule's task under that name; one that exists already is as good. Those that are `leaving`, in the
    same command, make room for it.
    """
    task = schedule_rows.task_of_tick(row, name)
    command = command_pb2.SubmitTasks(tasks=[task])
    result = submit(tables, at, command, schedule_id=row.id, leaving=leaving)
    return result if isinstance(result, Refused) else None


def _other_etag(row: ScheduleRow, etag: str) -> Refused | None:
    if etag in ("", row.etag):
        return None
    metadata = {"schedule": row.name, "etag": row.etag}
    return Refused(Code.ABORTED, "ETAG_MISMATCH", f"{row.name} was changed by someone else", metadata)


def _put(tables: Tables, row: ScheduleRow) -> None:
    schedule_rows.put(tables.store.execute, row)
    tables.events.append(("schedule_changed", row.name))
