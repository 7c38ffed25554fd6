"""Peers over TCP or TLS: one connection per pair, frames in, frames out, and the truth about who is there.

Both sides of a pair may dial. On every connection each side says Hello and checks the other's before anything else;
then the node with the smaller id decides whether this is the connection in use, and says so by a Ping. A connection
that the other side dialled always wins, since it dials only when it knows of none: a peer that lost its half, or its
power, is heard again at once. Only the smaller id drops duplicates, so the two cannot drop each other's.

`on_connected` is called when both hellos are good and frames can be sent, `on_disconnected` exactly once after it. A
closed socket is reported as soon as the loop sees it, silence after `idle_ms`; Pings keep an idle pair from being
taken for a dead one. Bytes that are no frame, a hello that is not for us, or none within `hello_timeout_ms` end that
one connection and leave one line in the log.

Callbacks run on the event loop, never inside `send`, and may call any method of `Peers`.
"""

import asyncio
import logging
import random
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from raft import limits
from raft.frames import Hello, Message, Ping, encode
from raft.link import HELLO_BYTES_MAX, Link

GREETING_MAX = 64  # connections that are not in use yet; further ones are closed unheard
TICKS_PER_IDLE = 4  # silence is counted in ticks of our own: a pause of this process is nobody's silence
RECONNECT_MS_MIN, RECONNECT_MS_MAX = (
    20,
    200,
)  # between two attempts; the first one after a loss is made at once
STAGGER_MS = 30  # the larger id dials this much later, so that duplicates are rare
BRIEF_MS = 200  # a connection that lived shorter is no reason to dial again at once
FAREWELL_MS = 500  # for what is still in the outboxes when we close
REPEAT_S = 10.0  # the same complaint is logged once in this time
COMPLAINTS_MAX = 1000  # remembered

log = logging.getLogger(__name__)


