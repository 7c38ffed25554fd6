"""The SQLite file that holds the state: transactions, and what of them survives a power loss.

One transaction stays open over many entries and is committed now and then, without a sync: after a crash the file is
the state of an earlier entry, whose index is in the same transaction, and the log replays the rest. A checkpoint
copies what was committed into the main file and syncs it; up to there the log is no longer needed.

The file is `store-N.db`. A snapshot is installed as `store-(N+1).db`, so that the write-ahead log of the old state can
never be taken for that of the new one; the highest N counts.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from node import limits
from node.state.schema import APPLICATION_ID, SCHEMA, UPGRADES, VERSION
from raft.types import Member

Execute: TypeAlias = Callable[..., Any]
"""`sqlite3.Connection.execute`."""

_NAME: Final = re.compile(r"store-(\d+)\.db")
_PAGE_BYTES: Final = 4096


class StoreDamagedError(Exception):
    """The state on this disk cannot be used."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}; this node cannot go on: move its data directory away and start it again with "
            "an empty one: it rejoins without a vote and copies the state from the others"
        )


class StoreFailedError(Exception):
    """A write to the state failed half-way.

    What was applied since the last commit is lost here and must not be built upon: the node has to end. After a
    restart the log brings it back.
    """

    def __init__(self, path: Path, cause: BaseException) -> None:
        super().__init__(
            f"{path}: {cause}; this node has to start again, and then repeats what it had applied"
        )


@dataclass(frozen=True, slots=True)
class Meta:
    """Which entry the state is the effect of, and what else belongs to no table."""

    applied: int = 0
    term: int = 0
    time_ms: int = 0
    members: tuple[Member, ...] | None = None
    next_id: int = 1
    next_task: int = 1


@dataclass(slots=True)
class Checkpoint:
    """One checkpoint: `Store.begin_checkpoint`, then `run` in a thread, then `Store.end_checkpoint`."""

    path: Path
    number: int
    applied: int
    complete: bool = False
    wal_bytes: int = 0

    def run(self) -> None:
        """Copy what is committed into the main file and sync it. Applies may go on."""
        connection = connect(self.path)
        try:
            busy, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            connection.close()
        self.complete = busy == 0 and frames == copied
        self.wal_bytes = frames * _PAGE_BYTES


def connect(path: Path) -> sqlite3.Connection:
    """Open a store file as all of us do: explicit transactions, bounded memory, no sync on commit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    for setting in (
        f"cache_size = -{limits.STORE_CACHE_BYTES // limits.KIB}",
        "mmap_size = 0",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        "secure_delete = OFF",
        "busy_timeout = 5000",
        "temp_store = MEMORY",  # what a savepoint needs to be undone
    ):
        try:
            connection.execute(f"PRAGMA {setting}")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def sync(path: Path) -> None:
    """Make a file or a directory durable; the file must have no open SQLite connection."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_meta(connection: sqlite3.Connection) -> Meta:
    """The meta row. `sqlite3.DatabaseError` if there is none."""
    row = connection.execute(
        "SELECT applied, term, time_ms, members, next_id, next_task FROM meta"
    ).fetchone()
    if row is None:
        raise sqlite3.DatabaseError("the meta row is missing")
    applied, term, time_ms, members, next_id, next_task = row
    decoded = None if members is None else tuple(Member(*fields) for fields in json.loads(members))
    return Meta(applied, term, time_ms, decoded, next_id, next_task)


def _members_text(members: tuple[Member, ...] | None) -> str | None:
    return None if members is None else json.dumps([[m.id, m.address, m.voter] for m in members])


