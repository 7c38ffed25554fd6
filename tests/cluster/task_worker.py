"""Workers as real processes, and what their tasks have written down."""

import json
import queue as queue_module
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc

from taskraft.v1 import task_pb2, worker_pb2, worker_pb2_grpc
from tests.cluster.cluster import Cluster
from tests.cluster.processes import ROOT, end, python, start, tail, wait_for


class Execution(NamedTuple):
    """One run of a task's function, as the function itself wrote it down."""

    task: str
    lease: int
    attempt: int
    what: str


class Workers:
    """The workers of one test, and the folder in which they write down what they execute."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self._processes: dict[str, subprocess.Popen[str]] = {}
        folder.mkdir(parents=True)

    def start(self, name: str, *arguments: str, prefix: Sequence[str] = ()) -> None:
        """`prefix` puts it into a room."""
        words = ("worker", "tests.cluster.task_app:app", "--name", name, *arguments)
        self._processes[name] = start(
            python("taskraft.cli", *words),
            prefix=prefix,
            log=self._folder / f"{name}.log",
            env={
                "EXECUTIONS": str(self._folder),
                "TASKRAFT_ADDRESS": self._cluster.addresses,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
            },
        )

    def kill(self, name: str) -> None:
        """kill -9; returns when it is gone."""
        end(self._processes[name])

    def send(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def wait(self, name: str) -> int:
        """The exit code, when it has ended by itself."""
        return self._processes[name].wait(timeout=30)

    def log(self, name: str) -> str:
        return tail(self._folder / f"{name}.log", 60)

    def close(self) -> None:
        for process in self._processes.values():
            end(process)

    def executions(self) -> list[Execution]:
        """All that was written down so far."""
        lines = [line for path in self._folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [Execution(**json.loads(line)) for line in lines]

    def begun(self, count: int = 1) -> list[Execution]:
        """The executions that have begun, once there are so many."""

        def enough() -> list[Execution] | None:
            begun = [one for one in self.executions() if one.what != "end"]
            return begun if len(begun) >= count else None

        return wait_for(enough, f"{count} executions")

    def repeated(self) -> dict[str, int]:
        """How often tasks were begun that were begun more than once."""
        counts = Counter(one.task for one in self.executions() if one.what == "begin")
        return {task: count for task, count in counts.items() if count > 1}


def claim_success(address: str, queue: str, lease_id: int) -> dict[int, str]:
    """Say as another worker, with nothing but the generated stubs, that a lease has succeeded; what was refused and why."""
    said: queue_module.Queue[worker_pb2.WorkRequest | None] = queue_module.Queue()
    hello = worker_pb2.Hello(
        worker_id="stranger", instance_id="1", queues=[f"queues/{queue}"], protocol_version=1
    )
    outcome = worker_pb2.Outcome(lease_id=lease_id, result=task_pb2.TaskResult(data=b"0"))
    said.put(worker_pb2.WorkRequest(hello=hello))
    said.put(worker_pb2.WorkRequest(outcomes=worker_pb2.Outcomes(outcomes=[outcome])))
    with grpc.insecure_channel(address) as channel:
        answers = worker_pb2_grpc.WorkerServiceStub(channel).Work(iter(said.get, None), timeout=10)
        for answer in answers:
            if answer.WhichOneof("response") == "rejected":
                said.put(None)
                return dict.fromkeys(answer.rejected.lease_ids, answer.rejected.reason)
    raise AssertionError("the broker said nothing of it")
