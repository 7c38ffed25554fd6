"""When schedules tick: pure arithmetic of calendars, from settings and a time to the times after it.

A cron expression is evaluated on the wall clock of its time zone, and each local time then becomes a moment: one that
daylight saving skips is the moment of the change, one that comes twice is its first occurrence. Ticks that become the
same moment are one tick. Expressions with `*` as minute or hour mean a distance rather than a time of the day: they run
through both hours of a clock that is set back, and are not made good for a skipped one (as in Vixie's cron 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from taskraft.v1 import schedule_pb2

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_ZONE: Final = re.compile(r"(?!(?:posix|right)/|localtime$)[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)


class BadTimesError(ValueError):
    """These times make no sense; `field` is the setting that is wrong."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Times:
    """The ticks of a schedule with these settings, in milliseconds since 1970.

    `anchor_ms` is a tick, or what stands for one: an interval without `start_time` is counted from there. BadTimesError
    if the settings make no sense on this machine.
    """

    def __init__(self, settings: schedule_pb2.Schedule, anchor_ms: int) -> None:
        self._cron, self._interval_ms = "", 0
        if settings.WhichOneof("times") == "interval":
            self._interval_ms = settings.interval.ToMilliseconds()
            assert self._interval_ms > 0
        else:
            self._cron = MACROS.get(settings.cron.strip().lower(), settings.cron)
            _simulation(self._cron, datetime(1970, 1, 1))  # noqa: DTZ001  a local time has no zone of its own
        self._zone = zone(settings.time_zone)
        self._start_ms: int | None = None
        if settings.HasField("start_time"):
            self._start_ms = anchor_ms = settings.start_time.ToMilliseconds()
        self._end_ms = settings.end_time.ToMilliseconds() if settings.HasField("end_time") else None
        self._anchor_ms = anchor_ms

    def after(self, time_ms: int) -> Iterator[int]:
        """The ticks later than that, in order; endless unless there is an `end_time` or nothing ever matches."""
        if self._start_ms is not None:
            time_ms = max(time_ms, self._start_ms - 1)
        for tick_ms in self._counted(time_ms) if self._interval_ms else self._matching(time_ms):
            if self._end_ms is not None and tick_ms >= self._end_ms:
                return
            yield tick_ms

    def next(self, time_ms: int) -> int:
        """The first tick later than that; 0 if there is none."""
        return next(self.after(time_ms), 0)

    def _counted(self, time_ms: int) -> Iterator[int]:
        tick_ms = self._anchor_ms + ((time_ms - self._anchor_ms) // self._interval_ms + 1) * self._interval_ms
        while True:
            yield tick_ms
            tick_ms += self._interval_ms

    def _matching(self, time_ms: int) -> Iterator[int]:
        try:
            if _runs_through(self._cron):
                yield from self._running_through(_EPOCH + timedelta(milliseconds=time_ms))
                return
            local = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(self._zone).replace(tzinfo=None)
            for matching in _simulation(self._cron, local):
                tick_ms = (moment(matching, self._zone) - _EPOCH) // _SECOND * 1000
                if tick_ms > time_ms:
                    yield tick_ms
                    time_ms = tick_ms
        except OverflowError:
            return  # after the year 9999

    def _running_through(self, last: datetime) -> Iterator[int]:
        """The ticks after `last`, whatever clocks show meanwhile: from change to change with one offset."""
        local = last.astimezone(self._zone)
        while True:
            offset = local.utcoffset()
            assert offset is not None
            for matching in _simulation(self._cron, local.replace(tzinfo=None)):
                tick = (matching - offset).replace(tzinfo=UTC)
                if tick.astimezone(self._zone).utcoffset() != offset:
                    change = _change(last, tick, self._zone)
                    local = change.astimezone(self._zone)
                    local = (local.replace(tzinfo=None) - _SECOND).replace(
                        tzinfo=timezone(local.utcoffset() or timedelta())
                    )
                    break
                last = tick
                yield (tick - _EPOCH) // _SECOND * 1000
            else:
                return


def _runs_through(cron: str) -> bool:
    """True if minute or hour are not said."""
    fields = cron.split()
    return any(field.startswith("*") for field in fields[-5:-3])


def _simulation(cron: str, local: datetime) -> CronSim:
    try:
        return CronSim(cron, local)
    except CronSimError as error:
        raise BadTimesError("cron", str(error)) from None


def is_cron(cron: str) -> bool:
    """True if that expression makes sense."""
    try:
        _simulation(cron, datetime(1970, 1, 1))  # noqa: DTZ001  a local time has no zone of its own
    except BadTimesError:
        return False
    return True


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name; empty is UTC. BadTimesError if this machine knows none of that name."""
    if not name:
        return UTC
    try:
        if _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones
        pass
    raise BadTimesError("time_zone", f"there is no time zone {name}")


def moment(local: datetime, where: tzinfo) -> datetime:
    """When clocks in that zone show `local`: for the first time, or when they skip it."""
    if where is UTC:
        return local.replace(tzinfo=UTC)
    found = local.replace(tzinfo=where).astimezone(UTC)
    if found.astimezone(where).replace(tzinfo=None) == local:
        return found
    # Clocks skip it. With the offset of after the change it lies before the change, with that of before it after.
    early, late = local.replace(tzinfo=where, fold=1).astimezone(UTC), found
    return _change(early, late, where)


def _change(early: datetime, late: datetime, where: tzinfo) -> datetime:
    """The moment between these at which clocks in that zone are set; they are, once, and whole seconds apart."""
    early -= timedelta(microseconds=early.microsecond)
    offset = early.astimezone(where).utcoffset()
    while late - early > _SECOND:
        middle = early + (late - early) // (2 * _SECOND) * _SECOND
        if middle.astimezone(where).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late


def jitter_ms(name: str, tick_ms: int, longest_ms: int) -> int:
    """How much later that tick of that schedule is fired, 0 to `longest_ms`: the same on every node, at every time."""
    digest = blake2b(f"{name}:{tick_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (longest_ms + 1)
