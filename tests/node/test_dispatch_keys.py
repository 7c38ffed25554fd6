import asyncio
import random
from dataclasses import replace

import pytest

from node import limits
from node.dispatch.takers import Consumer
from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, in_loop
from tests.node.memory_chunks import Chunks


def ordered(per_key: int = 1, *, hold: bool = False) -> queue_pb2.Queue:
    return queue_pb2.Queue(max_in_flight_per_key=per_key, hold_key=hold)


def got(desk: Desk, consumer: Consumer) -> list[int]:
    """The sequences that a stream writes until there is nothing more."""
    return [seq for first, last, _ in desk.all_sent(consumer) for seq in range(first, last + 1)]


def publish(desk: Desk, *keys: str, priority: int = 0) -> None:
    desk.publish(*[5] * len(keys), keys=keys, priority=priority)


def configure(desk: Desk, config: queue_pb2.Queue) -> None:
    desk.queue.changed(replace(desk.queue.row, config=config))
    desk.pump()


@in_loop
async def test_messages_of_one_key_go_one_after_the_other_whoever_consumes() -> None:
    desk = Desk(config=ordered())
    one, other = desk.consumer(10), desk.consumer(10)
    publish(desk, "a", "a", "b", "a")
    held = {consumer: got(desk, consumer) for consumer in (one, other)}
    assert sorted(held[one] + held[other]) == [1, 3]

    holder = one if 1 in held[one] else other
    desk.queue.ack(holder, [(1, 1)])
    desk.commit()

    assert got(desk, one) + got(desk, other) == [2]


@in_loop
async def test_a_key_is_free_when_the_acknowledgement_is_committed_and_not_before() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a")
    consumer = desk.consumer(10)
    got(desk, consumer)

    desk.queue.ack(consumer, [(1, 1)])
    desk.pump()
    assert got(desk, consumer) == []

    desk.commit(RuntimeError())
    assert got(desk, consumer) == [1]


@in_loop
async def test_what_was_lost_goes_again_before_the_later_ones_of_its_key() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a")
    lost = desk.consumer(10)
    got(desk, lost)

    desk.queue.leave(lost)

    assert desk.all_sent(desk.consumer(10)) == [(1, 1, 2)]


@in_loop
async def test_a_lease_that_ends_goes_again_before_the_later_ones_of_its_key() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a")
    pull = desk.pull(5, lease_ms=100)
    desk.queue.withdraw(pull, keep=True)
    assert [parcel.first for parcel in pull.parcels] == [1]

    desk.at(desk.now_ms + 100)

    assert [(parcel.first, parcel.attempt) for parcel in desk.pull(5).parcels] == [(1, 2)]


@pytest.mark.parametrize("hold", [False, True])
@in_loop
async def test_a_rejected_message_with_a_delay_holds_its_key_only_if_the_queue_says_so(hold: bool) -> None:
    desk = Desk(config=ordered(hold=hold))
    publish(desk, "a", "a", "b")
    consumer = desk.consumer(10)
    assert got(desk, consumer) == [1, 3]

    desk.queue.nack(consumer, [(1, 1)], 500)
    desk.pump()
    passed = got(desk, consumer)
    desk.queue.ack(consumer, [(2, 2)])
    desk.commit()
    desk.at(desk.now_ms + 500)

    assert passed == ([] if hold else [2])
    assert desk.all_sent(consumer) == [(1, 1, 2)]


@in_loop
async def test_other_keys_pass_a_blocked_one() -> None:
    desk = Desk(config=ordered())
    publish(desk, *["a"] * 700, *["b"] * 3, "", "")
    consumer = desk.consumer(1_000)

    assert got(desk, consumer) == [1, 701, 704, 705]


@in_loop
async def test_no_more_is_read_ahead_than_the_window_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_PARKED_MAX", 20)
    desk = Desk(config=ordered())
    publish(desk, *["a"] * 60, "b")
    consumer = desk.consumer(1_000)
    assert got(desk, consumer) == [1]
    assert desk.queue.ledger.parked == 20

    for sequence in range(1, 61):
        desk.queue.ack(consumer, [(sequence, sequence)])
        desk.commit()
        assert set(got(desk, consumer)) <= {sequence + 1, 61}

    assert desk.queue.ledger.leased(consumer.holder) == 1


@in_loop
async def test_no_more_is_in_flight_than_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYED_IN_FLIGHT_MAX", 3)
    desk = Desk(config=ordered())
    publish(desk, *"abcdef")
    consumer = desk.consumer(100)
    assert got(desk, consumer) == [1, 2, 3]

    desk.queue.ack(consumer, [(1, 2)])
    desk.commit()

    assert got(desk, consumer) == [4, 5]


