from dataclasses import replace

import pytest

from node import limits
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, in_loop
from tests.node.memory_chunks import Chunks

MAX_ATTEMPTS = queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS
REJECTED = queue_pb2.DEAD_LETTER_REASON_REJECTED


def attempts(count: int) -> queue_pb2.Queue:
    return queue_pb2.Queue(max_attempts=count)


def moves(commands: list[command_pb2.Command]) -> list[tuple[int, int, int, int]]:
    """(reason, first, last, attempts) of all that is moved."""
    return [
        (command.move_messages.reason, each.range.first, each.range.last, each.attempts)
        for command in commands
        for each in command.move_messages.messages
    ]


@in_loop
async def test_a_message_that_was_rejected_too_often_is_not_delivered_again() -> None:
    desk = Desk(config=attempts(2))
    desk.publish(5, 5)
    consumer = desk.consumer(10)
    desk.all_sent(consumer)
    desk.queue.nack(consumer, [(1, 1)], 0)
    desk.pump()
    assert desk.all_sent(consumer) == [(1, 1, 2)]

    desk.queue.nack(consumer, [(1, 1)], 0)
    desk.pump()

    assert desk.all_sent(consumer) == []
    assert desk.woken
    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 2)]
    assert desk.queue.ledger.leased_total == 1


@in_loop
async def test_lost_consumers_and_leases_that_end_count_as_attempts() -> None:
    desk = Desk(config=attempts(2))
    desk.publish(5)
    lost = desk.consumer(1)
    desk.sent(lost)
    desk.queue.leave(lost)
    pull = desk.pull(1, lease_ms=100)
    desk.queue.withdraw(pull, keep=True)

    desk.at(desk.now_ms + 100)

    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 2)]


@in_loop
async def test_what_comes_back_with_a_delay_is_judged_when_it_is_over() -> None:
    desk = Desk(config=attempts(1))
    desk.publish(5)
    consumer = desk.consumer(1)
    desk.sent(consumer)
    desk.queue.nack(consumer, [(1, 1)], 300)
    assert moves(desk.commit()) == []

    desk.at(desk.now_ms + 300)

    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 1)]


@in_loop
async def test_what_could_not_be_moved_is_tried_again_and_never_delivered() -> None:
    desk = Desk(config=attempts(1))
    desk.publish(5)
    consumer = desk.consumer(1)
    desk.sent(consumer)
    desk.queue.leave(consumer)
    desk.pump()
    desk.commit(RuntimeError())
    other = desk.consumer(10)
    assert desk.all_sent(other) == []

    desk.at(desk.now_ms + limits.GIVE_UP_AGAIN_MS)

    assert desk.all_sent(other) == []
    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 1)]


@in_loop
async def test_a_new_leader_knows_the_attempts_of_the_last_one() -> None:
    store = Chunks()
    store.add(5, 5, 5)
    store.recorded = {2: 3}
    desk = Desk(store, watermark=3, grace_until_ms=2_000, config=attempts(3))
    consumer = desk.consumer(10)

    desk.at(2_000)

    assert desk.all_sent(consumer) == [(1, 1, 2), (3, 3, 2)]
    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 2, 2, 3)]


@in_loop
async def test_a_message_claimed_from_a_new_leader_has_the_attempts_it_had() -> None:
    store = Chunks()
    store.add(5, 5)
    store.recorded = {2: 3}
    desk = Desk(store, watermark=2, grace_until_ms=2_000, config=attempts(3))
    consumer = desk.consumer(0, held=((1, 2),))
    desk.queue.nack(consumer, [(1, 2)], 0)
    other = desk.consumer(10)

    assert desk.all_sent(other) == [(1, 1, 2)]
    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 2, 2, 3)]


