"""Store files as earlier versions of taskraft wrote them, made from those of today."""

import sqlite3
from pathlib import Path

from node.state.group_schema import GROUP_SCHEMA
from node.state.lock_schema import LOCK_SCHEMA
from node.state.task_schema import TASK_SCHEMA

_META_1 = """
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        applied INTEGER NOT NULL,      -- the entry that this state is the effect of
        term INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,      -- the latest time that a batch carried
        members TEXT,                  -- JSON [[id, address, voter], ...]
        next_id INTEGER NOT NULL       -- of the next queue or backlog
    )"""
_CHUNKS_3 = """
    CREATE TABLE chunks (
        backlog INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        count INTEGER NOT NULL,
        live INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        body INTEGER NOT NULL,
        moved INTEGER NOT NULL,
        acked BLOB,
        attempts BLOB,
        PRIMARY KEY (backlog, first_sequence)
    ) WITHOUT ROWID"""
_COLUMNS_3 = "backlog, first_sequence, count, live, bytes, time_ms, body, moved, acked, attempts"
_TRIGGER_3 = """
    CREATE TRIGGER body_goes_with_chunk AFTER DELETE ON chunks WHEN old.moved = 1
        BEGIN DELETE FROM bodies WHERE id = old.body; END"""


def tables_of(statements: tuple[str, ...]) -> list[str]:
    """The tables that a schema makes."""
    tables = [line.partition("(")[0].split()[-1] for line in statements if "CREATE TABLE" in line]
    assert all(table.isidentifier() for table in tables)
    return tables


def make_version_3(path: Path) -> None:
    """A store file of the time when there was one way through a queue, and no locks."""
    connection = sqlite3.connect(path, isolation_level=None)
    for table in ("queue_lines", "queue_delays", *tables_of(LOCK_SCHEMA), *tables_of(GROUP_SCHEMA)):
        connection.execute(f"DROP TABLE {table}")
    for statement in (
        "ALTER TABLE chunks RENAME TO chunks_of_today",
        _CHUNKS_3,
        f"INSERT INTO chunks SELECT {_COLUMNS_3} FROM chunks_of_today",
        "DROP TABLE chunks_of_today",
        "CREATE INDEX chunks_in_log ON chunks (body) WHERE moved = 0",
        _TRIGGER_3,
        "PRAGMA user_version = 3",
    ):
        connection.execute(statement)
    connection.close()


def make_version_1(path: Path) -> None:
    """A store file of the time when there were messages only."""
    make_version_3(path)
    connection = sqlite3.connect(path, isolation_level=None)
    for table in tables_of(TASK_SCHEMA):
        connection.execute(f"DROP TABLE {table}")
    for statement in (
        "ALTER TABLE meta RENAME TO meta_of_today",
        _META_1,
        "INSERT INTO meta SELECT id, applied, term, time_ms, members, next_id FROM meta_of_today",
        "DROP TABLE meta_of_today",
        "PRAGMA user_version = 1",
    ):
        connection.execute(statement)
    connection.close()
