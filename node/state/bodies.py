"""Where the bytes of chunks are found: among the recent ones, in the store, or in the log."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from node import limits
from node.state.entries import commands_of
from node.state.schema import body_id
from node.state.store import Store

LogBody: TypeAlias = Callable[[int], bytes]
"""The payload of the log entry at an index, from any thread; KeyError if the log does not hold it any more."""

_OVERHEAD_BYTES = 256  # of one chunk in the cache, beside its content


def no_log(log_index: int) -> bytes:
    """The log of a machine that was given none."""
    raise KeyError(log_index)


class _Recent:
    """Chunks that were used last, up to so many bytes; one alone may be larger."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._chunks: OrderedDict[tuple[int, int], bytes] = OrderedDict()  # least recently used first

    def get(self, key: tuple[int, int]) -> bytes | None:
        chunk = self._chunks.get(key)
        if chunk is not None:
            self._chunks.move_to_end(key)
        return chunk

    def keep(self, key: tuple[int, int], chunk: bytes) -> None:
        """Remember a chunk; the ones not used for longest make room."""
        if key in self._chunks:
            return
        self._chunks[key] = chunk
        self._bytes += len(chunk) + _OVERHEAD_BYTES
        while self._bytes > self._bytes_max and len(self._chunks) > 1:
            _, oldest = self._chunks.popitem(last=False)
            self._bytes -= len(oldest) + _OVERHEAD_BYTES


class Bodies:
    """The bytes of chunks. Those that were stored last are kept, and, in a room of their own, those that were read last:
    whoever reads a long backlog does not push out what is about to be delivered.
    """

    def __init__(
        self,
        store: Store,
        log_body: LogBody,
        cache_bytes_max: int = limits.CHUNK_CACHE_BYTES_MAX,
        read_bytes_max: int = limits.CHUNK_READ_BYTES_MAX,
    ) -> None:
        self.log_body = log_body
        self._store = store
        self._stored, self._read = _Recent(cache_bytes_max), _Recent(read_bytes_max)

    def keep(self, log_index: int, ordinal: int, chunk: bytes) -> None:
        """Remember a chunk that was just stored."""
        self._stored.keep((log_index, ordinal), chunk)

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        """The encoded chunk of a live chunk row. KeyError if it is nowhere, which is our mistake."""
        key = (log_index, ordinal)
        chunk = self._stored.get(key) or self._read.get(key)
        if chunk is not None:
            return chunk
        moved = self._store.execute(
            "SELECT chunk FROM bodies WHERE id = ?", (body_id(log_index, ordinal),)
        ).fetchone()
        if moved is not None:
            self._read.keep(key, moved[0])
            return bytes(moved[0])
        commands = list(commands_of(self.log_body(log_index)))
        for place, command in enumerate(commands):  # its neighbours are asked for next
            if command.WhichOneof("kind") == "publish":
                self._read.keep((log_index, place), command.publish.chunk)
        return commands[ordinal].publish.chunk
