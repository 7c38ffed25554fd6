"""PySyncObj as it comes, in memory: what its defects are shown on (`test_stock_*.py`)."""

import copy
import time
from collections.abc import Callable
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raft.engine import use_clock

NAMES = ("n1", "n2", "n3")
Mail = tuple[str, str, dict[str, Any]]


class _Wire(Transport):  # type: ignore[misc]
    """One node's end of the wires."""

    ready = True

    def __init__(self, wires: "Wires", name: str) -> None:
        super().__init__(None, None, None)
        self._wires, self._name = wires, name

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._wires.mail.append((self._name, node.id, copy.deepcopy(message)))
        return True

    def addNode(self, node: Node) -> None:
        """Everybody is connected."""

    def dropNode(self, node: Node) -> None:
        """Nobody leaves."""

    def destroy(self) -> None:
        """Nothing is open."""


class _NoPoller:
    def poll(self, timeout: float) -> None:
        """There are no sockets."""


class Stock(SyncObj):  # type: ignore[misc]
    """A list of what was put."""

    def __init__(self, wires: "Wires", name: str, names: tuple[str, ...], settings: dict[str, Any]) -> None:
        wire = _Wire(wires, name)
        conf = SyncObjConf(autoTick=False, **settings)
        super().__init__(Node(name), [Node(other) for other in names if other != name], conf, transport=wire)
        self._poller = _NoPoller()
        self.history: list[Any] = []
        for other in self.otherNodes:
            wire._onNodeConnected(other)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, value: Any) -> int:
        self.history.append(value)
        return len(self.history)

    @replicated  # type: ignore[untyped-decorator]
    def stumble(self) -> None:
        raise RuntimeError("a bug in a replicated method")

    # What is private, by the names that this project uses.

    @property
    def log(self) -> Any:
        return self._SyncObj__raftLog

    @property
    def last(self) -> int:
        return int(self.log[-1][1])

    def hear(self, sender: str, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(Node(sender), message)

    def stand(self) -> None:
        """Its election timeout is over."""
        self._SyncObj__raftElectionDeadline = 0
        self._onTick(0.0)

    def forget_progress_of(self, name: str) -> None:
        """That node turns out to hold nothing."""
        self._SyncObj__raftNextIndex[Node(name)] = 2

    def tick(self) -> None:
        self._onTick(0.0)


class Wires:
    """Stock nodes, a clock, and messages that arrive when the test says so. Stock reads its clock until `close`."""

    def __init__(
        self, names: tuple[str, ...] = NAMES, settings: Callable[[str], dict[str, Any]] | None = None
    ) -> None:
        self.now = 1000.0
        self.mail: list[Mail] = []
        self.names = names
        self._settings = settings or (lambda name: {})
        use_clock(self._clock)
        self.nodes = {name: self.make(name) for name in names}

    def make(self, name: str) -> Stock:
        """A node, or the next life of it."""
        return Stock(self, name, self.names, self._settings(name))

    def _clock(self) -> float:
        self.now += 1e-5
        return self.now

    def close(self) -> None:
        use_clock(time.monotonic)
        for node in self.nodes.values():
            node.destroy()

    def deliver(self, *, cut: str | None = None) -> list[Mail]:
        """Everything arrives that is under way, and what is said to it, until all is silent; nothing to or from `cut`."""
        delivered = []
        while self.mail:
            sender, receiver, message = self.mail.pop(0)
            if cut not in (sender, receiver):
                self.nodes[receiver].hear(sender, message)
                delivered.append((sender, receiver, message))
        return delivered

    def wait(self, seconds: float, *, cut: str | None = None, step_s: float = 0.01) -> list[Mail]:
        """Time passes, everybody ticks, everything arrives."""
        delivered = []
        end = self.now + seconds
        while self.now < end:
            self.now += step_s
            for node in self.nodes.values():
                node.tick()
            delivered += self.deliver(cut=cut)
        return delivered

    def elect(self, name: str) -> Stock:
        """The node leads, and everybody has applied its first entry."""
        node = self.nodes[name]
        node.stand()
        self.deliver()
        assert node._isLeader()
        self.wait(0.3)
        return node

    def leaders(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node._isLeader()]


def append_entries(prev: tuple[int, int], *terms: int, term: int = 1, commit: int = 1) -> dict[str, Any]:
    """What a stock leader sends: entries of these terms behind `prev`."""
    entries = [(b"\1", prev[0] + n, entry_term) for n, entry_term in enumerate(terms, start=1)]
    return {
        "type": "append_entries",
        "term": term,
        "commit_index": commit,
        "entries": entries,
        "prevLogIdx": prev[0],
        "prevLogTerm": prev[1],
    }
