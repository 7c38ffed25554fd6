import itertools
import random

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as some

from node.policies import Policy, policy
from node.tasks.estimate import (
    Busy,
    Due,
    Expected,
    Lane,
    Own,
    Work,
    ahead,
    deviation_ms,
    expected,
    infeasible,
    places,
    running,
    share,
)
from taskraft.v1.queue_pb2 import Scheduling
from tests.node.policy_trace import Work as Traced
from tests.node.policy_trace import completion_ms, trace
from tests.node.toy_workers import worker

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here


def work(*sizes_ms: float, deviation: float = 0.0) -> Work:
    return Work(len(sizes_ms), sum(sizes_ms), len(sizes_ms) * deviation**2)


def strict(
    own: Own, before: Work, *, at: int = 1, busy: tuple[Busy, ...] = (), earliest_ms: float = 0
) -> Expected:
    lanes = [Lane(before=before, after=work(5_000, 5_000))]
    return expected(own, lanes, slice_ms=None, shared=False, places=at, busy=busy, earliest_ms=earliest_ms)


# One place, worked out by hand ----------------------------------------------------------------------------------------


def test_in_a_strict_order_a_task_waits_for_what_runs_and_what_is_before_it() -> None:
    found = strict(Own(size_ms=100), work(200, 300), busy=(Busy(50),))

    assert (found.start.p50_ms, found.finish.p50_ms) == (550, 650)
    assert (found.tasks_ahead, found.work_ahead_ms) == (2, 500)


def test_variances_add_up_and_p90_lies_so_many_deviations_later() -> None:
    found = strict(
        Own(size_ms=100, deviation_ms=40), work(1_000, 1_000, deviation=20), busy=(Busy(50, 10**2),)
    )

    assert found.start.p90_ms == round(2_050 + 1.2816 * 30)  # 30^2 = 10^2 + 2 x 20^2
    assert found.finish.p90_ms == round(2_150 + 1.2816 * 50)  # 50^2 = 30^2 + 40^2


def test_under_slices_each_other_task_runs_as_long_as_this_one_and_starts_for_a_slice() -> None:
    lanes = [Lane(before=work(1_000, 1_000), after=work(1_000, 1_000, 1_000))]
    found = expected(Own(size_ms=300), lanes, slice_ms=100, shared=False, places=1, busy=(Busy(40),))

    assert found.start.p50_ms == 40 + 2 * 100
    assert found.finish.p50_ms == 5 * 300 + 40 + 300
    assert (found.tasks_ahead, found.work_ahead_ms) == (2, 200)


def test_under_slices_what_runs_yields_at_the_end_of_its_slice() -> None:
    lanes = [Lane(before=work(*[1_000] * 4, deviation=20))]
    own = Own(size_ms=300, deviation_ms=40)
    found = expected(own, lanes, slice_ms=100, shared=False, places=1, busy=(Busy(7_000),))

    assert found.start.p50_ms == 100 + 4 * 100
    assert found.finish.p50_ms == 4 * 300 + 300 + 300
    assert found.finish.p90_ms == round(1_800 + 1.2816 * (40**2 + 4 * (20 * 0.3) ** 2) ** 0.5)


def test_under_shares_other_tenants_run_what_they_are_due_until_then() -> None:
    own = Own(size_ms=100, tenant="a", weight=2.0)
    lanes = [
        Lane(tenant="a", weight=2.0, before=work(600), after=work(9_000)),  # it starts at virtual time 300
        Lane(tenant="b", weight=1.0, before=work(*[100] * 10)),  # of 1,000 ms 300 x 1
        Lane(tenant="c", weight=3.0, after=work(500, 500, 500)),  # 300 x 3
        Lane(tenant="f", weight=3.0, after=work(200)),  # all of it, less than 300 x 3
        Lane(tenant="d", weight=1.0, virtual_ms=250.0, before=work(*[50] * 10)),  # (300 - 250) x 1
        Lane(tenant="e", weight=1.0, virtual_ms=500.0, before=work(70)),  # has had more than its share
    ]

    before = ahead(own, lanes, slice_ms=None, shared=True)

    assert before.total_ms == pytest.approx(600 + 300 + 900 + 200 + 50)
    assert before.tasks == pytest.approx(1 + 3 + 1.8 + 1 + 1)


