"""Queues, producers and tasks as the batch in hand has left them, and the events it has caused.

Rows that a batch changes are kept here and written once at its end. `forget` drops all that is not written, for when
SQLite rolls back.
"""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from node.state import extras
from node.state.agenda import Agenda
from node.state.bodies import Bodies
from node.state.directory import Directory
from node.state.expiries import Expiries
from node.state.group_tables import GroupTables
from node.state.lock_tables import LockTables
from node.state.rows import Extra, ProducerRow, QueueRow
from node.state.scheduling import Rules, rules_of
from node.state.schema import body_id
from node.state.store import Store
from node.state.task_rows import Settled
from node.state.task_tables import TaskTables
from node.state.workflows import Workflows
from taskraft.v1 import queue_pb2

_ROWS_CACHED: Final = 4_096
_HOUR_MS: Final = 3_600_000
_QUEUE: Final = (
    "SELECT id, name, uid, etag, config, create_ms, update_ms, backlog, next_sequence, watermark, messages, bytes"
    " FROM queues"
)


class Position(NamedTuple):
    """Where a command stands: the entry, its place in the batch, and the time of the batch."""

    log_index: int
    ordinal: int
    time_ms: int

    def tag(self) -> str:
        """A name that no other command has."""
        return f"{self.log_index:x}.{self.ordinal:x}"

    @property
    def stamp(self) -> int:
        """A number that grows from command to command."""
        return body_id(self.log_index, self.ordinal)


def _queue_row(row: tuple[Any, ...], extra: Extra) -> QueueRow:
    return QueueRow(
        id=row[0],
        name=row[1],
        uid=row[2],
        etag=row[3],
        config=queue_pb2.Queue.FromString(row[4]),
        create_ms=row[5],
        update_ms=row[6],
        backlog=row[7],
        next_sequence=row[8],
        watermark=row[9],
        messages=row[10],
        bytes=row[11],
        extra=extra,
    )


