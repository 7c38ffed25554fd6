import asyncio
import random

import pytest

from node import limits
from tests.node.dispatch_desk import Desk
from tests.node.test_dispatch_keys import got, ordered, publish


class Order:
    """Who holds what, by key: what C4 says of one leader."""

    def __init__(self, per_key: int) -> None:
        self.per_key = per_key
        self.key_of: dict[int, str] = {}
        self.open: set[int] = set()
        self.started: set[int] = set()
        self.excused: set[int] = set()  # given back with a delay: later ones may have gone

    def starts(self, sequence: int) -> None:
        key = self.key_of[sequence]
        assert sequence not in self.open
        if key:
            same = [each for each in self.open if self.key_of[each] == key]
            assert len(same) < self.per_key
            earlier = {each for each in self.key_of if each < sequence and self.key_of[each] == key}
            assert earlier <= self.started | self.excused | self.open
            if self.per_key == 1:
                assert earlier <= self.excused, "an earlier message of the key is not done"
        self.open.add(sequence)
        self.started.add(sequence)

    def done(self, sequence: int) -> None:
        for states in (self.open, self.started, self.excused):
            states.discard(sequence)
        del self.key_of[sequence]


@pytest.mark.parametrize("seed", range(40))
def test_order_holds_whatever_happens_and_nothing_is_stuck(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(limits, "KEY_PARKED_MAX", rng.choice([4, 30, 10_000]))
    monkeypatch.setattr(limits, "KEYS_READ_MAX", rng.choice([1, 3, 500]))
    asyncio.run(_any_story(rng))


async def _any_story(rng: random.Random) -> None:
    per_key = rng.choice([1, 1, 2])
    desk, order = Desk(config=ordered(per_key)), Order(per_key)
    consumers = {desk.consumer(8): set[int]() for _ in range(3)}
    for _ in range(250):
        desk.at(desk.now_ms + rng.randrange(40))
        consumer = rng.choice(list(consumers))
        mine = consumers[consumer]
        some = rng.sample(sorted(mine), min(len(mine), rng.randrange(3)))
        ranges = [(sequence, sequence) for sequence in some]
        match rng.choice(["publish", "ack", "nack", "later", "leave", "commit", "fail"]):
            case "publish":
                names = [rng.choice(["", "a", "b", "c", "d"]) for _ in range(rng.randrange(1, 6))]
                order.key_of |= dict(enumerate(names, desk.store.next_sequence))
                publish(desk, *names)
            case "ack":
                desk.queue.ack(consumer, ranges)
                mine -= set(some)
            case "nack" | "later" as how:
                desk.queue.nack(consumer, ranges, 60 if how == "later" else 0)
                order.open -= set(some)
                order.excused |= set(some) if how == "later" else set()
                mine -= set(some)
            case "leave":
                order.open -= mine
                desk.queue.leave(consumer)
                del consumers[consumer]
                consumers[desk.consumer(8)] = set()
            case "commit":
                for command in desk.commit():
                    for each in command.ack.ranges:
                        for sequence in range(each.first, each.last + 1):
                            order.done(sequence)
            case "fail":
                commands = desk.commit(RuntimeError())
                for each in (each for command in commands for each in command.ack.ranges):
                    order.open -= set(range(each.first, each.last + 1))
        desk.queue.credit(consumer, max(0, 8 - consumer.credit_messages), 0)
        desk.pump()
        new = {sequence: each for each in consumers for sequence in got(desk, each)}
        for sequence, holder in sorted(new.items(), key=lambda item: item[0]):
            order.starts(sequence)
            consumers[holder].add(sequence)
    _drain(desk, order)


def _drain(desk: Desk, order: Order) -> None:
    """One consumer gets all that is left, in the order of the keys."""
    for consumer in list(desk.queue.consumers.values()):
        desk.queue.leave(consumer)
    for command in desk.commit():
        for each in command.ack.ranges:
            for sequence in range(each.first, each.last + 1):
                order.done(sequence)
    order.open.clear()
    desk.at(desk.now_ms + 1_000)
    order.excused.clear()
    last = desk.consumer(10_000)
    while sequences := got(desk, last):
        for sequence in sequences:
            order.starts(sequence)
        desk.queue.ack(last, [(sequence, sequence) for sequence in sequences])
        desk.commit()
        for sequence in sequences:
            order.done(sequence)
    assert not order.key_of
    assert desk.queue.ledger.parked == 0