class Peers:
    """The connections of the node `me` to its peers. Used from one event loop, by one owner."""

    def __init__(
        self,
        me: str,
        *,
        listen: str,
        hello: Callable[[], Hello],
        on_hello: Callable[[str, Hello], None],
        on_connected: Callable[[str], None],
        on_disconnected: Callable[[str], None],
        on_message: Callable[[str, Message], None],
        accept: Callable[[Hello], bool] | None = None,
        frame_bytes_max: int = limits.FRAME_BYTES_MAX,
        outbox_bytes_max: int = limits.OUTBOX_BYTES_MAX,
        idle_ms: int = 2000,
        hello_timeout_ms: int = 2000,
        ssl_server: ssl.SSLContext | None = None,
        ssl_client: ssl.SSLContext | None = None,
    ) -> None:
        """`accept` says whether an id that was not given to `connect` may come in; without it none may."""
        assert HELLO_BYTES_MAX <= frame_bytes_max <= outbox_bytes_max
        self._me = me
        self._listen = _host_port(listen)
        self._hello = hello
        self._on_hello = on_hello
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_message = on_message
        self._accept = accept
        self._frame_bytes_max = frame_bytes_max
        self._outbox_bytes_max = outbox_bytes_max
        self._idle_ms = idle_ms
        self._hello_timeout_ms = hello_timeout_ms
        self._tls_server = self._tls_options(ssl_server)
        self._tls_client = self._tls_options(ssl_client)
        self._open: set[Link] = set()  # every connection whose socket is open
        self._links: dict[str, Link] = {}  # those in use, by peer id
        self._addresses: dict[str, tuple[str, int]] = {}  # of the peers given to `connect`
        self._diallers: dict[str, asyncio.Task[None]] = {}
        self._complaints: dict[tuple[str, str], float] = {}
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._closed = False
        self.frames_dropped = 0  # because an outbox was full

    @property
    def port(self) -> int:
        """The port that is listened on, also when 0 was asked for."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen; raises OSError if that is not possible."""
        host, port = self._listen
        loop, factory = asyncio.get_running_loop(), partial(self._new_link, None)
        self._server = await loop.create_server(factory, host or None, port, **self._tls_server)
        self._tick()

    def connect(self, peer_id: str, address: str) -> None:
        """Be connected to that peer from now on, at `address` (host:port, looked up anew for each attempt)."""
        assert peer_id != self._me
        assert not self._closed
        self._addresses[peer_id] = _host_port(address)
        if peer_id not in self._diallers:
            self._diallers[peer_id] = asyncio.create_task(self._keep_connected(peer_id))

    def disconnect(self, peer_id: str) -> None:
        """Forget that peer. What was sent still goes out; it may come back only if `accept` says so."""
        self._addresses.pop(peer_id, None)
        dialler = self._diallers.pop(peer_id, None)
        if dialler is not None:
            dialler.cancel()
        for link in list(self._open):
            if link.peer_id == peer_id:
                link.end("not a peer any more", flush=True)

    def send(self, peer_id: str, message: Message) -> bool:
        """Queue one message; False if that peer is not connected or its outbox is full. True promises nothing."""
        link = self._links.get(peer_id)
        if link is None:
            return False
        parts = encode(message)
        size = sum(map(len, parts))
        assert size <= self._frame_bytes_max, "the peer would refuse a frame of this size"
        if link.queued_bytes() + size > self._outbox_bytes_max:
            self.frames_dropped += 1
            return False
        link.write(parts)
        return True

    def outbox_bytes(self, peer_id: str) -> int:
        """Queued for that peer and not yet taken by the kernel; 0 if it is not connected."""
        link = self._links.get(peer_id)
        return link.queued_bytes() if link else 0

    def greet(self) -> None:
        """Our hello has changed: say it again to all who are connected."""
        for link in self._links.values():
            self._say_hello(link)

    async def close(self) -> None:
        """Send what is queued, as far as peers take it within FAREWELL_MS, and leave. No callback comes any more."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        if self._ticking is not None:
            self._ticking.cancel()
        for dialler in self._diallers.values():
            dialler.cancel()
        await asyncio.gather(*self._diallers.values(), return_exceptions=True)
        for link in list(self._open):
            link.end("this node leaves", flush=True)
        for _ in range(2):
            if self._open:
                await asyncio.wait([link.gone for link in self._open], timeout=FAREWELL_MS / 1000)
            for link in list(self._open):
                link.abort()

    async def _keep_connected(self, peer_id: str) -> None:
        """Dial whenever there is no connection, whoever dialled the last one."""
        loop = asyncio.get_running_loop()
        while True:
            if self._me > peer_id:
                await asyncio.sleep(STAGGER_MS / 1000)
            while peer_id not in self._links:
                await self._dial(peer_id)
                if peer_id not in self._links:
                    await asyncio.sleep(random.uniform(RECONNECT_MS_MIN, RECONNECT_MS_MAX) / 1000)
            began = loop.time()
            await self._links[peer_id].ended.wait()
            if loop.time() - began < BRIEF_MS / 1000:
                await asyncio.sleep(random.uniform(RECONNECT_MS_MIN, RECONNECT_MS_MAX) / 1000)

    async def _dial(self, peer_id: str) -> None:
        """One attempt; returns when its connection is in use or has ended."""
        host, port = self._addresses[peer_id]
        loop, link = asyncio.get_running_loop(), self._new_link(peer_id)
        try:
            async with asyncio.timeout(self._hello_timeout_ms / 1000):
                await loop.create_connection(lambda: link, host, port, **self._tls_client)
            await link.settled.wait()
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            link.end(str(error) or type(error).__name__)
        except asyncio.CancelledError:
            link.end("not wanted any more")
            raise

    def _new_link(self, dialled: str | None) -> Link:
        link = Link(dialled, made=self._made, received=self._received, over=self._over)
        loop, timeout_ms = asyncio.get_running_loop(), self._hello_timeout_ms
        link.deadline = loop.call_later(timeout_ms / 1000, link.end, f"no good hello within {timeout_ms} ms")
        return link

    def _made(self, link: Link) -> None:
        self._open.add(link)
        link.gone.add_done_callback(lambda _: self._open.discard(link))
        _configure(link.socket, self._idle_ms)
        if self._closed:
            link.end("this node leaves")
        elif link.dialled is None and sum(not other.in_use for other in self._open) > GREETING_MAX:
            link.end("too many connections say nothing")
        elif link.dialled is not None and link.dialled in self._links:
            link.end("they were quicker")
        elif link.dialled is not None:
            self._say_hello(link)

    def _received(self, link: Link, message: Message) -> None:
        if link.in_use and not isinstance(message, Hello | Ping):
            assert link.hello is not None
            self._on_message(link.hello.node_id, message)
        elif isinstance(message, Hello):
            self._greeted(link, message)
        elif link.hello is None:
            link.end(f"{type(message).__name__} before Hello")
        elif not link.in_use and isinstance(message, Ping):
            self._use(link)
        elif not link.in_use:
            link.end(f"{type(message).__name__} before this connection was in use")

    def _greeted(self, link: Link, hello: Hello) -> None:
        reason = self._refusal(link, hello)
        if reason is not None:
            link.end(reason)
            return
        first = link.hello is None
        link.hello = hello
        if link.in_use:
            self._on_hello(hello.node_id, hello)
        elif first:
            self._answer(link, hello.node_id)

    def _answer(self, link: Link, peer_id: str) -> None:
        """Their hello is good: say ours if they dialled, and decide about this connection if that is up to us."""
        if link.dialled is None:
            self._say_hello(link)
        if self._me > peer_id:
            return
        if link.dialled is not None and peer_id in self._links:
            link.end("they were quicker")
            return
        link.write(encode(Ping()))
        self._use(link)

    def _refusal(self, link: Link, hello: Hello) -> str | None:
        """Why this hello ends the connection; None if it is good."""
        ours = self._hello()
        if hello.protocol != ours.protocol:
            return f"it speaks protocol {hello.protocol}, not {ours.protocol}"
        if hello.cluster != ours.cluster:
            return f"it belongs to the cluster {hello.cluster!r:.80}, not to {ours.cluster!r}"
        if hello.node_id == self._me:
            return "it has the id of this node"
        if link.peer_id not in (None, hello.node_id):
            return f"it is {hello.node_id!r:.80}, not {link.peer_id!r}"
        if hello.node_id in self._addresses or link.in_use:
            return None
        if self._accept is None or not self._accept(hello):
            return f"{hello.node_id!r:.80} is not a peer"
        return None

    def _use(self, link: Link) -> None:
        """Both hellos are good and the smaller id has chosen this connection: it replaces an older one."""
        assert link.hello is not None
        peer_id = link.hello.node_id
        if peer_id in self._links:
            self._links[peer_id].end("replaced by a newer connection")
        if link.ended.is_set():
            return  # a callback about the older one did not want this peer any more
        self._links[peer_id] = link
        link.use(self._frame_bytes_max)
        log.info("peer_connected", extra={"fields": {"peer": peer_id, "host": link.host}})
        self._on_hello(peer_id, link.hello)
        if link.in_use:
            link.reported = True
            self._on_connected(peer_id)

    def _over(self, link: Link, reason: str) -> None:
        """Called by the link, once, when it has ended."""
        peer_id = link.peer_id
        if link.in_use:
            assert peer_id is not None
            link.in_use = False
            del self._links[peer_id]
            log.info("peer_lost", extra={"fields": {"peer": peer_id, "reason": reason}})
            if link.reported and not self._closed:
                self._on_disconnected(peer_id)
        elif link.dialled is None and peer_id not in self._links:
            self._complain("connection_refused", peer_id or link.host, reason)
        elif link.dialled in self._addresses and link.dialled not in self._links:
            self._complain("peer_unreachable", link.dialled, reason)

    def _say_hello(self, link: Link) -> None:
        hello = self._hello()
        assert hello.node_id == self._me
        parts = encode(hello)
        assert sum(map(len, parts)) <= HELLO_BYTES_MAX
        link.write(parts)

    def _tick(self) -> None:
        """Keep the idle connections alive, end the silent ones."""
        delay_s = self._idle_ms / TICKS_PER_IDLE / 1000
        self._ticking = asyncio.get_running_loop().call_later(delay_s, self._tick)
        for link in list(self._links.values()):
            link.silent_ticks = 0 if link.heard else link.silent_ticks + 1
            if link.silent_ticks > TICKS_PER_IDLE:
                link.end(f"silent for {self._idle_ms} ms")
            elif not link.said and link.in_use:
                link.write(encode(Ping()))
            link.heard = link.said = False

    def _complain(self, action: str, peer: str, reason: str) -> None:
        """One line for the operator, but not the same one ten times a second."""
        now_s = asyncio.get_running_loop().time()
        if self._closed or now_s - self._complaints.get((peer, reason), -REPEAT_S) < REPEAT_S:
            return
        if len(self._complaints) >= COMPLAINTS_MAX:
            self._complaints.clear()
        self._complaints[peer, reason] = now_s
        log.warning(action, extra={"fields": {"peer": peer, "reason": reason}})

    def _tls_options(self, context: ssl.SSLContext | None) -> dict[str, Any]:
        if context is None:
            return {}
        return {
            "ssl": context,
            "ssl_handshake_timeout": self._hello_timeout_ms / 1000,
            "ssl_shutdown_timeout": FAREWELL_MS / 1000,
        }


def _host_port(address: str) -> tuple[str, int]:
    """`host:port`; an IPv6 host stands in brackets, an empty one means all interfaces."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _configure(connection: socket.socket, idle_ms: int) -> None:
    """Send small frames at once; let the kernel, too, notice a peer that is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, idle_ms)
