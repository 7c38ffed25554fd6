"""The table of locks: one row for each holder, each who waits, and each lost holder whose lock delay is not over.

A lock is nothing but its claims, so one that nobody uses costs nothing.
"""

from typing import Final

LOCK_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS lock_claims (
        lock TEXT NOT NULL,            -- `locks/{lock}`
        number INTEGER NOT NULL,       -- in the order in which they were asked for
        state INTEGER NOT NULL,        -- lock_rows.WAITING, HELD, LOST
        mode INTEGER NOT NULL,         -- taskraft.v1.LockMode
        permits INTEGER NOT NULL,      -- 0 unless it is a semaphore
        ttl_ms INTEGER NOT NULL,
        lock_delay_ms INTEGER NOT NULL,
        token INTEGER NOT NULL,        -- 0 while it waits
        create_ms INTEGER NOT NULL,
        grant_ms INTEGER NOT NULL,     -- 0 while it waits
        holder_id TEXT NOT NULL,
        labels BLOB NOT NULL,          -- taskraft.v1.LockWaiter with nothing but its labels
        PRIMARY KEY (lock, number)
    ) WITHOUT ROWID""",
)
