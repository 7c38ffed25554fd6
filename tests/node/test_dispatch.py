import asyncio
import random

import pytest

from node.state.rows import QueueRow
from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, decoded, in_loop


@in_loop
async def test_a_single_consumer_gets_messages_in_the_order_of_the_queue() -> None:
    desk = Desk()
    consumer = desk.consumer(100)
    desk.publish(5, 5)
    desk.publish(5)

    assert desk.all_sent(consumer) == [(1, 2, 1), (3, 3, 1)]


@in_loop
async def test_what_gathers_while_a_delivery_is_written_goes_into_one_delivery() -> None:
    desk = Desk()
    consumer = desk.consumer(100)
    for _ in range(4):
        desk.publish(5, 5)

    first, second = desk.sent(consumer), desk.sent(consumer)

    assert first
    assert second
    assert (first.count, second.count) == (2, 6)
    assert [len(message.body) for message in decoded(second).messages] == [5] * 6
    assert decoded(second).first_sequence == 3
    assert decoded(second).publish_time.seconds == 0
    assert len(b"".join(second.parts)) == second.size


@in_loop
async def test_no_more_is_delivered_than_there_is_credit_for() -> None:
    desk = Desk()
    desk.publish(*[5] * 10)
    consumer = desk.consumer(3)

    assert desk.all_sent(consumer) == [(1, 3, 1)]
    desk.queue.credit(consumer, 2, 0)
    desk.pump()
    assert desk.all_sent(consumer) == [(4, 5, 1)]


@in_loop
async def test_bytes_are_credit_too_once_they_were_given() -> None:
    desk = Desk()
    desk.publish(*[1_000] * 10)
    consumer = desk.consumer(10, 2_500)

    assert desk.all_sent(consumer) == [(1, 2, 1), (3, 3, 1)]
    assert consumer.credit_bytes is not None
    assert consumer.credit_bytes <= 0


@in_loop
async def test_a_message_larger_than_the_credit_left_goes_alone() -> None:
    desk = Desk()
    desk.publish(5_000, 10)
    consumer = desk.consumer(10, 100)

    assert desk.all_sent(consumer) == [(1, 1, 1)]


@in_loop
async def test_a_delivery_is_closed_when_it_is_large() -> None:
    desk = Desk()
    for _ in range(8):
        desk.publish(100_000)
    consumer = desk.consumer(100)

    parcels = [desk.sent(consumer), desk.sent(consumer)]

    assert [parcel.count for parcel in parcels if parcel] == [5, 3]


@in_loop
async def test_a_few_messages_are_shared_among_all_who_can_take_them() -> None:
    desk = Desk()
    consumers = [desk.consumer(100) for _ in range(3)]
    desk.publish(*[5] * 9)

    assert [desk.all_sent(each) for each in consumers] == [[(1, 3, 1)], [(4, 6, 1)], [(7, 9, 1)]]


@in_loop
async def test_the_next_message_goes_to_who_has_the_fewest() -> None:
    desk = Desk()
    busy, idle = desk.consumer(100), desk.consumer(0)
    desk.publish(*[5] * 4)
    desk.sent(busy)
    desk.queue.credit(idle, 100, 0)
    desk.publish(5)
    assert desk.all_sent(idle) == [(5, 5, 1)]
    desk.queue.ack(idle, [(5, 5)])
    desk.commit()

    desk.publish(5)

    assert desk.all_sent(busy) == []
    assert desk.all_sent(idle) == [(6, 6, 1)]


@in_loop
async def test_consumers_that_have_equally_few_take_turns() -> None:
    desk = Desk()
    consumers = [desk.consumer(100) for _ in range(3)]
    got = []
    for sequence in range(1, 7):
        desk.publish(5)
        (taker,) = [place for place, each in enumerate(consumers) if each.parcel]
        desk.sent(consumers[taker])
        desk.queue.ack(consumers[taker], [(sequence, sequence)])
        desk.commit()
        got.append(taker)

    assert got == [0, 1, 2, 0, 1, 2]


@in_loop
async def test_nothing_is_delivered_while_the_queue_is_paused() -> None:
    desk = Desk()
    consumer = desk.consumer(10)
    row = desk.queue.row
    paused = QueueRow(
        **{n: getattr(row, n) for n in row.__slots__} | {"config": queue_pb2.Queue(paused=True)}
    )
    desk.queue.changed(paused)
    desk.publish(5)
    assert desk.all_sent(consumer) == []

    desk.queue.changed(row)
    desk.pump()

    assert desk.all_sent(consumer) == [(1, 1, 1)]


@in_loop
async def test_what_a_stream_held_comes_again_with_the_next_attempt_when_it_ends() -> None:
    desk = Desk()
    desk.publish(5, 5, 5)
    first = desk.consumer(2)
    desk.sent(first)

    desk.queue.leave(first)
    second = desk.consumer(10)

    assert desk.all_sent(second) == [(1, 2, 2), (3, 3, 1)]


