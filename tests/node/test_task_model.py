"""Tasks in the machine against a plain model, under random commands, crashes, restarts and snapshots."""

import random
from collections import Counter
from pathlib import Path

import pytest

from node.state.machine import Machine
from node.state.results import Cancelled, Granted, Refused, Result, Retried, Settlement, Submitted
from node.state.task_rows import TaskRow
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2
from taskraft.v1.task_pb2 import DEPENDENCY_CONDITION_ENDED, Task, TaskResult
from tests.sim.command_model import CommandModel
from tests.sim.state_log import Follower, MemoryLog, create
from tests.sim.task_commands import RandomTasks
from tests.sim.task_model import (
    BLOCKED,
    CANCELLED,
    DEAD_LETTERED,
    DELAYED,
    EXPIRED,
    FAILED,
    LEASED,
    QUEUED,
    SUCCEEDED,
    ModelTask,
    Refusal,
)

STEP_MS = (0, 1, 5, 20, 150)
STATES = (QUEUED, BLOCKED, DELAYED, LEASED, SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD_LETTERED)


class Pair:
    """A machine and a model that do the same."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice, self.model = random.Random(seed), CommandModel()
        self.log = MemoryLog()
        self.follower = Follower(self.log, folder)
        self.random = RandomTasks(self.dice, self.model)
        self.answers: list[tuple[internal.Command, object, Result]] = []

    def step(self, upheaval: float = 0) -> None:
        """One entry of a few commands, each made from what the ones before have done to the model.

        With upheavals the answers are not looked at, because the model does not know of them.
        """
        time_ms = self.log.time_ms + self.dice.choice(STEP_MS)
        index = self.log.last + 1
        commands: list[internal.Command] = []
        expected: list[object] = []
        self.commands = commands
        for ordinal in range(self.dice.choice((1, 1, 2, 4))):
            command = self.random.command()
            commands.append(internal.Command.FromString(command.SerializeToString()))
            expected.append(self.model.apply((index, ordinal), time_ms, command))
        if self.dice.random() < upheaval:
            commands.append(self.random.upheaval())
        answers = self.follower.do(*commands, time_ms=time_ms)
        if upheaval:
            return
        self.answers += zip(commands, expected, answers, strict=True)
        for command, wanted, got in zip(commands, expected, answers, strict=True):
            assert same_answer(command, wanted, got), (command, wanted, got)

    def check(self) -> None:
        """The machine holds exactly what the model holds, and has no more to do where all was just done."""
        machine, model = self.follower.machine, self.model
        last = self.answers[-1][0]
        if last.HasField("advance_tasks") and not last.request_id:
            due_ms = machine.next_due_ms()
            assert due_ms is None or due_ms > machine.time_ms
        rows, more = machine.tasks_list(looked_at=1 << 20)
        assert not more
        assert {row.name: facts_of(row) for row in rows} == {
            name: facts(t) for name, t in model.tasks.items()
        }
        numbers = [task.number for task in model.tasks.values()]
        checkpoints = {task.number: task.checkpoint for task in model.tasks.values() if task.checkpoint}
        assert machine.checkpoints(numbers) == checkpoints
        results = {
            number: TaskResult.FromString(found).data for number, found in machine.results(numbers).items()
        }
        assert results == {task.number: task.result for task in model.tasks.values() if task.result}
        for name in model.queues:
            self._check_queue(name)
        workflows = {row.name: row.state() for row in machine.workflows()}
        assert workflows == {name: model.workflow_state(name) for name in model.workflows}

    def _check_queue(self, name: str) -> None:
        """Its counts, and the order in which its tasks start, lane by lane."""
        machine = self.follower.machine
        row = machine.queue(name)
        assert row is not None
        counts = Counter(task.state for task in self.model.tasks.values() if task.queue == name)
        assert machine.queue_counts(row.id)[:9] == tuple(counts[state] for state in STATES)
        lanes = [[task.number for task in machine.ready(lane.id, None, -1)] for lane in machine.lanes(row.id)]
        lane_of = {number: place for place, lane in enumerate(lanes) for number in lane}
        expected: list[list[int]] = [[] for _ in lanes]
        for task in self.model.in_order(name):
            expected[lane_of[task.number]].append(task.number)
        if not machine.reordering(row.id):
            assert lanes == expected


def same_answer(command: internal.Command, wanted: object, got: Result) -> bool:
    """Whether the machine has answered what the model says, as far as the model says anything."""
    match got:
        case Refused():
            return isinstance(wanted, Refusal) and str(wanted) == got.reason
        case Submitted(outcomes):
            return wanted == [outcome for _, outcome in outcomes]
        case Granted(skipped):
            return wanted == [n for n in command.lease_tasks.numbers if n not in skipped]
        case Settlement(refused) if command.HasField("settle_tasks"):
            return wanted == [s.lease_id for s in command.settle_tasks.leases if s.lease_id not in refused]
        case Cancelled(count) | Retried(count):
            return wanted == count
    return not isinstance(wanted, Refusal)


def facts(task: ModelTask) -> dict[str, object]:
    """What is compared of a task."""
    return {
        "number": task.number,
        "state": task.state,
        "attempt": task.attempt,
        "priority": task.spec.priority,
        "lease_id": task.lease_id,
        "order_ms": task.order_ms if task.state in (QUEUED, DELAYED) else 0,
        "size_ms": task.size_ms if task.state == QUEUED else 0,
        "end_ms": task.end_ms,
        "checkpoint": bool(task.checkpoint),
    }


def facts_of(row: TaskRow) -> dict[str, object]:
    return {
        "number": row.number,
        "state": row.state,
        "attempt": row.attempt,
        "priority": row.priority,
        "lease_id": row.lease_id,
        "order_ms": row.order_ms if row.state in (QUEUED, DELAYED) else 0,
        "size_ms": row.size_ms if row.state == QUEUED else 0,
        "end_ms": row.end_ms,
        "checkpoint": bool(row.has_checkpoint),
    }


@pytest.mark.parametrize("seed", range(12))
def test_tasks_in_the_machine_do_what_the_plain_model_says(seed: int, tmp_path: Path) -> None:
    pair = Pair(seed, tmp_path / "state")
    for step in range(150):
        pair.step()
        if step % 3 == 0:
            pair.check()
    pair.check()


TABLES = (
    "tasks",
    "task_specs",
    "task_results",
    "task_checkpoints",
    "task_sizes",
    "task_queues",
    "lanes",
    "edges",
    "graves",
    "workflows",
    "schedules",
)


def contents(machine: Machine) -> dict[str, set[tuple[object, ...]]]:
    """Everything that is stored of tasks."""
    machine.commit_now()
    return {table: set(machine._store.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}


def same_due(one: Machine, other: Machine) -> bool:
    """Whether both have something to do at the same time, or now; what they say before a commit is never too late."""
    for machine in (one, other):
        early_ms = machine.next_due_ms()
        machine.commit_now()
        exact_ms = machine.next_due_ms()
        assert exact_ms is None or (early_ms is not None and early_ms <= exact_ms)
    moments = [max(machine.next_due_ms() or 0, machine.time_ms) for machine in (one, other)]
    return moments[0] == moments[1]


@pytest.mark.parametrize("seed", range(10))
def test_machines_with_tasks_that_crash_and_restart_stay_equal_to_one_that_does_not(
    seed: int, tmp_path: Path
) -> None:
    pair = Pair(seed, tmp_path / "calm")
    calm, tried = pair.follower, Follower(MemoryLog(pair.log.entries), tmp_path / "tried")
    dice = random.Random(seed)
    for step in range(200):
        pair.step(upheaval=0.03)
        tried.log.last = pair.log.last
        tried.clock.ms += dice.choice((0, 5, 60))
        tried.catch_up()
        match dice.randrange(20):
            case 0:
                tried.crash()
                tried.catch_up()
            case 1:
                tried.restart()
                assert same_due(tried.machine, calm.machine)
            case 2:
                tried.checkpoint()
            case 3 | 4:
                tried.machine.tasks_list()  # rows are written, and not committed
            case 5 | 6:
                tried.machine.commit_now()
        if step % 10 == 0:
            assert contents(tried.machine) == contents(calm.machine)
            assert tried.machine.fingerprint() == calm.machine.fingerprint()


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_made_from_a_snapshot_of_tasks_goes_on_like_the_one_it_was_taken_of(
    seed: int, tmp_path: Path
) -> None:
    pair = Pair(100 + seed, tmp_path / "source")
    source, copy = pair.follower, Follower(MemoryLog(pair.log.entries), tmp_path / "copy")
    for _ in range(3):
        for _ in range(60):
            pair.step()
        meta = source.machine.snapshot(tmp_path / "snapshot")
        copy.machine.install(tmp_path / "snapshot", meta)
        for _ in range(20):
            pair.step()
        copy.log.last = pair.log.last
        copy.catch_up()

        assert contents(copy.machine) == contents(source.machine)
        assert copy.machine.fingerprint() == source.machine.fingerprint()


def test_the_random_commands_reach_every_answer_and_every_state(tmp_path: Path) -> None:
    states, seen = set(), set()
    for seed in range(2):
        pair = Pair(5 + seed, tmp_path / str(seed))
        for _ in range(200):
            pair.step()
            states |= {task.state for task in pair.model.tasks.values()}
        seen |= {got.reason if isinstance(got, Refused) else type(got).__name__ for _, _, got in pair.answers}

    refusals = {"QUEUE_EXISTS", "QUEUE_NOT_FOUND", "QUEUE_FULL", "UNKNOWN_DEPENDENCY", "CYCLE"}
    refusals |= {"TASK_NOT_FOUND", "WORKFLOW_NOT_FOUND"}
    answers = {"Submitted", "Granted", "Settlement", "Cancelled", "Retried", "Advanced", "QueueResult"}
    assert seen >= answers | refusals, (answers | refusals) - seen
    assert states == set(STATES)


class Family:
    """A parent that has ended, in a queue where nothing else happens, and a child that still waits for another task."""

    def __init__(self, folder: Path, *, late: bool, **settings: int) -> None:
        """`late`: the child comes when its parent has ended."""
        self.follower = Follower(MemoryLog(), folder)
        quiet = queue_pb2.Scheduling(**settings)  # type: ignore[arg-type]
        quiet.retain_failed.FromMilliseconds(200)
        self.do(create("queues/quiet", kind=queue_pb2.QUEUE_KIND_TASK, scheduling=quiet))
        self.do(create("queues/other", kind=queue_pb2.QUEUE_KIND_TASK))
        parents = [f"tasks/parent{number}" for number in range(2)]
        self.submit(*(Task(name=name, queue="queues/quiet", type="t") for name in parents))
        self.submit(Task(name="tasks/slow", queue="queues/other", type="t"))
        if late:
            self.do(internal.Command(cancel_tasks=internal.CancelTasks(names=parents)))
            assert self.due_ms > 0
        child = Task(name="tasks/child", queue="queues/other", type="t")
        for name in (*parents, "tasks/slow"):
            child.dependencies.add(task=name, condition=DEPENDENCY_CONDITION_ENDED)
        self.submit(child)
        if not late:
            self.do(internal.Command(cancel_tasks=internal.CancelTasks(names=parents)))

    def do(self, command: internal.Command) -> Result:
        return self.follower.one(command)

    def submit(self, *tasks: Task) -> None:
        self.do(internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks)))

    def advance(self, after_ms: int) -> None:
        self.follower.log.time_ms += after_ms
        self.do(internal.Command(advance_tasks=internal.AdvanceTasks(limit=100)))

    @property
    def due_ms(self) -> int:
        """How long until there is something to do, as far as that is known."""
        due_ms = self.follower.machine.next_due_ms()
        assert due_ms is not None
        return due_ms - self.follower.machine.time_ms


@pytest.mark.parametrize("settings", [{}, {"max_ended": 1}], ids=["by time", "by number"])
def test_nothing_is_due_while_what_is_to_be_forgotten_is_needed(
    settings: dict[str, int], tmp_path: Path
) -> None:
    family = Family(tmp_path / "state", late=True, **settings)

    for _ in range(3):
        family.advance(after_ms=1_500)
        assert family.due_ms > 0
    assert family.follower.machine.task("tasks/parent0") is not None


def test_what_is_needed_no_more_is_forgotten_whether_the_node_was_restarted_or_not(tmp_path: Path) -> None:
    family = Family(tmp_path / "state", late=False)
    family.advance(after_ms=1_500)
    family.do(internal.Command(cancel_tasks=internal.CancelTasks(names=["tasks/child"])))

    due_ms = family.due_ms
    family.follower.restart()
    assert due_ms <= 0
    assert family.due_ms == due_ms
    family.advance(after_ms=1)
    assert family.follower.machine.task("tasks/parent0") is None
