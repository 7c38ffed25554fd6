"""A simulated cluster that grants locks: the real keeper, calls and keepalives on the real state machine."""

import itertools
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import ApiError, NotLeader
from node.locks.calls import Call, Calls, Outcome
from node.locks.keepalive import KeepAlive, Stream
from node.locks.keeper import Keeper
from node.state.listener import Silence
from node.state.lock_rows import ClaimRow
from node.state.results import Claimed, Refused, Result
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import lock_pb2
from tests.sim.checks import Violation
from tests.sim.lock_checks import LockPromises
from tests.sim.node import SimNode
from tests.sim.task_world import FrontDesk, TaskStore
from tests.sim.world import World

Told = Callable[[Any], None]


class Pause:
    """What a coroutine waits for, without an event loop."""

    def __await__(self) -> Generator["Pause", bool, bool]:
        return (yield self)


class Watching(Silence):
    """Shows the checkers what a node applies."""

    def __init__(self, node: "LockNode") -> None:
        self._node = node

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        world = self._node.world
        world.locks.claim_changed(world.now, claim)


@dataclass(slots=True)
class Asking:
    """A call to AcquireLock at a node, until it is answered or its client is gone."""

    told: Told
    lock: str
    call: Call | None = None
    life: int = 0
    """Of the node, when the call began to wait."""
    over: bool = False


class LockNode(SimNode):
    """A node that serves clients of locks while it leads."""

    world: "LockWorld"
    store: TaskStore

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.keeper: Keeper | None = None
        self.scheduler = None
        self._touched = True
        self._due_ms: int | None = None

    def now_ms(self) -> int:
        return int(self.world.now * 1000)

    def wall_ms(self) -> int:
        return self.now_ms() + self.world.wrong_ms[self.id]

    def start(self) -> bool:
        if not super().start():
            return False
        machine, clock = self.store.machine, Clock(self.now_ms, self.wall_ms)
        self.desk = FrontDesk(self)  # type: ignore[arg-type]
        self.keeper = Keeper(machine, clock=clock, touch=self._touch, wake=self._wake)
        self.calls = Calls(self.keeper, not_leader=NotLeader)
        self.keepalive = KeepAlive(self.keeper, self._passed, clock=clock, not_leader=NotLeader)
        self.stream = Stream()
        machine.listeners += [Watching(self), self.keeper, self.calls, self.keepalive]
        return True

    def crash(self, *, power_loss: bool, torn: bool = True) -> None:
        super().crash(power_loss=power_loss, torn=torn)
        self.keeper = None

    def lead(self, term: int) -> None:
        super().lead(term)
        assert self.keeper is not None
        for part in (self.keeper, self.calls, self.keepalive):
            part.lead(term)

    def follow(self) -> None:
        if self.keeper is not None and self.keeper.term is not None:
            for part in (self.keepalive, self.calls, self.keeper):
                part.follow()

    def _touch(self) -> None:
        self._touched = True

    def _wake(self) -> None:
        self.desk.woken = True

    def _pump(self) -> None:
        super()._pump()
        for _ in range(20):
            if self.core is None or self.keeper is None:
                return
            if self._touched or (self._due_ms is not None and self.now_ms() >= self._due_ms):
                self._touched = False
                self._due_ms = self.keeper.pump()
            self.desk.make_entries()
            super()._pump()
            if not self._touched and not self._kicked:
                return

    def own_commands(self) -> list[tuple[Command, Answer]]:
        assert self.keeper is not None
        return list(self.keeper.commands())

    # Calls.

    def acquire(self, command: internal.Command, asking: Asking) -> None:
        """AcquireLock arrives."""

        def claimed(result: Result | None) -> None:
            if asking.over:
                return
            if isinstance(result, Claimed) and self.keeper is not None:
                self._wait(result.number, asking)
            else:
                asking.told(result.reason if isinstance(result, Refused) else "unknown")

        if self.keeper is None or self.keeper.term is None:
            asking.told("not leader")
        else:
            self.desk.submit(command, claimed)

    def _wait(self, number: int, asking: Asking) -> None:
        def told(outcome: Outcome) -> None:
            self.later(0.0, lambda: answer(outcome))

        def answer(outcome: Outcome) -> None:
            """As the task of a call that has waited does when it goes on, if it was not cancelled meanwhile."""
            if asking.over:
                return
            asking.over = True
            assert asking.call is not None
            if not isinstance(outcome, ApiError):
                self.calls.answered(asking.call)
            self.calls.leave(asking.call)
            asking.told(outcome.token if isinstance(outcome, ClaimRow) else "ended")

        try:
            asking.life = self.life
            asking.call = self.calls.join(asking.lock, number, told)
        except ApiError:
            asking.over = True
            asking.told("ended")

    def hang_up(self, asking: Asking) -> None:
        """The client of a call is gone."""
        if not asking.over:
            asking.over = True
            if asking.call is not None and asking.life == self.life:
                self.calls.leave(asking.call)

    def release(self, command: internal.Command, told: Told) -> None:
        """ReleaseLock arrives."""
        if self.keeper is None or self.keeper.term is None:
            told("not leader")
        else:
            self.desk.submit(command, lambda result: told("unknown" if result is None else "done"))

    def keep(self, lock: str, token: int, told: Told) -> None:
        """A keepalive arrives; without a barrier that passes there is no answer."""
        if self.keeper is None or self.keeper.term is None:
            return
        self._resume(self.keepalive.keep(self.stream, 1, [(lock, token)]), told, None)

    async def _passed(self) -> None:
        if not await Pause():
            raise NotLeader

    def _resume(
        self, keeping: Coroutine[Any, Any, lock_pb2.KeepAliveLockResponse], told: Told, passed: bool | None
    ) -> None:
        """Let a keepalive go on, up to its barrier, or from there."""
        try:
            keeping.send(passed)
        except StopIteration as answer:
            told(bool(answer.value.kept))
            return
        except NotLeader:
            return
        assert self.core is not None
        if self.core.leading is None:
            keeping.close()
            return
        self.core.leading.read(lambda index: self._resume(keeping, told, index is not None))


