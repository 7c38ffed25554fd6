"""A hash of what the state means, so that nodes can be compared.

Left out is where things happen to be: which bodies were moved, which backlog has which number, which forgotten rows are
not deleted yet. Bodies of messages themselves are left out too: they are named by their place in the log, which is replicated.
"""

import hashlib
from collections.abc import Iterable

from node.state.dedup import Requests, remembered_producers
from node.state.store import Store

_CHUNKS = (
    "SELECT first_sequence, count, live, bytes, time_ms, body, acked, attempts, offset, dead_letter, estimated, due_ms,"
    " priority, ttl_ms FROM chunks WHERE backlog = ? ORDER BY first_sequence"
)
_QUEUES = (
    "SELECT id, backlog, name, uid, etag, config, create_ms, update_ms, next_sequence, watermark, messages, bytes"
    " FROM queues ORDER BY name"
)

_LINES = "SELECT backlog, priority, watermark FROM queue_lines WHERE queue_id = ? ORDER BY priority"
_DELAYS = "SELECT backlog, next_number, messages, bytes, age_ms FROM queue_delays WHERE queue_id = ?"

_KEYS = "SELECT key, sequence FROM keys WHERE backlog = ? ORDER BY key"
_WHOLE = {
    "groups": "id",
    "group_acks": "group_id, first",
    "group_attempts": "group_id, first",
    "tasks": "number",
    "task_specs": "number",
    "task_results": "number",
    "task_checkpoints": "number",
    "task_queues": "queue_id",
    "task_sizes": "queue_id, type",
    "lanes": "id",
    "graves": "queue_id",
    "edges": "child, place",
    "workflows": "id",
    "schedules": "id",
    "lock_claims": "lock, number",
}
"""Tables of which all counts, since commands alone change them, and their order."""


def fingerprint(store: Store, requests: Requests) -> str:
    """Equal for equal states, whatever happened to the store meanwhile. Reads everything."""
    meta = store.meta
    digest = hashlib.blake2b(digest_size=16)

    def take(rows: Iterable[object]) -> None:
        for row in rows:
            digest.update(repr(row).encode())

    take([(meta.applied, meta.term, meta.time_ms, meta.members, meta.next_id, meta.next_task)])
    for queue_id, backlog, *queue in store.execute(_QUEUES).fetchall():
        take([queue])
        parts = store.execute(_LINES, (queue_id,)).fetchall() + store.execute(_DELAYS, (queue_id,)).fetchall()
        for its_backlog, *part in [(backlog,), *parts]:
            take([part])
            take(store.execute(_CHUNKS, (its_backlog,)))
        take(store.execute(_KEYS, (backlog,)))
    for table, order in _WHOLE.items():
        take(store.execute(f"SELECT * FROM {table} ORDER BY {order}"))
    take(requests.remembered(meta.time_ms))
    take(remembered_producers(store, meta.time_ms))
    return digest.hexdigest()
