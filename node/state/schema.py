"""The tables of the store, and how a body is named.

A chunk is the messages of one publish. Its row lives while one of its messages does; its bytes are in the log entry
that carried the publish, or, once `moved`, in `bodies`. `body` names them in both places: the log index and the
position of the command in its batch. Chunks belong to a backlog and a queue has one backlog at a time, so that a
queue of any size is emptied at once: its backlog goes to the graveyard, where the rows are deleted little by little.
"""

from typing import Final

from node.state.lock_schema import LOCK_SCHEMA
from node.state.task_schema import TASK_SCHEMA

APPLICATION_ID: Final = 0x74726674  # "trft", at a fixed place in the file
VERSION: Final = 3
BEFORE_TASKS: Final = 1  # the version that knew messages only

ORDINAL_BITS: Final = 20  # more commands than fit into the bytes of one entry


def body_id(log_index: int, ordinal: int) -> int:
    """The name of the body that the command at `ordinal` of entry `log_index` carried."""
    assert 0 <= ordinal < 1 << ORDINAL_BITS
    return log_index << ORDINAL_BITS | ordinal


def body_place(body: int) -> tuple[int, int]:
    """The log index and the ordinal of a body."""
    return body >> ORDINAL_BITS, body & ((1 << ORDINAL_BITS) - 1)


SCHEMA: Final = (
    """
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        applied INTEGER NOT NULL,      -- the entry that this state is the effect of
        term INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,      -- the latest time that a batch carried
        members TEXT,                  -- JSON [[id, address, voter], ...]
        next_id INTEGER NOT NULL,      -- of the next queue, backlog, lane, workflow or schedule
        next_task INTEGER NOT NULL     -- number of the next task
    )""",
    """
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        uid TEXT NOT NULL,
        etag TEXT NOT NULL,
        config BLOB NOT NULL,          -- taskraft.v1.Queue, settings only
        create_ms INTEGER NOT NULL,
        update_ms INTEGER NOT NULL,
        backlog INTEGER NOT NULL,
        next_sequence INTEGER NOT NULL,
        watermark INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    )""",
    """
    CREATE TABLE chunks (
        backlog INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        count INTEGER NOT NULL,
        live INTEGER NOT NULL,
        bytes INTEGER NOT NULL,        -- of the encoded chunk; `bytes * live / count` of them count as live
        time_ms INTEGER NOT NULL,
        body INTEGER NOT NULL,
        moved INTEGER NOT NULL,        -- 1 if the body is in `bodies`
        acked BLOB,                    -- bit i: message first_sequence + i is gone; NULL: none is
        attempts BLOB,                 -- two bytes per message: its last recorded attempt; NULL: none is
        PRIMARY KEY (backlog, first_sequence)
    ) WITHOUT ROWID""",
    "CREATE INDEX chunks_in_log ON chunks (body) WHERE moved = 0",
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, chunk BLOB NOT NULL)",
    """
    CREATE TRIGGER body_goes_with_chunk AFTER DELETE ON chunks WHEN old.moved = 1
        BEGIN DELETE FROM bodies WHERE id = old.body; END""",
    "CREATE TABLE graveyard (backlog INTEGER PRIMARY KEY)",
    """
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,        -- in the order of the log
        request_id TEXT NOT NULL UNIQUE,
        time_ms INTEGER NOT NULL,
        scope TEXT NOT NULL,           -- the kind of command and its queue
        result BLOB NOT NULL
    )""",
    """
    CREATE TABLE producers (
        id TEXT PRIMARY KEY,
        last_sequence INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        hour INTEGER NOT NULL,         -- of time_ms, so that the index seldom changes
        results BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX producers_by_hour ON producers (hour)",
    "INSERT INTO meta VALUES (1, 0, 0, 0, NULL, 1, 1)",
    *TASK_SCHEMA,
    *LOCK_SCHEMA,
)

TASKS_COME: Final = (
    "ALTER TABLE meta ADD COLUMN next_task INTEGER NOT NULL DEFAULT 1",
    *TASK_SCHEMA,
    *LOCK_SCHEMA,
)
"""What makes a store of `BEFORE_TASKS` one of today."""
