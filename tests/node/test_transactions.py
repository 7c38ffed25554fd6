"""Transactions in the state: all or nothing, in one entry."""

from pathlib import Path
from typing import Any

import pytest

from node.state import handlers
from node.state import publish as publishing
from node.state.entries import UnknownCommandError
from node.state.listener import Silence
from node.state.machine import Machine
from node.state.results import (
    Acked,
    Claimed,
    Code,
    Committed,
    Done,
    Published,
    Refused,
    Result,
    Settlement,
    Submitted,
    decode,
    encode,
)
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import lock_pb2
from tests.sim.state_log import TERM, Follower, MemoryLog, ack, create, publish, purge

A, B, C = "queues/a", "queues/b", "queues/c"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    made = Follower(MemoryLog(), tmp_path / "state")
    made.do(create(A), create(B), create(C, max_messages=1))
    return made


def transaction(*commands: command_pb2.Command, request_id: str = "") -> command_pb2.Command:
    return command_pb2.Command(request_id=request_id, transaction=command_pb2.Transaction(commands=commands))


def check_queue(name: str, etag: str) -> command_pb2.Command:
    return command_pb2.Command(check_queue=command_pb2.CheckQueue(queue=name, etag=etag))


def check_lock(name: str, token: int) -> command_pb2.Command:
    return command_pb2.Command(check_lock=command_pb2.CheckLock(lock=name, token=token))


def acquire(name: str) -> command_pb2.Command:
    asked = command_pb2.AcquireLock(
        name=name, mode=lock_pb2.LOCK_MODE_EXCLUSIVE, ttl_ms=10_000, holder_id="h"
    )
    return command_pb2.Command(acquire_lock=asked)


