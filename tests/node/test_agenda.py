"""What is known of what time brings to queues: also after something was undone, and then without looking at all of them."""

from pathlib import Path

import pytest

from node.state import queue_times
from node.state.agenda import Agenda
from node.state.results import Advanced, Refused
from node.state.rows import duration
from node.state.tables import Tables
from taskraft.v1 import queue_pb2
from tests.node.test_transactions import transaction
from tests.sim.state_log import Follower, MemoryLog, advance_queues, create, message, publish, send

A, FULL = "queues/a", "queues/full"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create(A), create(FULL, max_messages=1), publish(FULL, b"full"))
    return follower


def undo_one(follower: Follower) -> None:
    result = follower.one(transaction(publish(A, b"one"), publish(FULL, b"one too many")))
    assert isinstance(result, Refused)


def test_after_an_undone_transaction_the_queues_are_not_all_looked_at_again(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in range(20):
        follower.do(create(f"queues/{each}", max_age=duration(60_000)), publish(f"queues/{each}", b"x"))
    machine, looked = follower.machine, list[int]()
    machine.commit_now()
    due_ms = machine.next_queue_due_ms(machine.time_ms)
    follower.do(publish(A, b"x"))
    machine.commit_now()

    def look(tables: Tables, queue_id: int) -> int | None:
        looked.append(queue_id)
        return None

    monkeypatch.setattr(queue_times, "_look", look)
    undo_one(follower)

    assert machine.next_queue_due_ms(machine.time_ms) == due_ms
    assert not looked


def test_what_was_done_is_done_again_after_a_rollback(follower: Follower) -> None:
    follower.do(send(A, message(b"later", delay_ms=500)))
    follower.machine.commit_now()
    now_ms = follower.log.time_ms + 500
    assert follower.one(advance_queues(), time_ms=now_ms) == Advanced(1)
    assert follower.machine.next_queue_due_ms(now_ms) is None

    undo_one(follower)

    assert follower.bodies(A) == [b"later"]


def test_what_compaction_removed_is_not_waited_for(follower: Follower) -> None:
    machine, stream = follower.machine, "queues/stream"
    follower.do(create(stream, kind=queue_pb2.QUEUE_KIND_STREAM, compaction=True))
    follower.do(send(stream, message(key="k", ttl_ms=500)), time_ms=2_000_000)
    assert machine.next_queue_due_ms(2_000_600) == 2_000_500

    follower.do(send(stream, message(key="k", ttl_ms=9_000)), time_ms=2_000_001)

    assert machine.next_queue_due_ms(2_005_000) == 2_009_001


def test_what_was_known_at_the_last_commit_is_known_after_a_rollback() -> None:
    agenda = Agenda([1, 2, 3])
    assert not agenda.roll_back()
    for queue_id, due_ms in ((1, 10), (2, 20), (3, 30)):
        agenda.look_again(queue_id, {queue_id: due_ms}.get)
    agenda.committed()

    agenda.look_again(1, {1: 100}.get)
    agenda.lower(1, 50)
    agenda.look_again(1, {1: 200}.get)
    agenda.drop(2)
    agenda.lower(3, 5)
    agenda.lower(4, 40)

    assert agenda.roll_back()
    assert agenda.due(10) == [1, 3]
    assert agenda.due(20) == [1, 2, 3]
    assert agenda.first_ms(100, {1: 10, 2: 20, 3: 30}.get) == 10