@in_loop
async def test_the_limit_counts_at_once_when_it_is_lowered_or_raised() -> None:
    desk = Desk(config=attempts(5))
    desk.publish(5, 5)
    lost = desk.consumer(2)
    desk.sent(lost)
    desk.queue.leave(lost)
    desk.pump()

    desk.queue.changed(replace(desk.queue.row, config=attempts(1)))
    desk.queue.changed(replace(desk.queue.row, config=attempts(2)))
    desk.pump()
    consumer = desk.consumer(1)
    assert desk.all_sent(consumer) == [(1, 1, 2)]
    desk.queue.changed(replace(desk.queue.row, config=attempts(1)))
    desk.pump()

    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 2, 2, 1)]


@in_loop
async def test_without_a_limit_a_message_comes_as_often_as_it_takes() -> None:
    desk = Desk()
    desk.publish(5)
    consumer = desk.consumer(100)
    for attempt in range(1, 20):
        assert desk.all_sent(consumer) == [(1, 1, attempt)]
        desk.queue.nack(consumer, [(1, 1)], 0)
        desk.pump()


@in_loop
async def test_what_is_given_up_keeps_its_key_until_it_is_gone() -> None:
    desk = Desk(config=queue_pb2.Queue(max_attempts=1, max_in_flight_per_key=1))
    desk.publish(5, 5, keys=["a", "a"])
    consumer = desk.consumer(10)
    assert desk.all_sent(consumer) == [(1, 1, 1)]
    desk.queue.nack(consumer, [(1, 1)], 0)
    desk.pump()
    assert desk.all_sent(consumer) == []

    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 1)]

    assert desk.all_sent(consumer) == [(2, 2, 1)]


@in_loop
async def test_a_lower_limit_gives_up_what_waits_for_its_key() -> None:
    desk = Desk(config=queue_pb2.Queue(max_in_flight_per_key=1))
    desk.publish(5, 5, keys=["a", "a"])
    lost = desk.consumer(1)
    desk.all_sent(lost)
    desk.queue.leave(lost)
    desk.pump()

    desk.queue.changed(
        replace(desk.queue.row, config=queue_pb2.Queue(max_attempts=1, max_in_flight_per_key=1))
    )
    consumer = desk.consumer(10)
    assert desk.all_sent(consumer) == []
    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 1)]

    assert desk.all_sent(consumer) == [(2, 2, 1)]


@in_loop
async def test_a_paused_queue_gives_up_what_was_delivered_too_often() -> None:
    desk = Desk(config=queue_pb2.Queue(max_attempts=1))
    desk.publish(5)
    consumer = desk.consumer(10)
    desk.all_sent(consumer)
    desk.queue.changed(replace(desk.queue.row, config=queue_pb2.Queue(max_attempts=1, paused=True)))

    desk.queue.leave(consumer)
    desk.pump()

    assert moves(desk.commit()) == [(MAX_ATTEMPTS, 1, 1, 1)]


# Refused by a consumer ------------------------------------------------------------------------------------------------


@in_loop
async def test_what_a_stream_refuses_becomes_a_dead_letter_and_it_is_told_when_that_is_committed() -> None:
    desk = Desk()
    desk.publish(5, 5, 5)
    consumer = desk.consumer(2)
    desk.all_sent(consumer)

    desk.queue.refuse(consumer, [(1, 3)])
    assert (consumer.acked, consumer.lost, consumer.settling) == ([], [(3, 3)], 1)
    found = moves(desk.commit())

    assert found == [(REJECTED, 1, 2, 1)]
    assert (consumer.acked, consumer.settling) == ([(1, 2)], 0)
    assert desk.queue.ledger.leased_total == 0


@in_loop
async def test_what_could_not_be_refused_is_lost_and_comes_again() -> None:
    desk = Desk()
    desk.publish(5)
    consumer = desk.consumer(5)
    desk.all_sent(consumer)
    desk.queue.refuse(consumer, [(1, 1)])

    desk.commit(RuntimeError())

    assert (consumer.acked, consumer.lost) == ([], [(1, 1)])
    assert desk.all_sent(consumer) == [(1, 1, 2)]