@in_loop
async def test_all_acknowledgements_that_wait_for_an_entry_are_one_command() -> None:
    desk = Desk()
    desk.publish(*[5] * 6)
    one, other = desk.consumer(3), desk.consumer(3)
    desk.sent(one)
    desk.sent(other)

    desk.queue.ack(one, [(1, 1)])
    desk.queue.ack(one, [(2, 2)])
    desk.queue.ack(other, [(4, 6)])
    assert desk.woken
    commands = desk.commit()

    acks = [command.ack for command in commands if command.HasField("ack")]
    assert [[(each.first, each.last) for each in ack.ranges] for ack in acks] == [[(1, 2), (4, 6)]]
    assert (one.acked, other.acked) == ([(1, 1), (2, 2)], [(4, 6)])
    assert one.settling == other.settling == 0
    assert desk.queue.ledger.leased_total == 1


@in_loop
async def test_an_acknowledgement_of_what_is_not_held_is_told_at_once() -> None:
    desk = Desk()
    desk.publish(5, 5)
    consumer = desk.consumer(1)
    desk.sent(consumer)

    desk.queue.ack(consumer, [(1, 2)])

    assert consumer.lost == [(2, 2)]
    assert consumer.settling == 1


@in_loop
async def test_an_acknowledgement_that_fails_is_lost_and_the_message_comes_again() -> None:
    desk = Desk()
    desk.publish(5)
    consumer = desk.consumer(5)
    desk.sent(consumer)
    desk.queue.ack(consumer, [(1, 1)])

    desk.commit(RuntimeError())

    assert (consumer.acked, consumer.lost) == ([], [(1, 1)])
    assert desk.all_sent(consumer) == [(1, 1, 2)]


@in_loop
async def test_deliveries_are_recorded_with_the_next_entry_and_never_cause_one() -> None:
    desk = Desk()
    desk.publish(5, 5)
    consumer = desk.consumer(5)
    desk.sent(consumer)
    desk.queue.nack(consumer, [(2, 2)], 0)
    desk.pump()
    assert not desk.woken
    assert desk.queue.has_records

    (command,) = desk.commit()

    assert command.delivered.watermark == 2
    again = [(each.range.first, each.range.last, each.attempt) for each in command.delivered.redelivered]
    assert again == [(2, 2, 2)]
    assert desk.commit() == []


@pytest.mark.parametrize("seed", range(12))
def test_every_message_is_delivered_until_it_is_acknowledged(seed: int) -> None:
    async def story() -> None:
        rng, desk = random.Random(seed), Desk()
        consumers = [desk.consumer(20) for _ in range(3)]
        holding: dict[int, set[int]] = {id(each): set() for each in consumers}
        done: set[int] = set()
        for _ in range(150):
            desk.at(desk.now_ms + rng.randrange(40))
            consumer = rng.choice(consumers)
            mine = holding[id(consumer)]
            some = rng.sample(sorted(mine), min(len(mine), rng.randrange(4)))
            match rng.choice(["publish", "send", "ack", "nack", "leave", "commit"]):
                case "publish":
                    desk.publish(*[rng.randrange(20) for _ in range(rng.randrange(1, 5))])
                case "send":
                    if parcel := desk.sent(consumer):
                        got = set(range(parcel.first, parcel.first + parcel.count))
                        assert not got & done
                        assert all(not got & others for others in holding.values())
                        mine |= got
                case "ack" if some:
                    desk.queue.ack(consumer, [(seq, seq) for seq in some])
                    mine -= set(some)
                case "nack" if some:
                    desk.queue.nack(consumer, [(seq, seq) for seq in some], rng.choice([0, 30]))
                    mine -= set(some)
                    desk.queue.credit(consumer, len(some), 0)
                case "leave":
                    desk.queue.leave(consumer)
                    consumers.remove(consumer)
                    del holding[id(consumer)]
                    consumers.append(desk.consumer(20))
                    holding[id(consumers[-1])] = set()
                case "commit":
                    for command in desk.commit():
                        for each in command.ack.ranges:
                            done |= set(range(each.first, each.last + 1))
        for consumer in consumers:
            desk.queue.leave(consumer)
        desk.at(desk.now_ms + 1_000)
        desk.commit()
        last = desk.consumer(10_000)
        rest = {seq for first, last_, _ in desk.all_sent(last) for seq in range(first, last_ + 1)}
        live = {
            seq
            for row in desk.store.rows
            for seq in range(row.first_sequence, row.last_sequence + 1)
            if not row.acked >> seq - row.first_sequence & 1
        }
        assert rest == live

    asyncio.run(story())
