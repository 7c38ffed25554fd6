"""How values are written on the command line and shown by it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from taskraft.terminal.options import (
    parse_duration,
    parse_headers,
    parse_moment,
    parse_quantities,
    parse_size,
)
from taskraft.terminal.report import as_json, human_age, human_bytes, human_count, human_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1_048_576), ("64KiB", 65_536), ("1.5 GB", 1_500_000_000), ("1mib", 1 << 20)],
)
def test_a_size_has_decimal_or_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("12h", 43_200.0), ("2d", 172_800.0)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "ten", "1 PiB", "1..5", "5 m s"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="64KiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "-1s", "soon", "1 week"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="500ms"):
        parse_duration(text)


def test_a_header_may_contain_the_sign_that_ends_its_key() -> None:
    assert parse_headers(["query=a=b", "empty="]) == {"query": "a=b", "empty": ""}


@pytest.mark.parametrize("pair", ["novalue", "=nokey"])
def test_a_header_without_key_or_sign_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_headers([pair])


def test_a_moment_is_a_time_or_so_long_from_now() -> None:
    before = datetime.now(UTC)

    soon = parse_moment("5m")

    assert before + timedelta(minutes=5) <= soon <= datetime.now(UTC) + timedelta(minutes=5)
    assert parse_moment("2026-03-01T12:00+01:00") == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert parse_moment("2026-03-01T12:00Z") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parse_moment("2026-03-01T12:00") == datetime(2026, 3, 1, 12).astimezone(UTC)


@pytest.mark.parametrize("text", ["", "tomorrow", "5 weeks", "99999999999999d", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_moment(text)


def test_quantities_are_named_numbers() -> None:
    assert parse_quantities(["cpu=2", "memory=1.5"]) == {"cpu": 2.0, "memory": 1.5}


@pytest.mark.parametrize("pair", ["cpu", "=2", "cpu=many", "cpu=nan", "cpu=inf"])
def test_a_quantity_without_a_finite_number_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="="):
        parse_quantities([pair])


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB"), (5 << 50, "5120.0 TiB")],
)
def test_bytes_are_shown_in_the_unit_that_fits(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.000312, "0.31 ms"), (0, "0 ms"), (0.85, "850 ms"), (30, "30 s"), (300, "5 min"), (9000, "2.5 h")],
)
def test_durations_are_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_one_is_no_plural() -> None:
    assert [human_count(n, "message") for n in (0, 1, 1_234)] == ["0 messages", "1 message", "1,234 messages"]
    assert human_count(1_234) == "1,234"


def test_an_age_counts_from_then_to_now_and_never_is_empty() -> None:
    assert human_age(datetime.now(UTC) - timedelta(days=3, seconds=1)) == "3 d"
    assert human_age(None) == ""


@dataclass(frozen=True)
class Inner:
    at: datetime
    path: Path


@dataclass(frozen=True)
class Outer:
    items: tuple[Inner, ...]


def test_json_has_plain_values_and_times_in_utc() -> None:
    value = Outer((Inner(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), Path("a/b")),))

    assert as_json(value) == {"items": [{"at": "2026-01-02T03:04:05Z", "path": "a/b"}]}
