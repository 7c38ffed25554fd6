"""What happened to a task, packed: its first 8 events and the last 56.

One byte counts the events; each is a fixed head and one text of worker, reason and message, with NUL between them.
"""

import struct
from functools import lru_cache
from typing import Final

from node import limits
from node.state.rows import timestamp
from taskraft.v1 import task_pb2

FIRST_KEPT: Final = 8
LAST_KEPT: Final = 56

_KEPT: Final = FIRST_KEPT + LAST_KEPT
_ALIKE: Final = 64  # encoded events that are remembered
_HEAD: Final = struct.Struct("<qBHH")  # time_ms, state, attempt, bytes of the text
_COUNT: Final = tuple(bytes([count]) for count in range(_KEPT + 1))


def append(
    events: bytes, time_ms: int, state: int, attempt: int, worker_id: str, reason: str, message: str
) -> bytes:
    """The history with one more event; the ninth one makes room if it is full."""
    event = _encoded(time_ms, state, attempt, worker_id, reason, message)
    if not events:
        return _COUNT[1] + event
    count = events[0]
    if count < _KEPT:
        return _COUNT[count + 1] + events[1:] + event
    ninth = 1
    for _ in range(FIRST_KEPT):
        ninth = _after(events, ninth)
    return events[:ninth] + events[_after(events, ninth) :] + event


@lru_cache(maxsize=_ALIKE)
def _encoded(time_ms: int, state: int, attempt: int, worker_id: str, reason: str, message: str) -> bytes:
    """One event; those of the tasks of a command are mostly equal."""
    if message:
        message = message[: limits.REASON_CHARS_MAX].replace("\0", " ")
    text = f"{worker_id}\0{reason}\0{message}".encode()
    return _HEAD.pack(time_ms, state, attempt, len(text)) + text


def _after(events: bytes, place: int) -> int:
    """Where the event after the one at `place` begins."""
    return place + _HEAD.size + int.from_bytes(events[place + _HEAD.size - 2 : place + _HEAD.size], "little")


def to_proto(events: bytes) -> list[task_pb2.TaskEvent]:
    """The events, oldest first, as the API shows them."""
    shown, place = [], 1
    while place < len(events):
        time_ms, state, attempt, _ = _HEAD.unpack_from(events, place)
        after = _after(events, place)
        worker_id, reason, message = events[place + _HEAD.size : after].decode().split("\0")
        place = after
        shown.append(
            task_pb2.TaskEvent(
                time=timestamp(time_ms),
                state=state,
                attempt=attempt,
                worker_id=worker_id,
                reason=reason,
                message=message,
            )
        )
    return shown