class LockWorld(World):
    """A cluster, its clients, and everything that was promised of locks."""

    node_class = LockNode
    promises_class = LockPromises
    nodes: dict[str, LockNode]  # type: ignore[assignment]

    def __init__(self, seed: int, **options: Any) -> None:
        self.wrong_ms: dict[str, int] = {}
        self.requests = itertools.count()
        self.cut_lines: set[tuple[str, str]] = set()
        self.islands: dict[str, tuple[str, float]] = {}
        """Clients that reach one node only, and until when."""
        super().__init__(seed, store_class=TaskStore, **options)

    def add_node(self, member: Any, founders: Any, *, join: bool) -> None:
        self.wrong_ms[member.id] = self.dice.choice((-3000, 0, 0, 2000))
        super().add_node(member, founders, join=join)

    @property
    def locks(self) -> LockPromises:
        assert isinstance(self.promises, LockPromises)
        return self.promises

    def is_cut(self, sender: str, receiver: str) -> bool:
        """Whether nothing travels from there to there: a client and a node."""
        for client, node in ((sender, receiver), (receiver, sender)):
            island, until_s = self.islands.get(client, (node, 0.0))
            if node != island and self.now < until_s:
                return True
        return (sender, receiver) in self.cut_lines

    def line_delay_s(self) -> float:
        delay_s = self.dice.uniform(0.0003, 0.004)
        return delay_s + (self.dice.uniform(0, 0.4) if self.dice.random() < 0.02 else 0)

    def agree(self) -> None:
        """Nobody has anything of any lock any more."""
        for member in self.members():
            if left := self.nodes[member.id].store.machine.lock_claims():
                raise Violation(f"{member.id} has locks that nobody uses: {left}")
