"""Nobody else gets in, and whoever tries disturbs nobody."""

import asyncio
import contextlib
import logging
import os
import pickle
import random
import resource
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest

from raft import transport
from raft.frames import Hello, Ping, VoteReply, encode
from raft.link import HELLO_BYTES_MAX
from tests.sim.peers import WITHIN_S, Node, Run, Stranger, append_of, complains, hello_of, introduce, meet


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


def test_a_node_without_file_descriptors_goes_on_and_recovers(run: Run) -> None:
    async def story() -> None:
        async with Node("n1") as one, Node("n2") as two:
            await meet(one, two)
            loop, limits = asyncio.get_running_loop(), resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as stranger:
                stranger.setblocking(False)
                free = os.dup(stranger.fileno())
                os.close(free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
                try:
                    await loop.sock_connect(stranger, ("127.0.0.1", one.peers.port))
                    await one.hears(two, VoteReply(1))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)

                await loop.sock_sendall(stranger, b"GET / HTTP/1.1\r\n")
                async with asyncio.timeout(WITHIN_S):
                    with contextlib.suppress(ConnectionResetError):
                        assert await loop.sock_recv(stranger, 1) == b""

    run(story())
