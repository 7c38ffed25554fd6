"""Tasks that depend on each other against a naive model, on random graphs with random outcomes."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node.state.dependencies import ALTERNATIVE
from node.state.task_rows import TaskRow
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import Tasks, cancel, failure, lease, on, retry, settle, submit, success, task
from tests.sim.state_log import Follower, create

MUST_SUCCEED, ANY, MUST_END = "SUCCEEDED", "ANY_SUCCEEDED", "ENDED"
CONDITIONS = (MUST_SUCCEED, MUST_SUCCEED, ANY, MUST_END)
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}


class Model:
    """Task i depends on tasks with lower numbers. Everything is found by looking at everything, again and again."""

    def __init__(self) -> None:
        self.parents: list[list[tuple[int, str]]] = []
        self.state: list[str] = []
        self.workflow: list[int] = []
        self.cancelled: set[int] = set()

    def submit(self, workflow: int, batch: list[list[tuple[int, str]]]) -> None:
        self.parents += batch
        self.state += ["BLOCKED"] * len(batch)
        self.workflow += [workflow] * len(batch)
        self.look()

    def look(self) -> None:
        """Until nothing changes: those that are blocked become QUEUED or FAILED if their parents say so."""
        before: list[str] = []
        while before != self.state:
            before = self.state[:]
            for i, state in enumerate(self.state):
                if state == "BLOCKED":
                    self.state[i] = self.fate(i)

    def fate(self, i: int) -> str:
        states = [(self.state[parent], condition) for parent, condition in self.parents[i]]
        must = [state for state, condition in states if condition == MUST_SUCCEED]
        any_of = [state for state, condition in states if condition == ANY]
        ends = [state for state, condition in states if condition == MUST_END]
        bad = ENDED - {"SUCCEEDED"}
        if bad.intersection(must) or (any_of and bad.issuperset(any_of)):
            return "FAILED"
        fulfilled = (
            all(state == "SUCCEEDED" for state in must)
            and ENDED.issuperset(ends)
            and (not any_of or "SUCCEEDED" in any_of)
        )
        return "QUEUED" if fulfilled else "BLOCKED"

    def end(self, numbers: list[int], state: str) -> None:
        for i in numbers:
            self.state[i] = state
        self.look()

    def retry(self, numbers: list[int]) -> None:
        for i in numbers:
            self.state[i] = "BLOCKED"
            self.cancelled.discard(self.workflow[i])
        self.look()

    def of(self, workflow: int, states: set[str]) -> list[int]:
        return [i for i, state in enumerate(self.state) if self.workflow[i] == workflow and state in states]

    def workflow_state(self, workflow: int) -> str:
        states = {state for i, state in enumerate(self.state) if self.workflow[i] == workflow}
        if states - ENDED:
            return "RUNNING"
        if workflow in self.cancelled:
            return "CANCELLED"
        return "SUCCEEDED" if states == {"SUCCEEDED"} else "FAILED"


class Pair:
    """The machine and the model, which do the same. The machine is shared: names of tasks and workflows begin with `run`."""

    def __init__(self, tasks: Tasks, run: str) -> None:
        self.tasks, self.model, self.prefix = tasks, Model(), run
        self.queue = f"queues/{run}"
        tasks.do(create(self.queue, kind=queue_pb2.QUEUE_KIND_TASK))
        self.starts: Counter[int] = Counter()
        self.retries: Counter[int] = Counter()

    def name(self, i: int) -> str:
        return f"{self.prefix}.{i}"

    def submit(self, batch: list[list[tuple[int, str]]]) -> None:
        first, workflow = len(self.model.state), len(set(self.model.workflow))
        given = []
        for place, parents in enumerate(batch):
            dependencies = [
                each for i, condition in parents for each in on(self.name(i), condition=condition)
            ]
            given.append(task(self.name(first + place), dependencies, self.queue))
        given.reverse()  # children before their parents
        self.tasks.do(submit(*given, workflow=self.name(workflow)))
        self.model.submit(workflow, batch)

    def run(self, outcomes: list[tuple[int, bool]]) -> None:
        """Some tasks that are QUEUED are leased and end, all in one command: their place among those, and how."""
        queued = [i for i, state in enumerate(self.model.state) if state == "QUEUED"]
        if not queued:
            return
        ends = {queued[place % len(queued)]: good for place, good in outcomes}
        for i in ends:
            assert self.retries or self.model.fate(i) == "QUEUED", "it starts before its parents let it"
            self.starts[i] += 1
            assert self.starts[i] <= 1 + self.retries[i], "it starts twice"
        rows = {i: self.row(i) for i in ends}
        granted = self.tasks.do(lease([row.number for row in rows.values()]))
        assert granted.skipped == (), "a task that could start is not there"
        rows = {i: self.row(i) for i in ends}
        self.tasks.do(settle((success if good else failure)(rows[i]) for i, good in ends.items()))
        self.model.end([i for i, good in ends.items() if good], "SUCCEEDED")
        self.model.end([i for i, good in ends.items() if not good], "FAILED")

    def row(self, i: int) -> TaskRow:
        return self.tasks.row(self.name(i))

    def cancel(self, numbers: list[int]) -> None:
        ending = [i for i in dict.fromkeys(numbers) if self.model.state[i] not in ENDED]
        result = self.tasks.do(cancel(*map(self.name, numbers)))
        assert result.count == len(ending)
        self.model.end(ending, "CANCELLED")

    def cancel_workflow(self, workflow: int) -> None:
        ending = [i for i, state in enumerate(self.model.state) if state not in ENDED]
        ending = [i for i in ending if self.model.workflow[i] == workflow]
        assert self.tasks.do(cancel(workflow=self.name(workflow))).count == len(ending)
        self.model.cancelled.update({workflow} if ending else ())
        self.model.end(ending, "CANCELLED")

    def retry(self, numbers: list[int]) -> None:
        bad = [i for i in dict.fromkeys(numbers) if self.model.state[i] in ENDED - {"SUCCEEDED"}]
        assert self.tasks.do(retry(*map(self.name, numbers))).count == len(bad)
        self.retries.update(bad)
        self.model.retry(bad)

    def retry_workflow(self, workflow: int, all_: bool) -> None:
        again = self.model.of(workflow, ENDED if all_ else ENDED - {"SUCCEEDED"})
        assert self.tasks.do(retry(workflow=self.name(workflow), all_=all_)).count == len(again)
        self.retries.update(again)
        self.model.retry(again)

    def check(self) -> None:
        """Same states; and what is counted in rows is what there is to count."""
        model, rows = self.model, [self.row(i) for i in range(len(self.model.state))]
        states = [task_pb2.TaskState.Name(row.state).removeprefix("TASK_STATE_") for row in rows]
        assert states == model.state
        for workflow in set(model.workflow):
            counted = Counter(state for i, state in enumerate(states) if model.workflow[i] == workflow)
            assert self.tasks.counts(self.name(workflow)) == {k.lower(): v for k, v in counted.items()}
            assert self.tasks.workflow_state(self.name(workflow)) == model.workflow_state(workflow)
        children: Counter[int] = Counter()
        for i, parents in enumerate(model.parents):
            if states[i] not in ENDED:
                children.update(parent for parent, _ in parents)
        assert {i: row.children for i, row in enumerate(rows) if row.children} == children
        assert [row.open for row in rows] == [self.missing(i) for i in range(len(rows))]
        found = self.tasks.machine.queue_counts(rows[0].queue_id)
        assert found.queued + found.blocked == sum(state not in ENDED for state in states)

    def missing(self, i: int) -> int:
        model = self.model
        if model.state[i] != "BLOCKED":
            return 0
        parents = [(model.state[parent], condition) for parent, condition in model.parents[i]]
        any_of = [state for state, condition in parents if condition == ANY]
        count = sum(state not in ENDED for state, condition in parents if condition != ANY)
        return count + ALTERNATIVE * ("SUCCEEDED" not in any_of) * sum(state not in ENDED for state in any_of)


edges = some.lists(some.tuples(some.integers(0, 99), some.sampled_from(CONDITIONS)), max_size=4)
graphs = some.lists(edges, min_size=1, max_size=12)
numbers = some.lists(some.integers(0, 99), min_size=1, max_size=4)
runs = some.tuples(
    some.just("run"), some.lists(some.tuples(some.integers(0, 99), some.booleans()), min_size=1, max_size=5)
)
steps = some.one_of(
    runs,
    runs,
    some.tuples(some.just("submit"), graphs),
    some.tuples(some.just("cancel"), numbers),
    some.tuples(some.just("retry"), numbers),
    some.tuples(some.just("cancel_workflow"), some.integers(0, 99)),
    some.tuples(some.just("retry_workflow"), some.tuples(some.integers(0, 99), some.booleans())),
)


def do(pair: Pair, what: str, how: object) -> None:
    """One step, whose random numbers are brought into range."""
    known = len(pair.model.state)
    workflows = max(1, len(set(pair.model.workflow)))
    match what, how:
        case "submit", list():
            pair.submit(
                [
                    [(i % (known + place), condition) for i, condition in parents] if known + place else []
                    for place, parents in enumerate(how)
                ]
            )
        case "run", list():
            pair.run(how)
        case "cancel" | "retry", list():
            getattr(pair, what)([i % known for i in how])
        case "cancel_workflow", int():
            pair.cancel_workflow(how % workflows)
        case "retry_workflow", (int(workflow), bool(all_)):
            pair.retry_workflow(workflow % workflows, all_)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    shared = Tasks(tmp_path_factory.mktemp("model") / "state")
    yield shared
    shared.machine.close()


runs_begun = count()


@settings(max_examples=150, deadline=None)
@given(graphs, some.lists(steps, max_size=12))
def test_tasks_run_after_their_parents_and_none_is_lost_or_doubled(
    tasks: Tasks, graph: list[list[tuple[int, str]]], program: list[tuple[str, object]]
) -> None:
    pair = Pair(tasks, f"r{next(runs_begun)}")
    do(pair, "submit", graph)
    pair.check()
    for what, how in program:
        do(pair, what, how)
        pair.check()
    while "QUEUED" in pair.model.state:  # to the end: what can run does
        pair.run([(place, True) for place in range(100)])
        pair.check()
    assert ENDED.issuperset(pair.model.state), "a task waits for ever"


def test_what_is_counted_survives_a_restart_and_is_the_same_on_a_node_that_replays_it(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "one")
    pair = Pair(tasks, "r")
    program: list[tuple[str, object]] = [
        (
            "submit",
            [[], [(0, MUST_SUCCEED)], [(0, ANY), (1, MUST_END)], [(2, MUST_SUCCEED)], [(1, ANY), (2, ANY)]],
        ),
        ("run", [(0, True)]),
        ("run", [(0, False)]),
        ("cancel", [3]),
        ("submit", [[(4, ANY), (2, MUST_END)]]),
        ("retry_workflow", (0, False)),
    ]
    for what, how in program:
        do(pair, what, how)
        tasks.follower.restart()
        pair.check()
    other = Follower(tasks.follower.log, tmp_path / "other")
    other.catch_up()
    assert other.machine.fingerprint() == tasks.machine.fingerprint()
    do(pair, "retry", [3])
    assert other.machine.fingerprint() != tasks.machine.fingerprint()
