"""Peers find each other, notice at once when one is gone, and let nobody else in.

All of it runs over real sockets, on asyncio's own loop and on uvloop.
"""

import asyncio
import contextlib
import logging
import os
import pickle
import random
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
import uvloop

from raft import transport
from raft.frames import (
    SIZE,
    Append,
    AppendReply,
    Hello,
    Message,
    Ping,
    TimeoutNow,
    VoteReply,
    decode,
    encode,
)
from raft.link import HELLO_BYTES_MAX, Link
from raft.records import Entry
from raft.transport import Peers

WITHIN_S = 10.0  # far more than anything here takes; only a failing test waits so long

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run one coroutine on a fresh loop of either kind; whatever the loop complains about fails the test."""

    def to_the_end(story: Awaitable[None]) -> None:
        complaints: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await story

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())
        assert complaints == []

    return to_the_end


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
    async def posing(cls, node: Node, node_id: str) -> "Stranger":
        """Connected to `node` as if it were the peer `node_id`."""
        stranger = await cls.call(node)
        stranger.say(hello_of(node_id))
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


def test_two_nodes_find_each_other_and_talk(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)

            await one.hears(two, VoteReply(1))
            await two.hears(one, VoteReply(2))

            assert one.events == [("hello", "n2"), ("connected", "n2")]
            assert two.events == [("hello", "n1"), ("connected", "n1")]
            assert one.hellos == [two.hello]

    run(story())


@pytest.mark.parametrize("dialler", ["n1", "n2"])
def test_one_side_that_dials_is_enough(run: Run, dialler: str) -> None:
    async def story() -> None:
        everyone: dict[str, Any] = {"accept": lambda _: True}
        async with Node("n1", **everyone) as one, Node("n2", **everyone) as two:
            caller, called = (one, two) if dialler == "n1" else (two, one)
            caller.peers.connect(called.hello.node_id, called.address)

            await one.until_connected("n2")
            await two.until_connected("n1")
            await one.hears(two, VoteReply(1))
            await two.hears(one, VoteReply(2))

    run(story())


def test_three_nodes_that_dial_at_once_end_with_one_connection_per_pair(run: Run) -> None:
    async def story() -> None:
        for round_ in range(10):
            async with Node("n1") as one, Node("n2") as two, Node("n3") as three:
                await meet(one, two, three)

                await one.hears(three, VoteReply(round_))
                await two.hears(one, VoteReply(round_))
                await three.hears(two, VoteReply(round_))

                for node in (one, two, three):
                    await node.until_sockets(2)

    run(story())


def test_both_dialling_in_the_same_moment_lose_no_connection_and_no_message(run: Run) -> None:
    async def story() -> None:
        duplicates = 0
        for _ in range(30):
            async with Node("n1") as one, Node("n2") as two:
                one.on_connected = partial(one.peers.send, message=VoteReply(1))
                two.on_connected = partial(two.peers.send, message=VoteReply(2))
                await meet(one, two)
                duplicates += len(one.peers._open) > 1
                for node in (one, two):
                    await node.until_sockets(1)
                    await node.until_messages(1)

                assert one.events == [("hello", "n2"), ("connected", "n2")]
                assert two.events == [("hello", "n1"), ("connected", "n1")]
        assert duplicates > 0, "this test never saw what it is about"

    run(story())


def test_frames_of_all_sizes_arrive_whole_and_in_order(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)
            sizes = [0, 1, 3000, 500_000, 10, 2_100_000, 2_200_000, 5, 6_000_000, 100, 65_536] * 2
            sent = [append_of(size, index) for index, size in enumerate(sizes, 2)]

            for message in sent:
                assert one.peers.send("n2", message)
                assert one.peers.send("n2", VoteReply(message.prev_index))
            await two.until_messages(2 * len(sent))

            assert [message for _, message in two.messages[::2]] == sent
            assert {type(message) for _, message in two.messages[1::2]} == {VoteReply}

    run(story())


def test_ten_thousand_small_frames_arrive_in_order(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)

            assert all(two.peers.send("n1", VoteReply(term)) for term in range(10_000))
            await one.until_messages(10_000)

            assert one.messages == [("n2", VoteReply(term)) for term in range(10_000)]

    run(story())


def test_sending_to_a_peer_that_is_not_connected_says_so(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one:
            assert not one.peers.send("n2", VoteReply(1))
            one.peers.connect("n2", "127.0.0.1:1")
            assert not one.peers.send("n2", VoteReply(1))
            assert one.peers.outbox_bytes("n2") == 0

    run(story())


def client_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="n1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


def garbage(tmp_path: Path) -> list[bytes]:
    evil = pickle.dumps(Evil(tmp_path / "executed"))
    noise = random.Random(1)
    return [
        b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        client_hello(),
        evil + bytes(100),
        struct.pack("<I", len(evil)) + evil,
        struct.pack("<IBB", len(evil) + 2, 1, 6) + evil,
        struct.pack(">I", len(evil)) + evil,  # as PySyncObj frames it
        bytes(100),
        b"\xff" * 100,
        struct.pack("<I", HELLO_BYTES_MAX) + bytes(100),
        *(noise.randbytes(200) for _ in range(10)),
        b"".join(encode(VoteReply(99))),
        b"".join(encode(append_of(100))),
        b"".join(encode(Ping())),
    ]


def test_garbage_closes_its_own_connection_and_nothing_else(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)

            for number, data in enumerate(garbage(tmp_path)):
                one.peers._complaints.clear()
                caplog.clear()
                stranger = await Stranger.call(one)
                stranger.writer.write(data)
                assert await stranger.closed(within_s=1.5), data
                assert [record.message for record in caplog.records] == ["connection_refused"], data
                await one.hears(two, VoteReply(number))

            assert one.events == [("hello", "n2"), ("connected", "n2")]
            assert not (tmp_path / "executed").exists()

    with caplog.at_level(logging.INFO):
        run(story())


def test_garbage_from_a_peer_in_use_closes_that_connection_and_reports_it(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n3") as three:
            await meet(one, three)
            one.peers.connect("n2", "127.0.0.1:1")

            evil = pickle.dumps(Evil(tmp_path / "executed"))
            for data in (struct.pack("<I", len(evil)) + evil, struct.pack("<I", (16 << 20) - 3), b"\xff" * 9):
                stranger = await Stranger.posing(one, "n2")
                stranger.say(VoteReply(1))
                stranger.writer.write(data)
                await one.until(lambda: not one.connected("n2"))
                assert await stranger.closed()

            await one.hears(three, VoteReply(2))
            assert one.messages.count(("n2", VoteReply(1))) == 3
            assert not (tmp_path / "executed").exists()
            assert one.count("disconnected", "n3") == 0

    run(story())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (hello_of("n2", cluster="other"), "cluster"),
        (hello_of("n2", protocol=2), "protocol"),
        (hello_of("n1"), "id of this node"),
        (hello_of("n9"), "not a peer"),
        (hello_of(""), "not a peer"),
    ],
    ids=["cluster", "protocol", "own id", "unknown id", "no id"],
)
def test_a_hello_that_is_not_for_us_is_refused(
    run: Run, caplog: pytest.LogCaptureFixture, hello: Hello, reason: str
) -> None:
    async def story() -> None:
        async with Node("n1", accept=lambda hello: hello.node_id == "n8") as one:
            one.peers.connect("n2", "127.0.0.1:1")

            stranger = await Stranger.call(one)
            stranger.say(hello, VoteReply(1))
            assert await stranger.closed()

            assert one.events == []
            assert one.messages == []
            assert stranger.reader.at_eof()
            assert any(reason in record.__dict__["fields"]["reason"] for record in caplog.records)

    run(story())


def test_a_node_of_another_cluster_never_connects_in_either_direction(run: Run) -> None:
    async def story() -> None:
        other = hello_of("n2", cluster="other")
        async with Node("n1") as one, Node("n2", hello=other) as two, Node("n3") as three:
            introduce(one, two)
            await meet(one, three)
            await complains(one, "127.0.0.1", "cluster")
            await complains(two, "127.0.0.1", "cluster")
            await one.hears(three, VoteReply(1))

            assert one.count("hello", "n2") == 0
            assert two.events == []

    run(story())


@pytest.mark.parametrize("caller", ["n1", "n5"])
def test_the_wrong_peer_at_an_address_is_refused(run: Run, caller: str) -> None:
    async def story() -> None:
        async with Node(caller) as one, Node("n3", accept=lambda _: True) as three:
            one.peers.connect("n2", three.address)
            await complains(one, "n2", "it is 'n3', not 'n2'")

            assert one.events == []

    run(story())


def test_an_unknown_id_comes_in_if_accept_says_so(run: Run) -> None:
    async def story() -> None:
        asked: list[Hello] = []

        def accept(hello: Hello) -> bool:
            asked.append(hello)
            return True

        async with Node("n1", accept=accept) as one, Node("n9") as nine:
            nine.peers.connect("n1", one.address)

            await one.until_connected("n9")
            await nine.until_connected("n1")
            await nine.hears(one, VoteReply(1))

            assert asked[0] == nine.hello

    run(story())


@pytest.mark.parametrize(
    "said", [b"", b"\x20", b"".join(encode(hello_of("n2")))[:-1]], ids=["nothing", "a byte", "half"]
)
def test_a_connection_that_does_not_say_hello_is_closed_in_time(run: Run, said: bytes) -> None:
    async def story() -> None:
        async with Node("n1", hello_timeout_ms=200) as one:
            began = time.monotonic()
            stranger = await Stranger.call(one)
            stranger.writer.write(said)

            assert await stranger.closed()

            assert 0.15 < time.monotonic() - began < 2
            assert one.peers._open == set()

    run(story())


def test_a_crowd_that_says_nothing_is_turned_away_and_does_not_disturb(run: Run) -> None:
    async def story() -> None:
        async with Node("n1", hello_timeout_ms=3000) as one, Node("n2") as two:
            await meet(one, two)
            crowd = [await Stranger.call(one) for _ in range(transport.GREETING_MAX)]

            late = await Stranger.call(one)
            assert await late.closed(within_s=1.5)
            await one.hears(two, VoteReply(1))

            for stranger in crowd:
                stranger.leave()

    run(story())


@pytest.mark.parametrize("how", ["reset", "end of file"])
@pytest.mark.parametrize("peer_id", ["n0", "n2"])
def test_a_broken_connection_is_reported_at_once(run: Run, how: str, peer_id: str) -> None:
    async def story() -> None:
        async with Node("n1", accept=lambda _: True) as one:
            stranger = await Stranger.posing(one, peer_id)
            assert one.peers.send(peer_id, append_of(3_000_000)), "bytes under way delay nothing"

            began = time.monotonic()
            if how == "reset":
                sock = stranger.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stranger.leave()
            else:
                stranger.writer.write_eof()
            await one.until(lambda: not one.connected(peer_id))

            assert time.monotonic() - began < 0.1
            assert not one.peers.send(peer_id, VoteReply(1))
            stranger.leave()

    run(story())


def test_a_silent_peer_is_lost_after_idle_ms_and_an_idle_one_is_not(run: Run) -> None:
    async def story() -> None:
        async with Node("n1", idle_ms=400) as one, Node("n3", idle_ms=400) as three:
            await meet(one, three)
            one.peers.connect("n2", "127.0.0.1:1")
            began = time.monotonic()
            stranger = await Stranger.posing(one, "n2")

            await one.until(lambda: not one.connected("n2"))
            assert 0.4 <= time.monotonic() - began < 1.5
            assert await stranger.closed()

            again = await Stranger.posing(one, "n2")
            await one.until(lambda: not one.connected("n2"))
            assert one.events.count(("disconnected", "n3")) == 0
            assert three.connected("n1")
            again.leave()

    run(story())


@pytest.mark.parametrize(("first", "second"), [("n1", "n2"), ("n2", "n1")])
def test_a_peer_that_restarts_is_connected_again_soon(run: Run, first: str, second: str) -> None:
    async def story() -> None:
        async with Node(first) as stays:
            async with Node(second) as goes:
                address = goes.address
                await meet(stays, goes)
            await stays.until(lambda: not stays.connected(second))

            async with Node(second, listen=address) as back:
                introduce(stays, back)
                began = time.monotonic()
                await stays.until_connected(second)
                await back.until_connected(first)
                await stays.hears(back, VoteReply(1))
                await back.hears(stays, VoteReply(2))

                assert time.monotonic() - began < 1
                assert stays.count("connected", second) == 2
                assert back.count("connected", first) == 1

    run(story())


def test_a_lost_connection_is_dialled_again_at_once(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)
            lived_s = transport.BRIEF_MS / 1000
            one.peers._links["n2"].said = True
            with pytest.raises(TimeoutError):
                await one.until(lambda: False, within_s=lived_s + 0.05)

            began = time.monotonic()
            one.peers._links["n2"].abort()
            await one.until(lambda: one.count("connected", "n2") == 2)
            await two.until(lambda: two.count("connected", "n1") == 2)

            assert time.monotonic() - began < 0.2
            assert one.events[2:] == [("disconnected", "n2"), ("hello", "n2"), ("connected", "n2")]

    run(story())


@pytest.mark.parametrize("peer_id", ["n0", "n2"])
def test_a_peer_that_lost_its_half_is_heard_again_at_once(run: Run, peer_id: str) -> None:
    async def story() -> None:
        async with Node("n1", accept=lambda _: True) as one:
            before = await Stranger.posing(one, peer_id)

            after = await Stranger.call(one)
            after.say(hello_of(peer_id, term=4, gap=1), Ping())
            await one.until(lambda: one.count("connected", peer_id) == 2)
            after.say(VoteReply(1))
            await one.until(lambda: (peer_id, VoteReply(1)) in one.messages)

            assert await before.closed()
            assert one.events[2:] == [("disconnected", peer_id), ("hello", peer_id), ("connected", peer_id)]
            assert one.hellos[-1].term == 4
            after.leave()

    run(story())


def test_a_dial_from_before_the_connection_in_use_is_a_duplicate(run: Run) -> None:
    async def story() -> None:
        async with Node("n1", accept=lambda _: True) as one:
            used = await Stranger.posing(one, "n2")

            late = await Stranger.call(one)
            late.say(hello_of("n2", term=4))
            assert await late.closed()
            used.say(VoteReply(1))
            await one.until(lambda: ("n2", VoteReply(1)) in one.messages)

            assert one.events == [("hello", "n2"), ("connected", "n2")]
            assert one.peers._complaints == {}
            used.leave()

    run(story())


def test_a_peer_that_moved_is_found_at_its_new_address(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2", accept=lambda _: True) as two:
            one.peers.connect("n2", "no-such-host.invalid:7201")
            one.peers.connect("n2", two.address)

            await one.until_connected("n2")

    run(story())


def test_the_outbox_is_bounded_and_what_does_not_fit_is_dropped_and_counted(run: Run) -> None:
    async def story() -> None:
        limit = 4 << 20
        async with Node("n1", outbox_bytes_max=limit, frame_bytes_max=limit, idle_ms=60_000) as one:
            one.peers.connect("n2", "127.0.0.1:1")
            stranger = await Stranger.posing(one, "n2")
            stranger.writer.transport.pause_reading()  # type: ignore[attr-defined]

            answers = []
            for index in range(100):
                answers.append(one.peers.send("n2", append_of(1 << 20, index + 2)))
                assert one.peers.outbox_bytes("n2") <= limit
                await asyncio.sleep(0)
            taken = answers.count(True)

            assert 4 <= taken < 60, "the kernel takes some, the outbox the rest"
            assert one.peers.frames_dropped == 100 - taken
            assert one.connected("n2")

            stranger.writer.transport.resume_reading()  # type: ignore[attr-defined]
            received = [
                message for message in [await stranger.read() for _ in range(taken + 1)] if message != Ping()
            ]
            assert [message.prev_index for message in received if isinstance(message, Append)] == [
                index + 1 for index, answer in enumerate(answers) if answer
            ]
            assert one.peers.outbox_bytes("n2") == 0
            assert one.peers.send("n2", VoteReply(1))
            stranger.leave()

    run(story())


def test_a_changed_hello_reaches_those_who_are_connected(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)

            two.hello = hello_of("n2", term=8, state="blank")
            two.peers.greet()
            await one.until(lambda: one.count("hello", "n2") == 2)

            assert one.hellos[-1] == two.hello
            assert one.count("connected", "n2") == 1

    run(story())


def test_a_peer_that_changes_its_name_is_lost(run: Run) -> None:
    async def story() -> None:
        async with Node("n1", accept=lambda _: True) as one:
            stranger = await Stranger.posing(one, "n2")

            stranger.say(hello_of("n3"), VoteReply(1))
            assert await stranger.closed()
            await one.until(lambda: not one.connected("n2"))

            assert one.messages == []
            assert one.count("hello", "n3") == 0

    run(story())


def test_a_peer_that_is_disconnected_gets_the_last_word_and_stays_away(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)

            last = append_of(15_000_000)
            assert one.peers.send("n2", last)
            one.peers.disconnect("n2")
            await two.until(lambda: two.count("disconnected", "n1") == 1)

            assert two.messages == [("n1", last)]
            assert one.events[2:] == [("disconnected", "n2")]
            stranger = await Stranger.call(one)
            stranger.say(hello_of("n2"))
            assert await stranger.closed()
            assert one.events[2:] == [("disconnected", "n2")]

    run(story())


def test_a_callback_may_disconnect_and_hears_no_more(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one:
            one.peers.connect("n2", "127.0.0.1:1")
            one.on_message = lambda peer_id, _: one.peers.disconnect(peer_id)
            stranger = await Stranger.posing(one, "n2")

            stranger.writer.write(b"".join(b"".join(encode(VoteReply(term))) for term in range(10)))
            assert await stranger.closed()

            assert one.messages == [("n2", VoteReply(0))]
            assert not one.connected("n2")

    run(story())


def test_a_link_that_ended_takes_any_number_of_bytes_and_hands_on_nothing(run: Run) -> None:
    async def story() -> None:
        calls: list[object] = []
        link = Link(
            None, "here", made=calls.append, received=lambda *call: calls.append(call), over=lambda *_: None
        )
        link.end("enough")

        for _ in range(3):
            space = link.get_buffer(-1)
            assert len(space) > 0
            space[:6] = b"".join(encode(Ping()))
            link.buffer_updated(len(space))

        assert calls == []

    run(story())


def test_closing_sends_what_is_queued_and_leaves_nothing_behind(run: Run) -> None:
    async def story() -> None:
        async with Node("n2") as two:
            one = await Node("n1").__aenter__()
            one.peers.connect("n9", "127.0.0.1:1")
            await meet(one, two)
            port = one.peers.port

            assert one.peers.send("n2", append_of(15_000_000))
            assert one.peers.send("n2", TimeoutNow(3))
            await one.peers.close()
            await two.until(lambda: two.count("disconnected", "n1") == 1)

            assert [type(message) for _, message in two.messages] == [Append, TimeoutNow]
            assert one.events == [("hello", "n2"), ("connected", "n2")], "no callback after close"
            assert one.peers._open == set()
            assert not one.peers.send("n2", VoteReply(1))
            with socket.create_server(("127.0.0.1", port)):
                pass

    run(story())


def test_closing_does_not_wait_for_a_peer_that_reads_nothing(run: Run) -> None:
    async def story() -> None:
        one = await Node("n1", accept=lambda _: True).__aenter__()
        stranger = await Stranger.posing(one, "n2")
        stranger.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while one.peers.outbox_bytes("n2") < 1 << 20:
            assert one.peers.send("n2", append_of(1 << 20))
            await asyncio.sleep(0)

        began = time.monotonic()
        await one.peers.close()

        assert time.monotonic() - began < 2
        assert one.peers._open == set()
        stranger.leave()

    run(story())


@pytest.mark.parametrize("address", ["", "host", "host:", ":x", "host:70000", "host:-1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        transport._host_port(address)


def test_addresses_may_be_ipv6_or_all_interfaces() -> None:
    assert transport._host_port("[::1]:7201") == ("::1", 7201)
    assert transport._host_port(":7201") == ("", 7201)
    assert transport._host_port("n1.taskraft:7201") == ("n1.taskraft", 7201)


# TLS


def contexts(authority: trustme.CA) -> dict[str, ssl.SSLContext]:
    """Both sides show a certificate of this authority and want one of it."""
    certificate = authority.issue_cert("127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        certificate.configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return {"ssl_server": server, "ssl_client": client}


@pytest.fixture(scope="module")
def ours() -> dict[str, ssl.SSLContext]:
    return contexts(trustme.CA())


@pytest.fixture(scope="module")
def foreign() -> dict[str, ssl.SSLContext]:
    return contexts(trustme.CA())


def test_peers_of_one_authority_talk_over_tls(run: Run, ours: dict[str, ssl.SSLContext]) -> None:
    async def story() -> None:
        async with Node("n1", **ours) as one, Node("n2", **ours) as two:
            await meet(one, two)

            await one.hears(two, append_of(3_000_000))
            await two.hears(one, append_of(3_000_000))
            await one.hears(two, AppendReply(3, 1, True, 5))
            two_address = two.address
            await two.peers.close()
            await one.until(lambda: not one.connected("n2"), within_s=0.2)
            async with Node("n2", listen=two_address, **ours) as back:
                introduce(one, back)
                await one.until_connected("n2")
                await back.until_connected("n1")
                await one.hears(back, VoteReply(1))

    run(story())


def test_a_peer_of_a_foreign_authority_is_refused_and_the_node_goes_on(
    run: Run, ours: dict[str, ssl.SSLContext], foreign: dict[str, ssl.SSLContext]
) -> None:
    async def story() -> None:
        async with Node("n1", **ours) as one, Node("n2", **ours) as two, Node("n3", **foreign) as three:
            introduce(one, two, three)
            await one.until_connected("n2")
            await two.until_connected("n1")
            await complains(one, "n3", "certificate")
            await complains(three, "n1")
            await one.hears(two, VoteReply(1))

            assert three.events == []
            assert one.count("hello", "n3") == 0

    run(story())


def test_a_client_that_trusts_us_but_shows_no_certificate_of_ours_is_refused(
    run: Run, ours: dict[str, ssl.SSLContext]
) -> None:
    async def story() -> None:
        naive = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        naive.check_hostname, naive.verify_mode = False, ssl.CERT_NONE
        async with Node("n1", accept=lambda _: True, **ours) as one:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", one.peers.port, ssl=naive)
            except OSError:
                return
            stranger = Stranger(reader, writer)
            try:
                stranger.say(hello_of("n2"))
                assert await stranger.closed()
            except ssl.SSLError:
                pass
            stranger.leave()
            assert one.events == []

    run(story())


def test_plain_text_is_refused_where_tls_is_on_and_the_node_goes_on(
    run: Run, ours: dict[str, ssl.SSLContext]
) -> None:
    async def story() -> None:
        options: dict[str, Any] = {"hello_timeout_ms": 500, **ours}
        async with Node("n1", **options) as one, Node("n2", **options) as two, Node("n3") as three:
            introduce(one, two, three)
            stranger = await Stranger.call(one)
            stranger.say(hello_of("n3"), Ping())
            assert await stranger.closed()
            await complains(one, "127.0.0.1", "SSL")
            await complains(three, "n1")
            await one.until_connected("n2")
            await two.until_connected("n1")
            await one.hears(two, VoteReply(1))

            assert three.events == []
            assert one.count("hello", "n3") == 0

    run(story())
