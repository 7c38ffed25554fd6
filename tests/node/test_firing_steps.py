from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from node import limits
from node.state.schedule_rows import ScheduleRow, settings_of
from node.tasks.cron import Times, jitter_ms
from node.tasks.firing import Step, steps
from taskraft.v1 import schedule_pb2
from tests.node.task_clients import a_task

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


def test_a_tick_that_was_settled_already_takes_none_of_the_missed_with_it() -> None:
    settled = replace(row(NOW_MS, missed_policy=NONE), last_tick_ms=NOW_MS)

    assert steps(settled, NOW_MS + 5 * MINUTE_MS)[:2] == [
        Step(NOW_MS, missed=True, ticks=1, next_tick_ms=NOW_MS + MINUTE_MS),
        Step(NOW_MS + MINUTE_MS, missed=True, ticks=4, next_tick_ms=NOW_MS + 5 * MINUTE_MS),
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
