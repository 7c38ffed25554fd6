from node import limits
from tests.node.dispatch_desk import Desk, decoded, in_loop
from tests.node.memory_chunks import Chunks


@in_loop
async def test_a_message_that_was_rejected_with_a_delay_comes_when_it_is_over() -> None:
    desk = Desk()
    desk.publish(5)
    consumer = desk.consumer(5)
    desk.sent(consumer)
    desk.queue.nack(consumer, [(1, 1)], 300)
    assert desk.pump() == 1_300

    desk.at(1_299)
    early = desk.all_sent(consumer)
    desk.at(1_300)

    assert early == []
    assert desk.all_sent(consumer) == [(1, 1, 2)]


@in_loop
async def test_a_pull_waits_for_the_first_message_and_takes_what_is_there() -> None:
    desk = Desk()
    pull = desk.pull(10)
    assert not pull.done.is_set()

    desk.publish(5, 5)

    assert pull.done.is_set()
    assert [(parcel.first, parcel.count) for parcel in pull.parcels] == [(1, 2)]
    assert decoded(pull.parcels[0]).lease_expire_time.seconds == 6


@in_loop
async def test_a_pull_holds_no_more_than_one_answer_can() -> None:
    desk = Desk()
    for _ in range(4):
        desk.publish(1_000_000)

    pull = desk.pull(10)

    assert pull.size < limits.DELIVERY_BYTES_MAX
    assert sum(parcel.count for parcel in pull.parcels) == 3


@in_loop
async def test_the_lease_of_a_pull_ends_unless_it_is_extended() -> None:
    desk = Desk()
    desk.publish(5, 5)
    pull = desk.pull(2, lease_ms=100)
    desk.queue.withdraw(pull, keep=True)
    assert desk.queue.extend(pull.holder, [(2, 2)], 500) == []

    desk.at(1_100)

    assert desk.all_sent(desk.consumer(10)) == [(1, 1, 2)]
    desk.at(1_500)
    assert desk.queue.ledger.leased(pull.holder) == 0


@in_loop
async def test_a_pull_whose_caller_went_away_keeps_nothing() -> None:
    desk = Desk()
    desk.publish(5)
    pull = desk.pull(1)

    desk.queue.withdraw(pull, keep=False)

    assert desk.all_sent(desk.consumer(10)) == [(1, 1, 2)]


@in_loop
async def test_a_new_leader_keeps_what_was_delivered_for_those_who_hold_it() -> None:
    store = Chunks()
    store.add(5, 5, 5, 5)
    store.recorded = {2: 3}
    desk = Desk(store, watermark=3, grace_until_ms=2_000)
    other = desk.consumer(10)
    assert desk.all_sent(other) == []

    back = desk.consumer(0, held=((1, 1), (9, 9)))
    assert desk.granted == [(1, 1)]
    desk.at(2_000)

    assert desk.queue.ledger.leased(back.holder) == 1
    assert desk.all_sent(other) == [(2, 2, 4), (3, 3, 2), (4, 4, 1)]


@in_loop
async def test_a_new_leader_does_not_wait_when_everything_was_claimed_or_is_gone() -> None:
    store = Chunks()
    store.add(5, 5, 5, 5)
    store.remove(2, 2)
    desk = Desk(store, watermark=3, grace_until_ms=2_000)

    back = desk.consumer(10, held=((1, 3),))

    assert desk.granted == [(1, 1), (3, 3)]
    assert desk.all_sent(back) == [(4, 4, 1)]


@in_loop
async def test_what_was_purged_is_not_delivered_any_more() -> None:
    desk = Desk()
    desk.publish(*[5] * 5)
    consumer = desk.consumer(2)
    desk.sent(consumer)
    desk.store.remove(1, 4)
    desk.queue.removed([(1, 4)])

    desk.queue.credit(consumer, 10, 0)
    desk.pump()

    assert desk.all_sent(consumer) == [(5, 5, 1)]
    desk.queue.ack(consumer, [(1, 1)])
    assert consumer.lost == [(1, 1)]


@in_loop
async def test_streams_of_a_deleted_queue_end() -> None:
    desk = Desk()
    consumer, pull = desk.consumer(5), desk.pull(1)

    desk.queue.deleted()

    assert consumer.closing
    assert consumer.error
    assert consumer.error.name == "QUEUE_NOT_FOUND"
    assert pull.error
    assert pull.done.is_set()


@in_loop
async def test_an_acknowledgement_that_never_gets_an_entry_is_answered_all_the_same() -> None:
    desk = Desk()
    desk.publish(5)
    consumer = desk.consumer(5)
    desk.sent(consumer)
    desk.queue.ack(consumer, [(1, 1)])

    desk.queue.deleted()

    assert consumer.settling == 0


@in_loop
async def test_a_lease_that_is_extended_over_and_over_is_looked_at_once() -> None:
    desk = Desk()
    desk.publish(1)
    pull = desk.pull(1, lease_ms=1_000)
    desk.queue.withdraw(pull, keep=True)

    for _ in range(100):
        desk.at(desk.now_ms + 500)
        assert desk.queue.extend(pull.holder, [(1, 1)], 1_000) == []
        assert desk.queue.extend("nobody", [(1, 1)], 1_000) == [(1, 1)]

    assert len(desk.queue._expiries) == 1
    desk.queue.extend(pull.holder, [(1, 1)], 100)
    desk.at(desk.now_ms + 100)
    assert desk.all_sent(desk.consumer(1)) == [(1, 1, 2)]
    desk.at(desk.now_ms + 1_000)
    assert not desk.queue._expiries
