"""What the demonstration counts and how it judges."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskraft._task_values import task_info
from taskraft.demo.counting import UNREADABLE, count_tokens, source_files, standard_library
from taskraft.demo.executions import Execution, compare, read_executions
from taskraft.demo.tasks import LOG_VARIABLE, append, merged
from taskraft.demo.verdict import (
    FRESH,
    NOT_RECORDED,
    PUBLISHED_TWICE,
    REDELIVERED,
    Failover,
    Ledger,
    Result,
    Verdict,
    WorkflowVerdict,
    differences,
)
from taskraft.demo.workflow import WorkflowStory
from taskraft.v1 import task_pb2


def result(path: str = "a.py", sequence: int = 1, attempt: int = 1) -> Result:
    return Result(path, sequence, attempt, "consumer-1", Counter(NAME=2))


def verdict(ledger: Ledger, expected: Counter[str]) -> Verdict:
    failover = Failover(old_leader="n1", new_leader="n2", kill_to_ack_s=0.3)
    return Verdict(ledger=ledger, failover=failover, expected=expected, cluster_s=1, single_process_s=1)


def test_tokens_are_counted_by_kind() -> None:
    counts = count_tokens(b"x = 1  # one\n")

    assert counts == Counter(ENCODING=1, NAME=1, OP=1, NUMBER=1, COMMENT=1, NEWLINE=1, ENDMARKER=1)


def test_a_file_that_is_no_python_counts_up_to_there_and_once_as_unreadable() -> None:
    assert count_tokens(b"x = (")[UNREADABLE] == 1
    assert count_tokens(b"# coding: nonsense\n") == Counter({UNREADABLE: 1})


def test_the_standard_library_is_complete_without_what_was_installed_into_it() -> None:
    paths = source_files()

    assert {Path("tokenize.py"), Path("asyncio/tasks.py"), Path("json/decoder.py")} <= set(paths)
    assert not any("site-packages" in path.parts for path in paths)
    assert max((standard_library() / path).stat().st_size for path in paths) < 1 << 20


def test_a_result_survives_its_way_through_a_queue() -> None:
    sent = {"path": "a.py", "sequence": 1, "attempt": 1, "consumer": "consumer-1", "tokens": Counter(NAME=2)}

    assert Result.parse(json.dumps(sent).encode()) == result()


def test_a_file_counts_once_and_every_further_result_has_a_cause() -> None:
    ledger = Ledger()

    causes = [ledger.note(one) for one in (result(), result(attempt=2), result(), result(sequence=5))]

    assert causes == [FRESH, REDELIVERED, NOT_RECORDED, PUBLISHED_TWICE]
    assert ledger.totals == Counter(NAME=2)
    assert ledger.processed == 1


def test_all_is_well_if_everything_is_there_and_the_totals_are_right() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())
    ledger.note(result(attempt=2))

    assert verdict(ledger, Counter(NAME=2)).good


def test_a_lost_file_is_no_happy_end() -> None:
    ledger = Ledger(published={"a.py", "b.py"}, acknowledged={"a.py", "b.py"})
    ledger.note(result())

    assert ledger.lost == {"b.py"}
    assert not verdict(ledger, Counter(NAME=2)).good


def test_different_totals_are_no_happy_end_and_are_named() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())

    end = verdict(ledger, Counter(NAME=3))

    assert not end.good
    assert differences(ledger.totals, Counter(NAME=3)) == "NAME 2 instead of 3"


def test_a_file_that_is_stored_twice_is_no_happy_end() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())
    ledger.note(result(sequence=2))

    assert not verdict(ledger, Counter(NAME=2)).good


KILLED, OTHER = "worker-1", "worker-2"


def task(attempt: int = 1, lost_by: tuple[str, ...] = (), state: str = "SUCCEEDED", **fields: Any) -> Any:
    """A task of the workflow at its end; `lost_by` are the workers that lost its leases."""
    made = task_pb2.Task(
        name="tasks/t", type="tokenize", attempt=attempt, state=f"TASK_STATE_{state}", **fields
    )
    for worker in lost_by:
        made.events.add(reason="LEASE_EXPIRED", worker_id=worker)
    return task_info(made)


def run(lease: int, attempt: int = 1, worker: str = OTHER, *, ended: bool = True, of: str = "t") -> Execution:
    return Execution(of, lease, attempt, worker, ended)


def test_runs_are_read_in_the_order_in_which_they_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "log"))
    one = {"task": "t", "lease": 7, "attempt": 1, "worker": KILLED}
    two = {"task": "u", "lease": 8, "attempt": 2, "worker": OTHER}

    append(one | {"ended": False})
    append(two | {"ended": False})
    append(two | {"ended": True})

    assert read_executions(tmp_path / "log") == [
        Execution("t", 7, 1, KILLED, ended=False),
        Execution("u", 8, 2, OTHER, ended=True),
    ]
    assert read_executions(tmp_path / "none") == []


def test_counts_of_parts_are_added() -> None:
    assert merged([{"NAME": 2, "OP": 1}, {"NAME": 3}]) == {"NAME": 5, "OP": 1}


def test_a_task_may_run_again_if_its_worker_was_killed() -> None:
    runs = [run(7, worker=KILLED, ended=False), run(9, attempt=2)]

    comparison = compare([task(attempt=2, lost_by=(KILLED,))], runs, KILLED)

    assert comparison.unexplained == ()
    assert (comparison.executions, comparison.attempts) == (2, 2)
    assert (comparison.repeated, comparison.lost_attempts) == (1, 1)


@pytest.mark.parametrize(
    ("end", "runs", "fault"),
    [
        (task(), [], "never ran"),
        (task(state="FAILED"), [run(7)], "is failed"),
        (task(), [run(7), run(7)], "twice under one lease"),
        (task(), [run(7, worker=OTHER), run(9, worker=OTHER)], "which was not killed"),
        (task(), [run(7, worker=KILLED), run(9, attempt=2)], "at attempt 1, its last run was attempt 2"),
        (task(), [run(7, ended=False)], "its last run was"),
        (task(attempt=2), [run(9, attempt=2)], "2 attempts and lost 0 leases"),
        (task(attempt=2, lost_by=(OTHER,)), [run(9, attempt=2)], "lost a lease of worker-2"),
        (task(), [run(7), run(8, of="stranger")], "stranger ran and is no task"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_should_not_have_happened_is_named(end: Any, runs: list[Execution], fault: str) -> None:
    comparison = compare([end], runs, KILLED)

    assert any(fault in one for one in comparison.unexplained), comparison.unexplained


@pytest.mark.parametrize(("runs", "counted", "good"), [(1, 3, True), (2, 3, False), (1, 2, False)])
def test_the_workflow_ends_well_if_all_is_explained_and_the_totals_are_right(
    runs: int, counted: int, good: bool
) -> None:
    tasks = (task(),)
    story = WorkflowStory(
        tasks=tasks,
        totals=Counter(NAME=counted),
        comparison=compare(tasks, [run(7)] * runs, KILLED),
        seconds=1.0,
        killed_worker=KILLED,
        old_leader="n1",
        new_leader="n2",
        kill_to_end_s=0.3,
    )

    assert WorkflowVerdict(story=story, expected=Counter(NAME=3)).good is good
