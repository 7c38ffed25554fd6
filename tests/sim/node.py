"""One simulated node: the real `Core`, log and ballot on a simulated disk, driven by the world's events."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raft.ballot import Ballot
from raft.core import Core
from raft.frames import Message, VoteReply, decode, encode
from raft.progress import majority
from raft.records import Damaged, Entry, SegmentInfo
from raft.segments import Log
from raft.snapshots import Incoming
from raft.types import Member, ReplicaConfig, SnapshotMeta, StateMachine
from tests.sim.disk import PowerCut

if TYPE_CHECKING:
    from tests.sim.world import World

SEGMENT_BYTES = 4096
TICK_S = (0.01, 0.025)  # the core asks for one every half heartbeat at least


class Store(Protocol):
    """What makes, breaks and measures a node's state machine. `piece_bytes`: its snapshots take dozens of pieces;
    `compare_each`: after so many entries nodes are compared.
    """

    piece_bytes: int
    compare_each: int

    def __init__(self, folder: Path, dice: random.Random) -> None: ...
    @staticmethod
    def payload(dice: random.Random, number: int, now_ms: int) -> bytes: ...
    def unneeded(self, segments: list[SegmentInfo]) -> int: ...
    def attach(self, log_body: Callable[[int], bytes]) -> None: ...
    def open(self) -> StateMachine: ...
    def crash(self, *, power_loss: bool) -> None: ...
    def wipe(self) -> None: ...
    def checkpoint(self) -> None: ...
    def commands(self) -> list[bytes] | None: ...
    def close(self) -> None: ...


class Watched:
    """The node's state machine with the checkers looking over its shoulder."""

    def __init__(self, world: "World", node_id: str, inner: StateMachine, core: Callable[[], Core]) -> None:
        self._world, self._node_id, self._inner, self._core = world, node_id, inner, core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def apply(self, index: int, term: int, payload: bytes) -> object:
        self._check(index)
        return self._inner.apply(index, term, payload)

    def record(self, index: int, term: int, members: tuple[Member, ...] | None) -> None:
        self._check(index)
        self._inner.record(index, term, members)

    def _check(self, index: int) -> None:
        world, core = self._world, self._core()
        entry = core.log.entry(index)
        if core.leading is not None:
            lists = core.membership._lists  # the one it was committed under may not be the newest
            needed = min(majority(sum(m.voter for m in members)) for _, members in lists)
            needed -= world.recovering is not None
            world.promises.commits(entry, world.holders(entry), needed)
        world.promises.applies(self._node_id, entry)

    def flush(self) -> None:
        self._inner.flush()
        if self._inner.applied % self._world.make_store.compare_each == 0:
            self._world.promises.state(self._node_id, self._inner.applied, self._inner.fingerprint())


