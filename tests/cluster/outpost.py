"""Asks nodes what they know, from the network in which they live.

`Outpost` starts this module as a program in the clients' room; it reads one question a line, as JSON, and
prints one answer a line: the cluster as a node sees it, or the error.
"""

import http.client
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from taskraft.v1 import cluster_pb2, cluster_pb2_grpc
from tests.cluster.processes import end, python, start

_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """A member as one node sees it. `role` is leader, follower, learner or unspecified."""

    role: str
    connected: bool
    match: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The cluster as one node sees it; `leader` is empty if it knows none."""

    leader: str
    term: int
    commit: int
    applied: int
    first: int
    last: int
    log_bytes: int
    seats: dict[str, Seat]


class Outpost:
    """Answers come at once or within a second; no answer is None."""

    def __init__(self, prefix: Sequence[str], log: Path) -> None:
        self._process = start(python("tests.cluster.outpost"), prefix=prefix, log=log, talk=True)

    def view(self, address: str) -> View | None:
        """What the node at this gRPC address knows."""
        answer = self._ask("cluster", address)
        if not isinstance(answer, dict):
            return None
        number = {name: int(answer.get(name, 0)) for name in ("term", "firstIndex", "lastIndex", "logBytes")}
        return View(
            leader=answer.get("leaderId", ""),
            term=number["term"],
            commit=int(answer.get("commitIndex", 0)),
            applied=int(answer.get("appliedIndex", 0)),
            first=number["firstIndex"],
            last=number["lastIndex"],
            log_bytes=number["logBytes"],
            seats={
                each["id"]: Seat(
                    each.get("role", "").removeprefix("MEMBER_ROLE_").lower(),
                    each.get("connected", False),
                    int(each.get("matchIndex", 0)),
                )
                for each in answer.get("members", [])
            },
        )

    def get(self, address: str, path: str) -> tuple[int, str] | None:
        """Status and body of an HTTP GET."""
        answer = self._ask("http", address, path)
        return (answer[0], answer[1]) if isinstance(answer, list) else None

    def _ask(self, *question: str) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: object = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends the program."""
        end(self._process)


def _cluster(address: str) -> dict[str, Any] | str:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options) as channel:
        try:
            answer = cluster_pb2_grpc.ClusterServiceStub(channel).GetCluster(
                cluster_pb2.GetClusterRequest(), timeout=_PATIENCE_S
            )
        except grpc.RpcError as error:
            return str(error)
    return MessageToDict(answer.cluster)


def _http(address: str, path: str) -> tuple[int, str] | str:
    connection = http.client.HTTPConnection(address, timeout=_PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def main() -> None:
    """Answers until its input ends."""
    for line in sys.stdin:
        what, *where = json.loads(line)
        answer = _cluster(*where) if what == "cluster" else _http(*where)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
