"""Exactly once: whatever fails and whoever takes over, the results are those of a run without any failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from taskraft.errors import QueueNotFound
from taskraft.streams import Record, StateMismatch, StepFailed, count, stream, tumbling
from taskraft.streams import _limits as limits
from taskraft.streams._plan import Plan
from taskraft.streams._runtime import Runner
from tests.client.streams_log import Cluster, Faults, Killed, MemoryLog
from tests.client.streams_model import Event, Model, orders
from tests.client.streams_runs import record, records, run

UNHURRIED = settings(deadline=None)
MODEL = Model(tumbling(0.01), lateness_ms=10, disorder_ms=5)
PLAN = orders(MODEL.windows, lateness_ms=MODEL.lateness_ms, disorder_ms=MODEL.disorder_ms)
EVENTS = [Event("abc"[number % 3], number * 7 % 83 + number) for number in range(80)]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskraft._limits.BACKOFF_MAX_S", 0.0001)
    monkeypatch.setattr("taskraft._limits.BACKOFF_FIRST_S", 0.0001)


async def finish(plan: Plan, cluster: Cluster, fault: Callable[[str], None], batch: int = 10) -> None:
    """Run processors one after the other, each until it is killed, until one has nothing left to do."""
    while True:
        log = MemoryLog(cluster, fault, batch=batch)
        try:
            return await Runner(plan, log, now=lambda: 0.0, until_idle_s=0.0).run()
        except Killed:
            continue


def assert_exactly_once(cluster: Cluster, plan: Plan, given_records: Sequence[Record]) -> None:
    whole = run(plan, given_records)
    assert cluster.outputs == whole.outputs
    assert cluster.taken == [one.sequence for one in given_records]


@pytest.mark.parametrize("kind", range(len(Faults.KINDS)))
def test_a_failure_at_any_step_changes_no_result(kind: int) -> None:
    given_records = records(EVENTS)
    probe = Faults({})
    asyncio.run(finish(PLAN, Cluster(given_records), probe))

    for step in range(probe.steps):
        cluster = Cluster(given_records)
        asyncio.run(finish(PLAN, cluster, Faults({step: kind})))
        assert_exactly_once(cluster, PLAN, given_records)


@UNHURRIED
@given(
    some.lists(some.builds(Event, some.sampled_from("ab"), some.integers(0, 100)), max_size=40),
    some.dictionaries(some.integers(0, 40), some.integers(0, len(Faults.KINDS) - 1), max_size=12),
    some.integers(1, 12),
)
def test_no_series_of_failures_changes_a_result(
    events: list[Event], faults: dict[int, int], batch: int
) -> None:
    given_records = records(events)
    cluster = Cluster(given_records)

    asyncio.run(finish(PLAN, cluster, Faults(faults), batch))

    assert_exactly_once(cluster, PLAN, given_records)


def test_two_processors_at_once_change_nothing_twice() -> None:
    given_records = records(EVENTS)
    cluster = Cluster(given_records)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            for batch in (3, 5):
                group.create_task(finish(PLAN, cluster, lambda step: None, batch))

    asyncio.run(both())

    assert_exactly_once(cluster, PLAN, given_records)


def test_windows_that_end_together_are_published_in_several_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "COMMIT_CHANGES_SOFT", 10)
    given_records = records([*(Event(f"key {number:02}", 0) for number in range(50)), Event("end", 10_000)])
    probe = Faults({})
    asyncio.run(finish(PLAN, Cluster(given_records), probe, batch=100))

    for step in range(probe.steps):
        cluster = Cluster(given_records)
        asyncio.run(finish(PLAN, cluster, Faults({step: 0}), batch=100))
        assert_exactly_once(cluster, PLAN, given_records)
        assert cluster.transactions >= 10


def test_while_nothing_comes_event_time_goes_on_if_it_was_asked_to() -> None:
    plan = (
        stream("orders")
        .key_by(lambda one: one.key)
        .window(tumbling("1m"), idle_after="10s")
        .aggregate(count())
        .to("results")
        .plan
    )
    cluster = Cluster([record(1, {}, publish_ms=120_000)])
    seconds = iter(range(0, 1_000, 5))

    asyncio.run(Runner(plan, MemoryLog(cluster), now=lambda: float(next(seconds)), until_idle_s=100.0).run())

    (result,) = cluster.outputs
    assert json.loads(result.body) == {
        "key": "k",
        "start": "1970-01-01T00:02:00Z",
        "end": "1970-01-01T00:03:00Z",
        "value": 1,
        "update": False,
    }
    assert result.key == "k@1970-01-01T00:02:00Z"


def test_what_would_fail_every_time_is_raised() -> None:
    def fault(step: str) -> None:
        raise QueueNotFound

    with pytest.raises(QueueNotFound):
        asyncio.run(finish(PLAN, Cluster(), fault))


def test_a_function_that_raises_ends_the_run_and_names_the_record() -> None:
    cluster = Cluster([record(1, {"key": "a", "time_ms": 1}), record(2, {"key": "a"})])

    with pytest.raises(StepFailed, match="record 2 of orders: KeyError") as failed:
        asyncio.run(finish(PLAN, cluster, lambda step: None))

    assert isinstance(failed.value.__cause__, KeyError)


def test_the_state_of_another_topology_is_refused() -> None:
    cluster = Cluster(records(EVENTS))
    asyncio.run(finish(PLAN, cluster, lambda step: None))

    with pytest.raises(StateMismatch):
        asyncio.run(finish(orders(tumbling("2m")), cluster, lambda step: None))
