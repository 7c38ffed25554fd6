"""What is queued is bounded, and sent before we go; after the end nobody is called any more."""

import asyncio
import socket
import time

from raft.frames import Append, Ping, TimeoutNow, VoteReply, encode
from raft.link import Link
from tests.sim.peers import Node, Run, Stranger, append_of, hello_of, meet


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