class Store:
    """The store file of one node. Not thread-safe, except for `Checkpoint.run`.

    Invariants: `checkpointed <= committed applied <= meta.applied`; the file never holds a part of an entry.
    """

    def __init__(self, directory: Path, *, clock_ms: Callable[[], int]) -> None:
        """Open the store in `directory`, or make a new one. StoreDamagedError if it cannot be used."""
        self._directory = directory
        self._clock_ms = clock_ms
        self._failure: BaseException | None = None
        self._commands = self._bytes = 0
        self._committed_ms = clock_ms()
        self.before_commit: Callable[[], None] = lambda: None
        """Writes what belongs to the state and is not written yet."""
        self.checkpoints_begun = 0
        self.checkpoints_done = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.path = self._choose()
        self._open()

    def _open(self) -> None:
        self.connection, self.meta = _open_checked(self.path)
        self.execute = self.connection.execute
        self._committed, self._begun = self.meta, False
        self.checkpointed = self.meta.applied

    def _choose(self) -> Path:
        """The newest store file, a new one if there is none; what an interrupted install left is removed."""
        found = {
            int(match[1]): path for path in self._directory.iterdir() if (match := _NAME.fullmatch(path.name))
        }
        if not found:
            return _create(self._directory / "store-1.db")
        newest = found[max(found)]
        _remove_others(self._directory, newest)
        return newest

    # Transactions

    def begin(self) -> None:
        """Open a transaction unless one is open."""
        if self._begun and not self.connection.in_transaction:
            self.fail(
                sqlite3.OperationalError("SQLite has rolled back what was applied")
            )  # a read met a full disk
        if self._failure is not None:
            raise StoreFailedError(self.path, self._failure)
        if not self._begun:
            self.execute("BEGIN IMMEDIATE")
            self._begun = True

    @contextmanager
    def aside(self) -> Iterator[Execute]:
        """Writes beside the log, which change nothing of the logical state: all of them, or none if one fails.

        What was applied is committed before, because SQLite gives up a whole transaction when the disk is full; these are
        committed at once, because what is applied later may be rolled back, and then only that is repeated.
        """
        self.commit()
        self.begin()
        try:
            yield self.execute
            self.execute("COMMIT")
        except BaseException:
            self._give_up()
            raise
        self._begun = False

    def flush(self, commands: int, size: int) -> None:
        """A burst of so many commands and bytes has ended: commit if enough has gathered or enough time has passed."""
        self._commands += commands
        self._bytes += size
        elapsed_ms = self._clock_ms() - self._committed_ms
        if (
            self._commands >= limits.COMMIT_COMMANDS
            or self._bytes >= limits.COMMIT_BYTES
            or elapsed_ms >= limits.COMMIT_INTERVAL_MS
        ):
            self.commit()

    def commit(self) -> None:
        """Commit what was done so far, without a sync. StoreFailedError if that cannot be done."""
        self._commands, self._bytes, self._committed_ms = 0, 0, self._clock_ms()
        if self.meta is self._committed and not self._begun:
            return
        self.begin()
        meta = self.meta
        try:
            self.before_commit()
            self.execute(
                "UPDATE meta SET applied = ?, term = ?, time_ms = ?, members = ?, next_id = ?, next_task = ?",
                (
                    meta.applied,
                    meta.term,
                    meta.time_ms,
                    _members_text(meta.members),
                    meta.next_id,
                    meta.next_task,
                ),
            )
            self.execute("COMMIT")
        except sqlite3.Error as error:  # SQLite has rolled back
            self.fail(error)
            raise StoreFailedError(self.path, error) from error
        self._committed, self._begun = meta, False

    @property
    def committed(self) -> int:
        """Index of the last entry that is committed."""
        return self._committed.applied

    def roll_back(self) -> None:
        """Undo all that was applied since the last commit."""
        self._give_up()
        self.meta = self._committed

    def _give_up(self) -> None:
        if self.connection.in_transaction:
            self.execute("ROLLBACK")
        self._begun = False

    def fail(self, cause: BaseException) -> None:
        """The open transaction holds a part of an entry, or lost one: nothing must be committed any more."""
        self._failure = cause

    def new_id(self) -> int:
        """An id that no queue, backlog, lane, workflow or schedule had before."""
        self.meta = replace(self.meta, next_id=self.meta.next_id + 1)
        return self.meta.next_id - 1

    def new_tasks(self, count: int) -> int:
        """So many numbers that no task had before; the first of them."""
        first = self.meta.next_task
        self.meta = replace(self.meta, next_task=first + count)
        return first

    def write_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run a statement for each of these rows, which were applied before: if it fails, the node has to end."""
        try:
            self.connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self.fail(error)
            raise

    # Durability

    def begin_checkpoint(self) -> Checkpoint:
        """Commit and return the checkpoint that will make it durable."""
        self.commit()
        self.checkpoints_begun += 1
        return Checkpoint(self.path, self.checkpoints_begun, self.meta.applied)

    def end_checkpoint(self, checkpoint: Checkpoint, *, may_block: bool) -> None:
        """Take note of a checkpoint that ran.

        SQLite starts its write-ahead log anew only when a checkpoint meets no writer. If that has not happened for
        too long, and `may_block` (no one is reading the store), this waits for the disk once.
        """
        if checkpoint.path != self.path:
            return  # that store was replaced
        if checkpoint.complete:
            self.checkpointed = max(self.checkpointed, checkpoint.applied)
            self.checkpoints_done = max(self.checkpoints_done, checkpoint.number)
        if checkpoint.wal_bytes > limits.WAL_BYTES_MAX and may_block:
            self.commit()
            busy, frames, copied = self.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            if busy == 0 and frames == copied:
                self.checkpoints_begun += 1
                self.checkpointed, self.checkpoints_done = self.meta.applied, self.checkpoints_begun

    def replace_by(self, path: Path, expected: tuple[int, int]) -> None:
        """Put the store file at `path` in the place of this one; `expected` is its applied index and term.

        StoreDamagedError, and the store is as it was, if the file is not that.
        """
        connection, meta = _open_checked(path)
        connection.close()
        if (meta.applied, meta.term) != expected:
            raise StoreDamagedError(
                path, f"a snapshot of {expected} was expected, it is of {(meta.applied, meta.term)}"
            )
        match = _NAME.fullmatch(self.path.name)
        assert match is not None
        sync(path)
        self.connection.close()
        self.path = path.rename(self._directory / f"store-{int(match[1]) + 1}.db")
        sync(self._directory)
        _remove_others(self._directory, self.path)
        self._open()

    def size_bytes(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def close(self) -> None:
        """Commit, unless something failed before, and close."""
        if self._failure is None:
            self.commit()
        self.connection.close()


def _create(path: Path) -> Path:
    """A new, empty, durable store file; under its name only when it is complete."""
    fresh = path.with_name("store.new")
    _remove_others(path.parent, path)
    connection = sqlite3.connect(fresh, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.close()
    sync(fresh)
    fresh.rename(path)
    sync(path.parent)
    return path


def _remove_others(directory: Path, kept: Path) -> None:
    """Remove store files other than `kept` and its companions."""
    for path in _leftovers(directory.iterdir(), kept):
        path.unlink()


def _leftovers(paths: Iterable[Path], kept: Path) -> list[Path]:
    names = {kept.name, f"{kept.name}-wal", f"{kept.name}-shm"}
    return [path for path in paths if path.name.startswith("store") and path.name not in names]


def _open_checked(path: Path) -> tuple[sqlite3.Connection, Meta]:
    """Open a store file, make all that is in it durable, and read its meta row."""
    try:
        connection = connect(path)
        try:
            return connection, _check(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError:
        raise  # says something about this machine: no space, no permission
    except sqlite3.DatabaseError as error:
        raise StoreDamagedError(path, str(error)) from error


def _check(connection: sqlite3.Connection) -> Meta:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is not a store of taskraft")
    if version in UPGRADES:
        _upgrade(connection, UPGRADES[version])
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"it has format {version}, this program reads {VERSION}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return read_meta(connection)


def _upgrade(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Make a store of an earlier version one of today, at once or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
