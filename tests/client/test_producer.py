from __future__ import annotations

import asyncio
import random

import pytest

from taskraft import errors
from taskraft._producer import Piece, Producer
from taskraft._values import Receipt
from taskraft._wire import message
from taskraft.v1 import queue_pb2
from tests.client.store import QueueState, Refused, Store

FAILURES = (
    ("QUEUE_FULL", 8),
    ("PAYLOAD_TOO_LARGE", 3),
    ("INTERNAL", 13),
    ("OVERLOADED", 8),
    ("COMMIT_UNKNOWN", 2),
)


class Desk:
    """A producer and the broker it talks to, without a network: what is on its way is in two lists."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.store = Store()
        self.store.queues["queues/q"] = QueueState(queue_pb2.Queue(name="queues/q", max_message_bytes=1000))
        self.producer = Producer("queues/q", window=2)
        self.pieces: dict[bytes, Piece] = {}
        self.requests: list[bytes] = []
        self.answers: list[queue_pb2.PublishStreamResponse] = []

    @property
    def stored(self) -> list[bytes]:
        return [one.body for one in self.store.queues["queues/q"].messages.values()]

    def put(self, body: bytes, deadline_s: float = 1e9) -> Piece:
        piece = Piece(message(body), 1, asyncio.get_running_loop().create_future(), deadline_s)
        self.pieces[body] = piece
        self.producer.put(piece)
        return piece

    def send(self) -> None:
        while (frame := self.producer.next_frame(now_s=0.0)) is not None:
            self.requests.append(frame)

    def serve(self, refuse: float = 0.0) -> None:
        """The broker stores or refuses one request."""
        request = queue_pb2.PublishStreamRequest.FromString(self.requests.pop(0))
        number = request.producer_sequence
        known = number <= self.store.producers.get(request.producer_id, (0, {}))[0]
        try:
            if not known and self.rng.random() < refuse:
                reason, code = self.rng.choice(FAILURES)
                if reason in ("INTERNAL", "COMMIT_UNKNOWN") and self.rng.random() < 0.5:
                    self.store.publish(request)  # nobody knows
                failure = queue_pb2.Failure(code=code, reason=reason)
                self.answers.append(
                    queue_pb2.PublishStreamResponse(producer_sequence=number, failure=failure)
                )
                return
            self.answers.append(self.store.publish(request))
        except Refused as refused:
            self.answers.append(
                queue_pb2.PublishStreamResponse(producer_sequence=number, failure=refused.failure)
            )

    def answer(self) -> None:
        try:
            self.producer.answered(self.answers.pop(0), now_s=0.0)
        except (errors.Overloaded, errors.CommitUnknown):
            while self.requests:
                self.serve()
            self.disconnect()

    def finish(self) -> int:
        """Send, store and answer until nothing is left; returns how many frames that took."""
        frames = 0
        while not self.producer.idle:
            self.send()
            while self.requests:
                frames += 1
                self.serve()
                self.answer()
        return frames

    def disconnect(self) -> None:
        self.requests.clear()
        self.answers.clear()
        self.producer.disconnected()


async def random_walk(seed: int) -> None:
    rng = random.Random(seed)
    desk, bodies = Desk(rng), [b"m%d" % n for n in range(60)]
    waiting = list(bodies)
    for _ in range(2_000):
        if waiting and rng.random() < 0.3:
            desk.put(waiting.pop(0))
        desk.send()
        if desk.requests and rng.random() < 0.5:
            desk.serve(refuse=0.2)
        if desk.answers and rng.random() < 0.5:
            desk.answer()
        if rng.random() < 0.05:
            desk.disconnect()
        if desk.producer.idle and not waiting:
            break
    assert desk.producer.idle, "nothing is left over"
    assert desk.producer.bytes == 0

    acknowledged = {body for body, piece in desk.pieces.items() if piece.done.exception() is None}
    assert not any(isinstance(piece.done.exception(), errors.CommitUnknown) for piece in desk.pieces.values())
    unknown = {
        body
        for body, piece in desk.pieces.items()
        if isinstance(piece.done.exception(), errors.InternalError)
    }
    assert len(set(desk.stored)) == len(desk.stored), "nothing is stored twice"
    assert set(desk.stored) - unknown == acknowledged, "what succeeded is stored, what was refused is not"
    places = {one: number for number, one in enumerate(desk.stored, 1)}
    for body in acknowledged:
        assert desk.pieces[body].done.result().sequence == places[body]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_refused_or_lost_on_the_way_each_message_is_stored_once_or_fails(seed: int) -> None:
    asyncio.run(random_walk(seed))


def test_without_failures_messages_are_stored_in_the_order_of_their_calls() -> None:
    async def story() -> None:
        desk = Desk(random.Random(1))
        for n in range(5):
            desk.put(b"%d" % n)
            desk.send()
        desk.disconnect()
        desk.finish()

        assert desk.stored == [b"0", b"1", b"2", b"3", b"4"]

    asyncio.run(story())


def test_of_a_frame_with_one_message_that_is_too_large_only_that_one_fails() -> None:
    async def story() -> None:
        desk = Desk(random.Random(1))
        pieces = [desk.put(bytes(5_000 if n == 6 else 10) + b"%d" % n) for n in range(10)]
        desk.finish()

        assert [type(piece.done.exception()) for piece in pieces].count(errors.PayloadTooLarge) == 1
        assert len(desk.stored) == 9

    asyncio.run(story())


def test_a_queue_that_is_nearly_full_takes_what_fits_and_the_rest_fails_with_few_frames() -> None:
    async def story() -> None:
        desk = Desk(random.Random(1))
        desk.store.queues["queues/q"].queue.max_messages = 37
        pieces = [desk.put(b"%d" % n) for n in range(1_000)]
        frames = desk.finish()

        full = [piece for piece in pieces if isinstance(piece.done.exception(), errors.QueueFull)]
        assert (len(desk.stored), len(full)) == (37, 963)
        assert frames < 40

    asyncio.run(story())


def test_what_was_sent_and_not_answered_in_time_fails_and_a_new_producer_goes_on() -> None:
    async def story() -> None:
        desk = Desk(random.Random(1))
        lost = desk.put(b"lost", deadline_s=1.0)
        desk.send()
        never_sent = desk.put(b"waits", deadline_s=1.0)
        later = desk.put(b"later", deadline_s=9.0)

        assert desk.producer.expire(2.0, errors.NoLeader())
        desk.disconnect()
        desk.send()
        desk.serve()
        desk.answer()

        assert isinstance(lost.done.exception(), errors.DeadlineExceeded)
        assert isinstance(never_sent.done.exception(), errors.NoLeader)
        assert later.done.result() == Receipt(1)
        assert len(desk.store.producers) == 1

    asyncio.run(story())
