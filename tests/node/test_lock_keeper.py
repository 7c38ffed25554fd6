"""When the leader ends what anyone has of a lock: leases, places of those who do not come back, lock delays."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import CommitUnknown
from node.locks.keeper import AGAIN_MS, Keeper
from node.state.lock_rows import HELD, LOST, WAITING, ClaimRow
from taskraft.internal.v1 import command_pb2
from tests.node.lock_log import CALL_GONE, GIVEN_UP, NAME, Locks, acquire, release, share
from tests.sim.state_log import ManualClock


class Desk:
    """A keeper on a state, with a log that does what it is told when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.locks = Locks(directory)
        self.clock = ManualClock(1_000)
        self.proposed: list[tuple[Command, Answer]] = []
        self.keeper = self.lead()

    def lead(self) -> Keeper:
        """A new leader, which has heard of nobody."""
        machine = self.locks.follower.machine
        clock = Clock(self.clock.now_ms, self.clock.now_ms)
        self.keeper = Keeper(machine, clock=clock, touch=lambda: None, wake=lambda: None)
        machine.listeners[1:] = [self.keeper]
        self.keeper.lead(1)
        self.keeper.pump()
        return self.keeper

    def wait(self, length_ms: int) -> list[tuple[int, int]]:
        """Time passes; (claim, ending) of what is proposed then."""
        self.clock.ms += length_ms
        self.keeper.pump()
        self.proposed += self.keeper.commands()
        return [
            (ended.number, ended.ending)
            for command, _ in self.proposed
            for ended in _decoded(command).end_lock_claims.claims
        ]

    def commit(self) -> None:
        proposed, self.proposed = self.proposed, []
        for command, answer in proposed:
            self.locks.one(_decoded(command))
            answer(None)

    def fail(self) -> None:
        proposed, self.proposed = self.proposed, []
        for _, answer in proposed:
            answer(CommitUnknown())

    def state(self, claim: ClaimRow) -> int:
        found = self.locks.follower.machine.lock(claim.lock).claims.get(claim.number)
        return found.state if found else 0


def _decoded(command: Command) -> command_pb2.Command:
    return command_pb2.Command.FromString(b"".join(command.parts))


EXPIRED, DELAY_OVER = command_pb2.LOCK_ENDING_EXPIRED, command_pb2.LOCK_ENDING_DELAY_OVER


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state")


def test_a_holder_that_is_silent_for_its_ttl_is_ended_then_and_not_before(desk: Desk) -> None:
    claim = desk.locks.ask(acquire("a", ttl_ms=5_000))

    assert desk.wait(4_999) == []
    assert desk.wait(1) == [(claim.number, EXPIRED)]
    desk.commit()
    assert desk.state(claim) == 0


def test_a_keepalive_gives_a_holder_its_ttl_from_its_arrival(desk: Desk) -> None:
    claim = desk.locks.ask(acquire("a", ttl_ms=5_000))
    desk.wait(4_000)

    assert desk.keeper.keep(NAME, claim.token, desk.clock.ms) == claim
    assert desk.keeper.left_ms(claim) == 5_000
    assert desk.wait(4_999) == []
    assert desk.wait(1) == [(claim.number, EXPIRED)]


def test_what_ends_is_not_kept_alive(desk: Desk) -> None:
    claim = desk.locks.ask(acquire("a", ttl_ms=5_000))
    desk.wait(5_000)

    assert desk.keeper.keep(NAME, claim.token, desk.clock.ms) is None
    desk.commit()
    assert desk.keeper.keep(NAME, claim.token, desk.clock.ms) is None


def test_an_end_that_was_not_carried_out_is_tried_again(desk: Desk) -> None:
    claim = desk.locks.ask(acquire("a", ttl_ms=5_000))
    desk.wait(5_000)
    desk.fail()

    assert desk.wait(AGAIN_MS - 1) == []
    assert desk.wait(1) == [(claim.number, EXPIRED)]


def test_a_new_leader_gives_everyone_all_their_time(desk: Desk) -> None:
    held = desk.locks.ask(acquire("a", ttl_ms=5_000))
    waits = desk.locks.ask(acquire("b", ttl_ms=8_000))
    lost = desk.locks.ask(acquire("c", name="locks/m", ttl_ms=1_000, lock_delay_ms=9_000))
    desk.wait(1_000)
    desk.commit()
    assert desk.state(lost) == LOST
    desk.keeper.attend(NAME, waits.number)
    desk.wait(3_500)

    desk.lead()

    assert desk.wait(4_999) == []
    assert desk.wait(1) == [(held.number, EXPIRED)]
    desk.proposed.clear()
    assert desk.wait(3_000) == [(waits.number, CALL_GONE)]
    desk.proposed.clear()
    assert desk.wait(1_000) == [(lost.number, DELAY_OVER)]


def test_a_call_that_waits_keeps_its_place_for_as_long_as_it_waits(desk: Desk) -> None:
    desk.locks.ask(acquire("a", ttl_ms=3_600_000))
    waits = desk.locks.ask(acquire("b", ttl_ms=5_000))
    attended = desk.keeper.attend(NAME, waits.number)

    assert attended is not None
    assert attended.state == WAITING
    assert desk.wait(60_000) == []


def test_a_granted_claim_has_its_ttl_from_the_grant(desk: Desk) -> None:
    first = desk.locks.ask(acquire("a", ttl_ms=3_600_000))
    waits = desk.locks.ask(acquire("b", ttl_ms=5_000))
    desk.keeper.attend(NAME, waits.number)
    desk.wait(60_000)
    desk.locks.one(release(first.token))

    assert desk.wait(4_999) == []
    assert desk.wait(1) == [(waits.number, EXPIRED)]


def test_whoever_gave_up_and_was_granted_meanwhile_has_the_lock(desk: Desk) -> None:
    first = desk.locks.ask(acquire("a"))
    waits = desk.locks.ask(acquire("b"))
    desk.keeper.end(NAME, waits.number, GIVEN_UP)
    assert desk.wait(0) == [(waits.number, GIVEN_UP)]
    desk.locks.one(release(first.token))
    assert not desk.keeper.is_ending(waits.number)

    desk.commit()

    assert desk.state(waits) == HELD
    assert desk.wait(9_999) == []


def test_whoever_went_away_and_was_granted_meanwhile_gives_the_lock_back(desk: Desk) -> None:
    first = desk.locks.ask(acquire("a"))
    waits = desk.locks.ask(acquire("b"))
    desk.keeper.end(NAME, waits.number, CALL_GONE)
    desk.wait(0)
    desk.locks.one(release(first.token))
    assert desk.keeper.is_ending(waits.number)

    desk.commit()

    assert desk.state(waits) == 0


def test_what_a_command_leaves_over_is_proposed_again_as_it_was(desk: Desk) -> None:
    names = [f"locks/{place}" for place in range(3)]
    writers = [desk.locks.ask(acquire("w", name=name)) for name in names]
    for name in names:
        desk.locks.do(*(share(f"r{place}", name=name, ttl_ms=3_600_000) for place in range(2_000)))
    assert len(desk.wait(10_000)) == 3

    desk.commit()

    left = [writer for writer in writers if desk.state(writer) == HELD]
    assert len(left) == 2
    assert desk.wait(0) == [(writer.number, EXPIRED) for writer in left]


def test_locks_that_come_and_go_leave_nothing_behind(desk: Desk) -> None:
    for _ in range(1_000):
        desk.locks.one(release(desk.locks.ask(acquire("a")).token))

    assert not desk.keeper._watched
    assert len(desk.keeper._heap) <= 66