def test_a_lane_that_runs_elsewhere_too_is_in_the_way_with_a_part_of_its_work() -> None:
    lanes = [Lane(before=work(100)), Lane(before=work(400, 400), share=share(["w1", "w2"], ["w2", "w3"]))]

    found = expected(Own(size_ms=10), lanes, slice_ms=None, shared=False, places=1)

    assert found.start.p50_ms == 100 + 400


# Several places -------------------------------------------------------------------------------------------------------


def test_work_fills_places_evenly_from_when_each_becomes_free() -> None:
    busy = (Busy(100), Busy(900))

    assert (
        strict(Own(size_ms=1), work(*[100] * 6), at=3, busy=busy).start.p50_ms == 350
    )  # (600 + 0 + 100) / 2
    assert (
        strict(Own(size_ms=1), work(*[100] * 20), at=3, busy=busy).start.p50_ms == 1_000
    )  # (2000 + 1000) / 3


def test_what_is_unsure_is_shared_by_the_places() -> None:
    found = strict(Own(size_ms=100), work(*[500] * 8, deviation=50), at=4, busy=(Busy(100, 10**2),))

    assert found.start.p90_ms - found.start.p50_ms == round(1.2816 * (8 * 50**2 + 10**2) ** 0.5 / 4)


def test_a_task_with_fewer_ahead_than_places_are_free_starts_at_once() -> None:
    found = strict(Own(size_ms=100), work(5_000, 5_000), at=3)

    assert (found.start, found.finish.p50_ms) == ((0, 0), 100)


def test_it_takes_the_place_that_is_free_after_those_ahead_took_theirs() -> None:
    found = strict(Own(size_ms=100), work(5_000), at=2, busy=(Busy(70, 9.0),))

    assert found.start == (70, round(70 + 1.2816 * 3))


def test_what_a_worker_has_beyond_its_places_waits_there() -> None:
    assert strict(Own(size_ms=100), work(), at=1, busy=(Busy(100), Busy(40))).start.p50_ms == 140


def test_under_slices_a_task_is_not_slowed_by_fewer_than_there_are_places_for() -> None:
    lanes = [Lane(before=work(9_000))]
    found = expected(Own(size_ms=300), lanes, slice_ms=100, shared=False, places=2)

    assert (found.start.p50_ms, found.finish.p50_ms) == (0, 300)


def test_nothing_starts_before_its_time() -> None:
    found = strict(Own(size_ms=100), work(200), earliest_ms=1_000)

    assert (found.start, found.finish) == ((1_000, 1_000), (1_100, 1_100))


def test_places_are_bounded_by_slots_by_resources_and_by_the_queue() -> None:
    workers = [worker("a", slots=4, gpu=3.0), worker("b", slots=2, gpu=8.0)]

    assert places(workers, {}, 0) == 6
    assert places(workers, {"gpu": 1.5}, 0) == 4
    assert places(workers, {"gpu": 1.5}, 3) == 3
    assert places([], {}, 3) == 0
    assert places([worker(cpu=0.3)], {"cpu": 0.1}, 0) == 3


def test_what_is_late_is_expected_to_end_now_and_is_as_unsure_as_ever() -> None:
    assert running(100, 30, 40) == (60, 900)
    assert running(100, 30, 400) == (0, 900)


def test_a_deviation_is_learned_or_as_large_as_the_mean() -> None:
    assert deviation_ms(100, None) == 100
    assert deviation_ms(100, 10) == pytest.approx(12.533, abs=0.001)


# Against what really happens ------------------------------------------------------------------------------------------


def chosen(name: str) -> Policy:
    return policy(Scheduling(policy=f"SCHEDULING_POLICY_{name}", time_slice=Duration(nanos=10_000_000)))


