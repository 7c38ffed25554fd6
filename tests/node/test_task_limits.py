from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node.tasks.limits import Concurrency, Rate, Rates
from node.tasks.reasons import Reason
from taskraft.v1.queue_pb2 import RateLimit, Scheduling

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here
rates = some.one_of(some.floats(0.01, 1_000_000), some.sampled_from([1.0, 3.0, 1_000.0, 1_000_000.0]))


def scheduling(*, rate: RateLimit | None = None, per_key: RateLimit | None = None) -> Scheduling:
    return Scheduling(rate=rate, rate_per_key=per_key)


# At once --------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(
    some.integers(0, 4),
    some.integers(0, 3),
    some.lists(some.tuples(some.sampled_from(["", "a", "b"]), some.booleans()), max_size=60),
)
def test_no_more_run_at_once_than_the_limits_allow(
    limit: int, per_key: int, steps: list[tuple[str, bool]]
) -> None:
    concurrency, running = Concurrency(limit, per_key), list[str]()
    for key, ends in steps:
        reason = concurrency.may_start(key)
        full = bool(limit) and len(running) >= limit
        key_full = bool(per_key) and key != "" and running.count(key) >= per_key
        assert reason == (
            Reason.CONCURRENCY_LIMIT if full else Reason.CONCURRENCY_LIMIT_KEY if key_full else None
        )
        assert concurrency.room == (not full)
        if reason is None:
            concurrency.started(key)
            running.append(key)
        if ends and running:
            concurrency.ended(running.pop())

    assert concurrency._by_key == Counter(key for key in running if key), (
        "keys of which nothing runs are forgotten"
    )


def test_a_limit_that_was_lowered_is_kept_from_then_on() -> None:
    concurrency = Concurrency(1, 0)
    for _ in range(3):
        concurrency.started("a")
    concurrency.ended("a")
    concurrency.ended("a")

    assert not concurrency.room
    concurrency.ended("a")
    assert concurrency.room


# Rates ----------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(
    rates,
    some.integers(0, 50),
    some.lists(some.tuples(some.integers(0, 400), some.integers(1, 60)), max_size=40),
)
def test_no_window_has_more_starts_than_the_burst_and_the_rate(
    per_second: float, burst: int, steps: list[tuple[int, int]]
) -> None:
    rate, starts, now_ms = Rate(per_second, burst), list[int](), 1_000_000
    for pause_ms, wanted in steps:
        now_ms += pause_ms
        for _ in range(wanted):
            if rate.delay_ms(now_ms) == 0:
                rate.take(now_ms)
                starts.append(now_ms)

    most = least_before = 0.0
    for number, at_ms in enumerate(starts):
        due = at_ms * per_second / 1_000
        least_before = min(least_before, number - due) if number else -due
        most = max(most, number + 1 - due - least_before)  # more than due in the worst window that ends here
    rounding = len(starts) * per_second * 0.5e-9 + 1e-6  # steps are whole nanoseconds
    assert most <= max(burst, 1) + per_second / 1_000 + rounding


@pytest.mark.parametrize("per_second", [0.5, 1, 3, 7.7, 999, 1_000, 12_345, 1_000_000])
def test_nothing_of_the_rate_is_lost_while_tasks_wait(per_second: float) -> None:
    rate, now_ms, started = Rate(per_second, 1), 1_000, 0
    until_ms = now_ms + max(100, int(20_000 / per_second))
    while now_ms < until_ms:
        if delay_ms := rate.delay_ms(now_ms):
            now_ms += delay_ms
        else:
            rate.take(now_ms)
            started += 1

    assert started == pytest.approx(per_second * (until_ms - 1_000) / 1_000, abs=1.5, rel=1e-3)


def test_a_delay_is_the_first_moment_at_which_a_task_may_start() -> None:
    rate = Rate(4, 2)
    rate.take(0)
    rate.take(0)

    assert rate.delay_ms(0) == 250
    assert rate.delay_ms(249) == 1
    assert rate.delay_ms(250) == 0


def test_what_is_due_within_a_millisecond_may_start_at_its_beginning() -> None:
    rate = Rate(3, 1)
    rate.take(0)

    assert [rate.delay_ms(now_ms) for now_ms in (0, 332, 333)] == [333, 1, 0]


def test_a_burst_comes_back_with_a_pause() -> None:
    rate, now_ms = Rate(1, 5), 0
    for now_ms in (0, 100_000):
        started = 0
        while rate.delay_ms(now_ms) == 0:
            rate.take(now_ms)
            started += 1
        assert started == 5


@UNHURRIED
@given(some.floats(0.1, 100_000), some.integers(1, 10), some.integers(0, 5), some.integers(0, 40))
def test_the_delay_of_a_later_task_is_known_before(
    per_second: float, burst: int, taken: int, tasks: int
) -> None:
    rate, now_ms = Rate(per_second, burst), 1_000
    for _ in range(taken):
        if rate.delay_ms(now_ms) == 0:
            rate.take(now_ms)
    foreseen_ms = rate.delay_after_ms(tasks, now_ms)

    at_ms = now_ms
    for _ in range(tasks):
        at_ms += rate.delay_ms(at_ms)
        rate.take(at_ms)
    at_ms += rate.delay_ms(at_ms)

    assert abs(now_ms + foreseen_ms - at_ms) <= 1


def test_a_faster_rate_is_not_held_up_by_what_the_slower_one_had_come_to() -> None:
    slow = Rates(scheduling(rate=RateLimit(per_second=1 / 3_600), per_key=RateLimit(per_second=1 / 3_600)))
    slow.take("a", 0)
    assert slow.delay_ms(1) > 3_000_000

    fast = slow.changed(scheduling(rate=RateLimit(per_second=100), per_key=RateLimit(per_second=100)))

    assert fast.delay_ms(1) <= 11
    assert fast.key_delay_ms("a", 1) <= 11


def test_a_changed_rate_grants_no_second_burst() -> None:
    rates_before = Rates(scheduling(rate=RateLimit(per_second=1, burst=3)))
    for _ in range(3):
        rates_before.take("", 0)

    after = rates_before.changed(scheduling(rate=RateLimit(per_second=1, burst=3)))

    assert after.delay_ms(0) == 1_000


def test_each_key_has_its_own_rate_and_no_key_none() -> None:
    keyed = Rates(scheduling(per_key=RateLimit(per_second=1)))
    keyed.take("a", 0)
    keyed.take("", 0)

    assert keyed.key_delay_ms("a", 0) == 1_000
    assert keyed.key_delay_ms("b", 0) == 0
    assert keyed.key_delay_ms("", 0) == 0
    assert keyed.delay_ms(0) == 0


def test_without_a_limit_nothing_waits_and_nothing_is_remembered() -> None:
    free = Rates(scheduling())
    for number in range(100):
        free.take(f"k{number}", 0)

    assert free.delay_ms(0) == 0
    assert len(free) == 0


def test_keys_that_have_recovered_are_forgotten_and_others_are_not() -> None:
    keyed = Rates(scheduling(per_key=RateLimit(per_second=10)))
    for number in range(100_000):
        keyed.take(f"k{number}", number)
        if number >= 99:
            assert keyed.key_delay_ms(f"k{number - 99}", number) == 1

    assert len(keyed) <= 2_048