@in_loop
async def test_acknowledgements_and_refusals_keep_their_order_in_the_entry() -> None:
    desk = Desk()
    desk.publish(5, 5, 5, 5)
    consumer = desk.consumer(4)
    desk.all_sent(consumer)

    desk.queue.ack(consumer, [(1, 1)])
    desk.queue.refuse(consumer, [(2, 2)])
    desk.queue.refuse(consumer, [(3, 3)])
    desk.queue.ack(consumer, [(4, 4)])
    kinds = [command.WhichOneof("kind") for command in desk.commit()]

    assert kinds == ["delivered", "ack", "move_messages", "ack"]
    assert consumer.acked == [(1, 1), (2, 2), (3, 3), (4, 4)]


@in_loop
async def test_a_refused_message_of_an_earlier_leader_has_the_attempts_it_had() -> None:
    store = Chunks()
    store.add(5, 5)
    store.recorded = {2: 4}
    desk = Desk(store, watermark=2, grace_until_ms=2_000)
    consumer = desk.consumer(0, held=((1, 2),))

    desk.queue.refuse(consumer, [(1, 2)])

    assert moves(desk.commit()) == [(REJECTED, 1, 1, 1), (REJECTED, 2, 2, 4)]


# Taken away while somebody has it -------------------------------------------------------------------------------------


@in_loop
async def test_what_is_held_or_on_its_way_is_to_be_spared() -> None:
    desk = Desk(config=attempts(3))
    desk.publish(*[5] * 6)
    desk.publish(5, priority=4)
    consumer = desk.consumer(5)
    desk.all_sent(consumer)

    desk.queue.ack(consumer, [(1, 1)])
    desk.queue.nack(consumer, [(2, 2)], 500)

    assert desk.queue.ledger.spared() == [(1, 1), (3, 4), (7, 7)]


@pytest.mark.parametrize(
    "config", [queue_pb2.Queue(), queue_pb2.Queue(max_in_flight_per_key=1, max_attempts=1)]
)
@in_loop
async def test_what_is_taken_away_is_nobodys_wherever_it_was(config: queue_pb2.Queue) -> None:
    desk = Desk(config=config)
    desk.publish(*[5] * 6, keys=["a", "b", "c", "d", "a", "e"])
    consumer, lost = desk.consumer(3), desk.consumer(1)
    desk.all_sent(consumer)
    desk.all_sent(lost)
    desk.queue.ack(consumer, [(1, 1)])
    desk.queue.nack(consumer, [(2, 2)], 500)
    desk.queue.leave(lost)

    desk.store.remove(1, 6)
    desk.queue.removed([(1, 6)])
    desk.at(desk.now_ms + 1_000)

    assert desk.all_sent(desk.consumer(10)) == []
    assert (desk.queue.ledger.leased_total, desk.queue.ledger.delayed, desk.queue.ledger.parked) == (0, 0, 0)
    assert desk.queue.ledger.spared() == []


@pytest.mark.parametrize("config", [queue_pb2.Queue(), queue_pb2.Queue(max_in_flight_per_key=1)])
@in_loop
async def test_what_was_reserved_in_vain_was_not_delivered(config: queue_pb2.Queue) -> None:
    desk = Desk(config=config)
    desk.publish(*[5] * 4, keys=["a", "b", "c", "d"])
    assert desk.queue.reserve([(2, 3)]) == [(2, 3)]
    assert desk.queue.reserve([(1, 9)]) == [(1, 1), (4, 4)]
    desk.queue.restore([(1, 1), (4, 4)])
    consumer = desk.consumer(10)
    desk.pump()
    assert desk.all_sent(consumer) == [(1, 1, 1), (4, 4, 1)]
    assert desk.commit()[0].delivered.watermark == 1
    desk.queue.ack(consumer, [(1, 1)])
    desk.commit()

    desk.queue.restore([(2, 3)])
    desk.pump()

    assert desk.all_sent(consumer) == [(2, 3, 1)]
