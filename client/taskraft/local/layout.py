"""Where each node of a local cluster listens and keeps its data, and the file that says so to others."""

import importlib.util
import json
import os
import random
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from taskraft.local.errors import LocalClusterError

CLUSTER_FILE = "cluster.json"
HOST = "127.0.0.1"
HTTP_PORT_OFFSET, RAFT_PORT_OFFSET = 100, 200
NODES_MAX = 9
PORT_MAX = 65_535
CLIENT_VARIABLES = {
    "TASKRAFT_ADDRESS",
    "TASKRAFT_DEBUG",
}  # the command line's own: a node knows no such setting
FREE_PORTS = range(20_000, 32_000)  # below the range from which Linux hands out client ports

assert NODES_MAX < HTTP_PORT_OFFSET < RAFT_PORT_OFFSET, "the three groups of ports must not overlap"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """One node of a local cluster: addresses are host:port, `argv` starts it again as it was."""

    id: str
    grpc: str
    http: str
    raft: str
    data_dir: Path
    log: Path
    argv: tuple[str, ...]

    def as_json(self, pid: int | None) -> dict[str, Any]:
        """How cluster.json says it; `pid` is None while the node does not run."""
        return {
            "id": self.id,
            "pid": pid,
            "grpc": self.grpc,
            "http": self.http,
            "raft": self.raft,
            "data_dir": str(self.data_dir),
            "log": str(self.log),
            "argv": list(self.argv),
        }

    @classmethod
    def from_json(cls, node: Mapping[str, Any]) -> Self:
        return cls(
            id=node["id"],
            grpc=node["grpc"],
            http=node["http"],
            raft=node["raft"],
            data_dir=Path(node["data_dir"]),
            log=Path(node["log"]),
            argv=tuple(node["argv"]),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """A directory and the nodes in it. Invariant: ids and addresses are distinct."""

    directory: Path
    nodes: tuple[NodePlace, ...]

    @classmethod
    def plan(cls, directory: Path, *, nodes: int, port: int, settings: Iterable[str] = ()) -> Self:
        """Nodes n1, n2, ...: gRPC on `port` and up, HTTP 100 above, peers 200 above.

        `settings` are further flags for every node. Raises LocalClusterError for numbers out of range.
        """
        if not 1 <= nodes <= NODES_MAX:
            raise LocalClusterError(f"a local cluster has 1 to {NODES_MAX} nodes, not {nodes}")
        if not 1 <= port <= PORT_MAX - RAFT_PORT_OFFSET - nodes:
            raise LocalClusterError(f"port {port} leaves no room for the ports above it, up to {port} + 200")
        directory = directory.absolute()
        ids = [f"n{i + 1}" for i in range(nodes)]
        rafts = [f"{HOST}:{port + RAFT_PORT_OFFSET + i}" for i in range(nodes)]
        members = ",".join(f"{id_}={raft}" for id_, raft in zip(ids, rafts, strict=True))
        places = []
        for i, (id_, raft) in enumerate(zip(ids, rafts, strict=True)):
            flags = {
                "--node-id": id_,
                "--data-dir": str(directory / id_ / "data"),
                "--grpc-listen": f"{HOST}:{port + i}",
                "--http-listen": f"{HOST}:{port + HTTP_PORT_OFFSET + i}",
                "--raft-listen": raft,
                "--members": members,
            }
            place = NodePlace(
                id=id_,
                grpc=flags["--grpc-listen"],
                http=flags["--http-listen"],
                raft=raft,
                data_dir=directory / id_ / "data",
                log=directory / id_ / "node.log",
                argv=(*node_command(), *(word for pair in flags.items() for word in pair), *settings),
            )
            places.append(place)
        return cls(directory, tuple(places))

    @property
    def address(self) -> str:
        """What `--address` takes to reach this cluster."""
        return ",".join(node.grpc for node in self.nodes)

    def write(self, pids: Mapping[str, int]) -> None:
        """Write cluster.json in one step: a reader sees the old file or the new one."""
        document = {"nodes": [node.as_json(pids.get(node.id)) for node in self.nodes]}
        path = self.directory / CLUSTER_FILE
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(document, indent=2) + "\n")
        draft.replace(path)


def read_cluster_file(path: Path) -> tuple[Layout, dict[str, int]]:
    """The layout in a cluster.json (or in a directory that has one) and the pids of the nodes that run.

    Raises LocalClusterError if there is none, or it is not ours.
    """
    if path.is_dir():
        path = path / CLUSTER_FILE
    try:
        document = json.loads(path.read_text())
        nodes = tuple(NodePlace.from_json(node) for node in document["nodes"])
        pids = {node["id"]: int(node["pid"]) for node in document["nodes"] if node["pid"] is not None}
    except OSError as error:
        raise LocalClusterError(
            f"cannot read {path}: {error.strerror}", "`taskraft up --data-dir DIR` writes DIR/cluster.json"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise LocalClusterError(
            f"{path} is not a cluster.json of taskraft up",
            "give the path of the file that `taskraft up` wrote",
        ) from None
    return Layout(path.parent.absolute(), nodes), pids


def node_command() -> tuple[str, ...]:
    """How a node is started, without its settings. `-P`: a node.py in the current directory is not it."""
    return (sys.executable, "-P", "-m", "node")


def node_environment() -> dict[str, str]:
    """This environment, in which a child finds the broker where we find it.

    Raises LocalClusterError if the broker is not installed beside the SDK.
    """
    found = importlib.util.find_spec("node")
    if found is None or found.origin is None:
        raise LocalClusterError(
            "the broker is not installed in this Python", f"{sys.executable} -m pip install taskraft"
        )
    roots = [Path(found.origin).parents[1], Path(__file__).parents[2]]
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([*map(str, dict.fromkeys(roots)), *([inherited] if inherited else [])])
    return {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES} | {
        "PYTHONPATH": path
    }


def split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def is_free(address: str) -> bool:
    """True if nobody listens on `address` (a moment ago; there is no promise for later)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(split_address(address))
        except OSError:
            return False
    return True


def free_port(nodes: int) -> int:
    """A port from which a layout of so many nodes finds all its ports free just now."""
    for _ in range(100):
        port = random.randrange(FREE_PORTS.start, FREE_PORTS.stop - RAFT_PORT_OFFSET - nodes)
        offsets = (0, HTTP_PORT_OFFSET, RAFT_PORT_OFFSET)
        if all(is_free(f"{HOST}:{port + offset + i}") for offset in offsets for i in range(nodes)):
            return port
    raise LocalClusterError("found no free ports on this machine", "stop other clusters, or choose --port")
