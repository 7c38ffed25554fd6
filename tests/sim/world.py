"""A cluster in one process: simulated clock, disks and network, the real log; one integer seed is one run.

python -m tests.sim.run --seed 17        replays one run
python -m tests.sim.run --seeds 0:5000   looks for a failing one
"""

import heapq
import itertools
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from raft.core import Core
from raft.engine import use_clock
from raft.errors import RaftError
from raft.records import Entry, SegmentInfo
from raft.types import Member
from tests.sim.checks import Promises, Violation
from tests.sim.disk import PowerCut, SimDisk
from tests.sim.network import Network, Weather
from tests.sim.node import SimNode, Store
from tests.sim.state import Disk as StateDisk
from tests.sim.state import ListState

LINK_S = (0.0005, 0.02)
IDLE_S = 2.0  # silence until a connection is given up, as in raft/transport.py
CALM_S = 8.0  # without faults, at the end: a cluster must have converged by then
HAND_OVER_S = 1.5  # so long after the last fault a leader may still be handing over
STEADY_S = 1.0  # and then nothing may happen any more


class ListStore:
    """The list of commands as a node's state."""

    piece_bytes = 300
    compare_each = 7

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._dice = dice
        self._disk = StateDisk()
        self._state: ListState | None = None

    def open(self) -> ListState:
        self._state = ListState(self._disk, self._dice)
        return self._state

    def crash(self, *, power_loss: bool) -> None:
        self._disk.crash(power_loss=power_loss)

    def wipe(self) -> None:
        self._disk = StateDisk()

    def checkpoint(self) -> None:
        if self._state is not None:
            self._state.checkpoint()

    def commands(self) -> list[bytes] | None:
        return None if self._state is None else self._state.commands

    def unneeded(self, segments: list[SegmentInfo]) -> int:
        return 0 if self._state is None else self._state.checkpointed()

    def attach(self, log_body: Callable[[int], bytes]) -> None:
        """The list holds its commands itself."""

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def payload(dice: random.Random, number: int, now_ms: int) -> bytes:
        return b"c%d" % number


