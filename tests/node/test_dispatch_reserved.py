"""What is taken out of delivery for a moment, and stays: nobody may see that it was away."""

import pytest

from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, in_loop
from tests.node.memory_chunks import Chunks


def reserved_and_restored(desk: Desk, *ranges: tuple[int, int]) -> list[tuple[int, int]]:
    taken = desk.queue.reserve(ranges)
    desk.queue.restore(taken)
    desk.pump()
    return taken


@pytest.mark.parametrize("keys", ["", "abcd"])
@in_loop
async def test_what_was_never_delivered_is_delivered_in_its_turn_as_often_as_any_other(keys: str) -> None:
    per_key = 1 if keys else 0
    desk = Desk(config=queue_pb2.Queue(max_attempts=1, max_in_flight_per_key=per_key))
    desk.publish(1, 1, 1, 1, keys=keys)

    assert reserved_and_restored(desk, (2, 3)) == [(2, 3)]

    assert desk.all_sent(desk.consumer(10)) == [(1, 4, 1)]
    assert desk.queue.ledger.leased_total == 4


@in_loop
async def test_what_was_passed_meanwhile_is_delivered_for_the_first_time() -> None:
    desk = Desk(config=queue_pb2.Queue(max_attempts=1))
    desk.publish(1, 1, 1)
    taken = desk.queue.reserve([(1, 2)])
    consumer = desk.consumer(10)
    assert desk.all_sent(consumer) == [(3, 3, 1)]

    desk.queue.restore(taken)
    desk.pump()

    assert desk.all_sent(consumer) == [(1, 2, 1)]


@in_loop
async def test_what_was_given_back_with_a_delay_comes_when_that_is_over() -> None:
    desk = Desk()
    desk.publish(1)
    consumer = desk.consumer(10)
    desk.sent(consumer)
    desk.queue.nack(consumer, [(1, 1)], 500)

    assert reserved_and_restored(desk, (1, 1)) == [(1, 1)]

    assert desk.all_sent(consumer) == []
    desk.at(desk.now_ms + 500)
    assert desk.all_sent(consumer) == [(1, 1, 2)]


@in_loop
async def test_what_came_back_has_as_many_attempts_as_before_and_what_was_moved_does_not_come() -> None:
    desk = Desk()
    desk.publish(1, 1)
    lost = desk.consumer(10)
    desk.sent(lost)
    desk.queue.leave(lost)
    taken = desk.queue.reserve([(1, 2)])
    desk.store.remove(1, 1)
    desk.queue.removed([(1, 1)])

    desk.queue.restore(taken)
    desk.pump()

    assert desk.all_sent(desk.consumer(10)) == [(2, 2, 2)]


@in_loop
async def test_nothing_is_to_be_reserved_while_consumers_of_the_last_leader_may_come_back() -> None:
    store = Chunks()
    store.add(1, 1)
    desk = Desk(store, watermark=1, grace_until_ms=1_800)

    assert desk.queue.grace_ms == 800
    desk.at(1_800)
    assert desk.queue.grace_ms == 0
