"""What must hold of tasks in every run, told by what workers did, what clients were told, and what the log says.

The log is the arbiter: the plain model (`command_model.py`) follows what was committed, and everything that a worker
executes, or is told, must agree with it. What a leader proposes is judged by what it can have heard.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from node.state.lanes import demand_of
from node.state.machine import Machine
from raft.records import Entry
from raft.types import COMMAND
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import worker_pb2
from tests.sim.checks import Promises, Violation
from tests.sim.command_model import CommandModel
from tests.sim.task_model import LEASED, ModelTask, Refusal

SLACK_S = 0.02
"""A node counts in milliseconds, and looks now and then."""
MISSED_AFTER_MS = 10_000
RECEIPT_S = 3.0
"""What is not received for so long is given to others."""
UNDER_WAY_S = 10.0
"""A lease that was chosen for a stream is committed within this time, or never."""
LEADERS_OWN = ("TIMEOUT", "RESULT_TOO_LARGE", "CHECKPOINT_TOO_LARGE")
"""Failures that are the leader's to find."""


@dataclass(slots=True)
class Execution:
    """One run of a task by a worker; `how` is what came of it, empty while it lasts."""

    task: str
    instance_id: str
    how: str = ""


@dataclass(slots=True)
class Grant:
    """A committed lease."""

    task: str
    worker_id: str
    instance_id: str
    lease_s: float
    at_s: float
    life: tuple[int, int]
    """Of the task: its number, and how often it was begun anew."""


@dataclass(slots=True)
class Hearing:
    """What one leader has heard of one worker in its term: when, of which instance, since when that has said to hold
    which leases, and what it has said that came of them, and when.
    """

    times_s: list[float]
    instance_id: str = ""
    changed_s: float = 0.0
    """When it last came or went."""
    named: dict[int, float] = field(default_factory=dict)
    outcomes: dict[int, tuple[float, str]] = field(default_factory=dict)

    def silence_s(self, from_s: float, to_s: float) -> float:
        """The longest silence that there was at some moment of this time."""
        later = [at_s for at_s in self.times_s if at_s >= from_s]
        earlier = self.times_s[: len(self.times_s) - len(later)]
        moments = [*earlier[-1:], *later, to_s]
        return max(after - before for before, after in itertools.pairwise(moments))


@dataclass(frozen=True, slots=True)
class Leader:
    """A node in a term, and since when it leads."""

    node_id: str
    term: int
    since_s: float


@dataclass(slots=True)
class FollowingModel(CommandModel):
    """A model that is told by the node that applies an entry what its lanes are: in the log they are numbers."""

    machine: Machine | None = None

    def is_of_lane(self, task: ModelTask, lane_id: int) -> bool:
        assert self.machine is not None
        lane = self.machine.lane(lane_id) if lane_id else None
        return lane is None or lane.demand == demand_of(task.spec)


