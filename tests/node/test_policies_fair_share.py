import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node.policies.fair_share import FairShare
from node.policies.order import Head
from tests.node.policy_trace import Run, Work, trace

HORIZON_MS = 60_000


def backlog(tenants: dict[str, int], *, size_ms: int = 0) -> list[Work]:
    """For each tenant more tasks of its run time than can run up to the horizon, submitted tenant by tenant."""
    numbers = itertools.count()
    return [
        Work(next(numbers), run_ms=run_ms, tenant=tenant, size_ms=size_ms)
        for tenant, run_ms in tenants.items()
        for _ in range(4 * HORIZON_MS // run_ms)
    ]


def shares(runs: list[Run], *, from_ms: int = 0, to_ms: int = HORIZON_MS) -> dict[str, float]:
    """Which part of the run time between two moments each tenant had."""
    used: Counter[str] = Counter()
    for run in runs:
        used[run.work.tenant] += max(0, min(run.end_ms, to_ms) - max(run.start_ms, from_ms))
    return {tenant: ms / used.total() for tenant, ms in used.items()}


@settings(max_examples=10, deadline=None)
@given(
    some.lists(some.tuples(some.integers(1, 10), some.integers(50, 500)), min_size=2, max_size=5),
    some.integers(1, 4),
)
def test_backlogged_tenants_share_run_time_by_weight_whatever_their_tasks_take(
    tenants: list[tuple[int, int]], workers: int
) -> None:
    weights = {f"t{n}": float(weight) for n, (weight, _) in enumerate(tenants)}
    works = backlog({f"t{n}": run_ms for n, (_, run_ms) in enumerate(tenants)})

    got = shares(trace(FairShare(weights=weights), works, workers=workers, until_ms=HORIZON_MS))

    for tenant, weight in weights.items():
        assert got[tenant] == pytest.approx(weight / sum(weights.values()), abs=0.02)


@pytest.mark.parametrize("size_ms", [1, 100, 10_000])
def test_a_wrong_expectation_of_run_times_does_not_shift_the_shares(size_ms: int) -> None:
    works = backlog({"quick": 50, "slow": 400}, size_ms=size_ms)

    got = shares(trace(FairShare(weights={}), works, workers=4, until_ms=HORIZON_MS))

    assert got == {"quick": pytest.approx(0.5, abs=0.02), "slow": pytest.approx(0.5, abs=0.02)}


def test_tasks_of_a_tenant_start_as_they_became_ready() -> None:
    runs = trace(FairShare(weights={}), backlog({"a": 100, "b": 300}), workers=3, until_ms=HORIZON_MS)

    for tenant in ("a", "b"):
        numbers = [run.work.number for run in runs if run.work.tenant == tenant]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("size_ms", [0, 5_000])
def test_an_idle_tenant_does_not_bank_credit(size_ms: int) -> None:
    back_ms = HORIZON_MS // 2
    works = backlog({"busy": 100, "late": 100}, size_ms=size_ms)
    works = [work._replace(ready_ms=back_ms * (work.tenant == "late")) for work in works]
    works.append(Work(len(works), run_ms=100, tenant="late", size_ms=size_ms))  # it was there before

    runs = trace(FairShare(weights={}), works, workers=2, until_ms=HORIZON_MS)

    soon = shares(runs, from_ms=back_ms, to_ms=back_ms + 10_000)
    assert soon == {"busy": pytest.approx(0.5, abs=0.05), "late": pytest.approx(0.5, abs=0.05)}


def test_a_tenant_with_one_task_at_a_time_gets_no_more_than_its_share() -> None:
    """Coming back again and again is no way to be put forward: what it used stays on its account."""
    pulses = [Work(n, run_ms=300, ready_ms=n * 310, tenant="pulse") for n in range(HORIZON_MS // 310)]
    steady = backlog({"steady": 100})
    works = pulses + [work._replace(number=work.number + len(pulses)) for work in steady]

    got = shares(trace(FairShare(weights={}), works, workers=1, until_ms=HORIZON_MS))

    assert got["pulse"] == pytest.approx(0.5, abs=0.02)


def test_a_tenant_that_comes_while_a_mistaken_giant_runs_starves_nobody() -> None:
    fair = FairShare(weights={})
    for tenant in ("giant", "other"):
        fair.opened(tenant)
    fair.started("giant", 30 * 86_400_000)  # expected to run for a month
    fair.opened("new")
    fair.settled("giant", 30 * 86_400_000, 10)  # and it was nothing

    virtual_ms = [fair.rank(Head(1, 1, tenant))[0] for tenant in ("giant", "other", "new")]

    assert max(virtual_ms) - min(virtual_ms) <= 10


def test_memory_follows_the_tenants_that_are_active() -> None:
    rng = random.Random(1)
    fair = FairShare(weights={})
    fair.started("long", 100)
    for number in range(50_000):
        tenant = f"once-{number}"
        fair.opened(tenant)
        fair.started(tenant, 100)
        fair.closed(tenant)
        fair.settled(tenant, 100, rng.randrange(200))

    assert len(fair._accounts) < 5_000
    fair.settled("long", 100, 1_000_000)
    assert fair.rank(Head(1, 1, "long"))[0] == 1_000_000


def test_a_new_leader_takes_over_what_runs() -> None:
    fair = FairShare(weights={"b": 2.0})
    fair.started("a", 1_000)
    fair.started("b", 1_000)
    for tenant in ("a", "b", "c"):
        fair.opened(tenant)

    order = sorted("abc", key=lambda tenant: fair.rank(Head(1, 1, tenant)))

    assert order == ["c", "b", "a"]