@dataclass(slots=True)
class Tables:
    """What transitions read and write."""

    store: Store
    bodies: Bodies
    events: list[tuple[Any, ...]] = field(
        default_factory=list
    )  # (name of the listener's method, its arguments...)
    silent: bool = False
    """True if the events leave out what becomes ready, is leased and settled."""
    expiries: Expiries = field(default_factory=Expiries)
    next_due: tuple[int | None] | None = None
    """When AdvanceTasks has something to do, if that was asked for since the last batch."""
    settled: dict[int, list[Settled]] = field(default_factory=dict)
    """Leases of tasks that the command in hand has ended, by queue."""
    tasks: TaskTables = field(init=False)
    groups: GroupTables = field(init=False)
    workflows: Workflows = field(init=False)
    locks: LockTables = field(init=False)
    _directory: Directory | None = None
    _reconfigured: bool = False  # since the last commit
    _agenda: Agenda | None = None
    _queues: dict[str, QueueRow] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)  # of queues; may hold some that are gone
    _rules: dict[int, tuple[queue_pb2.Queue, Rules]] = field(default_factory=dict)
    _changed_queues: dict[int, QueueRow] = field(default_factory=dict)
    _changed_extras: dict[int, Extra] = field(default_factory=dict)
    _producers: dict[str, ProducerRow] = field(default_factory=dict)
    _changed_producers: dict[str, ProducerRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tasks = TaskTables(self.store)
        self.groups = GroupTables(self.store)
        self.workflows = Workflows(self.store)
        self.locks = LockTables(self.store)

    def queue(self, name: str) -> QueueRow | None:
        """The queue of that full name."""
        row = self._queues.get(name)
        if row is None:
            found = self.store.execute(f"{_QUEUE} WHERE name = ?", (name,)).fetchone()
            if found is not None:
                row = self._queues[name] = _queue_row(found, extras.load(self.store.execute, found[0]))
        return row

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        name = self._names.get(queue_id)
        if name is None:
            found = self.store.execute("SELECT name FROM queues WHERE id = ?", (queue_id,)).fetchone()
            if found is None:
                return None
            name = self._names[queue_id] = found[0]
        row = self.queue(name)
        return row if row is not None and row.id == queue_id else None

    @property
    def directory(self) -> Directory:
        """What is known of the settings of all queues."""
        if self._directory is None:
            rows = self.store.execute("SELECT id, config FROM queues")
            self._directory = Directory((row[0], queue_pb2.Queue.FromString(row[1])) for row in rows)
        return self._directory

    @property
    def agenda(self) -> Agenda:
        """When time brings something to which queues."""
        if self._agenda is None:
            busy = extras.with_due_chunks(self.store.execute)
            self._agenda = Agenda(sorted(busy | self.directory.aged))
        return self._agenda

    def expect(self, queue_id: int, due_ms: int) -> None:
        """At that time there is something to do for the queue."""
        if self.agenda.lower(queue_id, due_ms):
            self.events.append(("queue_due", queue_id))

    def unsettle(self, queue_id: int) -> None:
        """What there was to do first for the queue may be gone."""
        if self._agenda is not None:  # one that is made anew knows
            self._agenda.loosen(queue_id)

    def rules(self, queue_id: int) -> Rules:
        """How the queue of kind TASK of that id, which must exist, works."""
        row = self.queue_by_id(queue_id)
        assert row is not None, "the rules of a queue that is gone"
        known = self._rules.get(queue_id)
        if known is None or known[0] is not row.config:
            known = self._rules[queue_id] = (row.config, rules_of(row.config))
        return known[1]

    def queues(self, after_name: str, limit: int) -> list[QueueRow]:
        """Queues by name, those after `after_name`; only between batches."""
        assert not self._changed_queues
        rows = self.store.execute(f"{_QUEUE} WHERE name > ? ORDER BY name LIMIT ?", (after_name, limit))
        return [_queue_row(row, extras.load(self.store.execute, row[0])) for row in rows.fetchall()]

    def put_queue(self, row: QueueRow) -> None:
        """A queue has other numbers now (backlog, sequences, statistics)."""
        self._queues[row.name] = self._changed_queues[row.id] = row

    def put_extra(self, row: QueueRow) -> None:
        """A queue has other numbers now, those of its `extra` among them."""
        self._changed_extras[row.id] = row.extra
        self.put_queue(row)

    def add_queue(self, row: QueueRow) -> None:
        """There is a new queue."""
        config = row.config.SerializeToString(deterministic=True)
        self.store.execute(
            "INSERT INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0, 0)",
            (row.id, row.name, row.uid, row.etag, config, row.create_ms, row.update_ms, row.backlog),
        )
        self._queues[row.name] = row
        self._reconfigured = True
        if self._directory is not None:
            self._directory.add(row.id, row.config)

    def configure_queue(self, row: QueueRow) -> None:
        """A queue has other settings now."""
        before = self._queues[row.name].config
        config = row.config.SerializeToString(deterministic=True)
        self.store.execute(
            "UPDATE queues SET etag = ?, config = ?, update_ms = ? WHERE id = ?",
            (row.etag, config, row.update_ms, row.id),
        )
        self.tasks.queues.stale.add(row.id)
        self.put_queue(row)
        self._reconfigured = True
        if self._directory is not None:
            self._directory.remove(row.id, before)
            self._directory.add(row.id, row.config)
        if row.config.HasField("max_age"):
            self.expect(row.id, 0)
        self.unsettle(row.id)

    def drop_queue(self, row: QueueRow) -> None:
        """A queue is gone."""
        self.store.execute("DELETE FROM queues WHERE id = ?", (row.id,))
        extras.drop(self.store.execute, row.id)
        self._queues.pop(row.name, None)
        self._reconfigured = True
        if self._directory is not None:
            self._directory.remove(row.id, row.config)
        if self._agenda is not None:
            self._agenda.drop(row.id)
        self._changed_queues.pop(row.id, None)
        self._changed_extras.pop(row.id, None)

    def bury(self, backlog: int) -> None:
        """The chunks of a backlog belong to no queue any more."""
        self.store.execute("INSERT INTO graveyard VALUES (?)", (backlog,))

    def producer(self, producer_id: str) -> ProducerRow | None:
        """What is remembered of a producer, however old."""
        row = self._producers.get(producer_id)
        if row is None:
            found = self.store.execute(
                "SELECT id, last_sequence, time_ms, results FROM producers WHERE id = ?", (producer_id,)
            ).fetchone()
            if found is not None:
                row = self._producers[producer_id] = ProducerRow(*found)
        return row

    def put_producer(self, row: ProducerRow) -> None:
        self._producers[row.id] = self._changed_producers[row.id] = row

    def write_back(self) -> None:
        """Write what has changed, and tell which tasks have; called at the end of every batch."""
        self.next_due = None
        self.locks.write_back()
        self._count_tasks()
        rows = self.tasks.write_back()
        if rows:
            self.events.append(("tasks_changed", rows))
        self.events.extend(("workflow_changed", changed) for changed in self.workflows.write_back())
        self.groups.write_back()
        if self._changed_queues:
            self.store.connection.executemany(
                "UPDATE queues SET backlog = ?, next_sequence = ?, watermark = ?, messages = ?, bytes = ? WHERE id = ?",
                [
                    (row.backlog, row.next_sequence, row.watermark, row.messages, row.bytes, row.id)
                    for row in self._changed_queues.values()
                ],
            )
            self._changed_queues.clear()
        if self._changed_extras:
            extras.save(self.store.execute, self._changed_extras.items())
            self._changed_extras.clear()
        if self._changed_producers:
            self.store.connection.executemany(
                "INSERT INTO producers VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " last_sequence = excluded.last_sequence, time_ms = excluded.time_ms, hour = excluded.hour,"
                " results = excluded.results",
                [
                    (row.id, row.last_sequence, row.time_ms, row.time_ms // _HOUR_MS, row.results)
                    for row in self._changed_producers.values()
                ],
            )
            self._changed_producers.clear()
        if len(self._queues) > _ROWS_CACHED or len(self._producers) > _ROWS_CACHED:
            self._forget_queues()

    def flush(self) -> None:
        """Write what is written late, for a commit."""
        self.tasks.flush()
        self._reconfigured = False
        self.agenda.committed()
        self.next_due = None  # it may have been too early

    def _count_tasks(self) -> None:
        """Let the statistics of queues of tasks say how many have not ended."""
        for held in self.tasks.queues.changed():
            row = self.queue_by_id(held.queue_id)
            assert row is not None
            self.put_queue(self.with_tasks(row))

    def with_tasks(self, row: QueueRow) -> QueueRow:
        """The queue with its statistics as the command in hand has left them."""
        held = self.tasks.queue(row.id)
        return row if held is None else row.holding(held.unended, held.bytes, held.submitted + 1)

    def forget(self) -> None:
        """Drop everything that is remembered of the tables and may not be so any more."""
        self.settled.clear()
        self.expiries = Expiries()
        self.next_due = None
        self.tasks.forget()
        self.groups.forget()
        self.workflows.forget()
        self.locks.forget()
        if self._reconfigured:
            self._directory = None
        if self._agenda is not None and not self._agenda.roll_back():
            self._agenda = None
        self._forget_queues()

    def _forget_queues(self) -> None:
        self._names.clear()
        self._rules.clear()
        self._queues.clear()
        self._changed_queues.clear()
        self._changed_extras.clear()
        self._producers.clear()
        self._changed_producers.clear()
