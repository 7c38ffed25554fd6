"""Calls that come twice: requests with an id, and producers that number their batches.

What is forgotten is decided by the log alone: a request is remembered for `REQUEST_WINDOW_MS` and as long as it is among
the latest `REQUESTS_MAX`, a producer until it was idle for `PRODUCER_WINDOW_MS`. The rows of forgotten ones are deleted a
little later, a few at a time, which nobody can see.
"""

import struct
from typing import Final

from node import limits
from node.state.results import Code, Published, Refused, Result, Success, decode, encode
from node.state.rows import ProducerRow
from node.state.store import Store
from node.state.tables import Position, Tables

_RESULT: Final = struct.Struct("<QI")
_DELAYED_SHIFT: Final = 16  # a batch has fewer messages than that has bits for
_OF_TOPIC: Final = (
    1 << 63
)  # in the place of the first sequence, which a topic has not: how many queues got the batch
assert limits.PUBLISH_MESSAGES_MAX < 1 << _DELAYED_SHIFT
_PURGE_EVERY: Final = 64  # requests
_PRODUCERS_PURGED: Final = 4  # for each new one
_HOUR_MS: Final = 3_600_000


class Requests:
    """The results of requests, by request_id."""

    def __init__(self, store: Store, *, requests_max: int = limits.REQUESTS_MAX) -> None:
        self._store = store
        self._max = requests_max
        self._last_id: int | None = None

    def find(self, request_id: str, scope: str, time_ms: int) -> Result | None:
        """What the request answered the first time; a refusal if that was a request for something else."""
        row = self._store.execute(
            "SELECT id, time_ms, scope, result FROM requests WHERE request_id = ?", (request_id,)
        ).fetchone()
        if row is None or row[0] <= self._last() - self._max or row[1] < time_ms - limits.REQUEST_WINDOW_MS:
            return None
        if row[2] != scope:
            message = f"request_id {request_id} was used before, for: {row[2]}"
            return Refused(Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED", message, {"field": "request_id"})
        return decode(row[3])

    def remember(self, request_id: str, scope: str, time_ms: int, result: Success) -> None:
        """Keep what a request did. A refusal is not kept: it changed nothing and may be tried again."""
        request = self._last_id = self._last() + 1
        self._store.execute(
            "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)",
            (request, request_id, time_ms, scope, encode(result)),
        )
        if request % _PURGE_EVERY == 0:
            self._store.execute(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests ORDER BY id LIMIT ?)"
                " AND (id <= ? OR time_ms < ?)",
                (2 * _PURGE_EVERY, request - self._max, time_ms - limits.REQUEST_WINDOW_MS),
            )

    def forget(self) -> None:
        """Drop what is known beside the table, for when SQLite rolls back."""
        self._last_id = None

    def _last(self) -> int:
        if self._last_id is None:
            self._last_id = self._store.execute("SELECT ifnull(max(id), 0) FROM requests").fetchone()[0]
        return self._last_id

    def remembered(self, time_ms: int) -> list[tuple[str, int, str, bytes]]:
        """All that `find` would find at that time, in the order of the log: request_id, time, scope, encoded result."""
        return self._store.execute(
            "SELECT request_id, time_ms, scope, result FROM requests WHERE id > ? AND time_ms >= ? ORDER BY id",
            (self._last() - self._max, time_ms - limits.REQUEST_WINDOW_MS),
        ).fetchall()


def repeated_batch(
    tables: Tables, at: Position, producer_id: str, sequence: int
) -> Published | Refused | None:
    """How a producer's batch is answered without storing it; None if it is the next one and is to be stored."""
    if sequence == 0:
        message = "producer_sequence must be 1 or more"
        return Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message, {"field": "producer_sequence"})
    producer = _producer(tables, at, producer_id)
    if producer is None or sequence == producer.last_sequence + 1:
        return None
    if sequence > producer.last_sequence:
        expected = str(producer.last_sequence + 1)
        message = f"producer {producer_id} sent batch {sequence}, batch {expected} was expected"
        return Refused(
            Code.FAILED_PRECONDITION, "SEQUENCE_GAP", message, {"expected_producer_sequence": expected}
        )
    age = producer.last_sequence - sequence + 1
    if age * _RESULT.size > len(producer.results):
        return Published(0, 0, duplicate=True)
    return _unpack(*_RESULT.unpack_from(producer.results, len(producer.results) - age * _RESULT.size))


def batch_stored(tables: Tables, at: Position, producer_id: str, sequence: int, stored: Published) -> None:
    """Remember a producer's batch, for `repeated_batch`."""
    producer = _producer(tables, at, producer_id)
    if producer is None:
        tables.store.execute(
            "DELETE FROM producers WHERE id IN (SELECT id FROM producers WHERE hour < ? LIMIT ?)",
            ((at.time_ms - limits.PRODUCER_WINDOW_MS) // _HOUR_MS, _PRODUCERS_PURGED),
        )
    kept = b"" if producer is None else producer.results[-(limits.PRODUCER_RESULTS_KEPT - 1) * _RESULT.size :]
    tables.put_producer(ProducerRow(producer_id, sequence, at.time_ms, kept + _pack(stored)))


def _pack(stored: Published) -> bytes:
    first = stored.first_sequence if stored.queues == 1 else _OF_TOPIC | stored.queues
    return _RESULT.pack(first, stored.count | stored.delayed << _DELAYED_SHIFT)


def _unpack(first: int, counts: int) -> Published:
    delayed, count = divmod(counts, 1 << _DELAYED_SHIFT)
    if first & _OF_TOPIC:
        return Published(0, count, duplicate=True, delayed=delayed, queues=first ^ _OF_TOPIC)
    return Published(first, count, duplicate=True, delayed=delayed)


def _producer(tables: Tables, at: Position, producer_id: str) -> ProducerRow | None:
    producer = tables.producer(producer_id)
    if producer is None or producer.time_ms < at.time_ms - limits.PRODUCER_WINDOW_MS:
        return None
    return producer


def remembered_producers(store: Store, time_ms: int) -> list[tuple[str, int, int, bytes]]:
    """All producers that are not forgotten at that time: id, last sequence, time, packed results."""
    return store.execute(
        "SELECT id, last_sequence, time_ms, results FROM producers WHERE time_ms >= ? ORDER BY id",
        (time_ms - limits.PRODUCER_WINDOW_MS,),
    ).fetchall()