@dataclass(slots=True)
class TaskPromises(Promises):
    """Everything that was promised of tasks so far."""

    model: FollowingModel = field(default_factory=FollowingModel)
    machine_of: Callable[[str], Machine] = lambda _: _nobody()
    clock: Callable[[], float] = lambda: 0.0
    index: int = 1
    """Of the last entry that the model has followed."""
    grants: dict[int, Grant] = field(default_factory=dict)
    """By lease."""
    executions: dict[int, Execution] = field(default_factory=dict)
    """By lease."""
    completed: dict[tuple[int, int], int] = field(default_factory=dict)
    """By life of a task: the lease whose success was acknowledged."""
    hearings: dict[Leader, dict[str, Hearing]] = field(default_factory=lambda: defaultdict(dict))
    """By worker."""
    sent: set[int] = field(default_factory=set)
    """Leases that are on their way to their workers, or were."""
    tally: Counter[str] = field(default_factory=Counter)

    # What the log says.

    def applies(self, node_id: str, entry: Entry) -> None:
        """The model follows each entry once, when the first node applies it."""
        Promises.applies(self, node_id, entry)
        if entry.index != self.index + 1:
            return
        self.index = entry.index
        self.model.machine = self.machine_of(node_id)
        if entry.kind == COMMAND:
            batch = internal.Batch.FromString(entry.payload)
            for ordinal, command in enumerate(batch.commands):
                answer = self.model.apply((entry.index, ordinal), batch.time_ms, command)
                if command.HasField("fire_schedule") and not isinstance(answer, Refusal):
                    self._fired(command.fire_schedule)
                if command.HasField("lease_tasks"):
                    assert isinstance(answer, list)
                    self._granted(command.lease_tasks, answer)

    def _granted(self, command: internal.LeaseTasks, numbers: list[int]) -> None:
        queues: dict[str, None] = {}
        for number in numbers:
            task = self.model.by_number[number]
            self.grants[task.lease_id] = Grant(
                task=task.name,
                worker_id=command.worker_id,
                instance_id=command.instance_id,
                lease_s=task.lease_ms / 1000,
                at_s=self.clock(),
                life=(task.number, task.lives),
            )
            queues[task.queue] = None
            self.tally["leases in the entry of their tasks"] += bool(command.names)
        for name in queues:
            self._within_limits(name)

    def _within_limits(self, name: str) -> None:
        """C8: no limit is exceeded where leases are given, at this very index."""
        running = self.model.of(name, {LEASED})
        total, per_key = self.model.queues[name].limits(self.model.now_ms)
        if total and len(running) > total:
            raise Violation(f"{name}: {len(running)} tasks run, and at most {total} may")
        for key, count in Counter(task.spec.limit_key for task in running).items():
            if key and per_key and count > per_key:
                raise Violation(f"{name}: {count} tasks of {key} run, and at most {per_key} may")

    def _fired(self, command: internal.FireSchedule) -> None:
        """C9: what comes next is the next tick, so that none is left out without being counted."""
        every_ms = self.model.schedules[command.name].config.interval.ToMilliseconds()
        if command.next_tick_ms != command.tick_ms + max(1, command.count) * every_ms:
            raise Violation(f"a tick was forgotten: {command}")
        self.tally["ticks"] += 1

    def ticks_are_complete(self) -> None:
        """C9: each tick that was fired has one task, and nobody else made such a task."""
        fired = Counter(
            f"tasks/{name.partition('/')[2]}:{tick_ms}"
            for name, schedule in self.model.schedules.items()
            for tick_ms in schedule.fired
        )
        made = Counter(task.name for task in self.model.by_number.values() if ":" in task.name)
        if fired != made:
            raise Violation(f"ticks were fired as {fired}, and became {made}")

    # What leaders hear, and propose.

    def fires(self, now_ms: int, command: internal.FireSchedule) -> None:
        """C9: no tick comes early, and none is missed that is not late."""
        late_ms = now_ms - command.tick_ms
        if late_ms < 0 or (command.missed and late_ms < MISSED_AFTER_MS):
            raise Violation(f"fired {late_ms} ms after its time: {command}")

    def heard(self, now_s: float, leader: Leader, instance_id: str, request: worker_pb2.WorkRequest) -> None:
        """A leader takes what a worker has said."""
        hearing = self._hearing(leader, worker_of(instance_id))
        hearing.times_s.append(now_s)
        match request.WhichOneof("request"):
            case "hello":
                hearing.instance_id, hearing.changed_s = instance_id, now_s
                hearing.named = dict.fromkeys(request.hello.held_lease_ids, now_s)
            case "received":
                for lease_id in request.received.lease_ids:
                    hearing.named.setdefault(lease_id, now_s)
            case "outcomes":
                for outcome in request.outcomes.outcomes:
                    said = now_s, outcome.WhichOneof("kind") or ""
                    hearing.outcomes.setdefault(outcome.lease_id, said)

    def left(self, now_s: float, leader: Leader, instance_id: str) -> None:
        """A leader has lost the stream of a worker."""
        self._hearing(leader, worker_of(instance_id)).changed_s = now_s

    def _hearing(self, leader: Leader, worker_id: str) -> Hearing:
        return self.hearings[leader].setdefault(worker_id, Hearing([leader.since_s]))

    def ends_leases(
        self, since_s: float, now_s: float, leader: Leader, command: internal.SettleTasks
    ) -> None:
        """C2: a leader ends leases only for what it has heard, or when it has heard nothing for long enough.

        It has decided so between `since_s` and now; what it has heard meanwhile may have come too late.
        """
        for lease in command.leases:
            grant = self.grants[lease.lease_id]
            hearing = self._hearing(leader, grant.worker_id)
            said_s, said = hearing.outcomes.get(lease.lease_id, (now_s, ""))
            named_s = hearing.named.get(lease.lease_id, now_s)
            kind = lease.WhichOneof("kind") or ""
            what = kind
            if kind == "lost" and lease.lost.reason == "INSTANCE_REPLACED":
                fair, what = hearing.instance_id not in ("", grant.instance_id), lease.lost.reason
                fair = fair and named_s >= since_s
            elif kind == "lost":
                fair, what = hearing.silence_s(since_s, now_s) > grant.lease_s - SLACK_S, lease.lost.reason
            elif kind == said:
                fair = True
            elif kind == "yield":
                unsent = lease.lease_id not in self.sent
                moved = hearing.changed_s > grant.at_s - UNDER_WAY_S and lease.lease_id not in hearing.named
                late = now_s - grant.at_s > RECEIPT_S - SLACK_S and named_s >= since_s
                fair, what = said_s >= since_s and (unsent or moved or late), "not received"
            elif kind == "failure" and lease.failure.error.reason in LEADERS_OWN:
                fair, what = said_s >= since_s, lease.failure.error.reason
            else:
                fair = False
            if not fair:
                heard = f"heard {hearing.times_s[-3:]}, named {named_s}, said {said} {said_s}, changed {hearing.changed_s}"
                raise Violation(f"{leader} ends a lease without cause at {now_s}: {lease} {grant} {heard}")
            self.tally[f"leases {what}"] += 1

    # What workers do, and are told.

    def assigned(self, instance_id: str, assignment: worker_pb2.Assignment) -> None:
        """C2, C14: what arrives at a worker was leased to it, and was never executed by anyone."""
        lease_id = assignment.lease_id
        grant = self.grants.get(lease_id)
        if grant is None:
            raise Violation(f"{assignment.task.name} is assigned, but lease {lease_id} was never committed")
        if (grant.task, grant.instance_id) != (assignment.task.name, instance_id):
            raise Violation(f"lease {lease_id} is {grant}, and is assigned to {instance_id}")
        if lease_id in self.executions:
            raise Violation(f"lease {lease_id} of {grant.task} is assigned twice")
        self.executions[lease_id] = Execution(grant.task, instance_id)
        self.tally["executions"] += 1

    def fits(self, instance_id: str, credit: int, used: dict[str, float], capacity: dict[str, float]) -> None:
        """C8: a worker is given no more than it asked for and has."""
        if credit < 0:
            raise Violation(f"{instance_id} was given {-credit} tasks more than it asked for")
        if any(value > capacity.get(name, 0) + 1e-9 for name, value in used.items()):
            raise Violation(f"{instance_id} has {capacity}, and its tasks take {used}")

    def ended(self, lease_id: int, how: str) -> None:
        """An execution is over."""
        self.executions[lease_id].how = how

    def answered(self, lease_id: int, outcome: worker_pb2.Outcome, refused: str) -> None:
        """C3: one success per task is acknowledged, and what is acknowledged stands in the log."""
        grant, kind = self.grants[lease_id], outcome.WhichOneof("kind")
        accepted = self.model.accepted.get(lease_id)
        self.tally[f"outcomes {refused or 'acked'}"] += 1
        if refused:
            self.tally["outcomes refused though accepted"] += accepted == kind
        elif accepted != kind:
            raise Violation(f"{outcome} of {grant.task} is acknowledged, the log says {accepted}")
        elif kind == "result" and self.completed.setdefault(grant.life, lease_id) != lease_id:
            raise Violation(f"{grant.task} completed twice: {self.completed[grant.life]} and {lease_id}")

    # What clients are told.

    def acknowledged(self, names: list[str]) -> None:
        """A submit was answered: these tasks are there."""
        known = {task.name for task in self.model.by_number.values()}
        if missing := [name for name in names if name not in known]:
            raise Violation(f"the submit of {missing} was acknowledged, and the log does not have it")


def _nobody() -> Machine:
    raise AssertionError("no world was named")


def worker_of(instance_id: str) -> str:
    """The worker whose instance that is."""
    return instance_id.rpartition(".")[0]
