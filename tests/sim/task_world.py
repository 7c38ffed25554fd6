"""A simulated cluster that runs tasks: the real scheduler on the real state machine, with simulated workers and clients."""

from collections import deque
from collections.abc import Callable
from typing import Any

from node import commands, limits
from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import CommitUnknown, NotLeader, Refusal
from node.state.machine import Machine
from node.state.results import Refused, Result
from node.tasks.firing import Firing
from node.tasks.scheduler import Scheduler
from raft.errors import RaftError
from taskraft.internal.v1 import command_pb2 as internal
from tests.sim.checks import Violation
from tests.sim.lines import SimLine
from tests.sim.machine import MachineStore
from tests.sim.node import SimNode
from tests.sim.task_checks import Leader, TaskPromises
from tests.sim.task_order import Waiters
from tests.sim.workers import Profile, SimWorker
from tests.sim.world import World

Told = Callable[[Result | None], None]
"""What a command answered; None: it may have been done or not."""


class TaskStore(MachineStore):
    """The state machine of a node that leads now and then."""

    compare_each = 23

    @property
    def machine(self) -> Machine:
        assert self._machine is not None
        return self._machine


class FrontDesk:
    """Gathers commands into entries, as `node/broker.py` does, without an event loop."""

    def __init__(self, node: "TaskNode") -> None:
        self._node = node
        self._waiting: deque[tuple[Command, Told]] = deque()
        self._entries = 0
        self.woken = False

    def submit(self, command: internal.Command, told: Told) -> None:
        idle = not self._waiting and not self._entries and not self.woken
        self._waiting.append((commands.plain(command), told))
        if idle and command.HasField("submit_tasks") and self._node.scheduler is not None:
            foreseen = self._node.scheduler.foresight.leases(command.submit_tasks.tasks)
            self._waiting.extend((made, self._told(answer)) for made, answer in foreseen)

    def make_entries(self) -> None:
        while self._entries < limits.ENTRIES_IN_FLIGHT_MAX and (self._waiting or self.woken):
            self.woken = False
            batch: list[tuple[Command, Told]] = []
            for command, answer in self._node.own_commands():
                batch.append((command, self._told(answer)))
            while self._waiting and len(batch) < limits.ENTRY_COMMANDS_SOFT:
                batch.append(self._waiting.popleft())
            if batch:
                self._propose(batch)

    @staticmethod
    def _told(answer: Answer) -> Told:
        """Callers are told in a later turn, as futures do, when the node knows that it does not lead any more."""

        def told(result: Result | None) -> None:
            if result is None:
                answer(CommitUnknown())
            elif isinstance(result, Refused):
                answer(Refusal(result.code, result.reason, result.message, result.metadata))
            else:
                answer(None)

        return told

    def _propose(self, batch: list[tuple[Command, Told]]) -> None:
        node = self._node
        self._entries += 1
        payload = commands.batch(node.wall_ms(), [command for command, _ in batch])

        def done(results: Any, error: Exception | None) -> None:
            assert error is None or isinstance(error, RaftError)
            node.later(0.0, lambda: tell(results, error))

        def tell(results: Any, error: Exception | None) -> None:
            self._entries -= 1
            for place, (_, told) in enumerate(batch):
                told(None if error is not None else results[place])

        assert node.core is not None
        node.core.propose(payload, done)


