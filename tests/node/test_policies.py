import itertools
import random

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as some

from node.policies import Facts, Head, Policy, policy
from taskraft.v1.queue_pb2 import Scheduling, SchedulingPolicy
from tests.node.policy_trace import Work, completion_ms, mean_completion_ms, trace

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here
NAMES = ["FIFO", "PRIORITY", "SHORTEST_JOB_FIRST", "ROUND_ROBIN", "EARLIEST_DEADLINE", "FAIR_SHARE"]
YEAR_9999_MS = 253_402_300_799_999
THIRTY_DAYS_MS = 30 * 86_400_000


def named(name: str, *, aging_ms: int | None = None, slice_ms: int | None = None) -> Policy:
    settings = Scheduling(policy=f"SCHEDULING_POLICY_{name}")
    if aging_ms is not None:
        settings.aging.FromMilliseconds(aging_ms)
    if slice_ms is not None:
        settings.time_slice.FromMilliseconds(slice_ms)
    return policy(settings)


works = some.builds(
    Work,
    number=some.just(0),
    run_ms=some.integers(1, 50),
    ready_ms=some.integers(0, 200),
    priority=some.integers(-5, 5),
)


def numbered(given_works: list[Work]) -> list[Work]:
    return [work._replace(number=n) for n, work in enumerate(given_works, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_found_by_its_setting(name: str) -> None:
    assert named(name).name == name


def test_a_queue_that_does_not_say_is_first_in_first_out() -> None:
    assert policy(Scheduling()).name == "FIFO"


def test_every_policy_of_the_contract_is_there() -> None:
    assert {policy(Scheduling(policy=name)).name for name, _ in SchedulingPolicy.items()} == set(NAMES)


def test_what_is_unset_has_the_default_of_the_contract() -> None:
    assert named("ROUND_ROBIN").slice_ms == 1_000
    assert named("PRIORITY").ordering == named("PRIORITY", aging_ms=60_000).ordering
    assert named("PRIORITY").ordering != named("PRIORITY", aging_ms=0).ordering


@pytest.mark.parametrize("name", NAMES)
@UNHURRIED
@given(
    order_ms=some.integers(0, YEAR_9999_MS),
    priority=some.integers(-1000, 1000),
    size_ms=some.integers(0, YEAR_9999_MS),
    deadline_ms=some.integers(0, YEAR_9999_MS),
    aging_ms=some.sampled_from([0, 1, 60_000, THIRTY_DAYS_MS]),
)
def test_a_key_fits_a_signed_64_bit_integer(
    name: str, order_ms: int, priority: int, size_ms: int, deadline_ms: int, aging_ms: int
) -> None:
    key = named(name, aging_ms=aging_ms).key(Facts(1, order_ms, priority, size_ms, deadline_ms))

    assert -(1 << 63) <= key < 1 << 63


@pytest.mark.parametrize("name", NAMES)
def test_heads_of_different_lanes_never_rank_alike(name: str) -> None:
    chosen = named(name)

    ranks = {chosen.rank(Head(5, number, f"tenant-{number % 2}")) for number in range(10)}

    assert len(ranks) == 10


@UNHURRIED
@given(some.lists(works, min_size=1, max_size=30), some.integers(1, 4))
def test_fifo_starts_tasks_as_they_became_ready(given_works: list[Work], workers: int) -> None:
    runs = trace(named("FIFO"), numbered(given_works), workers=workers)

    starts = [(run.work.ready_ms, run.work.number) for run in runs]
    assert starts == sorted(starts)


@UNHURRIED
@given(some.lists(some.integers(1, 100), min_size=1, max_size=6))
def test_no_order_has_a_lower_mean_completion_time_than_shortest_job_first(run_ms: list[int]) -> None:
    runs = trace(named("SHORTEST_JOB_FIRST"), [Work(n, run_ms=ms) for n, ms in enumerate(run_ms)])

    every_order = (list(itertools.accumulate(order)) for order in itertools.permutations(run_ms))
    assert mean_completion_ms(runs) == min(sum(ends) / len(ends) for ends in every_order)


@pytest.mark.parametrize("seed", range(5))
def test_shortest_job_first_beats_first_in_first_out_under_a_long_backlog(seed: int) -> None:
    rng = random.Random(seed)
    backlog = [Work(n, run_ms=1 + int(rng.expovariate(1 / 1_000))) for n in range(5_000)]

    shortest = mean_completion_ms(trace(named("SHORTEST_JOB_FIRST"), backlog, workers=4))

    # Exponential sizes: a task waits for the half of the others on average, weighted to the short ones: exactly a half.
    assert shortest / mean_completion_ms(trace(named("FIFO"), backlog, workers=4)) == pytest.approx(
        0.5, abs=0.03
    )


@UNHURRIED
@given(some.lists(works, min_size=2, max_size=30), some.sampled_from([0, 1, 7, 1_000]), some.integers(1, 3))
def test_of_two_waiting_tasks_the_one_with_priority_and_age_starts_first(
    given_works: list[Work], aging_ms: int, workers: int
) -> None:
    runs = trace(named("PRIORITY", aging_ms=aging_ms), numbered(given_works), workers=workers)

    def merit(work: Work, at_ms: int) -> float:
        return work.priority + ((at_ms - work.ready_ms) / aging_ms if aging_ms else 0)

    for first, second in itertools.combinations(runs, 2):
        if second.work.ready_ms <= first.start_ms:
            assert merit(first.work, first.start_ms) >= merit(second.work, first.start_ms) - 1e-9


def test_a_task_of_low_priority_is_not_starved_while_it_ages() -> None:
    low = Work(0, run_ms=10, priority=-1)
    stream = [Work(n, run_ms=10, ready_ms=(n - 1) * 10, priority=4) for n in range(1, 2_000)]

    starts = {run.work.number: run.start_ms for run in trace(named("PRIORITY", aging_ms=500), [low, *stream])}

    assert starts[0] <= (4 - -1) * 500 + 10  # overtaken by what came within five agings, and by what ran


def test_without_aging_a_task_of_low_priority_waits_as_long_as_others_come() -> None:
    low = Work(0, run_ms=10, priority=-1)
    stream = [Work(n, run_ms=10, ready_ms=(n - 1) * 10, priority=4) for n in range(1, 2_000)]

    runs = trace(named("PRIORITY", aging_ms=0), [low, *stream])

    assert runs[-1].work == low


@UNHURRIED
@given(
    some.lists(some.tuples(some.integers(1, 50), some.integers(0, 20)), min_size=1, max_size=20),
    some.randoms(use_true_random=False),
)
def test_every_deadline_of_a_feasible_set_is_met(gaps: list[tuple[int, int]], rng: random.Random) -> None:
    ends = itertools.accumulate(run_ms + slack_ms for run_ms, slack_ms in gaps)
    feasible = [
        (run_ms, end_ms) for (run_ms, _), end_ms in zip(gaps, ends, strict=True)
    ]  # in this order they make it
    rng.shuffle(feasible)
    tasks = [Work(n, run_ms=run_ms, deadline_ms=end_ms) for n, (run_ms, end_ms) in enumerate(feasible)]
    without = [Work(100, run_ms=1_000), Work(101, run_ms=1_000)]

    done = completion_ms(trace(named("EARLIEST_DEADLINE"), [*without, *tasks]))

    assert all(done[task.number] <= task.deadline_ms for task in tasks)
    assert done[100] < done[101]


@UNHURRIED
@given(some.lists(works, min_size=1, max_size=20), some.integers(1, 20))
def test_no_task_waits_longer_for_its_turn_than_a_slice_of_each_other(
    given_works: list[Work], slice_ms: int
) -> None:
    runs = trace(named("ROUND_ROBIN", slice_ms=slice_ms), numbered(given_works))

    free_ms = {work.number: work.ready_ms for work in numbered(given_works)}
    for run in runs:
        # One slice more before the first turn: the one that runs while the task becomes ready.
        others = len(given_works) - 1
        assert run.start_ms - free_ms[run.work.number] <= others * slice_ms
        assert run.end_ms - run.start_ms <= slice_ms
        free_ms[run.work.number] = run.end_ms


def test_round_robin_ends_a_short_task_soon_beside_long_ones() -> None:
    tasks = [Work(n, run_ms=10_000) for n in range(9)] + [Work(9, run_ms=300)]

    done = completion_ms(trace(named("ROUND_ROBIN", slice_ms=100), tasks))

    assert done[9] == 3 * 10 * 100


def test_only_fair_share_ranks_a_lane_anew_although_its_head_stays() -> None:
    assert [name for name in NAMES if not named(name).rank_is_static] == ["FAIR_SHARE"]


def test_equal_orderings_mean_equal_keys() -> None:
    facts = Facts(7, 1_000, 3, 250, 4_000)
    keys: dict[str, set[int]] = {}
    for name in NAMES:
        chosen = named(name, aging_ms=5)
        keys.setdefault(chosen.ordering, set()).add(chosen.key(facts))

    assert all(len(equal) == 1 for equal in keys.values())
    assert len(keys) == 4


def test_a_long_duration_is_not_cut_to_seconds() -> None:
    settings = Scheduling(policy="SCHEDULING_POLICY_ROUND_ROBIN", time_slice=Duration(nanos=250_000_000))

    assert policy(settings).slice_ms == 250
