"""All workers that this leader knows, connected or not, and which of them take tasks of which queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from node.tasks.workers import Worker


class WorkerPool:
    """Workers by id. `version` changes whenever what can run where may have changed."""

    def __init__(self) -> None:
        self.version = 0
        self._workers: dict[str, Worker] = {}
        self._of_queue: dict[int, list[Worker]] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> Worker | None:
        return self._workers.get(worker_id)

    def of_queue(self, queue_id: int) -> Sequence[Worker]:
        """Those that take tasks of a queue, connected or not."""
        return self._of_queue.get(queue_id, ())

    def put(self, worker: Worker) -> None:
        """A worker came, in place of another one of its id, or says now what it is."""
        self.remove(worker.worker_id)
        self._workers[worker.worker_id] = worker
        for queue_id in worker.queues:
            self._of_queue.setdefault(queue_id, []).append(worker)
        self.version += 1

    def changed(self) -> None:
        """A worker's capacity is another one now."""
        self.version += 1

    def remove(self, worker_id: str) -> None:
        """A worker is gone, if it was here."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        for queue_id, workers in list(self._of_queue.items()):
            if worker in workers:
                workers.remove(worker)
                if not workers:
                    del self._of_queue[queue_id]
        self.version += 1
