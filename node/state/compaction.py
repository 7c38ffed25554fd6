"""Key compaction: of the messages of one key a stream keeps the newest.

The newest message of each key is noted while it is stored, and the one that was the newest goes in the same command.
Compaction is about what is stored while it is on: messages that came before, or without a key, stay until the limits
of the stream remove them. An empty body is a value like any other.
"""

from collections.abc import Sequence

from node.state import chunks
from node.state.rows import QueueRow
from node.state.store import Execute
from node.state.tables import Tables


def compact(tables: Tables, row: QueueRow, first_sequence: int, keys: Sequence[str]) -> QueueRow:
    """The stream without the messages that others replace, which were stored from `first_sequence` on with these keys."""
    execute = tables.store.execute
    gone = replaced(execute, row.backlog, first_sequence, keys)
    messages = size = 0
    for sequence in gone:
        removed = chunks.remove(execute, row.backlog, sequence, sequence)
        messages, size = messages + removed.messages, size + removed.bytes
    if messages:
        row = row.holding(row.messages - messages, row.bytes - size)
        tables.put_queue(row)
        tables.agenda.loosen(row.id)
        tables.events.append(("removed", row.id, [(sequence, sequence) for sequence in gone]))
    return row


def replaced(execute: Execute, backlog: int, first_sequence: int, keys: Sequence[str]) -> list[int]:
    """Note messages that are stored from `first_sequence` on, by their keys; "" is none.

    Returns the sequences of those that newer ones replace, in order; they may be among the new ones, or be gone already.
    """
    newest: dict[str, int] = {}
    gone: list[int] = []
    for sequence, name in enumerate(keys, first_sequence):
        if name:
            if name in newest:
                gone.append(newest[name])
            newest[name] = sequence
    for name, sequence in newest.items():
        key = name.encode()
        earlier = execute(
            "SELECT sequence FROM keys WHERE backlog = ? AND key = ?", (backlog, key)
        ).fetchone()
        if earlier is None:
            execute("INSERT INTO keys VALUES (?, ?, ?)", (backlog, key, sequence))
        else:
            gone.append(earlier[0])
            execute("UPDATE keys SET sequence = ? WHERE backlog = ? AND key = ?", (sequence, backlog, key))
    return sorted(gone)


def forget(execute: Execute, backlog: int, last: int, first: int = 0) -> None:
    """All messages of a range are gone: so are the keys whose newest was one of them."""
    execute("DELETE FROM keys WHERE backlog = ? AND sequence BETWEEN ? AND ?", (backlog, first, last))


def sweep(execute: Execute, backlog: int, rows_max: int) -> int:
    """Delete so many keys of a buried backlog; returns how many there were."""
    swept = execute(
        "DELETE FROM keys WHERE backlog = ? AND key IN (SELECT key FROM keys WHERE backlog = ? LIMIT ?)",
        (backlog, backlog, rows_max),
    )
    return int(swept.rowcount)
