from __future__ import annotations

from taskraft.worker import pace
from taskraft.worker.pace import Pace

NOTHING = {"thread": 0}


def test_a_worker_asks_for_its_slots_first() -> None:
    assert Pace({"thread": 4}, 1_000).room(NOTHING, 0) == 4


def test_credit_that_was_not_used_is_not_given_again() -> None:
    assert Pace({"thread": 4}, 1_000).room(NOTHING, 4) == 0


def test_long_tasks_are_never_hoarded() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.turnaround_s = 0.05

    one.ran("thread", 10, 10 * 30.0)

    assert one.target("thread") == 4
    assert one.room({"thread": 3}, 0) == 1


def test_short_tasks_are_fetched_ahead_for_the_time_that_fetching_takes() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.turnaround_s = 0.05

    one.ran("thread", 10, 10 * 0.01)

    assert one.target("thread") == 4 + 4 * pace.TURNAROUND_MARGIN * 5


def test_what_is_fetched_ahead_has_a_bound() -> None:
    one = Pace({"thread": 4}, 1_000)

    one.ran("thread", 10, 0.0)

    assert one.target("thread") == 1_004
    assert one.room(NOTHING, 0) == 1_004


def test_no_prefetch_is_possible() -> None:
    one = Pace({"thread": 4}, 0)

    one.ran("thread", 10, 0.0)

    assert one.target("thread") == 4


def test_large_payloads_bound_what_waits_here() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.ran("thread", 10, 0.0)

    one.arrived({"thread": 64}, 64 << 20, 0.0)

    assert one.target("thread") < 120


def test_credit_comes_in_portions_while_the_slots_are_busy() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.ran("thread", 10, 0.0)

    assert one.room({"thread": 1_003}, 0) == 0
    assert one.room({"thread": 700}, 0) == 304


def test_tasks_that_turn_out_to_be_long_are_handed_back() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.ran("thread", 10, 0.0)
    assert one.excess("thread", 1_000) == 0

    one.runs_for("thread", 2.0)

    assert one.excess("thread", 1_000) == 996
    assert one.target("thread") == 4


def test_tasks_that_turn_out_to_be_short_again_are_fetched_ahead_again() -> None:
    one = Pace({"thread": 4}, 1_000)
    one.ran("thread", 1, 10.0)

    one.ran("thread", 64, 0.0)
    one.ran("thread", 64, 0.0)

    assert one.target("thread") > 50


def test_a_full_kind_does_not_keep_the_other_one_from_its_tasks() -> None:
    one = Pace({"thread": 4, "async": 100}, 1_000)
    one.ran("thread", 10, 10 * 30.0)
    one.ran("async", 10, 10 * 30.0)

    assert one.room({"thread": 4, "async": 10}, 0) > 0
    assert one.room({"thread": 8, "async": 10}, 0) == 0, "what waits for a full kind has a bound"


def test_the_kinds_are_expected_as_they_came_lately() -> None:
    one = Pace({"thread": 4, "async": 100}, 1_000)

    one.arrived({"async": 1_000, "thread": 0}, 0, 0.0)
    one.arrived({"async": 1_000, "thread": 0}, 0, 0.0)

    assert one.room({"thread": 0, "async": 0}, 0) > 90


def test_load_is_that_of_the_busiest_kind_in_slots_and_seconds_of_work() -> None:
    one = Pace({"thread": 4, "async": 100}, 1_000)
    one.ran("thread", 10, 10 * 0.1)

    assert one.load({"thread": 0, "async": 0}, {"thread": 0, "async": 0}) == 0.0
    assert one.load({"thread": 2, "async": 10}, {"thread": 0, "async": 0}) == 0.5
    assert one.load({"thread": 4, "async": 10}, {"thread": 40, "async": 0}) == 2.0


def test_what_waits_here_begins_in_the_first_half_of_its_slice() -> None:
    one = Pace({"thread": 2}, 1_000)
    one.turnaround_s = 1.0
    one.ran("thread", 10, 10 * 0.01)
    assert one.target("thread") == 402

    one.arrived({"thread": 1}, 0, 0.1)

    assert one.target("thread") == 2 + 2 * 5
