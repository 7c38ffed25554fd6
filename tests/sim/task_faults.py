"""What goes wrong while tasks run: to nodes and disks as ever, and to workers and their streams; and who asks for what."""

from dataclasses import dataclass

from tests.sim.checks import Violation
from tests.sim.faults import Faults, Rates
from tests.sim.task_clients import QUEUES, TYPES, Clients
from tests.sim.task_model import ENDED
from tests.sim.task_world import TaskNode, TaskWorld
from tests.sim.workers import Profile

TICK_LATE_MS = 2_000
DRAIN_S = 20.0
"""Without faults, all tasks have ended by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRates(Rates):
    """Chances per step of 10 ms, of a node's faults, of a worker's, and of calls."""

    crash: float = 0.004
    propose: float = 0.0
    read: float = 0.0
    kill_worker: float = 0.004
    start_worker: float = 0.03
    pause_worker: float = 0.004
    resume_worker: float = 0.01
    cut_line: float = 0.006
    heal_lines: float = 0.02
    drain: float = 0.001
    submit: float = 0.06
    workflow: float = 0.008
    cancel: float = 0.01
    retry: float = 0.02
    change: float = 0.003
    schedule: float = 0.004


class TaskFaults(Faults):
    """Called every step of a world of tasks."""

    world: TaskWorld
    rates: TaskRates

    def __init__(self, world: TaskWorld, rates: TaskRates | None = None) -> None:
        super().__init__(world, rates or TaskRates())
        self.clients = Clients(world)

    def step(self) -> None:
        super().step()
        self._workers()
        self._lines()
        self._calls()

    def _workers(self) -> None:
        rates, dice = self.rates, self.world.dice
        for worker in self.world.workers.values():
            if not worker.up:
                if self._chance(rates.start_worker):
                    worker.start()
            elif worker.paused is not None:
                if self._chance(rates.resume_worker):
                    worker.resume()
            elif self._chance(rates.kill_worker / 3):
                self.world.counts["workers killed"] += 1
                worker.kill()
            elif self._chance(rates.pause_worker / 3):
                self.world.counts["workers paused"] += 1
                worker.pause()
            elif self._chance(rates.drain / 3):
                self.world.counts["workers drained"] += 1
                worker.drain()
        if dice.random() < rates.hand_over:
            pass

    def _lines(self) -> None:
        world = self.world
        if self._chance(self.rates.heal_lines):
            world.cut_lines.clear()
        if self._chance(self.rates.cut_line):
            world.counts["lines cut"] += 1
            worker = world.dice.choice(list(world.workers))
            ways = world.dice.choice((1, 2, 3))
            for node in world.nodes:
                world.cut_lines |= {(worker, node)} if ways & 1 else set()
                world.cut_lines |= {(node, worker)} if ways & 2 else set()

    def _calls(self) -> None:
        rates, clients = self.rates, self.clients
        for rate, call in (
            (rates.submit, clients.submit),
            (rates.workflow, clients.workflow),
            (rates.cancel, clients.cancel),
            (rates.retry, clients.retry),
            (rates.change, clients.change),
            (rates.schedule, clients.schedule),
            (rates.schedule, clients.change_schedule),
            (rates.schedule, clients.trigger),
        ):
            if self._chance(rate):
                call()


def people(world: TaskWorld) -> None:
    """The workers of a run: one that can do everything, and others."""
    dice = world.dice
    world.add_worker(
        "w1", Profile(queues=tuple(QUEUES), labels={"zone": "a"}, capacity={"cpu": 4.0}, slots=4)
    )
    world.add_worker("w2", Profile(queues=tuple(QUEUES), types=TYPES[:1], capacity={"cpu": 2.0}, slots=3))
    some = tuple(dice.sample(list(QUEUES), 3))
    world.add_worker("w3", Profile(queues=some, capacity={"cpu": 8.0}, slots=6, run_s=(0.05, 1.5)))


def simulate(
    world: TaskWorld,
    seconds: float,
    rates: TaskRates | None = None,
    faults_class: type[TaskFaults] = TaskFaults,
) -> None:
    """One run: faults for `seconds`, then calm, in which all work ends, then the last checks."""
    faults = faults_class(world, rates)
    faults.clients.found()
    world.run(2.0)
    people(world)
    world.run(seconds, faults.step)
    calm(world, faults.clients)
    world.converge()
    world.agree()
    world.tasks.ticks_are_complete()
    world.counts += world.tasks.tally


def check_schedules(world: TaskWorld) -> None:
    """C12: no tick waits for longer than its jitter and the patience of a leader that was refused."""
    leader = world.leader()
    assert isinstance(leader, TaskNode)
    for name, schedule in world.tasks.model.schedules.items():
        late_ms = leader.wall_ms() - schedule.next_ms
        if not schedule.config.paused and schedule.next_ms and late_ms > TICK_LATE_MS:
            raise Violation(f"{name} ticks late: {schedule.next_ms}, it is {leader.wall_ms()}")


def calm(world: TaskWorld, clients: Clients) -> None:
    """C12: when faults stop, every call is answered, and every task comes to an end.

    One worker is enough for that. Others that are dead or paused stay so, and what they hold goes to that one.
    """
    world.heal()
    world.cut_lines.clear()
    able = world.workers["w1"]
    if able.paused is not None:
        able.resume()
    world.run(2.5)
    check_schedules(world)
    clients.pause_schedules()
    clients.unpause()
    deadline = world.now + DRAIN_S
    while open_tasks := [t for t in world.tasks.model.tasks.values() if t.state not in ENDED] or clients.open:
        if world.now > deadline:
            raise Violation(f"after {DRAIN_S} s of calm not done: {list(open_tasks)[:5]}")
        if not able.up:  # killed before, or drained since
            able.start()
        world.run(0.25)
