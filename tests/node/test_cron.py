from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from node.tasks.cron import BadTimesError, Times, jitter_ms
from taskraft.v1 import schedule_pb2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def at_ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def stamp(text: str) -> Timestamp:
    found = Timestamp()
    found.FromMilliseconds(at_ms(text))
    return found


def shown(ticks: Iterable[int], zone: str = "UTC") -> list[str]:
    return [datetime.fromtimestamp(tick / 1000, ZoneInfo(zone)).isoformat() for tick in ticks]


def cron(expression: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    """The first ticks after a local time, as local times with their offsets."""
    times = Times(schedule_pb2.Schedule(cron=expression, time_zone=zone), 0)
    return shown(islice(times.after(at_ms(after, zone)), count), zone)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/20 * * * *", ["2026-01-31T12:20", "2026-01-31T12:40"]),
        ("30 4 * * mon-fri", ["2026-02-02T04:30", "2026-02-03T04:30"]),
        ("0 0 1 */3 *", ["2026-04-01T00:00", "2026-07-01T00:00"]),
        ("0 9 L * *", ["2026-02-28T09:00", "2026-03-31T09:00"]),
        ("0 0 13 * 5", ["2026-02-06T00:00", "2026-02-13T00:00"]),
        ("@hourly", ["2026-01-31T13:00", "2026-01-31T14:00"]),
        ("@Daily", ["2026-02-01T00:00", "2026-02-02T00:00"]),
        ("@weekly", ["2026-02-01T00:00", "2026-02-08T00:00"]),
        ("@yearly", ["2027-01-01T00:00", "2028-01-01T00:00"]),
    ],
)
def test_an_expression_is_understood(expression: str, expected: list[str]) -> None:
    assert cron(expression, "2026-01-31T12:00", 2) == [f"{tick}:00+00:00" for tick in expected]


def test_six_fields_begin_with_seconds() -> None:
    assert cron("*/30 59 23 * * *", "2026-01-31T12:00", 3) == [
        "2026-01-31T23:59:00+00:00",
        "2026-01-31T23:59:30+00:00",
        "2026-02-01T23:59:00+00:00",
    ]


def test_the_29th_of_february_comes_every_leap_year() -> None:
    assert cron("0 0 29 2 *", "2026-01-01T00:00", 3) == [
        "2028-02-29T00:00:00+00:00",
        "2032-02-29T00:00:00+00:00",
        "2036-02-29T00:00:00+00:00",
    ]


def test_a_tick_is_later_than_what_it_comes_after() -> None:
    times = Times(schedule_pb2.Schedule(cron="* * * * *"), 0)

    assert times.next(60_000) == 120_000
    assert times.next(59_999) == 60_000


# Daylight saving ----------------------------------------------------------------------------------------------------


def test_a_local_time_that_is_skipped_fires_at_the_moment_of_the_change() -> None:
    assert cron("30 2 * * *", "2026-03-28T12:00", 3, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]


def test_a_local_time_that_is_skipped_fires_with_seconds_given_too() -> None:
    assert cron("15 30 2 * * *", "2026-03-28T12:00", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:15+02:00",
    ]


def test_times_that_are_skipped_and_the_moment_of_the_change_are_one_tick() -> None:
    assert cron("*/30 * * * *", "2026-03-29T01:00", 4, "Europe/Berlin") == [
        "2026-03-29T01:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-29T04:00:00+02:00",
    ]


def test_a_local_time_that_comes_twice_fires_once_and_the_first_time() -> None:
    assert cron("30 1 * * *", "2026-10-24T12:00", 2, "Europe/Lisbon") == [
        "2026-10-25T01:30:00+01:00",
        "2026-10-26T01:30:00+00:00",
    ]


def test_after_the_second_coming_of_an_hour_its_ticks_do_not_come_back() -> None:
    second = datetime(2026, 10, 25, 1, 15, tzinfo=ZoneInfo("Europe/Lisbon"), fold=1)
    times = Times(schedule_pb2.Schedule(cron="30 1 * * *", time_zone="Europe/Lisbon"), 0)

    assert shown([times.next(int(second.timestamp() * 1000))], "Europe/Lisbon") == [
        "2026-10-26T01:30:00+00:00"
    ]


