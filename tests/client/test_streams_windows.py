from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from taskraft.errors import InvalidArgument
from taskraft.streams import Windows, sliding, tumbling
from taskraft.streams._lengths import milliseconds, moment_ms, text_of, time_of

UNHURRIED = settings(deadline=None)
moments = some.integers(-(10**12), 10**12)
windows = some.tuples(some.integers(1, 500), some.integers(1, 500)).map(
    lambda pair: Windows(size_ms=max(pair), every_ms=min(pair))
)


@UNHURRIED
@given(windows, moments)
def test_a_moment_is_in_exactly_the_windows_that_cover_it(cut: Windows, time_ms: int) -> None:
    around = range(time_ms // cut.every_ms - cut.size_ms - 2, time_ms // cut.every_ms + 2)
    covering = [
        number * cut.every_ms
        for number in around
        if number * cut.every_ms <= time_ms < number * cut.every_ms + cut.size_ms
    ]

    assert list(cut.starts(time_ms)) == covering
    assert covering


@UNHURRIED
@given(windows, moments)
def test_a_window_is_open_until_the_watermark_reaches_its_end(cut: Windows, watermark_ms: int) -> None:
    first = cut.first_open(watermark_ms)

    assert first % cut.every_ms == 0
    assert first + cut.size_ms > watermark_ms
    assert first - cut.every_ms + cut.size_ms <= watermark_ms


def test_a_tumbling_window_begins_where_the_one_before_ends() -> None:
    minutes = tumbling("1m")

    assert list(minutes.starts(59_999)) == [0]
    assert list(minutes.starts(60_000)) == [60_000]


def test_sliding_windows_overlap() -> None:
    assert list(sliding("5m", every="1m").starts(600_000)) == [360_000, 420_000, 480_000, 540_000, 600_000]


@pytest.mark.parametrize(("size", "every"), [("1m", "2m"), ("1h", "1s"), ("1m", 0), (0, 0), ("-1m", "1s")])
def test_windows_with_gaps_or_without_number_are_refused(size: Any, every: Any) -> None:
    with pytest.raises(InvalidArgument):
        sliding(size, every=every)


@pytest.mark.parametrize(
    ("length", "found"),
    [("500ms", 500), ("30s", 30_000), ("1.5m", 90_000), ("2h", 7_200_000), ("1d", 86_400_000), (0.25, 250)],
)
def test_a_length_is_text_or_seconds(length: Any, found: int) -> None:
    assert milliseconds("size", length, least=1) == found
    assert milliseconds("size", timedelta(milliseconds=found), least=1) == found


@pytest.mark.parametrize("length", ["", "1", "1 m", "m", "-1s", "367d", -1, 1e30, float("nan"), 0.0001])
def test_what_is_no_length_is_refused_by_the_name_of_its_setting(length: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        milliseconds("allowed_lateness", length, least=1)

    assert refused.value.metadata == {"field": "allowed_lateness"}
    assert "allowed_lateness" in str(refused.value)


@UNHURRIED
@given(some.integers(-30_610_224_000_000, 221_845_392_000_000))
def test_a_moment_survives_being_a_datetime_and_being_seconds(since_ms: int) -> None:
    assert moment_ms(time_of(since_ms)) == since_ms
    if abs(since_ms) < 2**33 * 1_000:  # beyond that a float of seconds does not tell microseconds apart
        assert moment_ms(since_ms / 1_000) == since_ms


def test_zones_say_the_same_moment_in_other_words() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    assert moment_ms(noon.astimezone(timezone(timedelta(hours=5)))) == moment_ms(noon)
    assert text_of(moment_ms(noon)) == "2026-01-01T12:00:00Z"
    assert text_of(moment_ms(noon) + 5) == "2026-01-01T12:00:00.005Z"


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), float("nan"), float("inf"), 1e15])  # noqa: DTZ001
def test_a_moment_without_zone_or_sense_is_refused(moment: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        moment_ms(moment)
