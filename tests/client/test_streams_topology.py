"""What each step of a topology does to records."""

import json
import math
from datetime import UTC, datetime
from typing import Any, assert_type

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from taskraft.errors import InvalidArgument
from taskraft.streams import (
    Aggregation,
    Record,
    Results,
    StepFailed,
    Stream,
    Topology,
    collect,
    count,
    max_of,
    mean_of,
    min_of,
    reduce,
    sliding,
    stream,
    sum_of,
    tumbling,
)
from taskraft.streams import _limits as limits
from tests.client.streams_runs import PUBLISH_MS, Run, record, run

UNHURRIED = settings(deadline=None)


def bodies(topology: Topology, *given_bodies: Any, queue: str = "out") -> list[Any]:
    given_records = [record(number, body) for number, body in enumerate(given_bodies, 1)]
    return run(topology.plan, given_records).published(queue)


def totals(aggregation: Aggregation[Any, Any]) -> Topology:
    numbers = stream("numbers").map(Record.json).key_by(lambda value: "all")
    return numbers.aggregate(aggregation).to("out", encode=lambda result: result.value)


def test_steps_follow_each_other() -> None:
    topology = (
        stream("words")
        .map(lambda one: str(one.json()))
        .flat_map(str.split)
        .filter(lambda word: len(word) > 1)
        .map(str.upper)
        .to("out")
    )

    assert bodies(topology, "a new day", "b", "is here") == ["NEW", "DAY", "IS", "HERE"]


def test_a_record_that_is_passed_on_keeps_headers_and_key() -> None:
    done = run(stream("in").filter(lambda one: True).to("out").plan, [record(1, "x", country="pt")])

    (output,) = done.outputs
    assert output == ("out", b'"x"', "k", {"country": "pt"})


def test_values_with_a_key_are_published_with_it() -> None:
    done = run(stream("in").map(Record.json).key_by(lambda value: value[0]).to("out").plan, [record(1, "xy")])

    assert [(output.key, output.body) for output in done.outputs] == [("x", b'"xy"')]


def test_types_follow_the_steps() -> None:
    sizes = stream("in").map(lambda one: len(one.body))
    keyed = sizes.flat_map(range).key_by(str)
    windowed = keyed.window(tumbling("1m"))

    assert_type(sizes, Stream[int])
    assert_type(keyed.aggregate(count()), Results[int])
    assert_type(windowed.aggregate(mean_of(float)), Results[float])
    assert_type(windowed.aggregate(max_of(str)), Results[str])
    assert_type(windowed.aggregate(collect(3)).to("out"), Topology)


def test_bytes_are_published_as_they_are() -> None:
    assert (
        run(stream("in").map(lambda one: b"\x00").to("out").plan, [record(1, "")]).outputs[0].body == b"\x00"
    )


@UNHURRIED
@given(some.lists(some.integers(-1000, 1000), min_size=1, max_size=20))
def test_running_totals_are_those_of_python(numbers: list[int]) -> None:
    expected: dict[str, tuple[Aggregation[Any, Any], Any]] = {
        "count": (count(), len),
        "sum": (sum_of(lambda value: value), sum),
        "min": (min_of(lambda value: value), min),
        "max": (max_of(lambda value: value), max),
        "mean": (mean_of(lambda value: value), lambda so_far: sum(so_far) / len(so_far)),
        "collect": (collect(5), lambda so_far: so_far[:5]),
        "reduce": (reduce(lambda so_far, value: 3 * so_far - value, 1), None),
    }
    for aggregation, reference in expected.values():
        found = bodies(totals(aggregation), *numbers)
        if reference is not None:
            assert found == [reference(numbers[:end]) for end in range(1, len(numbers) + 1)]
        else:
            so_far = 1
            for number, value in zip(numbers, found, strict=True):
                so_far = 3 * so_far - number
                assert value == so_far


def test_a_running_total_says_if_it_replaces_another() -> None:
    topology = stream("numbers").map(Record.json).key_by(str).aggregate(count()).to("out")

    assert bodies(topology, 1, 2, 1) == [
        {"key": "1", "value": 1, "update": False},
        {"key": "2", "value": 1, "update": False},
        {"key": "1", "value": 2, "update": True},
    ]


def test_an_accumulator_belongs_to_its_key_even_if_it_is_changed_in_place() -> None:
    def add(so_far: list[int], value: int) -> list[int]:
        so_far.append(value)
        return so_far

    none: list[int] = []
    numbers = stream("numbers").map(Record.json).key_by(lambda value: "odd" if value % 2 else "even")
    topology = numbers.aggregate(reduce(add, none)).to("out", encode=lambda result: result.value)

    assert bodies(topology, 1, 2, 3) == [[1], [2], [1, 3]]


