"""What holds for every command: order, time, atomicity, faults and events."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from node.state import chunks, handlers
from node.state import publish as publishing
from node.state.entries import UnknownCommandError
from node.state.listener import Silence
from node.state.results import Published, Refused
from node.state.tables import Tables
from raft.types import Member
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.state_log import TERM, Follower, MemoryLog, ack, create, delete, publish, purge, update

A, B = "queues/a", "queues/b"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(MemoryLog(), tmp_path / "state")


class Diary(Silence):
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def published(self, queue_id: int, first_sequence: int, count: int, priority: int) -> None:
        self.told.append(("published", queue_id, first_sequence, count, priority))

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        self.told.append(("removed", queue_id, list(ranges)))

    def queue_changed(self, queue_id: int) -> None:
        self.told.append(("changed", queue_id))

    def queue_deleted(self, queue_id: int) -> None:
        self.told.append(("deleted", queue_id))

    def reset(self) -> None:
        self.told.append(("reset",))


def break_on(monkeypatch: pytest.MonkeyPatch, body: bytes, error: Exception) -> None:
    """A publish of that body fails after it has written half of what it should."""

    def publish_half(tables: Tables, at: Any, command: command_pb2.Publish) -> Any:
        result = publishing.publish(tables, at, command)
        if body in command.chunk:
            tables.store.new_id()
            raise error
        return result

    monkeypatch.setitem(handlers.HANDLERS, "publish", publish_half)


def rows(follower: Follower) -> list[list[Any]]:
    """All rows of the store but those of bodies."""
    tables = ("meta", "queues", "chunks", "graveyard", "requests", "producers")
    return [follower.machine._store.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_every_kind_of_command_has_a_handler() -> None:
    kinds = {field.name for field in command_pb2.Command.DESCRIPTOR.oneofs_by_name["kind"].fields}

    assert kinds == handlers.KINDS


def test_time_never_goes_back(follower: Follower) -> None:
    follower.do(create(A), time_ms=5_000)
    follower.do(publish(A, b"x"), time_ms=4_000)

    assert follower.machine.time_ms == 5_000
    row = follower.machine.queue(A)
    assert row is not None
    assert [chunk.time_ms for chunk in follower.machine.chunks(row.id, 1, 1)] == [5_000]


def test_an_entry_cannot_be_applied_twice(follower: Follower) -> None:
    follower.do(create(A))

    with pytest.raises(AssertionError):
        follower.machine.apply(follower.log.last, TERM, follower.log.entries[follower.log.last])


def test_members_are_part_of_the_state_and_survive_a_restart(follower: Follower) -> None:
    members = (Member("n1", "h:1"), Member("n2", "h:2", voter=False))
    assert follower.machine.members is None
    nobody = follower.machine.fingerprint()

    follower.machine.record(2, 3, None)
    follower.machine.record(3, 4, members)
    follower.machine.record(4, 5, None)
    follower.restart()

    assert (follower.machine.applied, follower.machine.applied_term) == (4, 5)
    assert follower.machine.members == members
    assert follower.machine.fingerprint() != nobody


@pytest.mark.parametrize(
    "payload", [b"\xff\xff", command_pb2.Batch(commands=[command_pb2.Command()]).SerializeToString()]
)
def test_an_entry_that_cannot_be_understood_stops_the_node_before_anything_is_applied(
    follower: Follower, payload: bytes
) -> None:
    follower.do(create(A))
    before = follower.machine.fingerprint()
    index = follower.log.last + 1
    known = publish(A, b"x").SerializeToString()
    unknown = (
        command_pb2.Batch(commands=[command_pb2.Command.FromString(known)]).SerializeToString() + payload
    )

    with pytest.raises(UnknownCommandError):
        follower.machine.apply(index, TERM, unknown)

    assert follower.machine.fingerprint() == before


def test_a_mistake_of_ours_undoes_its_command_wholly_and_no_other(
    follower: Follower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[tuple[int, int, Exception]] = []
    follower.machine.on_fault = lambda *fault: faults.append(fault)
    diary = Diary()
    follower.machine.listeners.append(diary)
    break_on(monkeypatch, b"poison", ZeroDivisionError())

    results = follower.do(
        create(A),
        publish(A, b"x", request_id="r1"),
        publish(A, b"poison", request_id="r2", producer_id="p", producer_sequence=1),
        publish(A, b"z", producer_id="p", producer_sequence=1),
        create(B),
    )

    assert results[1] == Published(1, 1)
    assert isinstance(results[2], Refused)
    assert (results[2].reason, results[2].message) == ("INTERNAL", "the command failed: ZeroDivisionError")
    assert results[3] == Published(2, 1)
    assert follower.bodies(A) == [b"x", b"z"]
    assert [(index, ordinal, type(error)) for index, ordinal, error in faults] == [(2, 2, ZeroDivisionError)]
    assert [told[0] for told in diary.told] == ["changed", "published", "published", "changed"]
    other = Follower(MemoryLog(follower.log.entries, follower.log.last), tmp_path / "other")
    other.catch_up()
    assert other.machine.fingerprint() == follower.machine.fingerprint()


def test_a_batch_with_a_mistake_leaves_what_the_same_commands_leave_without_it(
    follower: Follower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.do(create(A), publish(A, b"x"), publish(A, b"y", producer_id="p", producer_sequence=1))
    break_on(monkeypatch, b"poison", KeyError("why"))
    follower.do(
        ack(A, (1, 1), request_id="r1"), publish(A, b"poison"), purge(A), publish(A, b"z", request_id="r2")
    )

    sound = Follower(MemoryLog(), tmp_path / "sound")
    sound.do(create(A), publish(A, b"x"), publish(A, b"y", producer_id="p", producer_sequence=1))
    sound.do(
        ack(A, (1, 1), request_id="r1"), purge("queues/none"), purge(A), publish(A, b"z", request_id="r2")
    )

    sound.machine.commit_now()
    assert rows(follower) == rows(sound)


def no_op(follower: Follower) -> None:
    """An entry without commands."""
    follower.log.last += 1
    follower.machine.record(follower.log.last, TERM, None)


@pytest.mark.parametrize("committed", ["before", "in between", "never"])
def test_after_a_mistake_all_that_was_applied_before_is_there_once(
    follower: Follower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: str
) -> None:
    break_on(monkeypatch, b"poison", KeyError("why"))
    follower.do(create(A))
    if committed == "before":
        follower.machine.commit_now()
    follower.do(publish(A, b"x", b"y"))
    if committed == "in between":
        follower.machine.commit_now()
    for idle in (False, True, False):
        if idle:
            no_op(follower)
        assert isinstance(follower.one(publish(A, b"poison")), Refused)

    assert follower.bodies(A) == [b"x", b"y"]
    follower.restart()
    assert follower.bodies(A) == [b"x", b"y"]


def test_what_may_have_to_be_repeated_is_bounded(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.COMMIT_BYTES", 10_000)
    follower.do(create(A))
    for _ in range(20):
        follower.do(publish(A, b"x" * 1_000))
        assert sum(len(entry.payload or b"") for entry in follower.machine._repeatable) < 12_000

    follower.machine.commit_now()
    follower.machine.flush()
    assert not follower.machine._repeatable


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), OSError(28, "no space")])
def test_an_error_of_the_disk_ends_the_node_and_nothing_of_the_entry_is_kept(
    follower: Follower, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    follower.do(create(A))
    follower.machine.commit_now()
    before = follower.machine.fingerprint()
    with monkeypatch.context() as patch:
        break_on(patch, b"poison", error)
        with pytest.raises(type(error)):
            follower.do(publish(A, b"x"), publish(A, b"poison"))
    follower.restart()

    assert follower.machine.applied == 2
    assert follower.machine.fingerprint() == before
    follower.catch_up()
    assert len(follower.live(A)) == 2


def test_the_listener_hears_of_a_batch_in_its_order(follower: Follower) -> None:
    diary = Diary()
    follower.machine.listeners.append(diary)

    follower.do(
        create(A, max_messages=3, overflow_policy=queue_pb2.OVERFLOW_POLICY_DROP_OLDEST),
        publish(A, b"x", b"y"),
        publish(A, b"z", b"z"),
        ack(A, (2, 3), (9, 9)),
        update(A, ["paused"], paused=True),
        purge(A),
        purge(A),
        delete(A),
    )

    assert diary.told == [
        ("changed", 1),
        ("published", 1, 1, 2, 0),
        ("removed", 1, [(1, 1)]),
        ("published", 1, 3, 2, 0),
        ("removed", 1, [(2, 3)]),
        ("changed", 1),
        ("removed", 1, [(1, 4)]),
        ("deleted", 1),
    ]


def test_the_fingerprint_tells_states_apart(follower: Follower, tmp_path: Path) -> None:
    other = Follower(MemoryLog(), tmp_path / "other")
    for one in (follower, other):
        one.do(create(A), publish(A, *[b"x"] * 4), publish(A, b"y"))
    assert follower.machine.fingerprint() == other.machine.fingerprint()

    follower.do(ack(A, (2, 2)))
    other.do(ack(A, (3, 3)))

    assert follower.machine.fingerprint() != other.machine.fingerprint()


def test_an_acknowledgement_of_whole_chunks_costs_no_work_per_message_or_chunk(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.do(create(A), *(publish(A, *[b"x"] * 100) for _ in range(50)))
    statements: list[str] = []
    follower.machine._store.connection.set_trace_callback(statements.append)

    removed = chunks.remove(follower.machine._store.execute, 2, 101, 4_900)

    assert removed.messages == 4_800
    assert (
        len(set(statements)) <= 4
    )  # the trigger that looks after moved bodies repeats the text for each row
