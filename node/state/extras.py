"""What queues have beside plain messages, in the store: lines of other priorities, and what time brings."""

from collections.abc import Iterable

from node.state.rows import PLAIN, Extra, Line
from node.state.store import Execute


def load(execute: Execute, queue_id: int) -> Extra:
    """What the queue of that id has."""
    lines = execute("SELECT priority, backlog, watermark FROM queue_lines WHERE queue_id = ?", (queue_id,))
    found = {priority: Line(backlog, watermark) for priority, backlog, watermark in lines}
    delays = execute(
        "SELECT backlog, next_number, messages, bytes, age_ms FROM queue_delays WHERE queue_id = ?",
        (queue_id,),
    ).fetchone()
    if delays is None:
        return Extra(lines=found) if found else PLAIN
    backlog, next_delayed, messages, size, age_ms = delays
    return Extra(
        lines=found,
        delay_backlog=backlog,
        next_delayed=next_delayed,
        delayed_messages=messages,
        delayed_bytes=size,
        age_ms=age_ms,
    )


def save(execute: Execute, changed: Iterable[tuple[int, Extra]]) -> None:
    """Write what these queues have now; a line that a queue had is never taken away alone."""
    for queue_id, extra in changed:
        for priority, line in extra.lines.items():
            execute(
                "INSERT OR REPLACE INTO queue_lines VALUES (?, ?, ?, ?)",
                (queue_id, priority, line.backlog, line.watermark),
            )
        if extra.delay_backlog or extra.age_ms:
            execute(
                "INSERT OR REPLACE INTO queue_delays VALUES (?, ?, ?, ?, ?, ?)",
                (
                    queue_id,
                    extra.delay_backlog,
                    extra.next_delayed,
                    extra.delayed_messages,
                    extra.delayed_bytes,
                    extra.age_ms,
                ),
            )


def drop(execute: Execute, queue_id: int) -> None:
    """The queue is gone."""
    execute("DELETE FROM queue_lines WHERE queue_id = ?", (queue_id,))
    execute("DELETE FROM queue_delays WHERE queue_id = ?", (queue_id,))


def with_due_chunks(execute: Execute) -> set[int]:
    """The queues that have chunks which expire or come in some time, by id."""
    owners: dict[int, int] = dict(
        execute(
            "SELECT backlog, id FROM queues UNION ALL SELECT backlog, queue_id FROM queue_lines"
            " UNION ALL SELECT backlog, queue_id FROM queue_delays"
        )
    )
    found: set[int] = set()
    backlog = -1
    while backlog is not None:
        (backlog,) = execute(
            "SELECT min(backlog) FROM chunks WHERE due_ms IS NOT NULL AND backlog > ?", (backlog,)
        ).fetchone()
        if backlog in owners:
            found.add(owners[backlog])
    return found
