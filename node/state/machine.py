"""The state machine: entries of the log go in, results come out."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from node import limits
from node.state import entries, snapshot
from node.state.bodies import Bodies, LogBody, no_log
from node.state.dedup import Requests
from node.state.entries import Entry
from node.state.fingerprint import fingerprint
from node.state.group_queries import GroupQueries
from node.state.handlers import KINDS, perform, scope
from node.state.listener import Listener
from node.state.lock_queries import LockQueries
from node.state.queue_queries import QueueQueries
from node.state.reclaim import Reclaimer, Segment
from node.state.results import Code, Refused, Result
from node.state.store import Checkpoint, Store
from node.state.tables import Position, Tables
from node.state.task_queries import TaskQueries
from node.state.transactions import Undone
from raft.types import Member, SnapshotMeta
from taskraft.internal.v1 import command_pb2

_WORLD: Final = (sqlite3.Error, OSError, MemoryError)
"""Errors that say something about this machine and not about the command: the node ends."""


class _Applied(NamedTuple):
    """What was applied: the payload of a batch, or None and the members of `record`."""

    log_index: int
    term: int
    payload: bytes | None
    members: tuple[Member, ...] | None = None


def _ignore_fault(index: int, ordinal: int, error: Exception) -> None:
    pass


class Machine(QueueQueries, GroupQueries, TaskQueries, LockQueries):
    """The replicated state of one node; see the package for what it promises."""

    def __init__(self, store: Store, log_body: LogBody) -> None:
        self.listeners: list[Listener] = []
        """All of them are told of everything, in this order."""
        self.silent = False
        """True while they are not told what becomes ready, is leased and settled: that costs something for every task."""
        self.on_fault: Callable[[int, int, Exception], None] = _ignore_fault
        """Told of a command that failed by a mistake of ours: (log index, ordinal, error)."""
        self._store = store
        self._uncounted = self._uncounted_bytes = 0  # commands and their bytes since the last flush
        self._repeatable: list[_Applied] = []  # what was applied since the last commit
        self._snapshots: set[Path] = set()  # being written
        self._bodies = Bodies(store, log_body)
        self._begin_anew()

    @classmethod
    def open(cls, directory: Path, *, clock_ms: Callable[[], int], log_body: LogBody = no_log) -> Self:
        """Open the state in `directory`, a new one if there is none. `clock_ms` is monotonic and only paces commits.

        StoreDamagedError if what is there cannot be used.
        """
        return cls(Store(directory, clock_ms=clock_ms), log_body)

    def _begin_anew(self) -> None:
        """Set up all that is derived from the store."""
        self._tables = Tables(self._store, self._bodies)
        self._store.before_commit = self._tables.flush
        self._repeatable.clear()
        self._requests = Requests(self._store)
        self._reclaimer = Reclaimer(self._store)

    # What the log drives

    @property
    def applied(self) -> int:
        """Index of the last entry whose effect is in the state; 0 in a new store."""
        return self._store.meta.applied

    @property
    def applied_term(self) -> int:
        return self._store.meta.term

    @property
    def members(self) -> tuple[Member, ...] | None:
        """The members as of `applied`; None in a new store."""
        return self._store.meta.members

    @property
    def time_ms(self) -> int:
        """The latest time that an applied batch carried, in milliseconds since 1970."""
        return self._store.meta.time_ms

    def apply(self, index: int, term: int, payload: bytes) -> list[Result]:
        """Apply an encoded Batch; one result per command.

        UnknownCommandError, and nothing was applied, if it cannot be understood. `sqlite3.Error`, `OSError` and
        StoreFailedError: the node must end, and what was committed is the state of an earlier entry. A mistake of ours in one command undoes that command
        and answers `Refused` with INTERNAL, on every node the same.
        """
        assert index > self.applied
        entry = entries.parse(payload, KINDS)
        self._store.begin()
        self._tables.silent = self.silent
        try:
            results = self._together(index, term, entry)
            if results is None:
                results = self._one_by_one(index, term, entry)
            else:
                self._note(_Applied(index, term, payload))
        except BaseException as error:
            self._store.fail(error)
            raise
        self._uncounted += len(entry.kinds)
        self._uncounted_bytes += len(payload)
        if self._uncounted_bytes >= limits.COMMIT_BYTES:
            self.flush()
        self._tell()
        return results

    def record(self, index: int, term: int, members: tuple[Member, ...] | None) -> None:
        """A no-op (None) or a change of members was committed."""
        assert index > self.applied
        meta = self._store.meta
        self._store.meta = replace(meta, applied=index, term=term, members=members or meta.members)
        self._note(_Applied(index, term, None, members))

    def flush(self) -> None:
        """A burst of applies has ended: commit if it is time."""
        self._store.flush(self._uncounted, self._uncounted_bytes)
        self._uncounted = self._uncounted_bytes = 0
        self._drop_committed()

    def checkpointed(self) -> int:
        """Index up to which the state survives a power loss by itself; the log above it is needed."""
        return self._store.checkpointed

    def snapshot(self, path: Path) -> SnapshotMeta:
        """Write the committed state to `path`, complete and synced; from any thread."""
        self._snapshots.add(path)
        try:
            return snapshot.write(self._store.path, path, self._bodies.log_body)
        finally:
            self._snapshots.discard(path)

    def install(self, path: Path, meta: SnapshotMeta) -> None:
        """Replace the whole state by the file at `path`, which is moved away.

        StoreDamagedError, and the state is as it was, if the file is not the snapshot that `meta` says.
        """
        self._store.replace_by(path, (meta.index, meta.term))
        self._begin_anew()
        for listener in self.listeners:
            listener.reset()

    def fingerprint(self) -> str:
        """A hash of the logical state: equal on all nodes at the same applied index. Reads everything."""
        self._tables.tasks.flush()
        return fingerprint(self._store, self._requests)

    # What keeps it going

    @property
    def log_body(self) -> LogBody:
        """Where bodies are that were not moved; may be set after opening."""
        return self._bodies.log_body

    @log_body.setter
    def log_body(self, log_body: LogBody) -> None:
        self._bodies.log_body = log_body

    def commit_now(self) -> None:
        """Commit what was applied so far, without a sync. StoreFailedError: the node must end."""
        self._store.commit()

    def begin_checkpoint(self) -> Checkpoint:
        """Commit, and return a checkpoint whose `run` is to be called in a thread, one at a time."""
        return self._store.begin_checkpoint()

    def end_checkpoint(self, checkpoint: Checkpoint) -> None:
        """The checkpoint has run: `checkpointed` moves if it was complete."""
        self._store.end_checkpoint(checkpoint, may_block=not self._snapshots)

    def reclaim(self, segments: Sequence[Segment], log_bytes_max: int) -> int:
        """Do one bounded step of emptying the oldest segments; the index up to which the log may be released.

        Call again soon while `reclaiming`, otherwise some seconds later and after a checkpoint. Commits what was
        applied. `sqlite3.OperationalError`: nothing was done, because the disk is full for instance, and may be tried
        again; StoreFailedError: the node must end.
        """
        if self._snapshots:
            self._reclaimer.pending = False
            return 0  # a snapshot being written may still read what could go
        return self._reclaimer.step(segments, log_bytes_max, self._bodies.log_body)

    @property
    def reclaiming(self) -> bool:
        """True if the next step of `reclaim` has something to do now."""
        return self._reclaimer.pending

    def store_bytes(self) -> int:
        """Bytes of the store on disk."""
        return self._store.size_bytes()

    def close(self) -> None:
        """Commit what was applied and close; after a failed apply only close."""
        self._store.close()

    # Applying

    def _together(self, index: int, term: int, entry: Entry) -> list[Result] | None:
        """Apply a batch as a whole; None, and nothing is applied, if one of its commands has to be undone."""
        self._advance(index, term, entry.batch)
        try:
            results = [self._perform(entry, place) for place in range(len(entry.kinds))]
            self._tables.write_back()
        except _WORLD:
            raise
        except Exception:  # noqa: BLE001 - a mistake of ours, or Undone; `_one_by_one` finds the command
            self._repeat()
            return None
        return results

    def _repeat(self) -> None:
        """Go back to the last commit, and apply again what was applied since: all but the batch in hand."""
        self._store.roll_back()
        self._forget()
        self._store.begin()
        self._drop_committed()
        applied, self._repeatable = self._repeatable, []
        for log_index, term, payload, members in applied:
            if payload is None:
                self.record(log_index, term, members)
                continue
            entry = entries.parse(payload, KINDS)
            self._advance(log_index, term, entry.batch)
            for place in range(len(entry.kinds)):
                self._perform(entry, place)
            self._tables.write_back()
            self._tables.events.clear()
        self._store.commit()
        self._repeatable.clear()
        self._store.begin()

    def _note(self, applied: _Applied) -> None:
        """This was applied and may have to be applied again."""
        self._drop_committed()
        self._repeatable.append(applied)

    def _drop_committed(self) -> None:
        """What is committed needs not be repeated."""
        if self._repeatable and self._repeatable[-1].log_index <= self._store.committed:
            self._repeatable.clear()

    def _advance(self, index: int, term: int, batch: command_pb2.Batch) -> None:
        """The state is that of after this entry from now on."""
        meta = self._store.meta
        self._store.meta = replace(meta, applied=index, term=term, time_ms=max(meta.time_ms, batch.time_ms))

    def _one_by_one(self, index: int, term: int, entry: Entry) -> list[Result]:
        """Apply a batch command by command, leaving out those that fail."""
        store = self._store
        self._advance(index, term, entry.batch)
        results: list[Result] = []
        for place in range(len(entry.kinds)):
            meta, told = store.meta, len(self._tables.events)
            store.execute("SAVEPOINT command")
            try:
                results.append(self._perform(entry, place))
                self._tables.write_back()
                self._tables.tasks.flush()
                store.execute("RELEASE command")
            except _WORLD:
                raise
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not stop the cluster
                events = self._tables.events[:told]
                self._undo("command")
                store.meta = meta
                self._tables.events.extend(events)
                del results[place:]
                results.append(self._failed(place, error))
        store.commit()
        return results

    def _failed(self, place: int, error: Exception) -> Refused:
        """What the command there answers, which was undone."""
        if isinstance(error, Undone):
            return error.refused
        self.on_fault(self.applied, place, error)
        return Refused(Code.INTERNAL, "INTERNAL", f"the command failed: {type(error).__name__}")

    def _undo(self, savepoint: str) -> None:
        """Go back to a savepoint, before which everything was written."""
        self._store.execute(f"ROLLBACK TO {savepoint}")
        self._store.execute(f"RELEASE {savepoint}")
        self._forget()

    def _forget(self) -> None:
        """What is remembered of the store was undone."""
        self._tables.forget()
        self._tables.events.clear()
        self._requests.forget()

    def _perform(self, entry: Entry, place: int) -> Result:
        """Apply one command, unless it is a request that was seen before."""
        command, kind, meta = entry.batch.commands[place], entry.kinds[place], self._store.meta
        at = Position(meta.applied, entry.ordinals[place], meta.time_ms)
        content: Any = getattr(command, kind)
        request_id = command.request_id
        if not request_id:
            return perform(self._tables, at, kind, content)
        what = scope(kind, content)
        known = self._requests.find(request_id, what, at.time_ms)
        if known is not None:
            return known
        result = perform(self._tables, at, kind, content)
        if not isinstance(result, Refused):
            self._requests.remember(request_id, what, at.time_ms, result)
        return result

    def outlook(self, command: command_pb2.SubmitTasks) -> Result:
        """What a submit would answer if it were applied now. Nothing is changed by asking."""
        store, meta = self._store, self._store.meta
        store.begin()
        self._tables.tasks.flush()
        store.execute("SAVEPOINT outlook")
        try:
            return perform(self._tables, Position(meta.applied + 1, 0, meta.time_ms), "submit_tasks", command)
        finally:
            self._undo("outlook")
            store.meta = meta

    def _tell(self) -> None:
        """Tell the listeners what the batch did."""
        events = self._tables.events[:]
        self._tables.events.clear()
        for method, *arguments in events:
            for listener in self.listeners:
                getattr(listener, method)(*arguments)
