"""The streams of TaskService on the leader: WatchTasks and WaitTask.

Both subscribe before they look, so that nothing falls between what is there and what changes. They write as fast as
they are read and look up what they write, so a slow reader costs a set of numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeVar

from node import limits
from node.api import task_filter, task_lists, validate
from node.api.forward import Context
from node.api.pages import Page
from node.api.task_views import Views
from node.errors import InvalidField, TaskNotFound
from node.replication import Replicated
from node.state.task_rows import TaskRow
from node.tasks.watch import Wanted, Watcher, Watchers
from taskraft.v1 import task_pb2

Value = TypeVar("Value")

STREAM_BYTES_SOFT: Final = 512 * limits.KIB  # a response is closed when it is this large
SHOWN_AT_ONCE: Final = 32  # tasks, which may be large: they are in memory together
LOOKED_UP_AT_ONCE: Final = 1_000  # names; then others have their turn


class State(task_lists.State, Protocol):
    """The part of the state machine that streams read."""

    def tasks_named(self, names: Sequence[str]) -> dict[str, TaskRow]:
        """Those of these tasks that exist, by their full names."""
        ...


class TaskStreams:
    """TaskService's streams by name."""

    def __init__(self, *, state: State, views: Views, watchers: Watchers, replica: Replicated) -> None:
        self._state, self._views = state, views
        self._watchers, self._replica = watchers, replica

    # WatchTasks ---------------------------------------------------------------------------------------------------

    async def WatchTasks(self, data: bytes, context: Context) -> None:
        request = task_pb2.WatchTasksRequest.FromString(data)
        task_filter.check(request.filter)
        view = task_filter.view(request.view)
        await self._replica.read_barrier()
        wanted = task_filter.wanted(request.filter, self._state)
        watcher = self._watchers.watch(wanted)
        try:
            if request.include_current:
                async for found in task_lists.newest(self._state, wanted):
                    await self._write(context, [row.number for row, _ in found.rows], wanted, view)
            await context.write(task_pb2.WatchTasksResponse(current_sent=True).SerializeToString())
            while True:
                await self._write(context, await watcher.changed(), wanted, view)
        finally:
            self._watchers.leave(watcher, wanted)

    async def _write(self, context: Context, numbers: Sequence[int], wanted: Wanted, view: int) -> None:
        """Write those of these tasks that are wanted, as they are when they are written."""
        for some in batched(numbers, SHOWN_AT_ONCE):
            found = (self._state.task_by_number(number) for number in some)
            rows = [row for row in found if row is not None and wanted.has(row)]
            tasks = [task for task in self._views.shown(rows, view) if wanted.shows(task)]
            for response in responses(task_pb2.WatchTasksResponse, tasks):
                await context.write(response)

    # WaitTask -----------------------------------------------------------------------------------------------------

    async def WaitTask(self, data: bytes, context: Context) -> None:
        request = task_pb2.WaitTaskRequest.FromString(data)
        view = task_filter.view(request.view)
        if not 1 <= len(request.names) <= limits.TASKS_WAITED_MAX:
            raise InvalidField("names", f"1 to {limits.TASKS_WAITED_MAX} names")
        for place, name in enumerate(request.names):
            validate.task_name(name, f"names[{place}]")
        await self._replica.read_barrier()
        watcher = self._watchers.wait()
        waiting: dict[int, str] = {}
        try:
            for names in batched(list(dict.fromkeys(request.names)), LOOKED_UP_AT_ONCE):
                rows = self._named(names)
                waiting.update((row.number, row.name) for row in rows)
                self._watchers.expect(watcher, [row.number for row in rows])
                ended = [row.number for row in rows if row.has_ended]
                await self._finish(context, watcher, ended, waiting, view)
                await asyncio.sleep(0)
            while waiting:
                numbers = await watcher.changed()
                if watcher.recheck:
                    watcher.recheck = False
                    self._named(list(waiting.values()))
                await self._finish(context, watcher, numbers, waiting, view)
        finally:
            self._watchers.leave(watcher, numbers=waiting)

    async def _finish(
        self, context: Context, watcher: Watcher, numbers: Sequence[int], waiting: dict[int, str], view: int
    ) -> None:
        """Write those of these tasks that have ended, and wait for them no longer. Raises TaskNotFound."""
        for some in batched([number for number in numbers if number in waiting], SHOWN_AT_ONCE):
            rows = [self._existing(number, waiting) for number in some]
            ended = [row for row in rows if row.has_ended]  # or else it was given new attempts meanwhile
            self._watchers.leave(watcher, numbers=[row.number for row in ended])
            for row in ended:
                del waiting[row.number]
            tasks = list(self._views.shown(ended, view, with_results=True))
            for response in responses(task_pb2.WaitTaskResponse, tasks):
                await context.write(response)

    def _existing(self, number: int, waiting: dict[int, str]) -> TaskRow:
        row = self._state.task_by_number(number)
        if row is None:
            raise _forgotten(waiting[number])
        return row

    def _named(self, names: Sequence[str]) -> list[TaskRow]:
        """These tasks, in their order. Raises TaskNotFound."""
        rows = self._state.tasks_named(names)
        for name in names:
            if name not in rows:
                raise _forgotten(name)
        return [rows[name] for name in names]


def responses(
    kind: type[task_pb2.WatchTasksResponse | task_pb2.WaitTaskResponse],
    tasks: Sequence[task_pb2.Task],
) -> Iterator[bytes]:
    """These tasks in as few responses as their sizes allow."""
    left = list(tasks)
    while left:
        page = Page(left, STREAM_BYTES_SOFT)
        del left[: page.count]
        yield kind(tasks=page.items).SerializeToString()


def batched(values: Sequence[Value], size: int) -> Iterator[Sequence[Value]]:
    """The same values in pieces of that size."""
    for place in range(0, len(values), size):
        yield values[place : place + size]


def _forgotten(name: str) -> TaskNotFound:
    return TaskNotFound(f"there is no task {name}", task=name)
