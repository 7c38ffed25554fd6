"""Tasks as the batch in hand has left them.

Transitions change rows and say `put`; `conclude`, after each command, finds out what that means: for the counts of
queues, lanes and workflows, and for those who listen. At the end of a batch everything is written in bulk. A task is
dead if its queue was deleted, or was purged while it waited: only the sweep of `graves.py` finds it.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Final

from node import limits
from node.state.contents import Contents
from node.state.lanes import Lanes
from node.state.sizes import Sizes
from node.state.store import Statement, Store
from node.state.task_counts import TaskQueues
from node.state.task_rows import (
    COLUMNS,
    LEASED,
    TaskQueueRow,
    TaskRow,
    pack_course,
    pack_terms,
    unpacked,
)

_SELECT: Final = f"SELECT {', '.join(COLUMNS)}, terms, course FROM tasks"
_INSERT: Final = f"INSERT INTO tasks VALUES ({'?, ' * len(COLUMNS)}?, ?)"
_COURSE: Final = ("state", "end_ms", "due_ms", "stamp")  # columns that the course of a lease changes
_CHANGING: Final = ("lane_id", "key", "children", *_COURSE)
_UPDATE: Final = f"UPDATE tasks SET {' = ?, '.join(_CHANGING)} = ?, terms = ?, course = ? WHERE number = ?"
_UPDATE_COURSE: Final = f"UPDATE tasks SET {' = ?, '.join(_COURSE)} = ?, course = ? WHERE number = ?"
_columns: Final = attrgetter(*COLUMNS)
_changing: Final = attrgetter(*_CHANGING)


class TaskTables:
    """What transitions of tasks read and write."""

    def __init__(self, store: Store) -> None:
        self.lanes = Lanes(store)
        self.sizes = Sizes(store)
        self.contents = Contents(store)
        self.queues = TaskQueues(store)
        self.touched: dict[int, TaskRow] = {}
        """Rows that the command in hand has put."""
        self.changed: dict[int, TaskRow] = {}
        """Rows that the batch in hand has put, by earlier commands."""
        self.gone: list[TaskRow] = []
        """Tasks that the batch in hand has ended and forgotten at once."""
        self._store = store
        self._rows: dict[int, TaskRow] = {}  # some recent ones, and all that are not written
        self._wide: dict[int, None] = {}  # numbers of those of which more than the course may have changed
        self._added: dict[int, TaskRow] = {}
        self._added_names: dict[str, TaskRow] = {}

    # Reading ------------------------------------------------------------------------------------------------------

    def is_dead(self, row: TaskRow) -> bool:
        """True if its queue is gone, or was purged of it."""
        queue = self.queues.find(row.queue_id)
        return queue is None or (row.state < LEASED and row.stamp <= queue.purged)

    def by_name(self, name: str) -> TaskRow | None:
        """The task of the full name `tasks/{task}`."""
        return self.by_names([name]).get(name)

    def by_names(self, names: Collection[str]) -> dict[str, TaskRow]:
        """Those of these tasks that exist, by their full names."""
        return {name: row for name, row in self.holders(names).items() if not self.is_dead(row)}

    def holders(self, names: Collection[str]) -> dict[str, TaskRow]:
        """The same with dead ones."""
        found = self._store.execute(
            "SELECT number FROM tasks WHERE name IN (SELECT value FROM json_each(?))", (json.dumps([*names]),)
        ).fetchall()
        rows = (
            {row.name: row for row in self._load([number for (number,) in found]).values()} if found else {}
        )
        if self._added_names:
            rows.update((name, self._added_names[name]) for name in names if name in self._added_names)
        return rows

    def by_number(self, number: int) -> TaskRow | None:
        """The task of that number."""
        return self.many([number]).get(number)

    def many(self, numbers: Iterable[int]) -> dict[int, TaskRow]:
        """Those of these tasks that exist, by number, in the order asked for."""
        return {number: row for number, row in self._load(numbers).items() if not self.is_dead(row)}

    def with_dead(self, numbers: Iterable[int]) -> dict[int, TaskRow]:
        """The same with dead ones."""
        return self._load(numbers)

    def _load(self, numbers: Iterable[int]) -> dict[int, TaskRow]:
        cached = self._rows
        rows = {number: cached.get(number) for number in numbers}
        missing = [number for number, row in rows.items() if row is None]
        if missing:
            found = self._store.execute(
                f"{_SELECT} WHERE number IN (SELECT value FROM json_each(?))", (json.dumps(missing),)
            )
            for values in found:
                rows[values[0]] = cached[values[0]] = unpacked(values[:-2], *values[-2:])
        return {number: row for number, row in rows.items() if row is not None}

    def select(self, where: str, values: Sequence[object]) -> list[TaskRow]:
        """The tasks that an SQL condition (which may order and limit) finds, dead ones included.

        Within a batch call `flush` before, or what the batch changed is not found where it is.
        """
        numbers = self._store.execute(f"SELECT number FROM tasks WHERE {where}", values).fetchall()
        return [*self._load(number for (number,) in numbers).values()]

    # Writing ------------------------------------------------------------------------------------------------------

    def insert(self, row: TaskRow, spec: bytes) -> None:
        """There is a new task. It is not `put`, and may have been before."""
        self._rows[row.number] = self._added[row.number] = self._added_names[row.name] = row
        self.touched[row.number] = row
        self.contents.put_spec(row.number, spec)

    def put(self, row: TaskRow) -> None:
        """The row has changed."""
        self.touched[row.number] = row
        self._wide[row.number] = None

    def put_course(self, row: TaskRow) -> None:
        """The row has changed in what the course of a lease changes, which is written for less: its state, moments and
        stamp, and what `pack_course` packs.
        """
        self.touched[row.number] = row

    def free_names(self, rows: Iterable[TaskRow]) -> None:
        """These dead tasks give their names away."""
        self.flush()
        renamed = []
        for row in rows:
            row.name = f"\0{row.number}"  # nobody can ask for that
            renamed.append((row.name, row.number))
        self._store.connection.executemany("UPDATE tasks SET name = ? WHERE number = ?", renamed)

    def delete(self, rows: Collection[TaskRow]) -> None:
        """These tasks are forgotten with all that belongs to them but their edges; nothing of them may be unwritten."""
        gone = [(row.number,) for row in rows]
        self._store.connection.executemany("DELETE FROM tasks WHERE number = ?", gone)
        self.contents.delete(rows)
        for (number,) in gone:
            self._rows.pop(number, None)
            self.changed.pop(number, None)
            self._wide.pop(number, None)
            assert number not in self.touched

    def flush(self) -> None:
        """Write rows now, so that SQL finds them."""
        self._wide.update(dict.fromkeys(self._added))  # the batch may go on changing them
        self._store.execute_all(self._unwritten())
        self.lanes.write_back()

    def _unwritten(self) -> list[Statement]:
        """What writes the rows that have changed; they count as written from now on."""
        rows = {**self.changed, **self.touched} if self.touched else self.changed
        added, wide = self._added, self._wide
        statements: list[Statement] = []
        if added:
            statements.append(
                (_INSERT, [(*_columns(row), pack_terms(row), pack_course(row)) for row in added.values()])
            )
            rows = {number: row for number, row in rows.items() if number not in added}
            added.clear()
            self._added_names.clear()
        courses = [
            (row.state, row.end_ms, row.due_ms, row.stamp, pack_course(row), number)
            for number, row in rows.items()
            if number not in wide
        ]
        if courses:
            statements.append((_UPDATE_COURSE, courses))
        others = [rows[number] for number in wide if number in rows]
        if others:
            values = [(*_changing(row), pack_terms(row), pack_course(row), row.number) for row in others]
            statements.append((_UPDATE, values))
        return statements

    def write_back(self) -> tuple[list[TaskRow], list[Statement]]:
        """Write what has changed, at the end of a batch: the rows that have, and what is still to be executed."""
        assert not self.touched, "a command was not concluded"
        statements = [*self._unwritten(), *self.contents.unwritten()]
        for part in (self.lanes, self.queues, self.sizes):
            part.write_back()
        changed = [*self.changed.values(), *self.gone]
        self.changed.clear()
        self._wide.clear()
        self.gone.clear()
        surplus = len(self._rows) - limits.TASK_ROWS_CACHED
        if surplus > 0:
            for number in [*self._rows][: surplus + limits.TASK_ROWS_CACHED // 4]:
                del self._rows[number]
        return changed, statements

    def forget(self) -> None:
        """Drop everything that is remembered of the tables."""
        for remembered in (
            self._rows,
            self._added,
            self._added_names,
            self.touched,
            self.changed,
            self._wide,
        ):
            remembered.clear()
        self.gone.clear()
        for part in (self.lanes, self.sizes, self.contents, self.queues):
            part.forget()

    def queue(self, queue_id: int) -> TaskQueueRow | None:
        """What the queue of that id holds; None if it is gone or not of kind TASK."""
        return self.queues.find(queue_id)
