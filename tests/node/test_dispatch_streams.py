"""Groups that are moved, and readers, as the leader of a stream dispatches them."""

import itertools
from dataclasses import replace

import pytest

from node import limits
from node.clock import Clock
from node.dispatch.meter import Meter
from node.dispatch.readers import Reader, Readers
from node.errors import InvalidField
from node.rates import RateWindow
from node.state.group_tables import GroupRow
from node.state.rows import QueueRow
from node.web.metrics import Metrics
from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, decoded, in_loop
from tests.node.memory_chunks import Chunks


def moved(desk: Desk, position: int) -> None:
    """The group was moved there: what is before it is gone, as the group sees it."""
    if position > 1:
        desk.store.remove(1, position - 1)
    row = replace(desk.queue.row, next_sequence=desk.store.next_sequence)
    desk.queue.moved(row, GroupRow(2, 1, "g", position, position - 1, 0))
    desk.pump()


@in_loop
async def test_what_consumers_have_is_lost_when_their_group_is_moved_and_comes_again_from_there() -> None:
    desk = Desk()
    desk.publish(5, 5, 5, 5)
    consumer = desk.consumer(4)
    desk.all_sent(consumer)

    moved(desk, 3)

    assert consumer.lost == [(1, 4)]
    assert desk.all_sent(consumer) == []
    desk.queue.credit(consumer, 10, 0)
    desk.pump()
    assert desk.all_sent(consumer) == [(3, 4, 1)]


@in_loop
async def test_a_parcel_that_is_not_on_its_way_when_the_group_is_moved_is_not_delivered() -> None:
    desk = Desk()
    desk.publish(5, 5, 5, 5)
    consumer = desk.consumer(4, 1_000)
    assert consumer.parcel

    moved(desk, 2)

    assert desk.all_sent(consumer) == [(2, 4, 1)]
    assert consumer.credit_messages == 1
    assert consumer.credit_bytes
    assert 900 < consumer.credit_bytes < 1_000


@in_loop
async def test_a_parcel_on_its_way_when_the_group_is_moved_is_lost_after_it_came() -> None:
    desk = Desk()
    desk.publish(5, 5)
    consumer = desk.consumer(10)
    on_its_way = consumer.write()

    moved(desk, 1)
    consumer.sent()
    desk.touched = True
    desk.pump()

    assert (on_its_way.first, on_its_way.count) == (1, 2)
    assert consumer.lost == [(1, 2)]
    assert desk.all_sent(consumer) == [(1, 2, 1)]


@in_loop
async def test_what_is_acknowledged_while_a_group_is_being_moved_is_not_done() -> None:
    desk = Desk()
    desk.publish(5, 5)
    consumer = desk.consumer(10)
    desk.all_sent(consumer)
    with desk.queue.moving():
        desk.queue.ack(consumer, [(1, 2)])
        assert desk.queue.is_moving
        assert desk.commit() == []
        moved(desk, 1)
    desk.pump()

    assert [each.WhichOneof("kind") for each in desk.commit()] == ["delivered"]
    assert consumer.acked == []
    assert consumer.lost == [(1, 2)]


@in_loop
async def test_what_waited_is_acknowledged_if_the_group_was_not_moved_after_all() -> None:
    desk = Desk()
    desk.publish(5, 5)
    consumer = desk.consumer(10)
    desk.all_sent(consumer)
    with desk.queue.moving():
        desk.queue.ack(consumer, [(1, 2)])
        desk.commit()
    assert desk.woken

    desk.commit()

    assert consumer.acked == [(1, 2)]


class Room:
    """Readers of one stream; `pump` runs when it was asked for."""

    def __init__(self) -> None:
        self.store = Chunks()
        self.touched = False
        self.names = (f"r{i}" for i in itertools.count())
        row = QueueRow(
            id=1,
            name="queues/s",
            uid="u",
            etag="e",
            config=queue_pb2.Queue(),
            create_ms=0,
            update_ms=0,
            backlog=1,
        )
        clock = Clock(lambda: 1_000, lambda: 5_000)
        meter = Meter(clock, Metrics.create(), RateWindow(1_000))
        self.readers = Readers(row, self.store, clock=clock, meter=meter, touch=self._touch)

    def _touch(self, readers: Readers) -> None:
        self.touched = True

    def publish(self, *sizes: int) -> None:
        first = self.store.next_sequence
        self.store.add(*sizes)
        self.readers.published(first, self.store.next_sequence - 1, 0)

    def reader(self, at: int = 1, messages: int = 1_000_000, size: int = 0) -> Reader:
        reader = self.readers.join(next(self.names), "r", at)
        self.readers.credit(reader, messages, size)
        return reader

    def sent(self, reader: Reader) -> tuple[int, int] | None:
        """(first sequence, messages) of what is written to a reader next."""
        if self.touched:
            self.touched = False
            while self.readers.pump() is not None:
                pass
        if reader.parcel is None:
            return None
        delivery = decoded(reader.write())
        self.readers.sent(reader)
        return delivery.first_sequence, len(delivery.messages)


@in_loop
async def test_a_long_backlog_is_looked_up_page_by_page_and_handed_over_parcel_by_parcel() -> None:
    room = Room()
    for _ in range(1_000):
        room.publish(10)
    reader = room.reader()

    parcels = []
    while (parcel := room.sent(reader)) and parcel[1]:
        parcels.append(parcel)

    assert sum(count for _, count in parcels) == 1_000
    assert max(count for _, count in parcels) == limits.PARCEL_CHUNKS_MAX
    assert room.store.lookups <= 1_000 // limits.SHELF_ROWS + 2


@in_loop
async def test_readers_of_a_long_backlog_take_turns_and_leave_room_for_others() -> None:
    room = Room()
    for _ in range(20):
        room.publish(400_000)
    readers = [room.reader() for _ in range(6)]

    again_ms = room.readers.pump()

    served = [reader for reader in readers if reader.parcel]
    assert again_ms == 1_000
    assert len(served) == 3, "a round is about a mebibyte"
    room.readers.pump()
    assert all(reader.parcel for reader in readers)


@in_loop
async def test_a_reader_is_told_once_that_it_has_had_everything() -> None:
    room = Room()
    room.publish(5, 5)
    reader = room.reader()

    assert [room.sent(reader) for _ in range(3)] == [(1, 2), (3, 0), None]
    room.publish(5)
    assert [room.sent(reader) for _ in range(2)] == [(3, 1), None]


@in_loop
async def test_a_reader_passes_over_what_is_gone() -> None:
    room = Room()
    room.publish(5, 5, 5, 5)
    room.publish(5)
    reader = room.reader()
    room.store.remove(1, 1)
    room.store.remove(3, 4)
    room.readers.removed([(1, 1), (3, 4)])

    assert [room.sent(reader) for _ in range(3)] == [(2, 1), (5, 1), (6, 0)]


@in_loop
async def test_a_paused_stream_is_not_read() -> None:
    room = Room()
    reader = room.reader()
    row = room.readers.row
    room.readers.changed(replace(row, config=queue_pb2.Queue(paused=True)))
    room.publish(5)
    assert room.sent(reader) is None

    room.readers.changed(row)

    assert room.sent(reader) == (1, 1)


@in_loop
async def test_a_reader_acknowledges_nothing() -> None:
    room = Room()
    reader = room.reader()

    with pytest.raises(InvalidField, match="ack"):
        room.readers.ack(reader, [(1, 1)])
    with pytest.raises(InvalidField, match="nack"):
        room.readers.nack(reader, [(1, 1)], 0)