def test_a_change_of_half_an_hour_is_found_to_the_second() -> None:
    assert cron("15 2 * * *", "2026-10-03T12:00", 2, "Australia/Lord_Howe") == [
        "2026-10-04T02:30:00+11:00",
        "2026-10-05T02:15:00+11:00",
    ]


def test_a_midnight_that_does_not_exist_is_the_first_moment_of_the_day() -> None:
    assert cron("0 0 * * *", "2018-11-03T12:00", 2, "America/Sao_Paulo") == [
        "2018-11-04T01:00:00-02:00",
        "2018-11-05T00:00:00-02:00",
    ]


def test_a_whole_day_that_an_island_skips_is_one_tick() -> None:
    assert cron("0 */6 * * *", "2011-12-29T15:00", 4, "Pacific/Apia") == [
        "2011-12-29T18:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T06:00:00+14:00",
        "2011-12-31T12:00:00+14:00",
    ]


EXPRESSIONS = st.sampled_from(
    [
        "*/7 * * * *",
        "30 2 * * *",
        "0 */5 * * *",
        "59 23 31 12 *",
        "0 0 * * 0",
        "*/10 0-3 * * *",
        "15 */20 1 * * *",
    ]
)
ZONES = st.sampled_from(
    ["", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]
)


@settings(deadline=None)  # others may use the processor
@given(EXPRESSIONS, ZONES, st.integers(at_ms("2020-01-01"), at_ms("2035-01-01")))
def test_ticks_grow_and_do_not_depend_on_where_one_begins(expression: str, zone: str, start_ms: int) -> None:
    times = Times(schedule_pb2.Schedule(cron=expression, time_zone=zone), 0)

    ticks = list(islice(times.after(start_ms), 20))

    assert all(start_ms < tick for tick in ticks)
    assert all(one < other for one, other in pairwise(ticks))
    for one, other in pairwise(ticks):
        assert times.next(one) == other
        assert times.next(other - 1) == other


@settings(deadline=None)  # others may use the processor
@given(ZONES, st.integers(at_ms("2020-01-01"), at_ms("2035-01-01")))
def test_a_daily_schedule_ticks_once_for_each_date(zone: str, start_ms: int) -> None:
    times = Times(schedule_pb2.Schedule(cron="30 1 * * *", time_zone=zone), 0)

    local = [
        datetime.fromtimestamp(tick / 1000, ZoneInfo(zone or "UTC"))
        for tick in islice(times.after(start_ms), 400)
    ]

    assert all((other.date() - one.date()).days == 1 for one, other in pairwise(local))
    assert sum((each.hour, each.minute) != (1, 30) for each in local) <= 2


# Intervals and limits ---------------------------------------------------------------------------------------------


def test_an_interval_is_counted_from_its_anchor() -> None:
    times = Times(schedule_pb2.Schedule(interval=Duration(seconds=90)), 1_000)

    assert list(islice(times.after(1_000), 2)) == [91_000, 181_000]
    assert times.next(90_999) == 91_000
    assert times.next(91_000) == 181_000


def test_an_interval_is_counted_from_its_start_time_if_it_has_one() -> None:
    settings = schedule_pb2.Schedule(interval=Duration(seconds=3600), start_time=stamp("2026-05-01T00:10"))
    times = Times(settings, anchor_ms=12_345)

    assert shown([times.next(at_ms("2026-04-01T00:00"))]) == ["2026-05-01T00:10:00+00:00"]
    assert shown([times.next(at_ms("2026-05-01T00:10"))]) == ["2026-05-01T01:10:00+00:00"]


