from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from node import limits
from node.dispatch.shelf import Shelf
from node.state.rows import ChunkRow
from node.wire import message_ends
from taskraft.internal.v1 import command_pb2
from tests.node.memory_chunks import Chunks


def runs(shelf: Shelf, first: int, last: int) -> list[tuple[int, int]]:
    found = []
    while run := shelf.run(first, last):
        found.append((run.first, run.last))
        first = run.last + 1
    return found


def test_live_messages_are_found_chunk_by_chunk() -> None:
    store = Chunks()
    store.add(1, 1, 1)
    store.add(1, 1)
    store.remove(2, 2)

    assert runs(Shelf(store, 1), 1, 100) == [(1, 1), (3, 3), (4, 5)]


def test_what_is_published_later_is_found() -> None:
    store = Chunks()
    shelf = Shelf(store, 1)
    assert shelf.run(1, 10) is None

    store.add(1, 1)
    shelf.published()

    assert runs(shelf, 1, 10) == [(1, 2)]


def test_a_long_queue_is_looked_up_page_by_page() -> None:
    store = Chunks()
    for _ in range(3 * limits.SHELF_ROWS):
        store.add(1)

    assert len(runs(Shelf(store, 1), 1, 1_000)) == 3 * limits.SHELF_ROWS
    assert store.lookups == 4


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), max_size=8), st.integers(1, 12))
def test_what_is_gone_is_never_offered(removals: list[tuple[int, int]], first: int) -> None:
    store = Chunks()
    for sizes in ((1, 1, 1), (1,), (1, 1, 1, 1, 1), (1, 1, 1)):
        store.add(*sizes)
    shelf, live = Shelf(store, 1), set(range(1, 13))
    shelf.run(1, 12)

    for start, more in removals:
        shelf.removed([(start, start + more)])
        store.remove(start, start + more)
        live -= set(range(start, start + more + 1))

    seen = [seq for low, high in runs(shelf, first, 12) for seq in range(low, high + 1)]
    assert seen == sorted(seq for seq in live if seq >= first)
    assert store.lookups == 1


def test_messages_are_cut_out_of_their_chunk() -> None:
    store = Chunks()
    store.add(10, 200, 3_000)
    shelf = Shelf(store, 1)
    run = shelf.run(2, 3)
    assert run

    cut = shelf.cut(run, 1)

    assert [len(m.body) for m in command_pb2.Chunk.FromString(bytes(cut)).messages] == [200]
    assert shelf.size_of(run, 1) == len(cut)
    assert shelf.size_of(run, 2) == len(shelf.cut(run, 2))


def test_as_many_messages_as_have_room_are_counted() -> None:
    store = Chunks()
    store.add(100, 100, 100, 100)
    shelf = Shelf(store, 1)
    run = shelf.run(2, 4)
    assert run
    one = shelf.size_of(run, 1)

    assert [shelf.count_within(run, size) for size in (-5, 0, one - 1, one, 2 * one, 10 * one)] == [
        0,
        0,
        0,
        1,
        2,
        3,
    ]


@given(st.integers(1, 12), st.integers(0, (1 << 12) - 1), st.integers(1, 12), st.integers(1, 12))
def test_the_first_live_run_of_a_chunk_is_found(count: int, gone: int, one: int, other: int) -> None:
    first, last = min(one, other, count), min(max(one, other), count)
    row = ChunkRow(1, count, count, 1, 0, 1, 0, gone & (1 << count) - 1)

    found = row.live_run(first, last)

    live = [seq for seq in range(first, last + 1) if not gone >> seq - 1 & 1]
    if found is None:
        assert not live
    else:
        low, high = found
        assert low == live[0]
        assert set(range(low, high + 1)) <= set(live)
        assert high + 1 not in live


def test_messages_of_a_row_that_is_a_part_are_cut_out_of_the_whole_chunk() -> None:
    store = Chunks()
    store.add(10, 200, 3_000, 40)
    whole = store.rows.pop()
    ends = message_ends(store.bodies[0, 0])
    store.rows.append(replace(whole, first_sequence=7, count=2, live=2, offset=1, bytes=ends[2] - ends[0]))
    store.rows.append(replace(whole, first_sequence=9, count=1, live=1, offset=3, bytes=1, estimated=True))
    shelf = Shelf(store, 1)
    part, last = shelf.run(1, 8), shelf.run(9, 100)
    assert part
    assert last

    cuts = [shelf.cut(part, 1), shelf.cut(part, 2), shelf.cut(last, 1)]

    found = [[len(m.body) for m in command_pb2.Chunk.FromString(bytes(cut)).messages] for cut in cuts]
    assert found == [[200], [200, 3_000], [40]]
    assert [shelf.size_of(part, 1), shelf.size_of(part, 2), shelf.size_of(last, 1)] == list(map(len, cuts))
    assert shelf.count_within(last, len(cuts[2]) - 1) == 0
    assert shelf.count_within(part, len(cuts[0])) == 1
