"""A whole node, API to state machine, on a simulated log: only the sockets, the disk and the clocks are not real."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node.api.forward import Forwarder
from node.api.router import Method, Router
from node.api.server import GrpcServer
from node.clock import Clock
from node.disk import Disk
from node.leadership import GRPC, Leadership
from node.process import Node
from node.settings import Settings
from node.state.entries import Entry
from node.state.machine import Machine
from node.state.results import Result
from node.web.metrics import Metrics
from raft.replica import Replica
from raft.types import Status
from taskraft.internal.v1 import command_pb2 as internal
from tests.sim.checks import Violation
from tests.sim.loop import SimLoop
from tests.sim.machine import MachineStore
from tests.sim.message_book import Book
from tests.sim.node import SimNode

if TYPE_CHECKING:
    from tests.sim.calls import Call
    from tests.sim.message_world import MessageWorld

SETTINGS = Settings(node_id="sim", disk_free_min_bytes=0)
TURNS_MAX = 2_000


class Door(GrpcServer):
    """Where calls come in, without a port."""

    def __init__(
        self,
        listen: str,
        routes: Mapping[str, Method],
        *,
        leadership: Leadership,
        forwarder: Forwarder,
        metrics: Metrics,
    ) -> None:
        self.router = Router(routes, leadership=leadership, forwarder=forwarder, metrics=metrics)


class SimReplica(Replica):
    """A simulated node's log as the node sees it: `SimNode` drives the core."""

    def __init__(self, node: SimNode) -> None:
        assert node.core is not None
        assert node.log is not None
        self.core, self._raft_log, self._config = node.core, node.log, node.core.config
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def status(self) -> Status:
        """Every node is known by its name as an address."""
        status = super().status
        members = tuple(replace(member, announce={GRPC: member.id}) for member in status.members)
        return replace(status, members=members)


class Watched(Machine):
    """Shows to the checkers what each command did, when it is new to them."""

    book: Book

    def _perform(self, entry: Entry, place: int) -> Result:
        told = len(self._tables.events)
        index = self.applied
        new = index > self.book.index
        if new:
            self.book.begin(index, place, self.time_ms)
        result = super()._perform(entry, place)
        if new:
            events = self._tables.events[told:]
            self.book.did(self, index, place, entry.batch.commands[place], result, events)
        return result

    def apply(self, index: int, term: int, payload: bytes) -> list[Result]:
        results = super().apply(index, term, payload)
        self.book.applied(index, len(results))
        return results


class MessageStore(MachineStore):
    """The state machine of a node that is looked at."""

    compare_each = 23
    machine_class = Watched

    @staticmethod
    def payload(dice: random.Random, number: int, now_ms: int) -> bytes:
        """An entry with nothing to do."""
        return internal.Batch(time_ms=now_ms).SerializeToString()

    @property
    def machine(self) -> Watched:
        assert isinstance(self._machine, Watched)
        return self._machine


class Room(Disk):
    """A disk with space."""

    def __init__(self) -> None:
        self.low = False


class MessageNode(SimNode):
    """A node that serves clients. Its wall clock may be wrong, its monotonic one is not."""

    world: "MessageWorld"
    store: MessageStore

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loop = SimLoop(self, self.world.clock, self.later)
        self.node: Node | None = None
        self.replica: SimReplica | None = None
        self.calls: dict[Call, None] = {}
        self.wrong_ms = 0
        self._faults: list[str] = []

    @property
    def machine(self) -> Watched:
        return self.store.machine

    def now_ms(self) -> int:
        return int(self.world.now * 1000)

    def wall_ms(self) -> int:
        return self.now_ms() + self.wrong_ms

    @property
    def term(self) -> int:
        """The term in which it leads; 0 if it does not."""
        return 0 if self.node is None else self.node.leadership.term or 0

    def start(self) -> bool:
        self.loop = SimLoop(self, self.world.clock, self.later)
        self.replica = None
        with self.loop.running():
            if not super().start():
                return False
            machine = self.store.machine
            machine.book = self.world.book
            earlier = machine.listeners
            self.replica = SimReplica(self)
            self.node = Node(
                SETTINGS,
                machine,
                self.replica,
                disk=Room(),
                clock=Clock(self.now_ms, self.wall_ms),
                metrics=Metrics.create(),
                server_class=Door,
            )
            machine.listeners += earlier
            machine.on_fault = self._fault
        return True

    def _fault(self, index: int, ordinal: int, error: Exception) -> None:
        self._faults.append(f"command {ordinal} of entry {index} failed: {error!r}")

    def crash(self, *, power_loss: bool, torn: bool = True) -> None:
        calls, self.calls = self.calls, {}
        for call in calls:
            call.node_died()
        self.loop.end()
        self.node = self.replica = None
        super().crash(power_loss=power_loss, torn=torn)

    def let_go(self) -> None:
        self.loop.end()
        super().let_go()

    def run(self, event: Any, life: int) -> None:
        with self.loop.running():
            super().run(event, life)

    def _pump(self) -> None:
        for _ in range(TURNS_MAX):
            super()._pump()
            if self.core is None or not (self.loop.busy or self._kicked):
                break
            self.loop.run_ready()
        else:
            raise Violation(f"{self.id} goes round in circles")
        if self._faults:
            raise Violation(f"{self.id}: {self._faults[0]}")
        if self.node is not None and self.node.failed.done():
            self.node.failed.result()

    # What the core tells its host.

    def changed(self) -> None:
        if self.replica is not None:
            self.replica.changed()

    def lead(self, term: int) -> None:
        super().lead(term)
        assert self.replica is not None
        self.replica.on_leader(term)
        self.world.history.leads(self)

    def follow(self) -> None:
        if self.replica is not None:
            self.replica.on_follower()
