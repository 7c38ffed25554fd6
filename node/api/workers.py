"""WorkerService's unary methods, on the leader: who works, and who is to stop."""

from __future__ import annotations

from typing import Protocol

from node.api import validate
from node.api.pages import Page, page_token, read_page_token
from node.replication import Replicated
from taskraft.v1 import worker_pb2


class Staff(Protocol):
    """The part of the scheduler that knows workers."""

    def workers(self) -> list[worker_pb2.Worker]:
        """All that are connected, or were and hold leases."""
        ...

    def drain_worker(self, worker_id: str) -> None:
        """Ask a worker to finish and stop. Raises WorkerNotFound."""
        ...


class Workers:
    """WorkerService's unary methods by name."""

    def __init__(self, staff: Staff, replica: Replicated) -> None:
        self._staff, self._replica = staff, replica

    async def ListWorkers(self, data: bytes) -> bytes:
        request = worker_pb2.ListWorkersRequest.FromString(data)
        size, after = validate.page_size(request.page_size), read_page_token(request.page_token)
        await self._replica.read_barrier()
        later = [worker for worker in self._staff.workers() if worker.worker_id > after]
        later.sort(key=lambda worker: worker.worker_id)
        page = Page(later[:size])
        response = worker_pb2.ListWorkersResponse(workers=page.items)
        if page.count < len(later):
            response.next_page_token = page_token(later[page.count - 1].worker_id)
        return response.SerializeToString()

    async def DrainWorker(self, data: bytes) -> bytes:
        request = worker_pb2.DrainWorkerRequest.FromString(data)
        worker_id = validate.worker_id(request.worker_id)
        await self._replica.read_barrier()
        self._staff.drain_worker(worker_id)
        return worker_pb2.DrainWorkerResponse().SerializeToString()
