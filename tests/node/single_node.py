"""A whole node in the test's event loop: real state machine, real gRPC over loopback, and a log in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from node.clock import Clock
from node.disk import Disk
from node.process import Node
from node.settings import Settings
from node.state.machine import Machine
from node.web.metrics import Metrics
from taskraft.v1 import (
    cluster_pb2_grpc,
    lock_pb2_grpc,
    queue_pb2,
    queue_pb2_grpc,
    schedule_pb2_grpc,
    task_pb2_grpc,
    worker_pb2_grpc,
)
from tests.node.memory_replica import MemoryReplica

WAIT_S = 5.0


@dataclass
class Running:
    """A node that serves, and stubs that call it."""

    node: Node
    replica: MemoryReplica
    machine: Machine
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.node.grpc.port}"

    @property
    def queues(self) -> Any:
        return queue_pb2_grpc.QueueServiceStub(self.channel)

    @property
    def cluster(self) -> Any:
        return cluster_pb2_grpc.ClusterServiceStub(self.channel)

    @property
    def tasks(self) -> Any:
        return task_pb2_grpc.TaskServiceStub(self.channel)

    @property
    def workers(self) -> Any:
        return worker_pb2_grpc.WorkerServiceStub(self.channel)

    @property
    def schedules(self) -> Any:
        return schedule_pb2_grpc.ScheduleServiceStub(self.channel)

    @property
    def locks(self) -> Any:
        return lock_pb2_grpc.LockServiceStub(self.channel)

    async def create(self, name: str, **settings: Any) -> None:
        request = queue_pb2.CreateQueueRequest(queue_id=name, queue=queue_pb2.Queue(**settings))
        await self.queues.CreateQueue(request)

    async def publish(self, name: str, *bodies: bytes) -> int:
        messages = [queue_pb2.Message(body=body) for body in bodies]
        answer = await self.queues.Publish(
            queue_pb2.PublishRequest(queue=f"queues/{name}", messages=messages)
        )
        return int(answer.first_sequence)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    directory: Path, *, leads: bool = True, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A node that leads, unless told otherwise."""
    clock = clock or Clock()
    chosen = Settings(
        node_id=settings.pop("node_id", "n1"),
        data_dir=directory,
        grpc_listen=f"127.0.0.1:{free_port()}",
        disk_free_min_bytes=0,
        **settings,
    )
    machine = Machine.open(directory / "state", clock_ms=clock.now_ms)
    replica = MemoryReplica(machine, node_id=chosen.node_id, announce={"grpc": chosen.grpc_listen})
    node = Node(chosen, machine, replica, disk=Disk(directory, 0), clock=clock, metrics=Metrics.create())
    await node.start()
    if leads:
        replica.lead()
    try:
        async with grpc.aio.insecure_channel(chosen.grpc_listen) as channel:
            yield Running(node, replica, machine, channel)
    finally:
        await node.grpc.stop(0)
        machine.close()


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story; no test takes longer than this."""

    async def bounded() -> None:
        await asyncio.wait_for(story, 20)

    asyncio.run(bounded())


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_S
    while not condition():
        assert loop.time() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.005)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """How a call was refused: status, reason and metadata of the only ErrorInfo."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the call was not refused")


def refusal_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            infos = []
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    infos.append(info)
            assert len(infos) == 1
            assert infos[0].domain == "taskraft"
            return error.code(), infos[0].reason, dict(infos[0].metadata)
    raise AssertionError(f"no details: {error}")
