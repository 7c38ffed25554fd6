"""Peers over TCP or TLS: one connection per pair, frames in, frames out, and the truth about who is there.

Both sides of a pair may dial. On every connection each side says Hello and checks the other's before anything else;
then the node with the smaller id, and only it, decides whether this is the connection in use, and says so by a Ping.
Its own dial never replaces a connection in use; theirs does, since they dial only when they know of none. The exception
is a dial from before they knew, which their hello tells: its `gap` is drawn anew whenever a connection came into use (or
the process started), so two connections that carry the same one were opened in the same gap, and the later is a duplicate.

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
from dataclasses import replace
from typing import Any

from raft import limits
from raft.frames import Hello, Message, Ping, encode
from raft.link import HELLO_BYTES_MAX, Link
from raft.listener import Listener

GREETING_MAX = 64  # connections that are not in use yet; further ones are closed unheard
TICKS_PER_IDLE = 4  # silence is counted in ticks of our own: a pause of this process is nobody's silence
RECONNECT_MS_MIN, RECONNECT_MS_MAX = (
    20,
    200,
)  # between two attempts; the first one after a loss is made at once
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
        self._listener = Listener(self._newcomer, self._tls_options(ssl_server))
        self._tls_client = self._tls_options(ssl_client)
        self._links: dict[str, Link] = {}  # in use, by peer id
        self._greeting: set[Link] = set()  # not in use yet
        self._open: set[Link] = set()  # their sockets are still open, in use or not
        self._gaps: dict[str, int] = {}  # see Hello.gap, by peer id
        self._addresses: dict[str, tuple[str, int]] = {}  # of the peers given to `connect`
        self._diallers: dict[str, asyncio.Task[None]] = {}
        self._complaints: dict[tuple[str, str], float] = {}
        self._ticking: asyncio.TimerHandle | None = None
        self._closed = False
        self.frames_dropped = 0  # because an outbox was full

    @property
    def port(self) -> int:
        """The port that is listened on, also when 0 was asked for."""
        return self._listener.port

    async def start(self) -> None:
        """Listen; raises OSError if that is not possible."""
        await self._listener.open(*self._listen)
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
        for link in [*self._links.values(), *self._greeting]:
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
        for peer_id, link in self._links.items():
            self._say_hello(link, peer_id)

    async def close(self) -> None:
        """Send what is queued, as far as peers take it within FAREWELL_MS, and leave. No callback comes any more."""
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        self._end_all()
        for dialler in self._diallers.values():
            dialler.cancel()
        await asyncio.gather(*self._diallers.values(), return_exceptions=True)
        await self._listener.close()
        self._end_all()  # made in the meantime
        for _ in range(2):
            if self._open:
                await asyncio.wait([link.gone for link in self._open], timeout=FAREWELL_MS / 1000)
            for link in list(self._open):
                link.abort()

    def _end_all(self) -> None:
        for link in [*self._links.values(), *self._greeting]:
            link.end("this node leaves", flush=True)

    async def _keep_connected(self, peer_id: str) -> None:
        """Dial whenever there is no connection, whoever dialled the last one."""
        loop = asyncio.get_running_loop()
        while True:
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
        loop, link = asyncio.get_running_loop(), self._new_link(peer_id, host)
        try:
            async with asyncio.timeout(self._hello_timeout_ms / 1000):
                await loop.create_connection(lambda: link, host, port, **self._tls_client)
            await link.settled.wait()
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            link.end(str(error) or type(error).__name__)
        except asyncio.CancelledError:
            link.end("not wanted any more")
            raise

    def _newcomer(self, host: str) -> Link | None:
        """Somebody is at the door."""
        if len(self._greeting) < GREETING_MAX:
            return self._new_link(None, host)
        self._complain("connection_refused", host, "too many connections that are not in use")
        return None

    def _new_link(self, dialled: str | None, host: str) -> Link:
        link = Link(dialled, host, made=self._made, received=self._received, over=self._over)
        self._greeting.add(link)
        loop, timeout_ms = asyncio.get_running_loop(), self._hello_timeout_ms
        link.deadline = loop.call_later(timeout_ms / 1000, link.end, f"no good hello within {timeout_ms} ms")
        return link

    def _made(self, link: Link) -> None:
        self._open.add(link)
        link.gone.add_done_callback(lambda _: self._open.discard(link))
        _configure(link.socket, self._idle_ms)
        if link.dialled is not None and link.dialled in self._links:
            link.end("they were quicker")
        elif link.dialled is not None:
            self._say_hello(link, link.dialled)

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

    def _greeted(self, link: Link, said: Hello) -> None:
        hello = replace(said, gap=0)  # that is between the transports
        reason = self._refusal(link, hello)
        if reason is not None:
            link.end(reason)
            return
        first = link.hello is None
        link.hello = hello
        if link.in_use:
            self._on_hello(hello.node_id, hello)
        elif first:
            link.gap = said.gap
            self._answer(link, hello.node_id)

    def _answer(self, link: Link, peer_id: str) -> None:
        """Their hello is good: say ours if they dialled, and decide about this connection if that is up to us."""
        if link.dialled is None:
            self._say_hello(link, peer_id)
        if self._me > peer_id:
            return
        current = self._links.get(peer_id)
        if current is None or (link.dialled is None and current.gap != link.gap):
            link.write(encode(Ping()))
            self._use(link)
        else:
            link.end("a duplicate")

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
        self._greeting.discard(link)
        self._links[peer_id] = link
        self._gaps[peer_id] = random.getrandbits(64)
        link.use(self._frame_bytes_max)
        log.info("peer_connected", extra={"fields": {"peer": peer_id, "host": link.host}})
        self._on_hello(peer_id, link.hello)
        if link.in_use:
            link.reported = True
            self._on_connected(peer_id)

    def _over(self, link: Link, reason: str) -> None:
        """Called by the link, once, when it has ended."""
        peer_id = link.peer_id
        self._greeting.discard(link)
        if peer_id is not None and (link.in_use or peer_id not in self._addresses):
            self._gaps.pop(peer_id, None)
        if link.in_use:
            assert peer_id is not None
            link.in_use = False
            del self._links[peer_id]
            log.info("peer_lost", extra={"fields": {"peer": peer_id, "reason": reason}})
            if link.reported and not self._closed:
                self._on_disconnected(peer_id)
            return
        if peer_id in self._links or any(other.peer_id == peer_id for other in self._greeting if other.hello):
            return  # it was a duplicate
        if link.dialled is None:
            self._complain("connection_refused", peer_id or link.host, reason)
        elif link.dialled in self._addresses:
            self._complain("peer_unreachable", link.dialled, reason)

    def _say_hello(self, link: Link, peer_id: str) -> None:
        hello = self._hello()
        assert hello.node_id == self._me
        gap = self._gaps.setdefault(peer_id, random.getrandbits(64))
        parts = encode(replace(hello, gap=gap))
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
