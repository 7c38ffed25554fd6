"""ListTasks: newest first, or in the order in which a queue's policy would start what waits.

A page looks at a bounded number of tasks and says where it stopped, so a filter that matches little costs little at a
time. Positions are stable: tasks that come or go between pages neither repeat nor hide others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from typing import Final, NamedTuple, Protocol

from node import limits
from node.api import task_filter
from node.api.pages import ITEM_OVERHEAD_BYTES, read_number
from node.api.task_views import Views
from node.policies import Head, Policy, Rank, policy
from node.state.rows import QueueRow
from node.state.task_rows import QUEUED, LaneRow, ReadyTask, TaskRow
from node.tasks.watch import Wanted
from taskraft.v1 import task_pb2

LANE_ROWS: Final = 64  # of a lane, fetched at once
LANES_ROWS: Final = 8_192  # of all lanes, fetched at first
LANES_AT_ONCE: Final = 200  # then others have their turn
LOOKED_AT_ONCE_MIN: Final = 32
LOOKED_AT_ONCE_MAX: Final = 500
SIMULATED_AT_ONCE: Final = 1_000  # starts that are before a page; then others have their turn


class State(task_filter.Named, Protocol):
    """The part of the state machine that lists."""

    def tasks_list(
        self,
        *,
        before: int = 0,
        queue_id: int = 0,
        workflow_id: int = 0,
        states: Sequence[int] = (),
        worker_id: str = "",
        created_from_ms: int = 0,
        created_before_ms: int = 0,
        looked_at: int = limits.PAGE_SIZE_MAX,
    ) -> tuple[list[TaskRow], int]:
        """Those of the next `looked_at` tasks that are meant, newest first, and the number to go on before; 0: no more."""
        ...

    def task_by_number(self, number: int) -> TaskRow | None:
        """The task of that number."""
        ...

    def lanes(self, queue_id: int) -> list[LaneRow]:
        """The lanes of a queue that have QUEUED tasks."""
        ...

    def ready(self, lane_id: int, after: tuple[int, int] | None, limit: int) -> list[ReadyTask]:
        """The QUEUED tasks of a lane behind (key, number), in order."""
        ...


class Found(NamedTuple):
    """Rows that were found together, each with the position behind it; `behind` is the one behind all, None at the end."""

    rows: list[tuple[TaskRow, str]]
    looked_at: int
    behind: str | None


class Page(NamedTuple):
    """Tasks, and the position behind them; None: there are no more."""

    tasks: list[task_pb2.Task]
    position: str | None


def at_once(size: int) -> int:
    """How many tasks to look at together for a page of that size."""
    return max(LOOKED_AT_ONCE_MIN, min(size, LOOKED_AT_ONCE_MAX))


async def page(found: AsyncIterator[Found], views: Views, wanted: Wanted, view: int, size: int) -> Page:
    """The first tasks of `found` that are wanted: up to `size`, PAGE_BYTES_MAX, and of PAGE_ROWS_MAX looked at."""
    tasks: list[task_pb2.Task] = []
    held = looked_at = 0
    position: str | None = None
    async for some in found:
        rows = [(row, behind) for row, behind in some.rows if wanted.has(row)]
        for task, (_, behind) in zip(views.shown((row for row, _ in rows), view), rows, strict=True):
            if wanted.shows(task):
                held += task.ByteSize() + ITEM_OVERHEAD_BYTES
                if tasks and held > limits.PAGE_BYTES_MAX:
                    return Page(tasks, position)
                tasks.append(task)
            position = behind
            if len(tasks) == size:
                return Page(tasks, position)
        position = some.behind
        looked_at += some.looked_at
        if position is None or looked_at >= limits.PAGE_ROWS_MAX:
            break
    return Page(tasks, position)


# Newest first -----------------------------------------------------------------------------------------------------


async def newest(
    state: State, wanted: Wanted, position: str = "", at_once: int = LOOKED_AT_ONCE_MAX
) -> AsyncIterator[Found]:
    """Tasks behind `position`, newest first; so many are looked at, then others have their turn."""
    before = read_number(position)
    while True:
        rows, before = state.tasks_list(
            before=before,
            queue_id=wanted.queue_id or 0,
            workflow_id=wanted.workflow_id or 0,
            states=sorted(wanted.states),
            worker_id=wanted.worker_id,
            created_from_ms=wanted.from_ms or 0,
            created_before_ms=wanted.before_ms or 0,
            looked_at=at_once,
        )
        behind = str(before) if before else None
        yield Found([(row, str(row.number)) for row in rows], at_once, behind)
        if not before:
            return
        await asyncio.sleep(0)


# In scheduling order ----------------------------------------------------------------------------------------------


async def scheduled(
    state: State,
    queue: QueueRow,
    live: Policy | None,
    position: str = "",
    at_once: int = LOOKED_AT_ONCE_MAX,
) -> AsyncIterator[Found]:
    """The QUEUED tasks of a queue behind `position`, in the order of its policy; `live` is the leader's own, which knows
    what tenants have used. So many are looked at, then others have their turn.
    """
    order = policy(queue.config.scheduling) if live is None else deepcopy(live)  # it is played with
    choose = _by_rank if order.rank_is_static else _in_turns
    chosen: list[tuple[int, str]] = []
    async for each in choose(state, queue.id, order, position):
        chosen.append(each)
        if len(chosen) == at_once:
            yield _found(state, chosen, chosen[-1][1])
            chosen.clear()
            await asyncio.sleep(0)
    yield _found(state, chosen, None)


def _found(state: State, chosen: Sequence[tuple[int, str]], behind: str | None) -> Found:
    queued = [
        (row, position)
        for number, position in chosen
        if (row := state.task_by_number(number)) is not None and row.state == QUEUED
    ]
    return Found(queued, len(chosen), behind)


async def _by_rank(
    state: State, queue_id: int, order: Policy, position: str
) -> AsyncIterator[tuple[int, str]]:
    """(number, position behind it) where the rank of a task is always the same: lanes are merged by it."""
    after = _place(position) if position else None
    heap: list[tuple[Rank, int, _Line]] = [
        (order.rank(line.head), line.lane_id, line) async for line in _lines(state, queue_id, after)
    ]
    heapq.heapify(heap)
    while heap:
        _, lane_id, line = heap[0]
        key, number, _ = line.head
        if line.advance():
            heapq.heapreplace(heap, (order.rank(line.head), lane_id, line))
        else:
            heapq.heappop(heap)
        yield number, f"{key}:{number}"


async def _in_turns(
    state: State, queue_id: int, order: Policy, position: str
) -> AsyncIterator[tuple[int, str]]:
    """(number, position behind it) where each start changes the ranks: all starts from now on are simulated.

    A position is how many tasks are before it, so a page begins with a simulation of those before. Each run is taken to
    last as long as expected, and to be over before the next choice.
    """
    skipped = read_number(position)
    by_tenant: dict[str, list[tuple[int, int, int, _Line]]] = {}
    async for line in _lines(state, queue_id, None):
        order.opened(line.head.tenant)
        by_tenant.setdefault(line.head.tenant, []).append((*line.head[:2], line.lane_id, line))
    for lines in by_tenant.values():
        heapq.heapify(lines)
    tenants = [(order.rank(lines[0][3].head), tenant) for tenant, lines in by_tenant.items()]
    heapq.heapify(tenants)
    place = 0
    while tenants:
        _, tenant = tenants[0]
        lines = by_tenant[tenant]
        _, number, lane_id, line = lines[0]
        size_ms = line.size_ms
        order.started(tenant, size_ms)
        order.settled(tenant, size_ms, size_ms)
        if line.advance():
            heapq.heapreplace(lines, (*line.head[:2], lane_id, line))
        else:
            heapq.heappop(lines)
            order.closed(tenant)
        if lines:
            heapq.heapreplace(tenants, (order.rank(lines[0][3].head), tenant))
        else:
            heapq.heappop(tenants)
        place += 1
        if place > skipped:
            yield number, str(place)
        elif place % SIMULATED_AT_ONCE == 0:
            await asyncio.sleep(0)


class _Line:
    """What waits in one lane, fetched piece by piece. There is always a `head`."""

    __slots__ = ("_coming", "_state", "_tenant", "head", "lane_id", "size_ms")

    def __init__(self, state: State, lane: LaneRow, tasks: Sequence[ReadyTask]) -> None:
        assert tasks
        self.lane_id, self._tenant = lane.id, lane.demand.tenant
        self._state = state
        self._coming = deque(tasks)
        self._show(self._coming.popleft())

    def _show(self, task: ReadyTask) -> None:
        self.head, self.size_ms = Head(task.key, task.number, self._tenant), task.size_ms

    def advance(self) -> bool:
        """Go on to the next task; False if there is none."""
        if not self._coming:
            self._coming.extend(self._state.ready(self.lane_id, (self.head.key, self.head.number), LANE_ROWS))
        if self._coming:
            self._show(self._coming.popleft())
            return True
        return False


async def _lines(state: State, queue_id: int, after: tuple[int, int] | None) -> AsyncIterator[_Line]:
    """The lanes of a queue that have tasks behind (key, number)."""
    lanes = state.lanes(queue_id)
    first = max(1, min(LANE_ROWS, LANES_ROWS // max(1, len(lanes))))
    for place, lane in enumerate(lanes, 1):
        if tasks := state.ready(lane.id, after, first):
            yield _Line(state, lane, tasks)
        if place % LANES_AT_ONCE == 0:
            await asyncio.sleep(0)


# Positions --------------------------------------------------------------------------------------------------------


def _place(position: str) -> tuple[int, int]:
    """(key, number). Raises InvalidField."""
    key, _, number = position.partition(":")
    sign = -1 if key.startswith("-") else 1
    return sign * read_number(key.removeprefix("-")), read_number(number)
