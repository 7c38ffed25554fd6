"""A copy of the whole state in one file, for a node that lags behind.

The copy is taken in one read transaction beside the writer, so it is the state of the last committed entry. It is
completed with the bodies that are still in the log. Memory stays bounded: SQLite copies page by page, bodies are read
entry by entry.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from node import limits
from node.state.bodies import LogBody
from node.state.reclaim import move, sweep
from node.state.store import connect, read_meta, sync
from raft.types import SnapshotMeta


def write(store: Path, path: Path, log_body: LogBody) -> SnapshotMeta:
    """Write the committed state of the store file to `path`, complete and synced, replacing what is there.

    KeyError if the log gave up an entry that is needed, as when the store was replaced meanwhile.
    """
    path.unlink(missing_ok=True)
    with closing(connect(store)) as source:
        source.execute("VACUUM INTO ?", (str(path),))
    with closing(connect(path)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")  # an unfinished copy is never used
        copy.execute("PRAGMA synchronous = OFF")
        _complete(copy, log_body)
        meta = read_meta(copy)
    sync(path)
    sync(path.parent)
    return SnapshotMeta(index=meta.applied, term=meta.term, members=meta.members or ())


def _complete(copy: sqlite3.Connection, log_body: LogBody) -> None:
    """Leave out what is buried and bring in all bodies, in transactions of bounded size."""
    execute = copy.execute
    applied = read_meta(copy).applied
    more = True
    while more:
        execute("BEGIN")
        more = sweep(execute, limits.RECLAIM_STEP_ROWS)
        execute("COMMIT")
    more = True
    while more:
        execute("BEGIN")
        more = move(execute, log_body, 0, applied, limits.RECLAIM_STEP_BYTES)
        execute("COMMIT")
