"""The lanes of one queue, in the order in which its policy would start their heads."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from node.policies import Head, Policy, Rank
from node.state.task_rows import LaneRow, ReadyTask
from node.tasks.window import Ready, Window

if TYPE_CHECKING:
    from node.tasks.workers import Worker

FIRST_LOOK_TASKS = 65_536
"""Waiting tasks of a queue that a new leader fetches at first, over all lanes."""


class Lanes(Ready, Protocol):
    """The part of the state machine that knows lanes."""

    def lanes(self, queue_id: int) -> list[LaneRow]:
        """The lanes of a queue that have QUEUED tasks."""
        ...

    def lane(self, lane_id: int) -> LaneRow | None:
        """The lane of that id."""
        ...


class Lane:
    """The tasks of a queue that are alike for placement and limits. `matched` are the workers that can ever run them."""

    __slots__ = (
        "demand",
        "id",
        "limit_key",
        "matched",
        "matched_at",
        "open",
        "queued",
        "resources",
        "shape",
        "tenant",
        "window",
    )

    def __init__(self, row: LaneRow, window: Window) -> None:
        self.id, self.demand, self.window = row.id, row.demand, window
        self.resources = dict(row.demand.resources)
        self.tenant, self.limit_key = row.demand.tenant, row.demand.limit_key
        self.shape = (
            row.demand.type,
            *sorted(self.resources.items()),
            *sorted(row.demand.worker_labels.items()),
        )
        """Equal for lanes whose tasks fit the same workers."""
        self.open = False  # it is known to have waiting tasks, and the policy knows
        self.queued: Rank | None = None  # the rank of its valid entry in the heap
        self.matched: list[Worker] = []
        self.matched_at = -1  # the version of the workers that `matched` is of

    def head(self) -> Head | None:
        task = self.window.head()
        return None if task is None else Head(task.key, task.number, self.tenant)


class LaneOrder:
    """All lanes of a queue with waiting tasks; `next` gives them in the policy's order.

    Invariant: an open lane has exactly one valid entry in the heap, or was given out by `next` and not `put` back.
    """

    def __init__(self, state: Lanes, queue_id: int, policy: Policy) -> None:
        self._state, self._queue_id = state, queue_id
        self._policy = policy
        self._lanes: dict[int, Lane] = {}
        self._heap: list[tuple[Rank, int]] = []
        self._by_tenant: dict[str, set[int]] = {}
        rows = state.lanes(queue_id)
        self._first = max(1, FIRST_LOOK_TASKS // max(1, len(rows)))
        for row in rows:
            self.put(self._add(row))

    @property
    def waiting(self) -> bool:
        """False if surely nothing waits here."""
        return bool(self._heap)

    def __iter__(self) -> Iterator[Lane]:
        """All lanes, in no order."""
        return iter(self._lanes.values())

    def get(self, lane_id: int) -> Lane | None:
        return self._lanes.get(lane_id)

    def ready(self, lane_id: int, tasks: Iterable[ReadyTask]) -> None:
        """These tasks of a lane wait now."""
        lane = self._lanes.get(lane_id)
        if lane is None:
            row = self._state.lane(lane_id)
            if row is None:
                return  # its tasks ended within the same batch
            lane = self._add(row)
        lane.window.add(tasks)
        self.put(lane)

    def unready(self, lane_id: int, numbers: Iterable[int]) -> None:
        """These tasks of a lane do not wait any more."""
        if lane := self._lanes.get(lane_id):
            for number in numbers:
                lane.window.remove(number)

    def forget(self, lane_id: int) -> None:
        """The lane is gone from the state."""
        if lane := self._lanes.pop(lane_id, None):
            self._close(lane)
            of_tenant = self._by_tenant[lane.tenant]
            of_tenant.discard(lane_id)
            if not of_tenant:
                del self._by_tenant[lane.tenant]

    def next(self, held: Lane | None = None) -> Lane | None:
        """Take out the lane that is first, None if nothing waits; it must be `put` back, or be `held` at the next call.

        That one takes its place first.
        """
        if held is not None:
            if not self._heap and held.window.head() is not None:
                return held  # it is the only one
            self.put(held)
        while self._heap:
            rank, lane_id = heapq.heappop(self._heap)
            lane = self._lanes.get(lane_id)
            if lane is None or lane.queued != rank:
                continue
            lane.queued = None
            head = lane.head()
            if head is None:
                self._close(lane)
                continue
            if self._policy.rank(head) > rank:  # it was further ahead when it was put here
                self.put(lane)
                continue
            return lane
        return None

    def put(self, lane: Lane) -> None:
        """Give a lane its place, unless it has an earlier one already."""
        head = lane.head()
        if head is None:
            lane.queued = None
            self._close(lane)
            return
        if not lane.open:
            lane.open = True
            self._policy.opened(lane.tenant)
        rank = self._policy.rank(head)
        if lane.queued is None or rank < lane.queued:
            lane.queued = rank
            heapq.heappush(self._heap, (rank, lane.id))

    def moved(self, tenant: str) -> None:
        """The policy may rank the lanes of a tenant earlier now."""
        for lane_id in self._by_tenant.get(tenant, ()):
            self.put(self._lanes[lane_id])

    def _add(self, row: LaneRow) -> Lane:
        lane = Lane(row, Window(self._state, row.id, first=self._first))
        self._lanes[row.id] = lane
        self._by_tenant.setdefault(lane.tenant, set()).add(row.id)
        return lane

    def _close(self, lane: Lane) -> None:
        if lane.open:
            lane.open = False
            self._policy.closed(lane.tenant)
