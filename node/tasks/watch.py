"""Who watches which tasks: what has changed is kept by number until it is read, however slowly that is.

The state machine says which tasks a batch has changed. A watcher remembers their numbers only, in the order of the last
change; what they are is looked up when it is written, so a task that changed twice meanwhile comes once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from node import limits
from node.errors import ApiError, NotLeader, ShuttingDown, SlowReader
from node.state.listener import Silence
from node.state.task_rows import TaskRow
from taskraft.v1 import task_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which tasks are meant, as far as their rows say it. What is None or empty excludes nothing."""

    queue_id: int | None = None
    workflow_id: int | None = None
    states: frozenset[int] = frozenset()
    worker_id: str = ""
    from_ms: int | None = None
    before_ms: int | None = None
    type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def has(self, row: TaskRow) -> bool:
        """Whether all but type and labels fit, which a row does not say."""
        return (
            (self.queue_id is None or row.queue_id == self.queue_id)
            and (self.workflow_id is None or row.workflow_id == self.workflow_id)
            and (not self.states or row.state in self.states)
            and (not self.worker_id or row.worker_id == self.worker_id)
            and (self.from_ms is None or row.create_ms >= self.from_ms)
            and (self.before_ms is None or row.create_ms < self.before_ms)
        )

    def shows(self, task: task_pb2.Task) -> bool:
        """Whether type and labels fit."""
        return (not self.type or task.type == self.type) and all(
            task.labels.get(key) == value for key, value in self.labels.items()
        )


class Watcher:
    """What one stream has not written yet. `signal` is set when there is something, or `error` says that all is over."""

    def __init__(self, concerns: Callable[[TaskRow], bool]) -> None:
        self.signal = asyncio.Event()
        self.error: ApiError | None = None
        self.recheck = False
        """True if tasks may have vanished without a word: those of a queue that was deleted or purged."""
        self._concerns = concerns
        self._changed: dict[int, None] = {}

    def told(self, row: TaskRow) -> None:
        """A task has changed."""
        if self.error is None and self._concerns(row):
            self._changed.pop(row.number, None)
            self._changed[row.number] = None
            if len(self._changed) > limits.WATCH_CHANGED_MAX:
                self.end(SlowReader())
            self.signal.set()

    def look_again(self) -> None:
        self.recheck = True
        self.signal.set()

    def end(self, error: ApiError) -> None:
        """Nothing more is told; the first reason stays."""
        if self.error is None:
            self.error = error
        self._changed.clear()
        self.signal.set()

    async def changed(self, count: int = limits.WATCH_BATCH_TASKS) -> list[int]:
        """Up to so many of the tasks that have changed, longest ago first; waits for one, or for `recheck`.

        Raises the error that ended it.
        """
        while not self._changed and not self.recheck and self.error is None:
            self.signal.clear()
            await self.signal.wait()
        if self.error is not None:
            raise self.error
        numbers = [number for number, _ in zip(self._changed, range(count), strict=False)]
        for number in numbers:
            del self._changed[number]
        return numbers


class State(Protocol):
    """The part of the state machine that watching reads."""

    def task_by_number(self, number: int) -> TaskRow | None:
        """The task of that number."""
        ...


_EVERYTHING: Final = ("all", 0)


class Watchers(Silence):
    """All watchers of the leader. Those of some tasks, of a workflow or of a queue cost nothing when others change."""

    def __init__(self, state: State, *, not_leader: Callable[[], NotLeader]) -> None:
        self._state, self._not_leader = state, not_leader
        self._leads = self._stopping = False
        self._by_topic: dict[Hashable, dict[Watcher, None]] = {}

    # For the API --------------------------------------------------------------------------------------------------

    def watch(self, wanted: Wanted) -> Watcher:
        """Told of all changes of tasks that are wanted. Raises NotLeader, ShuttingDown."""
        topic: Hashable = _EVERYTHING
        if wanted.workflow_id is not None:
            topic = ("workflow", wanted.workflow_id)
        elif wanted.queue_id is not None:
            topic = ("queue", wanted.queue_id)
        watcher = self._new(wanted.has)
        self._by_topic.setdefault(topic, {})[watcher] = None
        return watcher

    def wait(self) -> Watcher:
        """Told when tasks end that it is to `expect`. Raises NotLeader, ShuttingDown."""
        return self._new(_has_ended)

    def expect(self, watcher: Watcher, numbers: Iterable[int]) -> None:
        """Tell it of these tasks."""
        for number in numbers:
            self._by_topic.setdefault(("task", number), {})[watcher] = None

    def leave(self, watcher: Watcher, wanted: Wanted | None = None, numbers: Collection[int] = ()) -> None:
        """Tell it nothing more: of what `watch` was asked, or of these tasks."""
        topics: list[Hashable] = [("task", number) for number in numbers]
        if wanted is not None:
            topics += [_EVERYTHING, ("workflow", wanted.workflow_id), ("queue", wanted.queue_id)]
        for topic in topics:
            watchers = self._by_topic.get(topic, {})
            watchers.pop(watcher, None)
            if not watchers:
                self._by_topic.pop(topic, None)

    def received(self, numbers: Iterable[int]) -> None:
        """The workers of these tasks have said that they have them, which the state machine does not know."""
        if self._by_topic:
            rows = (self._state.task_by_number(number) for number in numbers)
            self.tasks_changed([row for row in rows if row is not None])

    def stop(self) -> None:
        """This node stops: all streams end."""
        self._stopping = True
        self._end_all(ShuttingDown())

    def _new(self, concerns: Callable[[TaskRow], bool]) -> Watcher:
        if self._stopping:
            raise ShuttingDown
        if not self._leads:
            raise self._not_leader()
        return Watcher(concerns)

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        self._leads = True

    def follow(self) -> None:
        self._leads = False
        self._end_all(self._not_leader())

    def _end_all(self, error: ApiError) -> None:
        for watcher in {watcher for watchers in self._by_topic.values() for watcher in watchers}:
            watcher.end(error)

    # What the state machine says ----------------------------------------------------------------------------------

    def tasks_changed(self, rows: Sequence[TaskRow]) -> None:
        by_topic = self._by_topic
        if not by_topic:
            return
        everything = by_topic.get(_EVERYTHING, {})
        for row in rows:
            for topic in (("task", row.number), ("queue", row.queue_id), ("workflow", row.workflow_id)):
                for watcher in by_topic.get(topic, ()):
                    watcher.told(row)
            for watcher in everything:
                watcher.told(row)

    def tasks_purged(self, queue_id: int) -> None:
        self._look_again()

    def queue_deleted(self, queue_id: int) -> None:
        self._look_again()

    def _look_again(self) -> None:
        """Tasks are gone that nothing else is said of: whoever waits for single ones has to look."""
        for topic, watchers in self._by_topic.items():
            if isinstance(topic, tuple) and topic[0] == "task":
                for watcher in watchers:
                    watcher.look_again()


def _has_ended(row: TaskRow) -> bool:
    return row.has_ended
