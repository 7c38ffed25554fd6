"""Simulated workers: they speak the worker's side of the Work stream, and are as unreliable as machines are.

A worker is told by the world that time has passed, that its stream has brought something, or that its stream is gone.
Everything that it executes, and everything that it is told, goes to the checkers (`tests/sim/task_checks.py`).
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from taskraft.v1 import worker_pb2
from tests.sim.task_checks import TaskPromises

PATIENCE_S = 0.6
"""Silence after which a worker gives its stream up; heartbeats are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a worker is, and how its tasks go."""

    queues: tuple[str, ...]
    types: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    capacity: dict[str, float] = field(default_factory=dict)
    slots: int = 4
    run_s: tuple[float, float] = (0.01, 0.3)
    failing: float = 0.08
    hopeless: float = 0.01
    deaf: float = 0.05
    """Tasks that do not react to a revocation before their end."""


class Line(Protocol):
    """The worker's end of a stream. What is said on a broken one is lost."""

    def say(self, request: worker_pb2.WorkRequest) -> None: ...
    def hang_up(self) -> None: ...


class Surroundings(Protocol):
    """What a worker needs of its world."""

    dice: random.Random
    now: float

    @property
    def tasks(self) -> TaskPromises: ...
    def at(self, delay_s: float, event: Callable[[], None]) -> None: ...
    def dial(self, worker: "SimWorker") -> Line: ...


@dataclass(slots=True)
class Run:
    """One execution."""

    task: str
    lease_id: int
    resources: dict[str, float]
    checkpoint: bytes
    revoked: int = worker_pb2.REVOKE_REASON_UNSPECIFIED
    deaf: bool = False


