import asyncio
import random

import pytest

from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, decoded, in_loop
from tests.node.memory_chunks import Chunks


@in_loop
async def test_the_highest_priority_goes_first_whenever_it_came() -> None:
    desk = Desk()
    desk.publish(5, 5)
    desk.publish(5, priority=3)
    desk.publish(5, priority=9)

    assert desk.all_sent(desk.consumer(10)) == [(4, 4, 1), (3, 3, 1), (1, 2, 1)]


@in_loop
async def test_a_message_that_comes_again_keeps_its_priority() -> None:
    desk = Desk()
    desk.publish(5, priority=5)
    lost = desk.consumer(1)
    desk.sent(lost)
    desk.publish(5, 5)
    desk.publish(5, priority=4)

    desk.queue.leave(lost)

    assert desk.all_sent(desk.consumer(10)) == [(1, 1, 2), (4, 4, 1), (2, 3, 1)]


@in_loop
async def test_what_comes_again_does_not_go_before_a_higher_priority() -> None:
    desk = Desk()
    desk.publish(5)
    lost = desk.consumer(1)
    desk.sent(lost)
    desk.publish(5, priority=1)

    desk.queue.leave(lost)

    assert desk.all_sent(desk.consumer(10)) == [(2, 2, 1), (1, 1, 2)]


@in_loop
async def test_a_pull_gets_the_highest_priority_first() -> None:
    desk = Desk()
    desk.publish(5)
    desk.publish(5, priority=2)

    assert [parcel.first for parcel in desk.pull(1).parcels] == [2]
    assert [parcel.first for parcel in desk.pull(5).parcels] == [1]


@in_loop
async def test_ranges_may_be_of_several_priorities() -> None:
    desk = Desk()
    desk.publish(5, 5)
    desk.publish(5, priority=7)
    desk.publish(5)
    consumer = desk.consumer(4)
    desk.all_sent(consumer)

    desk.queue.nack(consumer, [(2, 3)], 0)
    desk.pump()
    desk.queue.ack(consumer, [(1, 9)])
    commands = desk.commit()

    acks = [[(each.first, each.last) for each in command.ack.ranges] for command in commands]
    assert [(1, 1), (4, 4)] in acks
    assert consumer.lost == [(2, 3), (5, 9)]


@in_loop
async def test_the_watermark_of_each_priority_is_recorded() -> None:
    desk = Desk()
    desk.publish(5)
    desk.publish(5, priority=2)
    desk.publish(5, priority=2)
    desk.publish(5, priority=8)
    desk.all_sent(desk.consumer(3))

    (command,) = desk.commit()

    marks = {mark.priority: mark.watermark for mark in command.delivered.priorities}
    assert marks == {2: 3, 8: 4}
    assert command.delivered.watermark == 0
    assert desk.commit() == []


@in_loop
async def test_a_new_leader_knows_of_each_priority_what_was_delivered() -> None:
    store = Chunks()
    store.add(5, 5)
    store.add(5, priority=4)
    store.add(5, priority=4)
    store.marks[4] = 3
    desk = Desk(store, watermark=1, grace_until_ms=2_000)
    consumer = desk.consumer(10)
    assert desk.all_sent(consumer) == []

    desk.at(2_000)

    assert desk.all_sent(consumer) == [(3, 3, 2), (4, 4, 1), (1, 1, 2), (2, 2, 1)]


@in_loop
async def test_nothing_of_a_lower_priority_goes_while_a_higher_one_may_be_claimed() -> None:
    store = Chunks()
    store.add(5, priority=4)
    store.add(5)
    store.marks[4] = 1
    desk = Desk(store, grace_until_ms=2_000)
    other = desk.consumer(10)
    assert desk.all_sent(other) == []

    desk.consumer(0, held=((1, 1),))

    assert desk.granted == [(1, 1)]
    assert desk.all_sent(other) == [(2, 2, 1)]


@in_loop
async def test_what_is_purged_is_gone_whatever_its_priority() -> None:
    desk = Desk()
    desk.publish(5)
    desk.publish(5, priority=6)
    desk.store.remove(1, 2)
    desk.queue.removed([(1, 2)])

    assert desk.all_sent(desk.consumer(10)) == []
    assert desk.queue.ledger.leased_total == 0


@in_loop
async def test_a_few_messages_of_a_sparse_priority_are_shared() -> None:
    desk = Desk()
    consumers = [desk.consumer(10) for _ in range(3)]
    desk.store.add(*[5] * 600)
    desk.store.remove(1, 600)
    desk.queue.published(1, 600)
    desk.publish(5, 5, 5, priority=1)

    assert [desk.all_sent(each) for each in consumers] == [[(601, 601, 1)], [(602, 602, 1)], [(603, 603, 1)]]


@in_loop
async def test_a_dead_letter_says_where_it_comes_from() -> None:
    store = Chunks()
    letter = queue_pb2.DeadLetter(source="queues/of", source_sequence=40)
    store.add(5, 5, 5, dead_letter=letter.SerializeToString())
    store.add(5)
    desk = Desk(store)
    consumer = desk.consumer(2)

    first = desk.sent(consumer)
    desk.queue.credit(consumer, 10, 0)
    desk.pump()
    second, third = desk.sent(consumer), desk.sent(consumer)

    assert first
    assert second
    assert third
    assert decoded(first).dead_letter.source_sequence == 40
    assert decoded(second).dead_letter.source_sequence == 42
    assert not decoded(third).HasField("dead_letter")


@pytest.mark.parametrize("seed", range(12))
def test_no_message_goes_while_one_of_a_higher_priority_is_ready(seed: int) -> None:
    async def story() -> None:
        rng, desk = random.Random(seed), Desk()
        consumers = [desk.consumer(0) for _ in range(3)]
        priority_of: dict[int, int] = {}
        ready: set[int] = set()
        holding: dict[int, set[int]] = {id(each): set() for each in consumers}
        for _ in range(200):
            consumer = rng.choice(consumers)
            mine = holding[id(consumer)]
            some = rng.sample(sorted(mine), min(len(mine), rng.randrange(4)))
            ranges = [(sequence, sequence) for sequence in some]
            match rng.choice(["publish", "publish", "deliver", "deliver", "ack", "nack"]):
                case "publish":
                    priority, first = rng.randrange(4), desk.store.next_sequence
                    desk.publish(*[5] * rng.randrange(1, 4), priority=priority)
                    new = range(first, desk.store.next_sequence)
                    priority_of |= dict.fromkeys(new, priority)
                    ready |= set(new)
                case "deliver":
                    desk.queue.credit(consumer, rng.randrange(1, 4), 0)
                    desk.pump()
                    while parcel := desk.sent(consumer):
                        got = set(range(parcel.first, parcel.first + parcel.count))
                        assert got <= ready
                        ready -= got
                        mine |= got
                        lowest = min(priority_of[sequence] for sequence in got)
                        assert all(priority_of[sequence] <= lowest for sequence in ready)
                    consumer.credit_messages = 0
                case "ack":
                    desk.queue.ack(consumer, ranges)
                    mine -= set(some)
                    desk.commit()
                case "nack":
                    desk.queue.nack(consumer, ranges, 0)
                    desk.pump()
                    mine -= set(some)
                    ready |= set(some)
            assert consumer.lost == []
        assert desk.queue.ledger.leased_total == sum(map(len, holding.values()))

    asyncio.run(story())
