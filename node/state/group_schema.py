"""The tables of consumer groups and of key compaction.

What a group has done with a stream is its position and the ranges beyond it: the messages themselves stay as they are.
Keys belong to a backlog, as chunks do, so that a stream is emptied at once and its keys are deleted little by little.
"""

from typing import Final

GROUP_SCHEMA: Final[tuple[str, ...]] = (
    """
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY,
        queue_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        position INTEGER NOT NULL,     -- all messages before it are done
        watermark INTEGER NOT NULL,    -- all up to it were delivered to the group at least once
        create_ms INTEGER NOT NULL,
        UNIQUE (queue_id, name)
    )""",
    """
    CREATE TABLE group_acks (          -- what is done beyond the position; ranges do not touch
        group_id INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (group_id, first)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE group_attempts (      -- the last recorded attempt of what was delivered again; ranges are disjoint
        group_id INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        PRIMARY KEY (group_id, first)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE keys (                -- of streams with compaction: the newest message of each key
        backlog INTEGER NOT NULL,
        key BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (backlog, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX keys_by_sequence ON keys (backlog, sequence)",
)
