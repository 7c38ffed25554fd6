"""One real node and nobody else: the test plays its peers, its clock and its disk."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import TypeVar

from raft.ballot import Ballot
from raft.core import Core
from raft.engine import use_clock
from raft.frames import (
    Append,
    AppendReply,
    Hello,
    HelloState,
    Message,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
    decode,
    encode,
)
from raft.records import Entry
from raft.segments import Log
from raft.snapshots import Incoming
from raft.types import COMMAND, Member, ReplicaConfig
from tests.sim.disk import SimDisk
from tests.sim.state import Disk as StateDisk
from tests.sim.state import ListState

ME = "n1"
HEARTBEAT_MS, ELECTION_MS = 50, 300
M = TypeVar("M", bound=Message)


class Ears:
    """A host that remembers what the node says, and has it say everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def send(self, peer_id: str, message: Message) -> bool:
        self.sent.append((peer_id, message))
        return True

    def link(self, members: tuple[Member, ...]) -> None:
        """The test is everyone."""

    def kick(self) -> None:
        """The test ticks."""

    def hello_changed(self) -> None:
        """Nobody asks."""

    def make_snapshot(self) -> None:
        """The test makes one if it wants one."""

    def changed(self) -> None:
        """Nobody watches."""

    def lead(self, term: int) -> None:
        """Nobody watches."""

    def follow(self) -> None:
        """Nobody watches."""


class Alone:
    """The node n1 of a cluster of `members`, founded, on a disk of its own. Engines see its clock until `close`."""

    def __init__(self, folder: Path, *, members: int = 3) -> None:
        self.dice = random.Random(0)
        self.now = 1000.0
        self.ears = Ears()
        self.disk, self.state_disk = SimDisk(self.dice), StateDisk()
        self.folder = folder
        self.members = tuple(Member(f"n{i}", f"n{i}:1") for i in range(1, members + 1))
        self.peers = [m.id for m in self.members if m.id != ME]
        self._answered = Counter[str]()
        use_clock(self.clock)
        self.core = self._open()
        for peer in self.peers:
            self.core.connected(peer)
            self.core.greeted(peer, self.hello_of(peer, "founding"))
        self.write()

    def _open(self) -> Core:
        config = ReplicaConfig(
            node_id=ME,
            cluster="alone",
            data_dir=self.folder,
            listen="n1:1",
            advertise="n1:1",
            members=self.members,
            heartbeat_ms=HEARTBEAT_MS,
            election_ms=ELECTION_MS,
        )
        self.state = ListState(self.state_disk, self.dice)
        return Core(
            config,
            Log.open(self.disk, segment_bytes=4096),
            Ballot.open(self.disk),
            self.state,
            self.ears,
            dice=self.dice,
            clock=self.clock,
            snapshot_in=Incoming(self.folder / "snapshot.in"),
        )

    def restart(self) -> None:
        """A power cut, and a new life."""
        self.disk.crash(power_loss=True, torn=True)
        self.state_disk.crash(power_loss=True)
        self.core = self._open()
        for peer in self.peers:
            self.core.connected(peer)

    def close(self) -> None:
        use_clock(time.monotonic)

    @staticmethod
    def hello_of(peer: str, state: HelloState) -> Hello:
        return Hello("alone", peer, f"{peer}:1", {}, state, 0, 1)

    # The world around it.

    def clock(self) -> float:
        self.now += 1e-7
        return self.now

    def write(self) -> None:
        """The disk does what it is asked."""
        while (write := self.core.take_write()) is not None:
            write.run()
            self.core.written(write)

    def wait(self, seconds: float) -> None:
        """Time passes, with ticks and a good disk."""
        end = self.now + seconds
        while self.now < end:
            self.now += HEARTBEAT_MS / 4000
            self.core.tick()
            self.write()

    def hear(self, peer: str, message: Message) -> None:
        """A message arrives, as bytes, and is dealt with down to the disk."""
        self.core.receive(peer, decode(memoryview(b"".join(encode(message)))))
        self.core.tick()
        self.write()

    def said(self, kind: type[M], to: str | None = None) -> list[M]:
        """All messages of a kind so far, to one peer or to all."""
        return [m for peer, m in self.ears.sent if isinstance(m, kind) and to in (None, peer)]

    # Roles.

    def stand(self) -> None:
        """Be a candidate: everyone agrees that it is time."""
        while not self.said(Vote):
            self.wait(0.02)
            for question in self.said(PreVote, "n2"):
                for peer in self.peers:
                    self.hear(peer, PreVoteReply(question.term, question.round, granted=True))

    def lead(self) -> None:
        """Win the next election with everyone's vote, and have the first entries committed."""
        self.stand()
        term = self.core.engine.term
        for peer in self.peers:
            self.hear(peer, VoteReply(term))
        assert self.core.leading is not None
        self.acknowledge()
        assert self.core.leading.announced

    def acknowledge(self, *peers: str) -> None:
        """Let these peers (all if none is named) take every Append that was sent to them, until nothing new comes."""
        busy = True
        while busy:
            busy = False
            for peer in peers or self.peers:
                for message in self.said(Append, peer)[self._answered[peer] :]:
                    self._answered[peer] += 1
                    index = message.prev_index + len(message.entries)
                    self.hear(peer, AppendReply(message.term, message.round, success=True, index=index))
                    busy = True

    def follow(self, leader: str, *terms: int, commit: int = 0, term: int | None = None) -> None:
        """Take entries of these terms behind what is held already from `leader`."""
        self.hear(leader, self.append(*terms, commit=commit, term=term))

    def append(self, *terms: int, commit: int = 0, term: int | None = None) -> Append:
        """An Append that fits behind this node's log."""
        index, last_term = self.core.log.last
        entries = tuple(
            Entry(index + n, t, COMMAND, b"%d/%d" % (index + n, t)) for n, t in enumerate(terms, start=1)
        )
        return Append(term or max(terms), 1, index, last_term, commit, entries)
