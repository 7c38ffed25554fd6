"""Peers find each other, lose no frame while both are there, and notice at once when one is gone.

All of it runs over real sockets, on the loop of asyncio and on uvloop.
"""

import socket
import struct
import time
from functools import partial
from typing import Any

import pytest

from raft import transport
from raft.frames import Ping, VoteReply
from tests.sim.peers import Node, Run, Stranger, append_of, hello_of, introduce, meet


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


@pytest.mark.parametrize("how", ["reset", "end of file"])
@pytest.mark.parametrize("peer_id", ["n0", "n2"])
def test_a_broken_connection_is_reported_at_once(run: Run, how: str, peer_id: str) -> None:
    async def seconds_until_reported(one: Node) -> float:
        stranger = await Stranger.posing(one, peer_id, gap=len(one.events))
        assert one.peers.send(peer_id, append_of(3_000_000)), "bytes under way delay nothing"

        began = time.monotonic()
        if how == "reset":
            connection = stranger.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stranger.leave()
        else:
            stranger.writer.write_eof()
        await one.until(lambda: not one.connected(peer_id))
        took_s = time.monotonic() - began

        assert not one.peers.send(peer_id, VoteReply(1))
        stranger.leave()
        return took_s

    async def story() -> None:
        async with Node("n1", accept=lambda _: True) as one:
            quickest_s = min([await seconds_until_reported(one) for _ in range(3)])  # of a busy machine

            assert quickest_s < 0.1

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


@pytest.mark.parametrize("address", ["", "host", "host:", ":x", "host:70000", "host:-1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        transport._host_port(address)


def test_addresses_may_be_ipv6_or_all_interfaces() -> None:
    assert transport._host_port("[::1]:7201") == ("::1", 7201)
    assert transport._host_port(":7201") == ("", 7201)
    assert transport._host_port("n1.taskraft:7201") == ("n1.taskraft", 7201)