class SimNode:
    """A node that can be started, killed, cut off from power, paused, wiped and damaged."""

    def __init__(self, world: "World", member: Member, founders: tuple[Member, ...], *, join: bool) -> None:
        self.world, self.id, self.member = world, member.id, member
        self._founders, self._join = founders, join
        self.folder: Path = world.folder / member.id
        self.folder.mkdir()
        self.disk = world.make_disk(world.dice)
        self.store = world.make_store(self.folder, world.dice)
        self._incoming = Incoming(self.folder / "snapshot.in")
        self.core: Core | None = None
        self.log: Log | None = None  # the one that was opened last
        self.paused: list[Callable[[], None]] | None = None
        self.life = 0
        self._wanted: dict[str, str] = {}
        self._kicked = False
        self._writing = False

    @property
    def up(self) -> bool:
        return self.core is not None

    # Life and death.

    def start(self) -> bool:
        """Open the disk and take part; False if the disk is damaged, as a real node would refuse to start."""
        assert self.core is None
        self.life += 1
        self._writing = self._kicked = False
        config = ReplicaConfig(
            node_id=self.id,
            cluster="sim",
            data_dir=self.folder,
            listen=self.member.address,
            advertise=self.member.address,
            members=self._founders,
            join=self._join,
            heartbeat_ms=50,
            election_ms=300,
            piece_bytes=self.store.piece_bytes,
        )
        before = self.log
        try:
            self.log = log = Log.open(self.disk, segment_bytes=SEGMENT_BYTES, cache_bytes=2048)
            ballot = Ballot.open(self.disk)
        except Damaged:
            return False
        if before is not None and before.durable:
            durable = before.durable, before.term_at(before.durable)
            self.world.promises.remembers(self.id, durable, log.term_at(before.durable))
        state = Watched(self.world, self.id, self.store.open(), lambda: self.core)  # type: ignore[arg-type, return-value]
        self.store.attach(lambda index: log.entry(index).payload)
        self.core = self.world.core_class(
            config,
            log,
            ballot,
            state,
            self,
            dice=self.world.dice,
            clock=self.world.clock,
            snapshot_in=self._incoming,
        )
        self.world.node_up(self)
        return True

    def crash(self, *, power_loss: bool, torn: bool = True) -> None:
        """Stop at once. Without power loss the page cache survives."""
        assert self.core is not None
        self._close_files()
        self.core = None
        self.life += 1
        self.paused = None
        self.disk.crash(power_loss=power_loss, torn=torn)
        self.store.crash(power_loss=power_loss)
        self.world.node_down(self)

    def let_go(self) -> None:
        """The run is over."""
        self._close_files()
        self.store.close()

    def _close_files(self) -> None:
        """What the kernel closes for a process that ends."""
        self._incoming.abandon()
        if self.core is not None and self.core.leading is not None:
            self.core.leading.snapshots.close()

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        assert self.core is None
        self.log = None
        self.world.promises.forgets(self.id)
        self.disk = self.world.make_disk(self.world.dice)
        self.store.wipe()

    def pause(self) -> None:
        self.paused = []

    def resume(self) -> None:
        waiting, self.paused = self.paused or [], None
        for event in waiting:
            if self.core is not None:
                event()

    # Events.

    def run(self, event: Callable[[], None], life: int) -> None:
        """An event of this node: not after its death, not while it is paused."""
        if self.core is None or life != self.life:
            return
        if self.paused is not None:
            self.paused.append(lambda: self.run(event, life))
            return
        event()
        self._pump()

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        life = self.life
        self.world.at(delay_s, lambda: self.run(event, life))

    def tick(self) -> None:
        self._kicked = True
        self.later(self.world.dice.uniform(*TICK_S), self.tick)

    def _pump(self) -> None:
        for _ in range(50):
            core = self.core
            if core is None or not self._kicked:
                break
            self._kicked = False
            core.tick()
        if self.core is None:
            return
        if self.core.leading is not None:
            self.world.promises.leads(self.core.engine.term, self.id)
        self._start_write()

    def _start_write(self) -> None:
        assert self.core is not None
        if self._writing or (write := self.core.take_write()) is None:
            return
        self._writing = True

        def finish() -> None:
            assert self.core is not None
            try:
                write.run()
            except (OSError, PowerCut) as error:
                self.world.disk_failed(self, error)
                return
            self._writing = False
            self.core.written(write)

        self.later(self.world.write_delay_s(self), finish)

    def receive(self, sender: str, frame: bytes) -> None:
        assert self.core is not None
        if sender in self.core.links:
            self.core.receive(sender, decode(memoryview(frame)))

    def housekeeping(self) -> None:
        """What the node does besides: mark an idle log, make checkpoints, let old segments go."""
        assert self.core is not None
        core = self.core
        if not core.promises.busy:
            core.log.mark()
        if self.world.dice.random() < 0.3:
            self.store.checkpoint()
            keep = core.leading.snapshots.keep_from() if core.leading is not None else None
            index = self.store.unneeded(core.log.segments())
            index = index if keep is None else min(keep, index)
            if index > core.log.base[0]:
                core.log.release(index)
        self.later(self.world.dice.uniform(0.05, 0.5), self.housekeeping)

    # What the core asks of its host.

    def send(self, peer_id: str, message: Message) -> bool:
        if self.core is None or peer_id not in self.core.links:
            return False
        if isinstance(message, VoteReply):
            self.world.promises.votes_for(peer_id, message.term, self.id, self._vote_at_worst())
        self.world.send(self.id, peer_id, b"".join(encode(message)))
        return True

    def _vote_at_worst(self) -> tuple[int, str | None] | None:
        """Term and vote as they would be after a power cut now."""
        try:
            ballot = Ballot.open(self.disk.at_worst())
        except Damaged:
            return None
        return ballot.term, ballot.vote

    def link(self, members: tuple[Member, ...]) -> None:
        self._wanted = {m.id: m.address for m in members}
        self.world.relink(self)

    def holds(self, entry: Entry) -> bool:
        """Whether the entry is on this node's disk, or was and went into a checkpoint."""
        log = self.log
        if log is None or log.base[0] >= entry.index:
            return log is not None
        return log.durable >= entry.index and log.term_at(entry.index) == entry.term

    def wants(self, peer_id: str) -> bool:
        return peer_id in self._wanted

    def kick(self) -> None:
        self._kicked = True

    def hello_changed(self) -> None:
        self.world.greet(self)

    def changed(self) -> None:
        """Nobody watches."""

    def lead(self, term: int) -> None:
        self.world.counts["leaderships"] += 1

    def follow(self) -> None:
        """Nobody watches."""

    def make_snapshot(self) -> None:
        def make() -> None:
            assert self.core is not None
            path = self.folder / f"snapshot.out.{self.core.engine.term}"
            meta: SnapshotMeta = self.core.state.snapshot(path)
            if self.core.leading is None:
                path.unlink()
            else:
                self.world.counts["snapshots"] += 1
                self.core.leading.snapshots.made(path, meta)

        self.later(self.world.dice.uniform(0.001, 0.1), make)