class Diary(Silence):
    """A listener that writes down which messages it is told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def published(self, queue_id: int, first_sequence: int, *rest: Any) -> None:
        self.told.append(("published", first_sequence))


def etag(follower: Follower, name: str) -> str:
    row = follower.machine.queue(name)
    assert row is not None
    return row.etag


def test_a_transaction_does_all_of_it_in_order(follower: Follower) -> None:
    follower.do(publish(A, b"in"))

    result = follower.one(
        transaction(
            check_queue(A, etag(follower, A)),
            publish(B, b"out 1"),
            ack(A, (1, 1)),
            publish(B, b"out 2", b"3"),
        )
    )

    assert result == Committed((Done(), Published(1, 1), Acked(1), Published(2, 2)))
    assert follower.bodies(A) == []
    assert follower.bodies(B) == [b"out 1", b"out 2", b"3"]


class Twins:
    """Two machines with the same entries, but where one is to refuse something the other gets what it hardly looks at."""

    def __init__(self, directory: Path) -> None:
        self.asked = Follower(MemoryLog(), directory / "asked")
        self.spared = Follower(MemoryLog(), directory / "spared")

    def do(self, *commands: command_pb2.Command) -> list[Result]:
        results = self.asked.do(*commands)
        assert self.spared.do(*commands) == results
        return results

    def refused(self, command: command_pb2.Command, *others: command_pb2.Command) -> Refused:
        """What the command is refused with; it has left no trace, and `others` in the same entry did as always."""
        middle = len(others) // 2
        hopeless = transaction(*(check_queue("queues/none", "") for _ in command.transaction.commands))
        results = self.asked.do(*others[:middle], command, *others[middle:])
        spared = self.spared.do(*others[:middle], hopeless, *others[middle:])
        assert results[:middle] + results[middle + 1 :] == spared[:middle] + spared[middle + 1 :]
        assert self.asked.machine.fingerprint() == self.spared.machine.fingerprint()
        refused = results[middle]
        assert isinstance(refused, Refused)
        return refused


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    made = Twins(tmp_path)
    made.do(create(A), create(B), create(C, max_messages=1), publish(A, b"in"), publish(C, b"fills it"))
    return made


def test_a_refused_operation_undoes_all_and_is_named(twins: Twins) -> None:
    refused = twins.refused(transaction(publish(B, b"out"), ack(A, (1, 1)), publish(C, b"too much")))

    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert refused.metadata["operation"] == "2"
    assert refused.metadata["queue"] == C
    assert [twins.asked.bodies(name) for name in (A, B)] == [[b"in"], []]


def test_a_precondition_refuses_before_anything_is_done(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setitem(handlers.HANDLERS, "publish", lambda *asked: done.append(asked))

    refused = twins.refused(transaction(publish(B, b"out"), check_queue(A, "old")))

    assert (refused.code, refused.reason, refused.metadata["operation"]) == (
        Code.ABORTED,
        "ETAG_MISMATCH",
        "1",
    )
    assert done == []


def test_what_is_refused_by_leases_undoes_nothing(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "_repeat", lambda machine: pytest.fail("it was known before"))
    settled = command_pb2.SettleTasks(leases=[command_pb2.SettledLease(number=1, lease_id=1)])
    complete = command_pb2.Command(settle_tasks=settled)
    gone = ack(A, (2, 2))

    for parts in (
        (complete, publish(B, b"x")),
        (publish(B, b"x"), complete),
        (gone,),
        (publish(B, b"x"), gone),
    ):
        refused = twins.refused(transaction(*parts))
        assert (refused.reason, refused.metadata["operation"]) == (
            "LEASE_LOST",
            str(next(at for at, part in enumerate(parts) if not part.HasField("publish"))),
        )


def test_a_lock_must_be_held_by_the_token(twins: Twins) -> None:
    (claimed,) = twins.do(acquire("locks/l"))
    assert isinstance(claimed, Claimed)
    token = next(iter(twins.asked.machine.lock("locks/l").holders))

    (result,) = twins.do(transaction(publish(B, b"x"), check_lock("locks/l", token)))
    refused = twins.refused(transaction(publish(B, b"y"), check_lock("locks/l", token + 1)))

    assert result == Committed((Published(1, 1), Done()))
    assert (refused.reason, refused.metadata["operation"]) == ("LOCK_NOT_HELD", "1")


@pytest.mark.parametrize(
    "other",
    [
        create("queues/d"),
        purge(A),
        transaction(),
        command_pb2.Command(advance_tasks=command_pb2.AdvanceTasks(limit=1)),
    ],
)
def test_other_commands_are_refused_in_a_transaction(twins: Twins, other: command_pb2.Command) -> None:
    refused = twins.refused(transaction(publish(B, b"out"), other))

    assert (refused.code, refused.metadata) == (Code.INVALID_ARGUMENT, {"operation": "1"})


def test_what_stands_beside_an_undone_transaction_is_done(twins: Twins) -> None:
    diary = Diary()
    twins.asked.machine.listeners.append(diary)
    full = transaction(publish(B, b"never"), publish(C, b"too much"))

    twins.refused(full, publish(B, b"before"), publish(B, b"after", request_id="r"))

    assert twins.asked.bodies(B) == [b"before", b"after"]
    assert diary.told == [("published", 1), ("published", 2)], "nobody hears of what was undone"


def test_a_mistake_of_ours_undoes_its_transaction_only(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish_badly(tables: Tables, at: Position, command: command_pb2.Publish) -> Result:
        result = publishing.publish(tables, at, command)
        if b"poison" in command.chunk:
            raise ZeroDivisionError
        return result

    monkeypatch.setitem(handlers.HANDLERS, "publish", publish_badly)
    faults: list[tuple[int, int, Exception]] = []
    twins.asked.machine.on_fault = lambda *fault: faults.append(fault)

    refused = twins.refused(transaction(publish(B, b"x"), publish(B, b"poison")), publish(A, b"y"))

    assert refused.reason == "INTERNAL"
    assert [type(error) for _, _, error in faults] == [ZeroDivisionError]


def test_a_repeated_transaction_is_answered_as_the_first_time(follower: Follower) -> None:
    asked = transaction(publish(A, b"x"), publish(B, b"y"), request_id="r")

    first, again = follower.do(asked, asked)

    assert first == Committed((Published(1, 1), Published(1, 1)))
    assert isinstance(again, Committed)
    assert again.duplicate
    assert again.results == (Published(1, 1, duplicate=True), Published(1, 1, duplicate=True))
    assert follower.bodies(A) == [b"x"]


def test_a_refused_transaction_may_be_tried_again_with_its_request_id(twins: Twins) -> None:
    asked = transaction(publish(B, b"x"), publish(C, b"y"), request_id="r")
    twins.refused(asked)

    (acked, result) = twins.do(ack(C, (1, 1)), asked)

    assert acked == Acked(1)
    assert result == Committed((Published(1, 1), Published(2, 1)))


def test_results_of_a_transaction_survive_encoding() -> None:
    results = (Done(), Published(3, 4), Acked(0), Submitted((("tasks/a", 1), ("tasks/b", 3))), Settlement())

    decoded = decode(encode(Committed(results)))

    assert isinstance(decoded, Committed)
    assert decoded.results == (Done(), Published(3, 4, duplicate=True), *results[2:])
    assert decoded.duplicate


def test_bodies_of_a_transaction_are_found_in_the_log_and_moved_out_of_it(follower: Follower) -> None:
    follower.do(
        publish(A, b"a1"),
        transaction(ack(A, (1, 1)), publish(B, b"b1", b"b2"), publish(A, b"a2")),
        publish(A, b"a3"),
        transaction(publish(B, b"b3")),
        publish(B, b"b4"),
    )
    held = {A: [b"a2", b"a3"], B: [b"b1", b"b2", b"b3", b"b4"]}
    follower.restart()  # nothing is remembered
    assert {name: follower.bodies(name) for name in held} == held

    for _ in range(20):
        follower.do(publish(C, b"later"), purge(C))
    assert follower.reclaim(entries_each=4, log_bytes_max=0) > 3
    follower.restart()

    assert {name: follower.bodies(name) for name in held} == held


def test_a_snapshot_holds_the_bodies_of_transactions(follower: Follower, tmp_path: Path) -> None:
    follower.do(publish(A, b"a"), transaction(publish(B, b"b1"), publish(A, b"a2")), publish(A, b"a3"))
    follower.machine.commit_now()
    meta = follower.machine.snapshot(tmp_path / "snapshot")
    copy = Follower(MemoryLog(), tmp_path / "copy")
    copy.machine.install(tmp_path / "snapshot", meta)

    assert copy.bodies(A) == [b"a", b"a2", b"a3"]
    assert copy.bodies(B) == [b"b1"]
    assert copy.machine.fingerprint() == follower.machine.fingerprint()


def test_an_unknown_part_of_a_transaction_stops_the_node(follower: Follower) -> None:
    before = follower.machine.fingerprint()
    unknown = transaction(publish(A, b"x"), command_pb2.Command())
    payload = command_pb2.Batch(commands=[unknown]).SerializeToString()

    with pytest.raises(UnknownCommandError):
        follower.machine.apply(follower.log.last + 1, TERM, payload)

    assert follower.machine.fingerprint() == before
