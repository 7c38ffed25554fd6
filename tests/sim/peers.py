"""Nodes that only talk to each other, over real sockets, and strangers who call them."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from raft.frames import SIZE, Append, Hello, Message, Ping, decode, encode
from raft.records import Entry
from raft.transport import Peers

WITHIN_S = 10.0  # far more than anything here takes; only a failing test waits so long

Run = Callable[[Awaitable[None]], None]


def hello_of(node_id: str, **changes: Any) -> Hello:
    hello = Hello("taskraft", node_id, "127.0.0.1:0", {"grpc": f"{node_id}:7001"}, "member", 3, 9)
    return replace(hello, **changes)


class Node:
    """A node that does nothing but remember what its peers tell it."""

    def __init__(self, node_id: str, **options: Any) -> None:
        self.hello = options.pop("hello", hello_of(node_id))
        self.events: list[tuple[str, str]] = []
        self.hellos: list[Hello] = []
        self.messages: list[tuple[str, Message]] = []
        self.on_message: Callable[[str, Message], object] | None = None
        self.on_connected: Callable[[str], object] | None = None
        self._changed = asyncio.Event()
        listen = options.pop("listen", "127.0.0.1:0")
        self.peers = Peers(
            node_id,
            listen=listen,
            hello=lambda: self.hello,
            on_hello=self._heard_hello,
            on_connected=self._met,
            on_disconnected=lambda peer_id: self._note("disconnected", peer_id),
            on_message=self._heard,
            **options,
        )

    async def __aenter__(self) -> Self:
        await self.peers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peers.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.peers.port}"

    def _note(self, event: str, peer_id: str) -> None:
        self.events.append((event, peer_id))
        self._changed.set()

    def _heard_hello(self, peer_id: str, hello: Hello) -> None:
        assert hello.node_id == peer_id
        self.hellos.append(hello)
        self._note("hello", peer_id)

    def _met(self, peer_id: str) -> None:
        self._note("connected", peer_id)
        if self.on_connected is not None:
            self.on_connected(peer_id)

    def _heard(self, peer_id: str, message: Message) -> None:
        assert self.connected(peer_id)
        self.messages.append((peer_id, message))
        if self.on_message is not None:
            self.on_message(peer_id, message)
        self._changed.set()

    def count(self, event: str, peer_id: str) -> int:
        return self.events.count((event, peer_id))

    def connected(self, peer_id: str) -> bool:
        """What the callbacks say; they must strictly alternate."""
        balance = self.count("connected", peer_id) - self.count("disconnected", peer_id)
        assert balance in (0, 1)
        return balance == 1

    async def until(self, condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Wait for a condition over what this node was told, or over its sockets (those are looked at again and again)."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await self._changed.wait()

    async def until_connected(self, peer_id: str) -> None:
        await self.until(lambda: self.connected(peer_id))

    async def until_sockets(self, count: int) -> None:
        await self.until(lambda: len(self.peers._open) == count)

    async def until_messages(self, count: int) -> None:
        await self.until(lambda: len(self.messages) >= count)

    async def hears(self, other: "Node", message: Message) -> None:
        """`message` arrives here when `other` sends it."""
        assert other.peers.send(self.hello.node_id, message)
        await self.until(lambda: (other.hello.node_id, message) in self.messages)


def introduce(*nodes: Node) -> None:
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.peers.connect(other.hello.node_id, other.address)


async def meet(*nodes: Node) -> None:
    introduce(*nodes)
    for node in nodes:
        for other in nodes:
            if other is not node:
                await node.until_connected(other.hello.node_id)


@dataclass
class Stranger:
    """A socket in the hands of the test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: list[Message] = field(default_factory=list)

    @classmethod
    async def call(cls, node: Node) -> "Stranger":
        return cls(*await asyncio.open_connection("127.0.0.1", node.peers.port))

    @classmethod
    async def posing(cls, node: Node, node_id: str, **changes: Any) -> "Stranger":
        """Connected to `node` as if it were the peer `node_id`."""
        stranger = await cls.call(node)
        stranger.say(hello_of(node_id, **changes))
        assert isinstance(await stranger.read(), Hello)
        if node_id < node.hello.node_id:
            stranger.say(Ping())
        await node.until_connected(node_id)
        return stranger

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.writer.writelines(encode(message))

    async def read(self) -> Message:
        async with asyncio.timeout(WITHIN_S):
            size = await self.reader.readexactly(SIZE.size)
            return decode(memoryview(size + await self.reader.readexactly(*SIZE.unpack(size))))

    async def closed(self, within_s: float = WITHIN_S) -> bool:
        """Read until the node closes this connection."""
        async with asyncio.timeout(within_s):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionResetError:
                pass
        self.leave()
        return True

    def leave(self) -> None:
        self.writer.transport.abort()


async def complains(node: Node, about: str, reason: str = "") -> None:
    """`node` has told its operator why there is no connection."""
    await node.until(lambda: any(who == about and reason in why for who, why in node.peers._complaints))


def append_of(size: int, index: int = 5) -> Append:
    return Append(3, 1, index - 1, 3, index - 1, (Entry(index, 3, 1, random.randbytes(size)),))
