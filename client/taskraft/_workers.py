"""The workers of a cluster: who is connected, and how to send one home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from taskraft._times import time_of
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from taskraft._connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as the broker knows it.

    `capacity` is what it has of each resource, `used` what its tasks take; `leases` are the tasks that it holds,
    `overdue_tasks` those past their slice that do not yield; `load` is 0 idle, 1 full, above that overloaded. It is not
    `connected` if its stream is broken and its leases still run.
    """

    id: str
    instance_id: str
    queues: tuple[str, ...]
    types: tuple[str, ...]
    labels: Mapping[str, str]
    capacity: Mapping[str, float]
    used: Mapping[str, float]
    slots: int
    leases: int
    overdue_tasks: int
    load: float
    connected: bool
    draining: bool
    connect_time: datetime | None
    heartbeat_time: datetime | None


class Workers:
    """The workers of a cluster, as `client.workers`. Every method raises TaskraftError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> AsyncGenerator[WorkerInfo]:
        """The workers that are connected, or were and hold leases, by id."""
        request = worker_pb2.ListWorkersRequest(page_size=1_000)
        while True:
            response = await self._connection.call(
                "WorkerService/ListWorkers", request, worker_pb2.ListWorkersResponse.FromString
            )
            for worker in response.workers:
                yield worker_info(worker)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def drain(self, worker_id: str) -> None:
        """Ask a worker to finish what it runs, hand the rest back and take nothing more. WorkerNotFound."""
        await self._connection.call(
            "WorkerService/DrainWorker",
            worker_pb2.DrainWorkerRequest(worker_id=worker_id),
            worker_pb2.DrainWorkerResponse.FromString,
        )


def worker_info(worker: worker_pb2.Worker) -> WorkerInfo:
    return WorkerInfo(
        id=worker.worker_id,
        instance_id=worker.instance_id,
        queues=tuple(queue.removeprefix("queues/") for queue in worker.queues),
        types=tuple(worker.types),
        labels=dict(worker.labels),
        capacity=dict(worker.capacity),
        used=dict(worker.used),
        slots=worker.slots,
        leases=worker.leases,
        overdue_tasks=worker.overdue_tasks,
        load=worker.load,
        connected=worker.connected,
        draining=worker.draining,
        connect_time=time_of(worker.connect_time),
        heartbeat_time=time_of(worker.heartbeat_time),
    )
