"""With TLS on, only those with a certificate of our authority get in."""

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from raft.frames import AppendReply, Ping, VoteReply
from tests.sim.peers import Node, Run, Stranger, append_of, complains, hello_of, introduce, meet


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
