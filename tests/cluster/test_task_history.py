"""The judge of executions notices what it is there for."""

import pytest

from tests.cluster.task_history import problems, repeated
from tests.cluster.task_worker import Execution

LEASED_TWICE = ["SUBMITTED", "LEASED", "LEASE_EXPIRED", "LEASED", "SUCCEEDED"]


def runs(*leases: int) -> list[Execution]:
    return [Execution("a", lease, 1, what) for lease in leases for what in ("begin", "end")]


@pytest.mark.parametrize(
    ("reasons", "executions"),
    [
        (["SUBMITTED", "LEASED", "SUCCEEDED"], runs(1)),
        (LEASED_TWICE, runs(1, 2)),
        (LEASED_TWICE, runs(2)),
        (["SUBMITTED", "LEASED", "HANDED_BACK", "LEASED", "SUCCEEDED"], runs(1, 2)),
    ],
)
def test_what_a_worker_brought_about_is_explained(reasons: list[str], executions: list[Execution]) -> None:
    assert problems({"a": reasons}, executions) == []


@pytest.mark.parametrize(
    ("reasons", "executions"),
    [
        (["SUBMITTED", "LEASED", "SUCCEEDED"], runs(1, 2)),
        (["SUBMITTED", "LEASED", "SUCCEEDED"], runs(1, 1)),
        (["SUBMITTED", "LEASED", "SUCCEEDED"], []),
        (["SUBMITTED", "LEASED", "LEASED", "SUCCEEDED"], runs(1, 2)),
        (["SUBMITTED", "LEASED", "SUCCEEDED", "SUCCEEDED"], runs(1)),
        (["SUBMITTED", "LEASED", "FAILED", "LEASED", "SUCCEEDED"], runs(1, 2)),
        (["SUBMITTED", "LEASED"], runs(1)),
        (["SUBMITTED"], [Execution("b", 1, 1, "begin")]),
    ],
    ids=["repeated", "lease", "never", "leased", "succeeded", "failed", "unfinished", "unknown"],
)
def test_what_nobody_brought_about_is_a_problem(reasons: list[str], executions: list[Execution]) -> None:
    assert problems({"a": reasons}, executions) != []


def test_repetitions_are_counted() -> None:
    assert repeated(runs(1, 2, 3)) == 2
