"""Tasks as the batch in hand has left them.

Transitions change rows and say `put`; `conclude`, after each command, finds out what that means: for the counts of
queues, lanes and workflows, and for those who listen. Rows are written in bulk, and late: when their tasks have ended,
before the store commits, before SQL has to find them, or when they are too many. So a task that is submitted, leased and done within a commit's
time is written once and not three times. A task is dead if its queue was deleted, or was purged while it waited: only
the sweep of `graves.py` finds it.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

from node import limits
from node.state.contents import Contents
from node.state.lanes import Lanes
from node.state.sizes import Sizes
from node.state.store import Store
from node.state.task_counts import TaskQueues
from node.state.task_rows import (
    COLUMNS,
    LEASED,
    SUCCEEDED,
    TaskQueueRow,
    TaskRow,
    pack_course,
    pack_terms,
    unpacked,
)

_SELECT: Final = f"SELECT {', '.join(COLUMNS)}, terms, course FROM tasks"
_INSERT: Final = f"INSERT INTO tasks VALUES ({'?, ' * len(COLUMNS)}?, ?, ?)"
_COURSE: Final = ("state", "end_ms", "due_ms", "stamp")  # columns that the course of a lease changes
_CHANGING: Final = ("lane_id", "key", "children", *_COURSE)
_UPDATE: Final = f"UPDATE tasks SET {' = ?, '.join(_CHANGING)} = ?, terms = ?, course = ? WHERE number = ?"
_UPDATE_COURSE: Final = f"UPDATE tasks SET {' = ?, '.join(_COURSE)} = ?, course = ? WHERE number = ?"
FORGETTABLE: Final = "queue_id = ? AND state = ? AND end_ms > 0 AND children = 0 AND workflow_id = 0"
"""Tasks that have ended and may be forgotten one by one."""
NEVER: Final = 1 << 62
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
        self._unwritten: dict[int, TaskRow] = {}  # put by concluded commands since they were written
        self._wide: dict[int, None] = {}  # numbers of those of which more than the course may have changed
        self._added: dict[int, TaskRow] = {}  # of those that SQL has never seen
        self._added_names: dict[str, TaskRow] = {}
        self._first_due_ms = NEVER  # of what is not written
        self._first_ended: dict[tuple[int, int], int] = {}  # by queue and state
        self._revived = False  # tasks that SQL may know as ended have begun anew

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
        """The tasks that an SQL condition (which may order and limit) finds, dead ones included."""
        self.flush()
        numbers = self._store.execute(f"SELECT number FROM tasks WHERE {where}", values).fetchall()
        return [*self._load(number for (number,) in numbers).values()]

    def first_due_ms(self) -> int | None:
        """When AdvanceTasks has to look at a task, at the earliest; only between batches."""
        (written,) = self._store.execute("SELECT min(due_ms) FROM tasks WHERE due_ms > 0").fetchone()
        first_ms = min(NEVER if written is None else written, self._first_due_ms)
        return None if first_ms == NEVER else first_ms

    def first_ended_ms(self, queue_id: int, state: int) -> int | None:
        """When the first of the tasks ended, at the earliest, that are in that state and belong to no workflow."""
        (written,) = self._store.execute(
            f"SELECT min(end_ms) FROM tasks WHERE {FORGETTABLE}", (queue_id, state)
        ).fetchone()
        first_ms = min(NEVER if written is None else written, self._first_ended.get((queue_id, state), NEVER))
        return None if first_ms == NEVER else first_ms

    # Writing ------------------------------------------------------------------------------------------------------

    def insert(self, row: TaskRow, spec: bytes) -> None:
        """There is a new task. It is not `put`, and may have been before."""
        self._rows[row.number] = self._added[row.number] = self._added_names[row.name] = row
        self.touched[row.number] = row
        self.contents.add_spec(row.number, spec)

    def put(self, row: TaskRow) -> None:
        """The row has changed."""
        self.touched[row.number] = row
        self._wide[row.number] = None

    def put_course(self, row: TaskRow) -> None:
        """The row has changed in what the course of a lease changes, which is written for less: its state, moments and
        stamp, and what `pack_course` packs.
        """
        self.touched[row.number] = row

    def conclude(self) -> None:
        """The command in hand is done with the rows that it has put."""
        self.changed.update(self.touched)
        self._unwritten.update(self.touched)
        self.touched.clear()

    def note_due(self, due_ms: int) -> None:
        """A row that was put has that `due_ms`."""
        self._first_due_ms = min(self._first_due_ms, due_ms)

    def note_ended(self, queue_id: int, state: int, end_ms: int) -> None:
        """A task that belongs to no workflow has ended then, and may now be forgotten one day."""
        self._first_ended[queue_id, state] = min(end_ms, self._first_ended.get((queue_id, state), NEVER))

    def note_revived(self) -> None:
        """A task was put that had ended before."""
        self._revived = True

    def free_names(self, rows: Iterable[TaskRow]) -> None:
        """These dead tasks give their names away."""
        self.flush()
        renamed = []
        for row in rows:
            row.name = f"\0{row.number}"  # nobody can ask for that
            renamed.append((row.name, row.number))
        self._store.connection.executemany("UPDATE tasks SET name = ? WHERE number = ?", renamed)

    def delete(self, numbers: Collection[int]) -> None:
        """These tasks, which are concluded, are forgotten with all that belongs to them but their edges."""
        listed = json.dumps([*numbers])
        self._store.execute("DELETE FROM tasks WHERE number IN (SELECT value FROM json_each(?))", (listed,))
        self.contents.delete(numbers, listed)
        for number in numbers:
            self._rows.pop(number, None)
            self.changed.pop(number, None)
            self._unwritten.pop(number, None)
            self._wide.pop(number, None)
            if row := self._added.pop(number, None):
                self._added_names.pop(row.name, None)
            assert number not in self.touched

    def flush(self) -> None:
        """Write all rows now, so that SQL finds them."""
        self._write({**self._unwritten, **self.touched} if self.touched else self._unwritten)
        self._unwritten.clear()
        self._wide.clear()
        self.lanes.write_back()
        self._revived = False
        self._first_ended.clear()
        self._first_due_ms = NEVER

    def _write(self, rows: Mapping[int, TaskRow]) -> None:
        """Write these rows, which have changed; those of them that are new are not new any more."""
        if not rows:
            return
        assert self._store.connection.in_transaction, "what is not written is not committed"
        added, wide, names = self._added, self._wide, self._added_names
        new = [row for number, row in rows.items() if number in added] if added else []
        if new:
            short = self.contents.take_short
            values = [(*_columns(row), pack_terms(row), pack_course(row), short(row.number)) for row in new]
            self._store.write_many(_INSERT, values)
        others = [row for number, row in rows.items() if number in wide and number not in added]
        if others:
            values = [(*_changing(row), pack_terms(row), pack_course(row), row.number) for row in others]
            self._store.write_many(_UPDATE, values)
        courses = [
            (row.state, row.end_ms, row.due_ms, row.stamp, pack_course(row), number)
            for number, row in rows.items()
            if number not in wide and number not in added
        ]
        if courses:
            self._store.write_many(_UPDATE_COURSE, courses)
        for row in new:
            del added[row.number]
            names.pop(row.name, None)
        self.queues.stale.update({row.queue_id for row in rows.values()})

    def write_back(self) -> list[TaskRow]:
        """The end of a batch: write what is not written late; the rows that have changed."""
        assert not self.touched, "a command was not concluded"
        for part in (self.contents, self.lanes, self.queues, self.sizes):
            part.write_back()
        self.write_ended()
        changed = [*self.changed.values(), *self.gone]
        self.changed.clear()
        self.gone.clear()
        if len(self._unwritten) > limits.TASK_ROWS_UNWRITTEN:
            self.flush()
        self._make_room()
        return changed

    def _make_room(self) -> None:
        """Forget some rows if too many are remembered."""
        surplus = len(self._rows) - limits.TASK_ROWS_CACHED
        if surplus > 0:
            for number in [*self._rows][: surplus + limits.TASK_ROWS_CACHED // 4]:
                if number not in self._unwritten:
                    del self._rows[number]

    def write_ended(self) -> None:
        """Write those that the batch has ended: they will hardly change again, and a commit has less to write at once.

        Afterwards SQL knows all tasks that have ended, and as they are.
        """
        if self._revived:
            self.flush()
            return
        self._first_ended.clear()
        ended = {
            number: row
            for number, row in self.changed.items()
            if row.state >= SUCCEEDED and number in self._unwritten
        }
        self._write(ended)
        for number in ended:
            del self._unwritten[number]
            self._wide.pop(number, None)

    def forget(self) -> None:
        """Drop everything that is remembered of the tables."""
        for remembered in (
            self._rows,
            self._unwritten,
            self._added,
            self._added_names,
            self.touched,
            self.changed,
            self._wide,
            self._first_ended,
        ):
            remembered.clear()
        self._first_due_ms, self._revived = NEVER, False
        self.gone.clear()
        for part in (self.lanes, self.sizes, self.contents, self.queues):
            part.forget()

    def queue(self, queue_id: int) -> TaskQueueRow | None:
        """What the queue of that id holds; None if it is gone or not of kind TASK."""
        return self.queues.find(queue_id)
