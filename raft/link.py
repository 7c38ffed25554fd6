"""One connection to a peer: bytes in, frames out, and one end.

Frames are received in place: the kernel writes into a buffer of the link, a frame is decoded where it lies, and only
what the message keeps is copied. Nothing here knows who may speak or what is said; `transport.py` does.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from raft import limits
from raft.frames import SIZE, BadFrame, Hello, Message, decode

HELLO_BYTES_MAX = 64 << 10  # one frame of somebody we do not know yet
RECEIVE_BYTES = limits.APPEND_BYTES + (64 << 10)  # frames of up to this size never move

assert HELLO_BYTES_MAX <= RECEIVE_BYTES <= limits.FRAME_BYTES_MAX


class Inbox:
    """Bytes as they arrive, frames as they become whole. Invariant: `space()` is not empty after `next()` gave None."""

    def __init__(self, usual_bytes: int) -> None:
        self.usual_bytes = usual_bytes
        self._view = memoryview(bytearray(usual_bytes))
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Where the next bytes belong."""
        return self._view[self._end :]

    def received(self, size: int) -> None:
        """So many bytes were written into `space()`."""
        self._end += size
        assert self._end <= len(self._view)

    def clear(self) -> None:
        self._start = self._end = 0

    def next(self, frame_bytes_max: int) -> memoryview | None:
        """The next whole frame, valid until the next call; None if it is not here yet; BadFrame if it is too large."""
        held = self._end - self._start
        wanted = SIZE.size
        if held >= wanted:
            wanted += SIZE.unpack_from(self._view, self._start)[0]
            if wanted > frame_bytes_max:
                raise BadFrame(f"a frame of {wanted} bytes, the limit is {frame_bytes_max}")
            if held >= wanted:
                frame = self._view[self._start : self._start + wanted]
                self._start += wanted
                return frame
        self._make_room(held, wanted)
        return None

    def _make_room(self, held: int, wanted: int) -> None:
        """Bring the `held` bytes to where a frame of `wanted` bytes fits; an idle buffer gets its usual size back."""
        if held and self._start + wanted <= len(self._view):
            return
        rest = self._view[self._start : self._end]
        capacity = max(wanted, self.usual_bytes)
        if len(self._view) != capacity:
            self._view = memoryview(bytearray(capacity))
        self._view[:held] = rest
        self._start, self._end = 0, held


class Link(asyncio.BufferedProtocol):
    """One connection, from the first byte to the last. It ends once, whoever ends it, and `over` is told why."""

    def __init__(
        self,
        dialled: str | None,
        host: str,
        *,
        made: Callable[["Link"], None],
        received: Callable[["Link", Message], None],
        over: Callable[["Link", str], None],
    ) -> None:
        self.dialled = dialled  # the id we hope to find there; None if they came to us
        self.host = host  # for the log
        self.hello: Hello | None = None  # theirs, once it is checked
        self.gap = 0  # of their first hello
        self.in_use = False  # this is the connection of the pair
        self.reported = False  # on_connected was called
        self.heard = False  # anything, since the last tick
        self.said = False  # anything, since the last tick
        self.silent_ticks = 0
        self.settled = asyncio.Event()  # in use, or ended
        self.ended = asyncio.Event()  # logically: nothing is sent or handed on any more
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the socket is closed
        self.deadline: asyncio.TimerHandle | None = None  # to be in use by then
        self._transport: asyncio.Transport | None = None
        self._made, self._received, self._over = made, received, over
        self._inbox = Inbox(HELLO_BYTES_MAX)
        self._frame_bytes_max = HELLO_BYTES_MAX

    @property
    def peer_id(self) -> str | None:
        """Who is there, or who should be."""
        return self.hello.node_id if self.hello else self.dialled

    @property
    def socket(self) -> socket.socket:
        assert self._transport is not None
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def use(self, frame_bytes_max: int) -> None:
        """From now on this is a peer, and may send what peers send."""
        assert not self.ended.is_set()
        self.in_use = True
        self._frame_bytes_max = frame_bytes_max
        self._inbox.usual_bytes = RECEIVE_BYTES
        self._settle()

    def write(self, parts: list[bytes]) -> None:
        assert self._transport is not None
        self.said = True
        self._transport.writelines(parts)

    def queued_bytes(self) -> int:
        """Handed over by `write`, not yet taken by the kernel."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def end(self, reason: str, *, flush: bool = False) -> None:
        """No more of this; with `flush` the kernel still gets what was written."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._settle()
        self._inbox.clear()
        if self._transport is not None and flush:
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()
        self._over(self, reason)

    def abort(self) -> None:
        """Do not wait for a flush any longer."""
        if self._transport is not None:
            self._transport.abort()

    def _settle(self) -> None:
        self.settled.set()
        if self.deadline is not None:
            self.deadline.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        if self.ended.is_set():
            self._transport.abort()
        else:
            self._made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox.space()

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = True
        if self.ended.is_set():
            return
        self._inbox.received(nbytes)
        while True:  # what `received` calls may end this link: then the inbox is empty
            try:
                frame = self._inbox.next(self._frame_bytes_max)
                if frame is None:
                    return
                message = decode(frame)
            except BadFrame as error:
                self.end(f"bad frame: {error}")
                return
            self._received(self, message)

    def eof_received(self) -> None:
        self.end("closed by the peer")

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set_result(None)
        self.end(str(exc) if exc else "closed by the peer")