class TaskNode(SimNode):
    """A node that serves workers while it leads. Its wall clock may be wrong, its monotonic one is not."""

    world: "TaskWorld"
    store: TaskStore

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.scheduler: Scheduler | None = None
        self.firing: Firing | None = None
        self.desk: FrontDesk | None = None
        self.lines: list[SimLine] = []
        self._touched = True
        self._due_ms: int | None = None
        self.wrong_ms = 0
        self.leader = Leader(self.id, 0, 0.0)
        self._asked_s = (
            0.0  # when its scheduler was last asked for commands: what it offers now, it has decided since
        )

    @property
    def machine(self) -> Machine:
        return self.store.machine

    def now_ms(self) -> int:
        return int(self.world.now * 1000)

    def wall_ms(self) -> int:
        return self.now_ms() + self.wrong_ms

    def start(self) -> bool:
        if not super().start():
            return False
        self.desk = FrontDesk(self)
        self.scheduler = Scheduler(
            self.machine,
            clock=Clock(self.now_ms, self.wall_ms),
            touch=self._touch,
            wake=self._wake,
            not_leader=NotLeader,
        )
        self.firing = Firing(
            self.machine, clock=Clock(self.now_ms, self.wall_ms), touch=self._touch, wake=self._wake
        )
        self.waiters = Waiters(self.machine)
        self.waiters.fill()
        self.machine.listeners += [self.waiters, self.scheduler, self.firing]
        return True

    def crash(self, *, power_loss: bool, torn: bool = True) -> None:
        super().crash(power_loss=power_loss, torn=torn)
        self.scheduler = self.firing = self.desk = None
        lines, self.lines = self.lines, []
        for line in lines:
            line.died()

    def lead(self, term: int) -> None:
        super().lead(term)
        self.leader = Leader(self.id, term, self.world.now)
        self.waiters.lead()
        for part in (self.scheduler, self.firing):
            assert part is not None
            part.lead(term)

    def follow(self) -> None:
        for part in (self.firing, self.scheduler):
            if part is not None and part.term is not None:
                part.follow()

    def _touch(self) -> None:
        self._touched = True

    def _wake(self) -> None:
        assert self.desk is not None
        self.desk.woken = True

    def _pump(self) -> None:
        if self.scheduler is not None:
            self.waiters.now_s = self.world.now
        super()._pump()
        for _ in range(20):
            if self.core is None or self.scheduler is None or self.firing is None or self.desk is None:
                return
            if self._touched or (self._due_ms is not None and self.now_ms() >= self._due_ms):
                self._touched = False
                due = [self.scheduler.pump(), self.firing.pump()]
                self._due_ms = min((ms for ms in due if ms is not None), default=None)
            self.desk.make_entries()
            for line in list(self.lines):
                line.flush()
            super()._pump()
            if not self._touched and not self._kicked:
                return

    def own_commands(self) -> list[tuple[Command, Answer]]:
        """What this leader has for the log, shown to the checkers."""
        assert self.scheduler is not None
        assert self.firing is not None
        found = [*self.scheduler.commands(), *self.firing.commands()]
        leases: list[internal.LeaseTasks] = []
        for place, (made, answer) in enumerate(found):
            command = internal.Command.FromString(b"".join(made.parts))
            if command.HasField("settle_tasks"):
                self.world.tasks.ends_leases(self._asked_s, self.world.now, self.leader, command.settle_tasks)
            if command.HasField("lease_tasks"):
                leases.append(command.lease_tasks)
                found[place] = made, self._leasing(command.lease_tasks, answer)
            if command.HasField("fire_schedule"):
                self.world.tasks.fires(max(self.wall_ms(), self.machine.time_ms), command.fire_schedule)
        for lease in leases:
            self.waiters.check(self._asked_s, lease, self.world.workers[lease.worker_id].profile)
        self.waiters.check_pace(self._asked_s, leases)
        self._asked_s = self.world.now
        return found

    def _leasing(self, command: internal.LeaseTasks, answer: Answer) -> Answer:
        """Leases are about to be given: the answer that also says that this is over."""
        waiters, numbers = self.waiters, set(command.numbers)
        waiters.leasing |= numbers

        def told(error: BaseException | None) -> None:
            waiters.leasing -= numbers
            answer(error)

        return told


class TaskWorld(World):
    """A cluster, its workers, and everything that was promised of tasks."""

    node_class = TaskNode
    promises_class = TaskPromises
    nodes: dict[str, TaskNode]  # type: ignore[assignment]

    def __init__(self, seed: int, **options: Any) -> None:
        self.workers: dict[str, SimWorker] = {}
        self.cut_lines: set[tuple[str, str]] = set()
        super().__init__(seed, store_class=TaskStore, **options)
        self.tasks.machine_of = lambda node_id: self.nodes[node_id].machine
        self.tasks.clock = lambda: self.now
        if seed % 4 == 0:
            for node in self.nodes.values():
                node.wrong_ms = self.dice.choice((-3000, 0, 0, 2000))

    @property
    def tasks(self) -> TaskPromises:
        assert isinstance(self.promises, TaskPromises)
        return self.promises

    def add_worker(self, name: str, profile: Profile) -> None:
        self.workers[name] = SimWorker(self, name, profile)
        self.workers[name].start()

    def line_delay_s(self) -> float:
        delay_s = self.dice.uniform(0.0003, 0.004)
        return delay_s + (self.dice.uniform(0, 0.3) if self.dice.random() < 0.01 else 0)

    def dial(self, worker: SimWorker) -> SimLine:
        """A stream to the leader, if the worker guesses right."""
        leader = self.leader()
        guess = leader if leader is not None and self.dice.random() < 0.8 else None
        node = guess or self.dice.choice(list(self.nodes.values()))
        assert isinstance(node, TaskNode)
        line = SimLine(self, worker, node)
        if not node.up:
            self.at(0.002, line.died)
        return line

    def submit(self, command: internal.Command, told: Told) -> bool:
        """Hand a client's command to whoever thinks that it leads; False if nobody does."""
        leaders = [n for n in self.nodes.values() if n.core is not None and n.core.leading is not None]
        if not leaders:
            return False
        node = self.dice.choice(leaders)
        life = node.life

        def arrive() -> None:
            if node.desk is not None:
                node.desk.submit(command, told)

        self.at(self.line_delay_s(), lambda: node.run(arrive, life))
        return True

    def agree(self) -> None:
        """Every node holds what the log says."""
        model = self.tasks.model
        tasks = {task.name: (task.state, task.attempt) for task in model.tasks.values()}
        ticks = {name: schedule.counts() for name, schedule in model.schedules.items()}
        for member in self.members():
            machine = self.nodes[member.id].machine
            rows, _ = machine.tasks_list(looked_at=1 << 20)
            if {row.name: (row.state, row.attempt) for row in rows} != tasks:
                raise Violation(f"{member.id} has other tasks than the log")
            if {row.name: (row.fired, row.overlapped, row.missed) for row in machine.schedules()} != ticks:
                raise Violation(f"{member.id} has fired other ticks than the log")
