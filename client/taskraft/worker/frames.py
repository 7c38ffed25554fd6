"""What a worker and its processes say to each other: frames on a socket pair.

A frame is its length (4 bytes, of what follows), what it is (1 byte), and bytes that depend on that. Nothing is pickled.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = b"A"  # to the process: an Assignment
REVOKED = b"R"  # to the process: the lease_id and the number of a RevokeReason
READY = b"H"  # from the process: it has loaded the app
PROGRESS = b"P"  # from the process: a LeaseProgress
OUTCOME = b"O"  # from the process: seconds that it ran, and an Outcome

LEASE_AND_REASON = struct.Struct("!QB")
SECONDS = struct.Struct("!d")
_LENGTH = struct.Struct("!I")


def frame(what: bytes, *parts: bytes) -> bytes:
    return b"".join([_LENGTH.pack(sum(map(len, parts)) + 1), what, *parts])


class Frames:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Each frame that is complete now: what it is, and its bytes."""
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            end = at + _LENGTH.size + length
            if len(buffer) < end:
                break
            start = at + _LENGTH.size
            at = end
            yield bytes(buffer[start : start + 1]), bytes(buffer[start + 1 : end])
        del buffer[:at]