class SimWorker:
    """A worker that can be started, killed, paused, cut off and drained. Invariant: a run has no outcome yet."""

    def __init__(self, world: Surroundings, name: str, profile: Profile) -> None:
        self.world, self.name, self.profile = world, name, profile
        self.instance = 0
        self.up = False
        self.draining = False
        self.paused: list[Callable[[], None]] | None = None
        self.runs: dict[int, Run] = {}
        self.outcomes: dict[int, worker_pb2.Outcome] = {}
        """Those that were not answered yet."""
        self._line: Line | None = None
        self._welcome = False
        self._credit = 0
        self._heard_s = 0.0
        self._beats = 0

    @property
    def instance_id(self) -> str:
        return f"{self.name}.{self.instance}"

    # Life and death.

    def start(self) -> None:
        assert not self.up
        self.up, self.draining, self.instance = True, False, self.instance + 1
        self.later(self.world.dice.uniform(0, 0.05), self._connect)
        self.later(0.02, self._beat)

    def kill(self) -> None:
        """The process is gone with all that it held."""
        self.up, self.paused = False, None
        for lease_id in self.runs:
            self.world.tasks.ended(lease_id, "killed")
        self.runs.clear()
        self.outcomes.clear()
        self._drop()

    def pause(self) -> None:
        self.paused = []

    def resume(self) -> None:
        waiting, self.paused = self.paused or [], None
        for event in waiting:
            event()

    def drain(self) -> None:
        """Take nothing more; end when nothing is held any more."""
        self.draining = True
        self._say(drain=worker_pb2.WorkerDrain())

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        instance = self.instance
        self.world.at(delay_s, lambda: self.run(event, instance))

    def run(self, event: Callable[[], None], instance: int) -> None:
        """An event of this instance: not after its death, not while it is paused."""
        if not self.up or instance != self.instance:
            return
        if self.paused is not None:
            self.paused.append(lambda: self.run(event, instance))
            return
        event()

    # The stream.

    def _connect(self) -> None:
        if self._line is None:
            self._welcome, self._credit = False, 0
            self._heard_s = self.world.now
            self._line = self.world.dial(self)
            hello = worker_pb2.Hello(
                worker_id=self.name,
                instance_id=self.instance_id,
                queues=self.profile.queues,
                types=self.profile.types,
                labels=self.profile.labels,
                capacity=self.profile.capacity,
                protocol_version=1,
                held_lease_ids=[*self.runs, *self.outcomes],
                slots=self.profile.slots,
            )
            self._say(hello=hello)

    def cut(self, line: Line) -> None:
        """The stream is broken, and the worker has noticed."""
        if line is self._line:
            self._drop()
            self.later(self.world.dice.uniform(0.01, 0.1), self._connect)

    def _drop(self) -> None:
        if self._line is not None:
            self._line.hang_up()
            self._line = None

    def _say(self, **request: object) -> None:
        if self._line is not None:
            self._line.say(worker_pb2.WorkRequest(**request))  # type: ignore[arg-type]

    def _beat(self) -> None:
        """Heartbeats; a silent stream is given up; a drained worker ends and comes back."""
        if self._line is not None and self.world.now - self._heard_s > PATIENCE_S:
            self.cut(self._line)
        elif self._welcome:
            self._beats += 1
            load = len(self.runs) / self.profile.slots
            self._say(heartbeat=worker_pb2.Heartbeat(sequence=self._beats, load=load))
        if self.draining and not self.runs and not self.outcomes:
            self.kill()
        self.later(0.15, self._beat)

    def heard(self, line: Line, response: worker_pb2.WorkResponse) -> None:
        """The stream has brought something."""
        if line is not self._line:
            return
        self._heard_s = self.world.now
        match response.WhichOneof("response"):
            case "welcome":
                self._welcomed(response.welcome)
            case "assign":
                self._assigned(response.assign)
            case "revoke":
                for lease_id in response.revoke.lease_ids:
                    self._revoked(lease_id, response.revoke.reason)
            case "acked":
                self._answered(response.acked.lease_ids, "")
            case "rejected":
                self._answered(response.rejected.lease_ids, response.rejected.reason)
            case "drain":
                self.drain()
            case "reconnect":
                self.cut(line)

    def _welcomed(self, welcome: worker_pb2.Welcome) -> None:
        self._welcome = True
        held = set(welcome.held_lease_ids)
        assert held <= self.runs.keys() | self.outcomes.keys()
        for lease_id in self.runs.keys() - held:
            del self.runs[lease_id]
            self.world.tasks.ended(lease_id, "stopped")
        for lease_id in self.outcomes.keys() - held:
            self._tell([self.outcomes[lease_id]])  # to be refused
        self._tell([self.outcomes[lease_id] for lease_id in self.outcomes.keys() & held])
        if self.draining:
            self._say(drain=worker_pb2.WorkerDrain())
        else:
            self._grant(max(0, self.profile.slots - len(self.runs)))

    def _grant(self, tasks: int) -> None:
        if tasks and self._welcome and not self.draining:
            self._credit += tasks
            self._say(credit=worker_pb2.WorkCredit(tasks=tasks))

    # Tasks.

    def _assigned(self, assign: worker_pb2.Assign) -> None:
        for assignment in assign.assignments:
            self._credit -= 1
            resources = dict(assignment.task.resources)
            run = Run(assignment.task.name, assignment.lease_id, resources, assignment.checkpoint)
            run.deaf = self.world.dice.random() < self.profile.deaf
            self.world.tasks.assigned(self.instance_id, assignment)
            self.runs[run.lease_id] = run
            self.world.tasks.fits(self.instance_id, self._credit, self._used(), self.profile.capacity)
            self.later(self.world.dice.uniform(*self.profile.run_s), lambda run=run: self._finish(run))  # type: ignore[misc]
        self._say(received=worker_pb2.Received(lease_ids=[each.lease_id for each in assign.assignments]))

    def _used(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for run in self.runs.values():
            for name, quantity in run.resources.items():
                used[name] = used.get(name, 0) + quantity
        return used

    def _finish(self, run: Run) -> None:
        if self.runs.get(run.lease_id) is not run:
            return
        outcome = worker_pb2.Outcome(lease_id=run.lease_id)
        luck = self.world.dice.random()
        if luck < self.profile.hopeless:
            outcome.failure.permanent = True
            outcome.failure.error.reason = "Hopeless"
        elif luck < self.profile.failing:
            outcome.failure.error.reason = "Unlucky"
        else:
            outcome.result.data = f"{run.task} {run.lease_id}".encode()
        self._conclude(run, outcome)

    def _revoked(self, lease_id: int, reason: int) -> None:
        run = self.runs.get(lease_id)
        if run is None or run.deaf:
            return
        run.revoked = reason
        self.later(self.world.dice.uniform(0, 0.03), lambda: self._give_up(run))

    def _give_up(self, run: Run) -> None:
        if self.runs.get(run.lease_id) is not run:
            return
        outcome = worker_pb2.Outcome(lease_id=run.lease_id)
        if run.revoked in (worker_pb2.REVOKE_REASON_CANCELLED, worker_pb2.REVOKE_REASON_TIMEOUT):
            outcome.failure.error.reason = "Stopped"
        else:
            given = getattr(outcome, "yield")
            given.reason = run.revoked
            given.checkpoint = run.checkpoint + b"."
        self._conclude(run, outcome)

    def _conclude(self, run: Run, outcome: worker_pb2.Outcome) -> None:
        kind = outcome.WhichOneof("kind") or ""
        self.world.tasks.ended(run.lease_id, kind)
        self.outcomes[run.lease_id] = outcome
        del self.runs[run.lease_id]
        self._tell([outcome])
        self._grant(1)

    def _tell(self, outcomes: list[worker_pb2.Outcome]) -> None:
        if outcomes and self._welcome:
            self._say(outcomes=worker_pb2.Outcomes(outcomes=outcomes))

    def _answered(self, lease_ids: Iterable[int], refused: str) -> None:
        for lease_id in lease_ids:
            outcome = self.outcomes.pop(lease_id, None)
            if outcome is not None:
                self.world.tasks.answered(lease_id, outcome, refused)