def test_without_an_event_time_the_time_of_publishing_counts() -> None:
    topology = stream("in").key_by(lambda one: "all").window(tumbling("1s")).aggregate(count()).to("out")
    given_records = [record(number, "", publish_ms=PUBLISH_MS + 400 * number) for number in range(1, 7)]

    assert [one["value"] for one in run(topology.plan, given_records).published("out")] == [2, 2]


def test_event_times_may_be_datetimes() -> None:
    topology = (
        stream("in")
        .map(Record.json)
        .key_by(lambda value: "all")
        .window(sliding("2h", every="1h"), time=lambda value: datetime(2026, 1, 1, value, 30, tzinfo=UTC))
        .aggregate(collect(10))
        .to("out", encode=lambda result: [result.window and result.window.start.hour, result.value])
    )

    assert bodies(topology, 1, 2, 5) == [[0, [1]], [1, [1, 2]], [2, [2]]]


# What goes wrong --------------------------------------------------------------------------------------------------


def failing(**settings: Any) -> Topology:
    numbers = stream("numbers", failed_to="failed").map(Record.json).key_by(lambda value: "all")
    windowed = numbers.window(tumbling("1s"), time=float, **settings)
    return windowed.aggregate(count()).to("out")


def test_a_record_that_cannot_be_processed_goes_aside_and_changes_nothing() -> None:
    done = run(failing().plan, [record(1, 0), record(2, "x", country="pt"), record(3, 5)])

    failed, result = done.outputs
    assert (failed.queue, failed.body, failed.key) == ("failed", b'"x"', "k")
    assert failed.headers["country"] == "pt"
    assert "ValueError" in failed.headers["taskraft-error"]
    assert json.loads(result.body)["value"] == 1
    assert done.processor.clock.failed == 1


def test_a_record_is_counted_wholly_or_not_at_all() -> None:
    numbers = stream("lists", failed_to="failed").flat_map(Record.json).key_by(lambda value: "all")
    topology = numbers.aggregate(sum_of(int)).to("out", encode=lambda one: one.value)

    assert bodies(topology, [1, 2], [4, "x"], [8]) == [3, 11]


def test_an_event_from_the_future_does_not_end_all_windows() -> None:
    ahead = PUBLISH_MS // 1_000 + 3_600
    topology = failing(max_ahead="10m")

    assert bodies(topology, 0, ahead, 0.5, 2, queue="failed") == [ahead]
    assert [one["value"] for one in bodies(topology, 0, ahead, 0.5, 2)] == [2]


@pytest.mark.parametrize("key", ["", "x" * (limits.KEY_BYTES_MAX + 1), 7])
def test_what_is_no_key_is_refused(key: Any) -> None:
    topology = stream("in").key_by(lambda one: key).aggregate(count()).to("out")

    with pytest.raises(StepFailed, match="a key"):
        bodies(topology, "")


@pytest.mark.parametrize("value", [math.nan, b"", {1, 2}, datetime(2026, 1, 1, tzinfo=UTC)])
def test_an_accumulator_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(StepFailed):
        bodies(totals(reduce(lambda so_far, one: value, 0)), 1)


@pytest.mark.parametrize(
    "topology",
    [
        stream("in").flat_map(lambda one: range(limits.RECORD_CHANGES_MAX + 1)).to("out"),
        stream("in").map(lambda one: b"x" * (limits.MESSAGE_BYTES_MAX + 100)).to("out"),
        totals(reduce(lambda so_far, one: "x" * limits.MESSAGE_BYTES_MAX, "")),
        stream("in")
        .key_by(lambda one: "all")
        .window(tumbling("1s"))
        .aggregate(reduce(lambda so_far, one: "x" * limits.MESSAGE_BYTES_MAX, ""))
        .to("out"),
    ],
)
def test_what_fits_no_transaction_is_refused(topology: Topology) -> None:
    with pytest.raises(StepFailed, match=r"larger than a message|more than a transaction"):
        bodies(topology, 1)


def test_a_result_that_cannot_be_published_ends_the_run_and_names_its_window() -> None:
    topology = (
        stream("in")
        .map(Record.json)
        .key_by(str)
        .window(tumbling("1s"), time=float)
        .aggregate(count())
        .to("out", encode=lambda result: {1, 2})
    )

    with pytest.raises(StepFailed, match="the result of '1', window 1000"):
        bodies(topology, 1, 5)


def test_a_processor_has_a_limit_of_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CELLS_MAX", 3)
    done = Run(stream("in").map(Record.json).key_by(str).aggregate(count()).to("out").plan)

    with pytest.raises(Exception, match="STATE_TOO_LARGE"):
        done.take([record(number, number) for number in range(1, 5)])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: failing(allowed_lateness=-1),
        lambda: failing(out_of_orderness="soon"),
        lambda: failing(idle_after=0),
        lambda: collect(0),
        lambda: tumbling("0s"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_before_anything_runs(wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        wrong()
