"""ScheduleService, on the leader: bytes in, bytes out, ApiError or an error of the log raised."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from hashlib import blake2b
from itertools import chain, islice
from typing import Final, Protocol

from node import commands, limits
from node.api import schedule_input, validate
from node.api.pages import Page, page_token, read_page_token
from node.api.task_filter import task_queue
from node.broker import Broker
from node.clock import Clock
from node.errors import DiskLow, Refusal, ScheduleNotFound
from node.replication import Replicated
from node.state.results import ScheduleResult, Success, Triggered
from node.state.rows import QueueRow, timestamp
from node.state.schedule_rows import TIMES, ScheduleRow
from node.tasks.cron import BadTimesError, Times
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import schedule_pb2

SHOWN_AT_ONCE: Final = 50  # schedules with their next ticks; then others have their turn
UPDATES_TRIED: Final = 5  # when others change the schedule meanwhile
TRIGGER_BYTES: Final = 6  # of chance in the name of a triggered task


class State(Protocol):
    """The part of the state machine that knows schedules."""

    @property
    def time_ms(self) -> int:
        """The latest time that an applied batch carried."""
        ...

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def schedule(self, name: str) -> ScheduleRow | None:
        """The schedule of the full name."""
        ...

    def schedules(self, after_name: str = "", limit: int = -1) -> list[ScheduleRow]:
        """Schedules by name, after one."""
        ...


class Schedules:
    """ScheduleService's methods by name."""

    def __init__(
        self,
        *,
        state: State,
        broker: Broker,
        replica: Replicated,
        clock: Clock,
        disk_low: Callable[[], bool],
    ) -> None:
        self._state, self._broker, self._replica = state, broker, replica
        self._clock, self._disk_low = clock, disk_low

    async def CreateSchedule(self, data: bytes) -> bytes:
        request = schedule_pb2.CreateScheduleRequest.FromString(data)
        request_id = validate.request_id(request.request_id)
        schedule = schedule_input.settings(request.schedule, schedule_input.SETTINGS)
        schedule.name = validate.SCHEDULES + validate.schedule_id(request.schedule_id)
        now_ms = self._now_ms()
        first_ms = schedule_input.first_tick_ms(schedule, anchor_ms=now_ms, after_ms=now_ms)
        await self._check_queue(schedule.task.queue)
        self._check_disk()
        create = command_pb2.CreateSchedule(schedule=schedule, next_tick_ms=first_ms)
        result = await self._commit(command_pb2.Command(request_id=request_id, create_schedule=create))
        assert isinstance(result, ScheduleResult)
        return schedule_pb2.CreateScheduleResponse(schedule=self._as_it_is(result)).SerializeToString()

    async def GetSchedule(self, data: bytes) -> bytes:
        request = schedule_pb2.GetScheduleRequest.FromString(data)
        name = validate.schedule_name(request.name)
        await self._replica.read_barrier()
        shown = self._shown(await self._row(name))
        return schedule_pb2.GetScheduleResponse(schedule=shown).SerializeToString()

    async def ListSchedules(self, data: bytes) -> bytes:
        request = schedule_pb2.ListSchedulesRequest.FromString(data)
        size = validate.page_size(request.page_size)
        after = read_page_token(request.page_token)
        await self._replica.read_barrier()
        rows = self._state.schedules(after, size + 1)
        shown = []
        for place, row in enumerate(rows[:size]):
            if place % SHOWN_AT_ONCE == SHOWN_AT_ONCE - 1:
                await asyncio.sleep(0)  # finding next ticks takes a while
            shown.append(self._shown(row))
        page = Page(shown)
        response = schedule_pb2.ListSchedulesResponse(schedules=page.items)
        if page.count < len(rows):
            response.next_page_token = page_token(rows[page.count - 1].name)
        return response.SerializeToString()

    async def UpdateSchedule(self, data: bytes) -> bytes:
        request = schedule_pb2.UpdateScheduleRequest.FromString(data)
        request_id = validate.request_id(request.request_id)
        name = validate.schedule_name(request.schedule.name, "schedule.name")
        names = schedule_input.update_mask(request.update_mask.paths, request.schedule)
        changes = schedule_input.settings(request.schedule, names)
        if "task" in names:
            await self._check_queue(changes.task.queue)
        for _ in range(UPDATES_TRIED):
            row = await self._row(name)
            changes.name, changes.etag = name, request.schedule.etag or row.etag
            update = command_pb2.UpdateSchedule(
                schedule=changes, fields=names, next_tick_ms=self._next_tick_ms(row, changes, names)
            )
            command = command_pb2.Command(request_id=request_id, update_schedule=update)
            try:
                result = await self._commit(command)
                break
            except Refusal as error:
                if error.name != "ETAG_MISMATCH" or request.schedule.etag:
                    raise
                refused = error
        else:
            raise refused
        assert isinstance(result, ScheduleResult)
        return schedule_pb2.UpdateScheduleResponse(schedule=self._as_it_is(result)).SerializeToString()

    def _next_tick_ms(self, row: ScheduleRow, changes: schedule_pb2.Schedule, names: list[str]) -> int:
        """The next tick after an update, which must make sense together with what stays as it is.

        Unless the times change it is the one that it was, so that the end of a pause finds what was missed.
        """
        merged = schedule_pb2.Schedule()
        merged.CopyFrom(row.config)
        for name in names:
            merged.ClearField(name)
        merged.MergeFrom(changes)
        if TIMES.isdisjoint(names):
            return row.next_tick_ms
        after_ms = max(self._now_ms(), row.last_tick_ms)
        return schedule_input.first_tick_ms(merged, anchor_ms=row.create_ms, after_ms=after_ms)

    async def DeleteSchedule(self, data: bytes) -> bytes:
        request = schedule_pb2.DeleteScheduleRequest.FromString(data)
        delete = command_pb2.DeleteSchedule(name=validate.schedule_name(request.name), etag=request.etag)
        request_id = validate.request_id(request.request_id)
        await self._commit(command_pb2.Command(request_id=request_id, delete_schedule=delete))
        return schedule_pb2.DeleteScheduleResponse().SerializeToString()

    async def TriggerSchedule(self, data: bytes) -> bytes:
        request = schedule_pb2.TriggerScheduleRequest.FromString(data)
        name = validate.schedule_name(request.name)
        request_id = validate.request_id(request.request_id)
        self._check_disk()
        trigger = command_pb2.TriggerSchedule(name=name, task=triggered_name(name, request_id))
        result = await self._commit(command_pb2.Command(request_id=request_id, trigger_schedule=trigger))
        assert isinstance(result, Triggered)
        return schedule_pb2.TriggerScheduleResponse(task=result.task).SerializeToString()

    # Shared -------------------------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        """The wall clock, which for the log never goes back."""
        return max(self._clock.wall_ms(), self._state.time_ms)

    async def _row(self, name: str) -> ScheduleRow:
        """The schedule; that there is none is believed only from a leader that is one."""
        row = self._state.schedule(name)
        if row is None:
            await self._replica.read_barrier()
            row = self._state.schedule(name)
        if row is None:
            raise ScheduleNotFound(f"there is no schedule {name}", schedule=name)
        return row

    async def _check_queue(self, name: str) -> None:
        """Raises QueueNotFound, WrongQueueKind."""
        if self._state.queue(name) is None:
            await self._replica.read_barrier()
        task_queue(self._state.queue(name), name)

    def _as_it_is(self, result: ScheduleResult) -> schedule_pb2.Schedule:
        """What a command has made, with its next ticks if it is still there."""
        row = self._state.schedule(result.schedule.name)
        if row is not None and row.etag == result.schedule.etag:
            return self._shown(row)
        return result.schedule

    def _shown(self, row: ScheduleRow) -> schedule_pb2.Schedule:
        """A schedule with its next ticks; one that is paused has none."""
        schedule = row.to_proto()
        if not row.config.paused and row.next_tick_ms:
            schedule.next_tick_times.extend(timestamp(tick_ms) for tick_ms in next_ticks(row))
        return schedule

    async def _commit(self, command: command_pb2.Command) -> Success:
        return await self._broker.submit(commands.plain(command))

    def _check_disk(self) -> None:
        if self._disk_low():
            raise DiskLow


def next_ticks(row: ScheduleRow) -> list[int]:
    """The next ticks of a schedule that has one, as far as this node can tell."""
    try:
        later = Times(row.config, row.next_tick_ms).after(row.next_tick_ms)
    except BadTimesError:
        return [row.next_tick_ms]
    return list(islice(chain((row.next_tick_ms,), later), limits.NEXT_TICKS_SHOWN))


def triggered_name(schedule: str, request_id: str) -> str:
    """What a task is called that does not belong to a tick; the same for a retry of the same request."""
    made = secrets.token_bytes(TRIGGER_BYTES)
    if request_id:
        made = blake2b(request_id.encode(), digest_size=TRIGGER_BYTES).digest()
    return f"{validate.TASKS}{schedule.removeprefix(validate.SCHEDULES)}:t{made.hex()}"
