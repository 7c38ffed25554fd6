"""The door: sockets that listen, and one task per newcomer until its connection is made.

The server of asyncio says nothing about a TLS handshake that fails. Here a newcomer that does not get through it is
reported with its address and the reason, and no half-made connection outlives `close`.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from raft.link import Link

BACKLOG = 128  # newcomers that the kernel holds for us
BREATH_MS = 100  # pause after a failed accept: out of file descriptors passes only if somebody leaves

_NOT_ON_THIS_MACHINE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listener:
    """Accepts connections for the links that `newcomer` makes; it answers None to turn one away unheard."""

    def __init__(self, newcomer: Callable[[str], Link | None], tls_options: dict[str, Any]) -> None:
        self._newcomer = newcomer
        self._tls_options = tls_options
        self._sockets: list[socket.socket] = []
        self._admitting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on, also when 0 was asked for."""
        return int(self._sockets[0].getsockname()[1])

    async def open(self, host: str, port: int) -> None:
        """Listen on all addresses of `host`, or of this machine if it is empty; raises OSError if that is not possible."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        failure: OSError | None = None
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                self._sockets.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
            except OSError as error:
                failure = error
                if error.errno not in _NOT_ON_THIS_MACHINE:
                    break
        if failure is not None and (not self._sockets or failure.errno not in _NOT_ON_THIS_MACHINE):
            self._close_sockets()
            raise failure
        for listening in self._sockets:
            listening.setblocking(False)
            self._watch(listening)

    async def close(self) -> None:
        """Listen no more, and drop those that are on the threshold."""
        self._close_sockets()
        for task in self._admitting:
            task.cancel()
        await asyncio.gather(*self._admitting, return_exceptions=True)

    def _close_sockets(self) -> None:
        loop = asyncio.get_running_loop()
        while self._sockets:
            listening = self._sockets.pop()
            loop.remove_reader(listening)
            listening.close()

    def _watch(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take those that wait at the door."""
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or memory left; the kernel would call us again at once
                loop.remove_reader(listening)
                loop.call_later(BREATH_MS / 1000, self._watch, listening)
                return
            link = self._newcomer(str(address[0]))
            if link is None:
                connection.close()
                continue
            connection.setblocking(False)
            task = asyncio.create_task(self._admit(connection, link))
            self._admitting.add(task)
            task.add_done_callback(partial(self._admitted, connection))

    async def _admit(self, connection: socket.socket, link: Link) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link, connection, **self._tls_options
            )
        except OSError as error:  # ssl.SSLError is one
            link.end(f"{type(error).__name__}: {error}")

    def _admitted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._admitting.discard(task)
        if task.cancelled():
            connection.close()  # perhaps before anything else had hold of it
