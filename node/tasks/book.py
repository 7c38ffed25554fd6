"""The leases in force, and the moments at which something is to be done about them.

Times are of the leader's monotonic clock, so that a wall clock that jumps ends no lease.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from node.tasks.workers import Lease


class LeaseBook:
    """Leases by id and by task. Invariant: a task has at most one."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._by_number: dict[int, Lease] = {}
        self._slices: list[tuple[int, int, Lease]] = []
        self._timeouts: list[tuple[int, int, Lease]] = []
        self._retries: list[tuple[int, int, Lease]] = []
        self._turns = count()

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def get(self, lease_id: int) -> Lease | None:
        return self._leases.get(lease_id)

    def of_task(self, number: int) -> Lease | None:
        return self._by_number.get(number)

    def add(self, lease: Lease) -> None:
        leased = lease.leased
        assert leased.number not in self._by_number, "a task has one lease"
        self._leases[leased.lease_id] = self._by_number[leased.number] = lease
        lease.worker.own(lease)

    def pop(self, lease_id: int) -> Lease | None:
        """The lease is over."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            del self._by_number[lease.leased.number]
            lease.worker.leases.pop(lease_id, None)
            lease.worker.unreceived.pop(lease_id, None)
        return lease

    # Moments ------------------------------------------------------------------------------------------------------

    def slice_ends(self, lease: Lease, at_ms: int) -> None:
        heapq.heappush(self._slices, (at_ms, next(self._turns), lease))

    def times_out(self, lease: Lease, at_ms: int) -> None:
        heapq.heappush(self._timeouts, (at_ms, next(self._turns), lease))

    def retry(self, lease: Lease, at_ms: int) -> None:
        heapq.heappush(self._retries, (at_ms, next(self._turns), lease))

    def to_retry(self, now_ms: int) -> list[Lease]:
        """Leases in force whose end could not be applied, once it is time to try again."""
        due = []
        while self._retries and self._retries[0][0] <= now_ms:
            lease = heapq.heappop(self._retries)[2]
            if self._in_force(lease):
                due.append(lease)
        return due

    def sliced(self, now_ms: int) -> list[Lease]:
        """Leases whose slice has ended since the last call."""
        return self._due(self._slices, now_ms)

    def timed_out(self, now_ms: int) -> list[Lease]:
        """Leases that have run too long, since the last call."""
        return self._due(self._timeouts, now_ms)

    def _due(self, heap: list[tuple[int, int, Lease]], now_ms: int) -> list[Lease]:
        due = []
        while heap and (heap[0][0] <= now_ms or not self._in_force(heap[0][2])):
            lease = heapq.heappop(heap)[2]
            if self._in_force(lease) and not lease.settling:
                due.append(lease)
        return due

    def _in_force(self, lease: Lease) -> bool:
        return self._leases.get(lease.leased.lease_id) is lease

    def next_ms(self) -> int | None:
        """When there is something to do about a lease."""
        moments = [heap[0][0] for heap in (self._slices, self._timeouts, self._retries) if heap]
        return min(moments) if moments else None