class World:
    """Time, network, nodes, and everything that was ever promised. Faults come from `tests/sim/faults.py`."""

    node_class = SimNode
    promises_class = Promises

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        core_class: type[Core] = Core,
        store_class: type[Store] = ListStore,
        disk_class: Callable[[random.Random], SimDisk] = SimDisk,
        weather: Weather | None = None,
    ) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.now = 1000.0
        self.core_class = core_class
        self.make_store = store_class
        self.make_disk = disk_class
        self.promises = self.promises_class()
        self.network = Network(self.dice, weather or Weather())
        self.folder = Path(tempfile.mkdtemp(prefix="taskraft-sim-"))
        self.nodes: dict[str, SimNode] = {}
        self.links: dict[frozenset[str], float] = {}
        self.slow_disk: set[str] = set()
        self.counts: Counter[str] = Counter()  # what happened, by name: a run must not be calm by mistake
        self.recovering: str | None = None  # whose disk was taken or damaged, until it votes again
        self.damaged: str | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._payloads = itertools.count(1)
        use_clock(self.clock)
        founders = tuple(Member(f"n{i}", f"n{i}:1") for i in range(1, nodes + 1))
        for member in founders:
            self.add_node(member, founders, join=False)
        for node in self.nodes.values():
            node.start()

    def clock(self) -> float:
        """The time; it passes a little with each look, so that nothing happens at the same moment."""
        self.now += 1e-7
        return self.now

    def close(self) -> None:
        for node in self.nodes.values():
            node.let_go()
        shutil.rmtree(self.folder)
        use_clock(time.monotonic)

    # Time.

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._number), event))

    def run(self, seconds: float, step: Callable[[], None] | None = None, step_s: float = 0.01) -> None:
        """Let time pass; `step` (faults, clients) is called every `step_s`."""
        end = self.now + seconds
        while self.now < end:
            if step is not None:
                step()
            until = self.now + step_s
            while self._events and self._events[0][0] <= until:
                when, _, event = heapq.heappop(self._events)
                self.now = max(self.now, when)
                event()
            self.now = max(self.now, until)
            self._keep_links()

    # Network.

    def send(self, sender: str, receiver: str, frame: bytes) -> None:
        node = self.nodes[receiver]
        life = node.life
        self.network.deliver(
            sender,
            receiver,
            lambda delay: self.at(delay, lambda: node.run(lambda: node.receive(sender, frame), life)),
        )

    def _keep_links(self) -> None:
        """Connections come up where they can and are given up where nothing was heard for long."""
        for a, b in itertools.combinations(self.nodes.values(), 2):
            pair = frozenset((a.id, b.id))
            cut = (a.id, b.id) in self.network.cut or (b.id, a.id) in self.network.cut
            if pair in self.links:
                if not cut:
                    self.links[pair] = self.now
                elif self.now - self.links[pair] > IDLE_S:
                    self.unlink(a, b)
            elif not cut and a.up and b.up and (a.wants(b.id) or b.wants(a.id)):
                self.links[pair] = self.now
                for mine, peer in ((a, b), (b, a)):
                    self._link_one(mine, peer)

    def _link_one(self, mine: SimNode, peer: SimNode) -> None:
        life = peer.life

        def connected() -> None:
            assert mine.core is not None
            if peer.core is not None and peer.life == life:
                mine.core.greeted(peer.id, peer.core.hello())
                mine.core.connected(peer.id)

        mine.later(self.dice.uniform(*LINK_S), connected)

    def unlink(self, a: SimNode, b: SimNode, delay_s: float = 0.0) -> None:
        self.links.pop(frozenset((a.id, b.id)), None)
        for mine, peer in ((a, b), (b, a)):

            def gone(mine: SimNode = mine, peer: SimNode = peer) -> None:
                assert mine.core is not None
                if peer.id in mine.core.links:
                    mine.core.disconnected(peer.id)

            if mine.up:
                mine.later(delay_s, gone)

    def relink(self, node: SimNode) -> None:
        """A node's wishes changed; `_keep_links` sees to it."""

    def greet(self, node: SimNode) -> None:
        for peer in self.nodes.values():
            if peer.up and frozenset((peer.id, node.id)) in self.links and peer is not node:

                def greeted(peer: SimNode = peer) -> None:
                    assert peer.core is not None
                    if node.core is not None:
                        peer.core.greeted(node.id, node.core.hello())

                peer.later(self.dice.uniform(*LINK_S), greeted)

    # Nodes.

    def add_node(self, member: Member, founders: tuple[Member, ...], *, join: bool) -> None:
        """A machine that may be started."""
        self.nodes[member.id] = self.node_class(self, member, founders, join=join)

    def node_up(self, node: SimNode) -> None:
        node.later(self.dice.uniform(0, 0.01), node.tick)
        node.later(self.dice.uniform(0, 0.3), node.housekeeping)

    def node_down(self, node: SimNode, delay_s: float | None = None) -> None:
        for peer in self.nodes.values():
            if frozenset((peer.id, node.id)) in self.links and peer is not node:
                self.unlink(node, peer, self.dice.uniform(0.0001, 0.003) if delay_s is None else delay_s)

    def start(self, node: SimNode) -> None:
        """Start a node; if it refuses because its disk was damaged, do what its message tells the operator to do."""
        damaged = self.damaged == node.id
        if node.start():
            if damaged:
                raise Violation(f"{node.id} starts though its disk is damaged")
            return
        if not damaged:
            raise Violation(f"{node.id} refuses to start though nobody damaged its disk")
        self.counts["refusals"] += 1
        self.damaged = None
        node.wipe()
        assert node.start()

    def write_delay_s(self, node: SimNode) -> float:
        if node.id in self.slow_disk:
            return self.dice.uniform(0.2, 2.0)
        return self.dice.uniform(0.0002, 0.006)

    def disk_failed(self, node: SimNode, error: BaseException) -> None:
        """A write failed: the process ends, as it must. A power cut takes the page cache with it."""
        node.disk.full_after = None
        node.crash(power_loss=isinstance(error, PowerCut) or self.dice.random() < 0.5)

    def leader(self) -> SimNode | None:
        """Who leads the newest term, if it has announced itself."""
        leaders = [n for n in self.nodes.values() if n.core is not None and n.core.leading is not None]
        leaders.sort(key=lambda n: n.core.engine.term if n.core else 0)
        return leaders[-1] if leaders else None

    def members(self) -> tuple[Member, ...]:
        """The newest list of members that is known to be committed; empty if there is none."""
        leader = self.leader()
        if leader is None or leader.core is None or leader.core.membership.index > leader.core.state.applied:
            return ()
        return leader.core.membership.current

    def holders(self, entry: Entry) -> int:
        """How many nodes have the entry on disk."""
        return sum(node.holds(entry) for node in self.nodes.values())

    # Clients.

    def propose(self, node: SimNode) -> None:
        """One command to `node`; if it is acknowledged, it counts."""
        payload = self.make_store.payload(self.dice, next(self._payloads), int(self.now * 1000))

        def done(result: object, error: Exception | None) -> None:
            if error is None:
                self.counts["acknowledged"] += 1
                if isinstance(result, int):
                    self.promises.acknowledges(payload, result)
            else:
                assert isinstance(error, RaftError)

        self.promises.proposed += 1
        node.run(lambda: node.core.propose(payload, done) if node.core else None, node.life)

    def read(self, node: SimNode) -> None:
        """One linearizable read at `node`, if it thinks that it leads."""
        floor = self.promises.read_began()

        def done(index: int | None) -> None:
            if index is not None:
                self.counts["reads"] += 1
                self.promises.read_ended(floor, len(node.store.commands() or ()))

        def ask() -> None:
            if node.core is not None and node.core.leading is not None:
                node.core.leading.read(done)

        node.run(ask, node.life)

    # The end.

    def heal(self) -> None:
        """No more faults: networks, disks and nodes are as they should be, when what is under way has arrived."""
        still_under_way_s = self.network.weather.late_s
        self.network.heal()
        self.network.weather = Weather(loss=0, double=0, late=0)
        self.slow_disk.clear()
        for node in self.nodes.values():
            node.disk.full_after = node.disk.cut_after = None
            node.disk.fail_sync = False
            if node.paused is not None:
                node.resume()
            if not node.up:
                self.start(node)
        self.run(HAND_OVER_S + still_under_way_s)

    def converge(self) -> None:
        """Without faults the cluster must find a leader, commit, and agree everywhere."""
        self.heal()
        deadline = self.now + CALM_S
        while (why := self._unfinished()) is not None:
            if self.now > deadline:
                raise Violation(f"after {CALM_S} s of calm {why}")
            self.run(0.25)
        leader = self.leader()
        assert leader is not None
        assert leader.core is not None
        term, before = leader.core.engine.term, self.counts["acknowledged"]
        self.propose(leader)
        self.run(STEADY_S)
        if leader.core is None or leader.core.leading is None or leader.core.engine.term != term:
            raise Violation(f"{leader.id} lost term {term} in calm weather")
        if self.counts["acknowledged"] == before:
            raise Violation("a calm cluster does not commit")
        if (why := self._unfinished()) is not None:
            raise Violation(f"in calm weather {why}")
        for member in leader.core.membership.current:
            core = self.nodes[member.id].core
            assert core is not None
            self.promises.state(member.id, core.state.applied, core.state.fingerprint())
            commands = self.nodes[member.id].store.commands()
            if commands is not None:
                self.promises.final(member.id, commands)

    def _unfinished(self) -> str | None:
        """What is still missing until all is as it should be."""
        leader = self.leader()
        if leader is None or leader.core is None or leader.core.leading is None:
            return "nobody leads"
        if not leader.core.leading.announced:
            return f"{leader.id} leads, but has not applied its first entry"
        for member in leader.core.membership.current:
            core = self.nodes[member.id].core
            if core is None or core.state.applied != leader.core.state.applied:
                return f"{member.id} has not caught up"
            if not member.voter:
                return f"{member.id} was not given its vote"
        return None