def foreseen(one: Policy, own: Traced, others: list[Traced], *, at: int) -> Expected:
    """What is expected of a task among others that are ready together, from what the policy says of their order."""

    def place(traced: Traced) -> tuple[int, int]:
        return (traced.run_ms if one.ordering == "size" else 0, traced.number)

    def of(tenant: str, *, before: bool) -> Work:
        return work(*(o.run_ms for o in others if o.tenant == tenant and (place(o) < place(own)) == before))

    tenants = {traced.tenant for traced in others}
    lanes = [Lane(tenant=t, before=of(t, before=True), after=of(t, before=False)) for t in tenants]
    mine = Own(size_ms=own.run_ms, tenant=own.tenant)
    return expected(mine, lanes, slice_ms=one.slice_ms, shared=not one.rank_is_static, places=at)


sizes = some.lists(some.integers(10, 200), min_size=1, max_size=40)


@UNHURRIED
@given(sizes, some.integers(0, 39), some.sampled_from(["FIFO", "SHORTEST_JOB_FIRST"]))
def test_on_one_worker_a_strict_order_is_foreseen_exactly(run_ms: list[int], place: int, name: str) -> None:
    works = [Traced(n, run_ms=ms) for n, ms in enumerate(run_ms)]
    own = works[place % len(works)]
    found = foreseen(chosen(name), own, [one for one in works if one is not own], at=1)

    assert found.finish.p50_ms == completion_ms(trace(chosen(name), works))[own.number]


@UNHURRIED
@given(sizes, some.integers(0, 39), some.integers(2, 5))
def test_on_several_workers_it_is_foreseen_to_a_task_length(run_ms: list[int], place: int, at: int) -> None:
    works = [Traced(n, run_ms=ms) for n, ms in enumerate(run_ms)]
    own = works[place % len(works)]
    found = foreseen(chosen("FIFO"), own, [one for one in works if one is not own], at=at)

    end_ms = completion_ms(trace(chosen("FIFO"), works, workers=at))[own.number]
    assert abs(found.finish.p50_ms - end_ms) <= max(run_ms)


@UNHURRIED
@given(some.integers(10, 200), some.integers(1, 200), some.integers(1, 20), some.integers(0, 20))
def test_round_robin_is_foreseen_to_a_slice_of_each_other(
    own_ms: int, other_ms: int, count: int, place: int
) -> None:
    works = [Traced(n, run_ms=other_ms) for n in range(count)]
    works.insert(place % count, Traced(0, run_ms=own_ms))
    works = [one._replace(number=n) for n, one in enumerate(works)]
    own = works[place % count]
    found = foreseen(chosen("ROUND_ROBIN"), own, [one for one in works if one is not own], at=1)

    runs = trace(chosen("ROUND_ROBIN"), works)
    assert found.start.p50_ms == next(run.start_ms for run in runs if run.work is own)
    assert abs(found.finish.p50_ms - completion_ms(runs)[own.number]) <= count * 10


@settings(max_examples=50, deadline=None)
@given(
    some.lists(some.tuples(some.sampled_from("abc"), some.integers(10, 60)), min_size=1, max_size=40),
    some.integers(0, 39),
)
def test_fair_share_is_foreseen_to_a_task_of_each_tenant(
    given_works: list[tuple[str, int]], place: int
) -> None:
    works = [Traced(n, run_ms=ms, tenant=tenant) for n, (tenant, ms) in enumerate(given_works)]
    own = works[place % len(works)]
    found = foreseen(chosen("FAIR_SHARE"), own, [one for one in works if one is not own], at=1)

    end_ms = completion_ms(trace(chosen("FAIR_SHARE"), works))[own.number]
    assert abs(found.finish.p50_ms - end_ms) <= 2 * 60


