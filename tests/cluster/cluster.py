"""A cluster of real node processes, and what can be done to them.

Nodes run on the loopback interface with free ports, or each in a `Room` of its own. Whatever was started
or mounted is gone when the `with` block of a Cluster ends.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.outpost import Outpost, View
from tests.cluster.processes import end, python, start, tail, wait_for

LIVE: list["Cluster"] = []
"""The clusters that run now; the report of a failed test shows the ends of their logs."""

_FIRST_PORT, _LAST_PORT = 20_000, 32_000
SMALL = {"log_segment_bytes": 8 << 20, "log_bytes_max": 32 << 20, "checkpoint_ms": 500}
"""Settings with which the log turns over within a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node runs. `prefix` puts a process there, `env` is added to its environment."""

    host: str = "127.0.0.1"
    ports: tuple[int, int, int] = (7001, 7101, 7201)
    data_dir: Path | None = None
    prefix: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def _free_ports() -> Iterator[tuple[int, int, int]]:
    span = _LAST_PORT - _FIRST_PORT
    at = (os.getpid() * 97) % span
    while True:
        found: list[int] = []
        while len(found) < 3:
            at = (at + 1) % span
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", _FIRST_PORT + at)) != 0:
                    found.append(_FIRST_PORT + at)
        yield found[0], found[1], found[2]


_PORTS = _free_ports()


def free_ports() -> tuple[int, int, int]:
    """Three ports on the loopback interface that nobody listens on, below the range that the kernel gives out.

    A run never hands out a port twice: a node that ended may come back to its own.
    """
    return next(_PORTS)


class Node:
    """One node process, running or not."""

    def __init__(self, node_id: str, folder: Path, place: Place, settings: Mapping[str, object]) -> None:
        self.id, self.place = node_id, place
        self.grpc, self.http, self.raft = (f"{place.host}:{port}" for port in place.ports)
        self.data_dir = place.data_dir or folder / node_id
        self.log = folder / f"{node_id}.log"
        self.settings = dict(settings)
        self.process: subprocess.Popen[str] | None = None
        self.paused = False

    def __repr__(self) -> str:
        return f"<{self.id}>"

    @property
    def running(self) -> bool:
        """True while there is a process; a paused one counts."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts the process; it may not be ready yet."""
        assert not self.running
        flags = {
            "node_id": self.id,
            "data_dir": self.data_dir,
            "grpc_listen": self.grpc,
            "http_listen": self.http,
            "raft_listen": self.raft,
            **self.settings,
        }
        words = [
            word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self.process = start(
            python("node", *words), prefix=self.place.prefix, log=self.log, env=self.place.env
        )
        self.paused = False

    def kill(self) -> None:
        """kill -9; returns when the process is gone."""
        assert self.process is not None
        end(self.process)

    def strike(self) -> None:
        """kill -9 without waiting for the end."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self._signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(timeout=20)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def _signal(self, number: signal.Signals) -> None:
        assert self.running
        assert self.process is not None
        self.process.send_signal(number)

    def wipe(self) -> None:
        """Moves the data directory away, as a node's refusal to start over damage advises."""
        assert not self.running
        wiped = self.data_dir.with_name(f"{self.data_dir.name}.wiped")
        number = 0
        while wiped.exists():
            number += 1
            wiped = self.data_dir.with_name(f"{self.data_dir.name}.wiped{number}")
        self.data_dir.rename(wiped)


class Cluster:
    """Nodes n1, n2, ... at the given places, founding one cluster.

    `prefix` puts clients where they reach the nodes. Questions are asked until the answer is the wanted one
    or a deadline passes (`NotInTime`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 3,
        places: Sequence[Place] = (),
        prefix: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.prefix = folder, prefix
        self._settings = {**SMALL, "cluster": folder.name, **(settings or {})}
        places = places or [Place(ports=free_ports()) for _ in range(nodes)]
        self.nodes = [
            Node(f"n{number}", folder, place, self._settings) for number, place in enumerate(places, start=1)
        ]
        founders = ",".join(f"{node.id}={node.raft}" for node in self.nodes)
        for node in self.nodes:
            node.settings["members"] = founders
        self._outpost: Outpost | None = None

    def __enter__(self) -> Self:
        LIVE.append(self)
        try:
            self._outpost = Outpost(self.prefix, self.folder / "outpost.log")
            for node in self.nodes:
                node.start()
            self.wait_healthy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kills every node; the logs stay for the report."""
        for node in self.nodes:
            if node.process is not None:
                end(node.process)
        if self._outpost is not None:
            self._outpost.close()
        if self in LIVE:
            LIVE.remove(self)

    @property
    def addresses(self) -> str:
        """All gRPC addresses, for clients."""
        return ",".join(node.grpc for node in self.nodes)

    def node(self, node_id: str) -> Node:
        """The node of that id."""
        return next(node for node in self.nodes if node.id == node_id)

    def others(self, *but: Node) -> list[Node]:
        """All nodes except these."""
        return [node for node in self.nodes if node not in but]

    def newcomer(self) -> Node:
        """A further node, not yet started, that waits to be added to the cluster."""
        number = max(int(node.id[1:]) for node in self.nodes) + 1
        settings = {**self._settings, "join": "yes"}
        node = Node(f"n{number}", self.folder, Place(ports=free_ports()), settings)
        self.nodes.append(node)
        return node

    def forget(self, node: Node) -> None:
        """Leaves a node, already ended, out of `nodes`."""
        assert not node.running
        self.nodes.remove(node)

    # Questions

    def view(self, node: Node) -> View | None:
        """The cluster as this node sees it; None if it does not answer."""
        assert self._outpost is not None
        return self._outpost.view(node.grpc) if node.running and not node.paused else None

    def get(self, node: Node, path: str) -> tuple[int, str] | None:
        """An HTTP GET on the node's HTTP port; None if it does not answer."""
        assert self._outpost is not None
        return self._outpost.get(node.http, path)

    def leader(self, among: Sequence[Node] = (), *, timeout_s: float = 20.0) -> Node:
        """The node that says of itself that it leads, in the highest term."""

        def find() -> Node | None:
            claims = [
                (view.term, node)
                for node in among or self.nodes
                if (view := self.view(node)) is not None and view.leader == node.id
            ]
            return max(claims, key=lambda each: each[0])[1] if claims else None

        return wait_for(find, "a leader", timeout_s=timeout_s)

    def followers(self) -> list[Node]:
        """All nodes but the leader."""
        return self.others(self.leader())

    def leader_seen_by(self, node: Node) -> str:
        """The leader's id as this node knows it; empty if it knows none or does not answer."""
        view = self.view(node)
        return view.leader if view is not None else ""

    def term(self) -> int:
        """The term of the leader."""
        view = self.view(self.leader())
        assert view is not None
        return view.term

    def kill_all(self) -> None:
        """kill -9 of every node before any of them is waited for."""
        for node in self.nodes:
            node.strike()
        for node in self.nodes:
            node.kill()

    def metric(self, node: Node, name: str) -> float:
        """The sum of a metric's samples; 0 if it has none."""
        answer = self.get(node, "/metrics")
        assert answer is not None
        assert answer[0] == 200, answer
        return sum(
            float(line.rpartition(" ")[2])
            for line in answer[1].splitlines()
            if line.split("{")[0].split(" ")[0] == name
        )

    def wait_healthy(self, *, timeout_s: float = 30.0) -> Node:
        """Until every node is ready, follows one leader as a voter and has what it has committed; the leader."""
        return wait_for(self._healthy, "a cluster in which all nodes follow one leader", timeout_s=timeout_s)

    def _healthy(self) -> Node | None:
        for node in self.nodes:
            assert node.running, f"{node} ended:\n{tail(node.log)}"
        views = {node.id: self.view(node) for node in self.nodes}
        leaders = {view.leader if view is not None else "" for view in views.values()}
        if len(leaders) != 1 or "" in leaders:
            return None
        leader = self.node(leaders.pop())
        seen = views[leader.id]
        assert seen is not None
        agreed = all(self._follows(node, seen) for node in self.nodes)
        return leader if agreed else None

    def _follows(self, node: Node, leader: View) -> bool:
        """True if the node is a voter, connected, ready and has applied what the leader had committed."""
        seat, own = leader.seats.get(node.id), self.view(node)
        if seat is None or own is None:
            return False
        caught_up = own.term == leader.term and own.applied >= leader.commit
        voter = seat.role in ("leader", "follower") and seat.connected
        return voter and caught_up and (self.get(node, "/readyz") or (0, ""))[0] == 200
