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
async def test_the_few_that_may_go_are_shared_among_all_who_can_take_them() -> None:
    desk = Desk(config=ordered())
    publish(desk, *["a"] * 90)
    busy = desk.consumer(1)
    got(desk, busy)
    consumers = [desk.consumer(10) for _ in range(3)]

    publish(desk, "b", "c", "d")

    assert [got(desk, each) for each in consumers] == [[91], [92], [93]]


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
async def test_a_new_leader_knows_the_attempts_of_what_is_beyond_the_watermark() -> None:
    store = Chunks()
    store.add(5, 5, 5, 5, keys=["a", "a", "b", "c"])
    store.recorded = {3: 2, 4: 5}
    config = queue_pb2.Queue(max_in_flight_per_key=1, max_attempts=5)
    desk = Desk(store, watermark=1, grace_until_ms=2_000, config=config)
    consumer = desk.consumer(10)

    desk.at(2_000)

    assert desk.all_sent(consumer) == [(1, 1, 2), (3, 3, 3)]
    assert [command.move_messages.messages[0].attempts for command in desk.commit()[1:]] == [5]


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