@in_loop
async def test_the_watermark_stays_below_what_waits_for_its_key() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a", "b", "c")
    got(desk, desk.consumer(10))

    (command,) = desk.commit()

    assert command.delivered.watermark == 1


@in_loop
async def test_a_new_leader_delivers_nothing_while_somebody_may_come_back() -> None:
    store = Chunks()
    store.add(5, 5, 5, keys=["a", "a", "b"])
    desk = Desk(store, watermark=0, grace_until_ms=2_000, config=ordered())
    other = desk.consumer(10)
    assert got(desk, other) == []

    back = desk.consumer(0, held=((1, 1),))
    desk.at(2_000)

    assert desk.granted == [(1, 1)]
    assert got(desk, other) == [3]
    desk.queue.ack(back, [(1, 1)])
    desk.commit()
    assert got(desk, other) == [2]


@in_loop
async def test_a_new_leader_delivers_what_was_delivered_before_in_the_order_of_its_key() -> None:
    store = Chunks()
    store.add(5, 5, 5, 5, keys=["a", "a", "a", "b"])
    store.recorded = {2: 3}
    desk = Desk(store, watermark=2, grace_until_ms=2_000, config=ordered())
    desk.consumer(0, held=((2, 2),))
    other = desk.consumer(10)

    desk.at(2_000)
    assert desk.all_sent(other) == [(4, 4, 1)]
    desk.queue.leave(next(each for each in desk.queue.consumers.values() if each is not other))
    desk.pump()

    assert desk.all_sent(other) == [(1, 1, 2)]
    desk.queue.ack(other, [(1, 1)])
    desk.commit()
    assert desk.all_sent(other) == [(2, 2, 4)]


@in_loop
async def test_what_came_back_from_ahead_does_not_go_before_what_was_not_read() -> None:
    store = Chunks()
    store.add(5, 5, 5, keys=["a", "b", "a"])
    desk = Desk(store, watermark=0, grace_until_ms=2_000, config=ordered())
    back = desk.consumer(0, held=((3, 3),))
    desk.queue.nack(back, [(3, 3)], 0)
    desk.at(2_000)
    other = desk.consumer(1)

    assert got(desk, other) == [1]


@in_loop
async def test_order_begins_when_it_is_switched_on() -> None:
    desk = Desk()
    consumer = desk.consumer(3)
    publish(desk, "a", "a", "b", "a", "b", "c")
    got(desk, consumer)
    desk.queue.nack(consumer, [(2, 2)], 700)

    configure(desk, ordered())
    other = desk.consumer(10)
    assert got(desk, other) == [6]

    desk.queue.ack(consumer, [(1, 1), (3, 3)])
    desk.commit()
    assert got(desk, other) == [4, 5]
    desk.at(desk.now_ms + 700)
    assert got(desk, other) == []
    desk.queue.ack(other, [(4, 4)])
    desk.commit()
    assert got(desk, other) == [2]


@in_loop
async def test_all_goes_when_order_is_switched_off_and_is_kept_when_it_is_switched_on_again() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a", "a", "b", "b")
    consumer = desk.consumer(2)
    assert got(desk, consumer) == [1, 4]

    configure(desk, queue_pb2.Queue())
    desk.queue.credit(consumer, 1, 0)
    desk.pump()
    assert desk.all_sent(consumer) == [(2, 2, 1)]
    (command,) = desk.commit()
    assert command.delivered.watermark == 2

    configure(desk, ordered())
    other = desk.consumer(10)
    assert got(desk, other) == []
    desk.queue.ack(consumer, [(1, 2), (4, 4)])
    desk.commit()
    assert desk.all_sent(other) == [(3, 3, 1), (5, 5, 1)]


@in_loop
async def test_more_of_a_key_go_when_the_number_is_raised() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a", "a")
    consumer = desk.consumer(10)
    assert got(desk, consumer) == [1]

    configure(desk, ordered(2))

    assert got(desk, consumer) == [2]


@in_loop
async def test_a_purge_frees_the_keys() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "a", "a")
    consumer = desk.consumer(10)
    got(desk, consumer)
    desk.store.remove(1, 3)
    desk.queue.removed([(1, 3)])

    publish(desk, "a")

    assert got(desk, consumer) == [4]
    assert desk.queue.ledger.parked == 0


@in_loop
async def test_keys_hold_across_priorities_and_the_higher_goes_first() -> None:
    desk = Desk(config=ordered())
    publish(desk, "a", "b")
    publish(desk, "a", "c", priority=5)
    consumer = desk.consumer(1)
    assert got(desk, consumer) == [3]
    desk.queue.credit(consumer, 10, 0)
    desk.pump()
    assert got(desk, consumer) == [4, 2]

    desk.queue.ack(consumer, [(3, 3)])
    desk.commit()

    assert got(desk, consumer) == [1]


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
