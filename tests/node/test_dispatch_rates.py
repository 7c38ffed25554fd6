from tests.node.dispatch_desk import Desk, in_loop


@in_loop
async def test_figures_of_messages_are_as_worked_out_by_hand() -> None:
    desk = Desk()
    desk.store.now_ms = 6_000  # on the wall, when the clock is at 1,000
    desk.publish(5, 5)
    consumer = desk.consumer(0)
    desk.at(1_100)
    desk.queue.credit(consumer, 10, 0)
    desk.pump()
    desk.all_sent(consumer)
    desk.at(1_200)
    desk.queue.nack(consumer, [(2, 2)], 0)
    desk.pump()
    desk.all_sent(consumer)
    desk.at(1_300)
    desk.queue.ack(consumer, [(1, 2)])
    desk.commit()

    rates = desk.window.message_rates(3_000)

    assert (rates.delivered, rates.acknowledged) == (3, 2)
    assert rates.throughput == 1.0
    assert rates.latency.ToMilliseconds() == (300 + 300 - 200 - 100 - 100) // 2
    assert rates.waiting.p50.ToMilliseconds() in range(100, 110)
    assert rates.processing.p99.ToMilliseconds() in range(200, 214)
    assert rates.end_to_end.p50.ToMilliseconds() in range(300, 320)


@in_loop
async def test_a_message_that_takes_no_time_is_counted() -> None:
    desk = Desk()
    desk.store.now_ms = 6_000
    desk.publish(5)
    consumer = desk.consumer(1)
    desk.all_sent(consumer)
    desk.queue.ack(consumer, [(1, 1)])
    desk.commit()

    assert desk.window.message_rates(1_001).acknowledged == 1


@in_loop
async def test_what_an_earlier_leader_delivered_is_not_measured() -> None:
    desk = Desk()
    desk.store.add(5)
    desk = Desk(desk.store, watermark=1, grace_until_ms=2_000)
    consumer = desk.consumer(0, held=((1, 1),))
    desk.queue.ack(consumer, [(1, 1)])
    desk.commit()

    assert desk.window.message_rates(1_001).acknowledged == 0
