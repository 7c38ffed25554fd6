"""The tables of the store, and how a body is named.

A chunk is messages of one publish: all of them, or a part that goes its own way. Its row lives while one of its messages
does; their bytes are in the log entry that carried the publish, or, once `moved`, in `bodies`. `body` names them in both
places: the log index and the position of the command in its batch. Several rows may name one body, which is moved for all
of them at once and goes with the last.

Chunks belong to a backlog. A queue has one for each priority in use, and one for messages whose time has not come, so that
a queue of any size is emptied at once: its backlogs go to the graveyard, where the rows are deleted little by little.
"""

from typing import Final

from node.state.group_schema import GROUP_SCHEMA
from node.state.lock_schema import LOCK_SCHEMA
from node.state.task_schema import TASK_SCHEMA

APPLICATION_ID: Final = 0x74726674  # "trft", at a fixed place in the file
VERSION: Final = 4
BEFORE_TASKS: Final = 1  # the version that knew messages only
BEFORE_STREAMS: Final = 3  # the version that knew one way through a queue, and no locks

ORDINAL_BITS: Final = 20  # more commands than fit into the bytes of one entry


def body_id(log_index: int, ordinal: int) -> int:
    """The name of the body that the command at `ordinal` of entry `log_index` carried."""
    assert 0 <= ordinal < 1 << ORDINAL_BITS
    return log_index << ORDINAL_BITS | ordinal


def body_place(body: int) -> tuple[int, int]:
    """The log index and the ordinal of a body."""
    return body >> ORDINAL_BITS, body & ((1 << ORDINAL_BITS) - 1)


_MOVED_INDEX: Final = "CREATE INDEX chunks_moved ON chunks (body) WHERE moved = 1"
_DUE_INDEX: Final = "CREATE INDEX chunks_due ON chunks (backlog, due_ms) WHERE due_ms IS NOT NULL"
_BODY_TRIGGER: Final = """
    CREATE TRIGGER body_goes_with_last_chunk AFTER DELETE ON chunks
        WHEN old.moved = 1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE body = old.body AND moved = 1)
        BEGIN DELETE FROM bodies WHERE id = old.body; END"""
_EXTRAS: Final = (
    """
    CREATE TABLE queue_lines (             -- the messages of each priority above 0 that was ever in use
        queue_id INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        backlog INTEGER NOT NULL,
        watermark INTEGER NOT NULL,
        PRIMARY KEY (queue_id, priority)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE queue_delays (            -- of queues to which time brings something
        queue_id INTEGER PRIMARY KEY,
        backlog INTEGER NOT NULL,          -- of messages whose time has not come; 0: there never was one
        next_number INTEGER NOT NULL,      -- of the next one: in this backlog it stands in the place of sequences
        messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        age_ms INTEGER NOT NULL            -- nobody looks for messages that are older than max_age before this time
    )""",
)

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
        bytes INTEGER NOT NULL,        -- of its encoded messages; `bytes * live / count` of them count as live
        time_ms INTEGER NOT NULL,      -- when it came into the queue
        body INTEGER NOT NULL,
        moved INTEGER NOT NULL,        -- 1 if the body is in `bodies`
        acked BLOB,                    -- bit i: message first_sequence + i is gone; NULL: none is
        attempts BLOB,                 -- two bytes per message: its last recorded attempt; NULL: none is
        offset INTEGER NOT NULL DEFAULT 0,     -- the place of its first message among those of the body
        dead_letter BLOB,              -- taskraft.v1.DeadLetter of the first message; NULL: they are none
        estimated INTEGER NOT NULL DEFAULT 0,  -- 1 if `bytes` is a share of what a longer chunk had
        due_ms INTEGER,                -- when it expires, or comes into the queue; NULL: never
        priority INTEGER NOT NULL DEFAULT 0,   -- while it is delayed: the one that it will have
        ttl_ms INTEGER NOT NULL DEFAULT 0,     -- while it is delayed: how long it will live; 0: as long as it may
        PRIMARY KEY (backlog, first_sequence)
    ) WITHOUT ROWID""",
    "CREATE INDEX chunks_in_log ON chunks (body) WHERE moved = 0",
    _MOVED_INDEX,
    _DUE_INDEX,
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, chunk BLOB NOT NULL)",
    _BODY_TRIGGER,
    *_EXTRAS,
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
    *GROUP_SCHEMA,
)

_STREAMS_COME: Final = (
    "ALTER TABLE chunks ADD COLUMN offset INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE chunks ADD COLUMN dead_letter BLOB",
    "ALTER TABLE chunks ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE chunks ADD COLUMN due_ms INTEGER",
    "ALTER TABLE chunks ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE chunks ADD COLUMN ttl_ms INTEGER NOT NULL DEFAULT 0",
    _MOVED_INDEX,
    _DUE_INDEX,
    "DROP TRIGGER body_goes_with_chunk",
    _BODY_TRIGGER,
    *_EXTRAS,
    *LOCK_SCHEMA,
    *GROUP_SCHEMA,
)
_TASKS_COME: Final = ("ALTER TABLE meta ADD COLUMN next_task INTEGER NOT NULL DEFAULT 1", *TASK_SCHEMA)

UPGRADES: Final = {BEFORE_STREAMS: _STREAMS_COME, BEFORE_TASKS: (*_TASKS_COME, *_STREAMS_COME)}
"""What makes a store of an earlier version one of today."""