def test_no_tick_comes_before_start_time_or_at_end_time() -> None:
    settings = schedule_pb2.Schedule(
        cron="0 * * * *", start_time=stamp("2026-05-01T02:00"), end_time=stamp("2026-05-01T04:00")
    )

    assert shown(Times(settings, 0).after(0)) == ["2026-05-01T02:00:00+00:00", "2026-05-01T03:00:00+00:00"]
    assert Times(settings, 0).next(at_ms("2026-05-01T03:00")) == 0


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4 *", "0 0 31 2,4,6,9,11 *"])
def test_a_date_that_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(BadTimesError) as refused:
        Times(schedule_pb2.Schedule(cron=expression), 0)

    assert refused.value.field == "cron"


def test_a_search_that_finds_nothing_ends() -> None:
    never = Times(schedule_pb2.Schedule(cron="* * */20 * 1L"), 0)  # a last Monday on the 1st or the 21st

    assert never.next(at_ms("2026-01-01")) == 0
    assert Times(schedule_pb2.Schedule(cron="0 0 1 1 *"), 0).next(at_ms("9999-06-01")) == 0


NONSENSE = [
    "*",
    "* * * *",
    "* * * * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "*/0 * * * *",
    "5-1 * * * *",
    "@reboot",
    "a b c d e",
    "٣ * * * *",
    "* * * * 1#6",
]


@pytest.mark.parametrize("expression", ["", *NONSENSE, "1" * 200])
def test_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(BadTimesError):
        Times(schedule_pb2.Schedule(cron=expression), 0)


@settings(deadline=None)  # others may use the processor
@given(st.text(alphabet="0123456789*/-,#LW @MONmon", max_size=40))
def test_whatever_is_written_is_understood_or_refused(expression: str) -> None:
    try:
        times = Times(schedule_pb2.Schedule(cron=expression), 0)
    except BadTimesError:
        return
    assert times.next(0) >= 0


@pytest.mark.parametrize(
    "name",
    ["Europe", "Nowhere/Else", "../../etc/passwd", "posix/UTC", "localtime", "/UTC", "Europe/Berlin\n", " "],
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadTimesError) as refused:
        Times(schedule_pb2.Schedule(cron="@daily", time_zone=name), 0)

    assert refused.value.field == "time_zone"


# Jitter -----------------------------------------------------------------------------------------------------------


def test_jitter_is_the_same_for_the_same_tick_and_spreads_schedules() -> None:
    found = [jitter_ms(f"schedules/s{i}", DAY_MS, 60_000) for i in range(1_000)]

    assert found == [jitter_ms(f"schedules/s{i}", DAY_MS, 60_000) for i in range(1_000)]
    assert all(0 <= each <= 60_000 for each in found)
    assert min(found) < 3_000
    assert max(found) > 57_000
    assert 27_000 < sum(found) / len(found) < 33_000


def test_no_jitter_is_none() -> None:
    assert jitter_ms("schedules/s", 1, 0) == 0


@pytest.mark.parametrize("cron", ["*/30 * * * *", "0,30 * * * *"])
def test_a_schedule_without_an_hour_runs_through_the_hour_that_comes_twice(cron: str) -> None:
    times = Times(schedule_pb2.Schedule(cron=cron, time_zone="Europe/Lisbon"), 0)
    before = datetime(2026, 10, 25, 0, 15, tzinfo=UTC)  # at 01:00 UTC clocks go from 02:00 back to 01:00

    ticks = list(islice(times.after(int(before.timestamp() * 1000)), 5))

    distances = [later - earlier for earlier, later in pairwise(ticks)]
    assert ticks[0] == int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp() * 1000)
    assert distances == [1_800_000] * 4


def test_a_schedule_without_an_hour_goes_on_after_a_skipped_hour() -> None:
    times = Times(schedule_pb2.Schedule(cron="*/20 * * * *", time_zone="Europe/Lisbon"), 0)
    before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # at 01:00 UTC clocks go from 01:00 to 02:00

    ticks = list(islice(times.after(int(before.timestamp() * 1000)), 4))

    assert [later - earlier for earlier, later in pairwise(ticks)] == [1_200_000] * 3