@pytest.mark.parametrize("at", [1, 4])
def test_nine_of_ten_tasks_start_before_p90_and_half_before_p50(at: int) -> None:
    rng, mean_ms, sigma_ms, before = random.Random(1), 1_000.0, 300.0, 60
    found = strict(Own(size_ms=mean_ms), work(*[mean_ms] * before, deviation=sigma_ms), at=at)

    starts_ms = []
    for _ in range(2_000):
        free_ms = [0.0] * at
        for _ in range(before):
            first = free_ms.index(min(free_ms))
            free_ms[first] += rng.gauss(mean_ms, sigma_ms)
        starts_ms.append(min(free_ms))

    early = sum(start_ms <= found.start.p90_ms for start_ms in starts_ms) / len(starts_ms)
    half = sum(start_ms <= found.start.p50_ms for start_ms in starts_ms) / len(starts_ms)
    if at == 1:
        assert half == pytest.approx(0.5, abs=0.03)
        assert early == pytest.approx(0.9, abs=0.02)
    else:  # a task starts at the first free place, which is before the level that all are filled to
        assert half > 0.5
        assert early > 0.9


# Deadlines ------------------------------------------------------------------------------------------------------------


def none_wait(_: int) -> Work:
    return Work()


def due(deadline_ms: int, size_ms: float, earliest_ms: int = 0) -> Due:
    return Due(deadline_ms, size_ms, earliest_ms)


def test_deadlines_that_no_order_can_meet_are_found() -> None:
    tasks = [due(1_300, 100), due(1_100, 100), due(1_200, 101), due(0, 9_000)]

    assert infeasible(tasks, none_wait, places=1, now_ms=1_000) == [0, 2]


def test_what_waits_with_an_earlier_deadline_is_in_the_way_and_what_has_a_later_one_is_not() -> None:
    def waiting(deadline_ms: int) -> Work:
        return work(*[100] * sum(other_ms <= deadline_ms for other_ms in (1_150, 1_400)))

    assert infeasible([due(1_200, 100)], waiting, places=1, now_ms=1_000) == []
    assert infeasible([due(1_200, 101)], waiting, places=1, now_ms=1_000) == [0]


def test_a_task_that_runs_has_its_place_until_it_ends() -> None:
    assert infeasible([due(1_100, 100)], none_wait, places=1, busy=[Busy(1)], now_ms=1_000) == [0]
    assert infeasible([due(1_100, 100)], none_wait, places=2, busy=[Busy(1)], now_ms=1_000) == []


def test_a_task_that_may_not_start_in_time_or_nowhere_is_infeasible() -> None:
    assert infeasible([due(1_100, 100, earliest_ms=1_001)], none_wait, places=1, now_ms=0) == [0]
    assert infeasible([due(1_100, 1), due(0, 1)], none_wait, places=0, now_ms=0) == [0]


@UNHURRIED
@given(some.lists(some.tuples(some.integers(1, 50), some.integers(1, 300)), min_size=1, max_size=8))
def test_on_one_worker_feasible_means_that_earliest_deadline_first_meets_all(
    tasks: list[tuple[int, int]],
) -> None:
    found = infeasible(
        [due(1_000 + by_ms, run_ms) for run_ms, by_ms in tasks], none_wait, places=1, now_ms=1_000
    )

    in_order = sorted(range(len(tasks)), key=lambda n: tasks[n][1])
    ends_ms = itertools.accumulate(tasks[n][0] for n in in_order)
    assert found == sorted(n for n, end_ms in zip(in_order, ends_ms, strict=True) if end_ms > tasks[n][1])


def test_ten_thousand_tasks_at_a_thousand_places_are_judged_at_once() -> None:
    rng = random.Random(1)
    tasks = [due(rng.randrange(1, 100_000), 1_000.0) for _ in range(10_000)]
    busy = [Busy(rng.uniform(0, 1_000)) for _ in range(1_000)]

    found = infeasible(tasks, none_wait, places=1_000, busy=busy, now_ms=0)

    assert {n for n, task in enumerate(tasks) if task.deadline_ms < 1_000} <= set(found)
    assert len(found) < 500
