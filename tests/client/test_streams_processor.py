"""The promises of `_processor.py`, against the model that looks at every window for every event."""

import random

from hypothesis import given, settings
from hypothesis import strategies as some

from taskraft.streams import Windows
from taskraft.streams._plan import Plan
from taskraft.streams._processor import Processor
from tests.client.streams_model import Event, Model, orders
from tests.client.streams_runs import Run, records, run, settle

UNHURRIED = settings(deadline=None)
FAR_MS = 10**9

# Small numbers, so that moments often fall on the ends of windows.
windows = some.tuples(some.integers(1, 9), some.integers(1, 9)).map(
    lambda pair: Windows(size_ms=max(pair), every_ms=min(pair))
)
models = some.builds(Model, windows, some.integers(0, 12), some.integers(0, 12))
events = some.lists(some.builds(Event, some.sampled_from("abc"), some.integers(-20, 40)), max_size=40)


def shuffled_within(given_events: list[Event], disorder_ms: int, rng: random.Random) -> list[Event]:
    """The events in an order in which none comes later than `disorder_ms` allows."""
    return sorted(given_events, key=lambda event: event.time_ms + rng.uniform(0, disorder_ms))


def plan_of(model: Model) -> Plan:
    return orders(model.windows, lateness_ms=model.lateness_ms, disorder_ms=model.disorder_ms)


@UNHURRIED
@given(models, events)
def test_everything_is_published_as_the_model_says_and_late_events_go_aside(
    model: Model, given_events: list[Event]
) -> None:
    expected, late = model.emissions(given_events)

    done = run(plan_of(model), records(given_events))

    assert [tuple(one) for one in done.published()] == expected
    assert [(one["key"], one["time_ms"]) for one in done.published("late")] == late
    assert done.processor.clock.late == len(late)


@UNHURRIED
@given(windows, events, some.integers(0, 12), some.integers(0, 12), some.randoms(use_true_random=False))
def test_order_within_the_disorder_that_was_allowed_does_not_matter(
    cut: Windows, given_events: list[Event], disorder_ms: int, lateness_ms: int, rng: random.Random
) -> None:
    model = Model(cut, lateness_ms, disorder_ms)
    order = [*shuffled_within(given_events, disorder_ms, rng), Event("end", FAR_MS)]

    done = run(plan_of(model), records(order))

    results = done.published()
    assert {(start, key): total for start, key, total, _ in results} == model.totals(given_events)
    assert not any(update for *_, update in results)
    assert done.processor.clock.late == 0


@UNHURRIED
@given(models, events)
def test_only_the_first_result_of_a_window_is_no_update(model: Model, given_events: list[Event]) -> None:
    done = run(plan_of(model), records([*given_events, Event("end", FAR_MS)]))

    seen: set[tuple[int, str]] = set()
    for start, key, _, update in done.published():
        assert update == ((start, key) in seen)
        seen.add((start, key))


@UNHURRIED
@given(models, events)
def test_the_watermark_never_goes_back(model: Model, given_events: list[Event]) -> None:
    processor = Processor(plan_of(model), {})
    before = -FAR_MS
    for one in records(given_events):
        settle(processor)
        processor.take(one)
        assert processor.watermark_ms is not None or processor.clock.late
        now = processor.watermark_ms if processor.watermark_ms is not None else before
        assert now >= before
        before = now


@UNHURRIED
@given(models, events)
def test_no_state_is_left_when_all_windows_are_over(model: Model, given_events: list[Event]) -> None:
    done = run(plan_of(model), records([*given_events, Event("end", FAR_MS)]))
    last = done.processor.open_slots

    done.processor.pass_time(FAR_MS)
    settle(done.processor)

    assert last <= model.windows.size_ms // model.windows.every_ms + 1
    assert done.processor.open_slots == 0


def test_a_window_is_dropped_as_soon_as_its_lateness_is_over() -> None:
    given_records = records([Event("a", 10), Event("a", 65), Event("a", 89), Event("a", 90)])
    done = Run(orders(Windows(size_ms=60, every_ms=60), lateness_ms=30))

    done.take(given_records[:3])
    assert done.processor.open_slots == 2
    done.take(given_records[3:])
    assert done.processor.open_slots == 1


@UNHURRIED
@given(models, events, some.data())
def test_another_processor_goes_on_exactly_where_the_stored_state_ends(
    model: Model, given_events: list[Event], data: some.DataObject
) -> None:
    given_records = records(given_events)
    whole = run(plan_of(model), given_records)

    parts = Run(plan_of(model))
    at = 0
    while at < len(given_records):
        settle(parts.processor)
        parts.processor.take(given_records[at])
        for _ in range(data.draw(some.integers(0, 3))):
            parts.processor.step()
        match data.draw(some.sampled_from(["go on", "store", "lose", "store and lose"])):
            case "go on":
                at += 1
                continue
            case "store":
                parts.store()
            case "lose":
                parts.begin_again()
            case "store and lose":
                parts.store()
                parts.begin_again()
        at = parts.processor.clock.position or 0
    settle(parts.processor)
    parts.store()

    assert parts.outputs == whole.outputs
    assert parts.processor.clock == whole.processor.clock
    assert parts.processor.open_slots == whole.processor.open_slots


@UNHURRIED
@given(models, some.lists(some.integers(0, 3), min_size=50, max_size=200))
def test_the_state_queue_is_as_large_as_what_was_ever_open_at_once(model: Model, steps: list[int]) -> None:
    done = Run(plan_of(model))
    most, time_ms = 0, 0
    for sequence, step_ms in enumerate(steps, 1):
        time_ms += step_ms
        (one,) = records([Event(f"key {sequence % 7}", time_ms)])
        done.processor.take(type(one)(sequence, one.body, one.publish_ms))
        most = max(most, done.processor.open_slots)
        settle(done.processor)
        done.store()
        if sequence % 20 == 0:
            done.begin_again()
            settle(done.processor)

    assert len(done.stored) <= most + 1
