"""What commands do to locks: who gets one, in which order, with which token."""

from pathlib import Path

import pytest

from node import limits
from node.state.lock_rows import ENDED, HELD, LOST, WAITING
from node.state.lock_transitions import check_lock
from node.state.results import Claimed, Code, Done, Refused
from taskraft.internal.v1 import command_pb2
from tests.node.lock_log import (
    CALL_GONE,
    DELAY_OVER,
    EXPIRED,
    GIVEN_UP,
    NAME,
    Locks,
    acquire,
    end,
    permit,
    release,
    share,
)


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(tmp_path / "state")


def test_a_free_lock_is_granted_at_once(locks: Locks) -> None:
    claim = locks.ask(acquire("a", ttl_ms=5_000))

    assert (claim.state, claim.holder_id, claim.ttl_ms) == (HELD, "a", 5_000)
    assert claim.token > 0


def test_a_lock_that_is_held_has_a_line_that_is_served_in_its_order(locks: Locks) -> None:
    token = locks.ask(acquire("a")).token
    for who in "bcd":
        assert locks.ask(acquire(who)).state == WAITING
    seen = []
    for _ in range(4):
        seen += locks.holders()
        locks.one(release(token))
        token = next((claim.token for claim in locks.claims(HELD)), 0)

    assert seen == ["a", "b", "c", "d"]


def test_every_grant_of_every_lock_has_a_greater_token_than_all_before(locks: Locks) -> None:
    locks.do(acquire("a"), acquire("b", name="locks/m"), share("c", name="locks/n"))
    locks.do(*(share(f"r{place}") for place in range(50)))
    locks.one(release(locks.claims(HELD)[0].token))
    locks.ask(acquire("z", name="locks/z"))

    tokens = [claim.token for claim in locks.heard.changes if claim.state == HELD]
    assert len(tokens) == 54
    assert tokens == sorted(set(tokens))


def test_readers_share_a_lock_and_exclude_a_writer(locks: Locks) -> None:
    locks.do(share("r1"), share("r2"), acquire("w"))

    assert locks.holders() == ["r1", "r2"]
    assert locks.line() == ["w"]


def test_a_reader_behind_a_waiting_writer_waits(locks: Locks) -> None:
    first = locks.ask(share("r1"))
    locks.do(acquire("w"), share("r2"))

    assert locks.holders() == ["r1"]
    assert locks.line() == ["w", "r2"]
    locks.one(release(first.token))
    assert locks.holders() == ["w"]


def test_readers_in_line_get_the_lock_together_up_to_the_next_writer(locks: Locks) -> None:
    writer = locks.ask(acquire("w1"))
    locks.do(share("r1"), share("r2"), acquire("w2"), share("r3"))

    locks.one(release(writer.token))

    assert locks.holders() == ["r1", "r2"]
    assert locks.line() == ["w2", "r3"]


def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(locks: Locks) -> None:
    locks.ask(share("r1"))
    writer = locks.ask(acquire("w"))
    locks.ask(share("r2"))

    locks.one(end(GIVEN_UP, writer))

    assert locks.holders() == ["r1", "r2"]


def test_a_semaphore_has_as_many_holders_as_permits(locks: Locks) -> None:
    first = locks.ask(permit("a"))
    locks.do(permit("b"), permit("c"), permit("d"))
    assert locks.holders() == ["a", "b"]

    locks.one(release(first.token))

    assert locks.holders() == ["b", "c"]
    assert locks.line() == ["d"]


@pytest.mark.parametrize("other", [permit("x", permits=3), acquire("x"), share("x")])
def test_a_semaphore_that_is_in_use_is_nothing_else(locks: Locks, other: command_pb2.Command) -> None:
    locks.ask(permit("a", permits=2))

    refused = locks.refused(other)

    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "LOCK_MISMATCH")
    assert refused.metadata == {"lock": NAME, "permits": "2"}


def test_a_lock_that_is_idle_again_may_become_something_else(locks: Locks) -> None:
    locks.one(release(locks.ask(permit("a", permits=2)).token))

    assert locks.ask(acquire("b")).state == HELD


def test_who_asks_at_once_is_told_who_has_it(locks: Locks) -> None:
    token = locks.ask(acquire("a", labels={"job": "import"})).token

    refused = locks.refused(acquire("b", at_once=True))

    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "LOCK_HELD")
    assert refused.metadata["holder_id"] == "a"
    assert refused.metadata["token"] == str(token)
    assert refused.metadata["labels.job"] == "import"
    assert locks.line() == []


def test_who_asks_at_once_does_not_overtake_those_who_wait(locks: Locks) -> None:
    locks.ask(share("r1"))
    locks.ask(acquire("w"))

    assert locks.refused(share("r2", at_once=True)).reason == "LOCK_HELD"


def test_an_idle_lock_costs_nothing(locks: Locks) -> None:
    locks.one(release(locks.ask(acquire("a")).token))

    assert list(locks.follower.machine.locks()) == []
    assert locks.follower.machine.lock_claims() == []


def test_only_the_token_that_holds_a_lock_releases_it(locks: Locks) -> None:
    first = locks.ask(acquire("a"))
    locks.ask(acquire("b"))
    locks.one(release(first.token))

    refused = locks.refused(release(first.token))

    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "LOCK_NOT_HELD")
    assert refused.metadata == {"lock": NAME, "token": str(first.token)}
    assert locks.holders() == ["b"]


def test_a_request_that_comes_again_finds_its_claim(locks: Locks) -> None:
    locks.ask(acquire("a"))
    claim = locks.ask(acquire("b", request_id="r"))
    locks.ask(acquire("c"))

    assert locks.one(acquire("b", request_id="r")) == Claimed(claim.number)
    assert locks.line() == ["b", "c"]


def test_a_release_that_comes_again_is_done(locks: Locks) -> None:
    claim = locks.ask(acquire("a"))
    locks.one(release(claim.token, request_id="r"))

    assert locks.one(release(claim.token, request_id="r")) == Done()


def test_a_holder_that_is_lost_makes_room(locks: Locks) -> None:
    claim = locks.ask(acquire("a"))
    locks.ask(acquire("b"))

    locks.one(end(EXPIRED, claim))

    assert locks.holders() == ["b"]


def test_a_lost_holder_with_a_lock_delay_keeps_its_place_until_that_is_over(locks: Locks) -> None:
    claim = locks.ask(acquire("a", lock_delay_ms=15_000))
    locks.ask(acquire("b"))

    locks.one(end(EXPIRED, claim))
    assert (locks.holders(), locks.line()) == ([], ["b"])
    assert [lost.holder_id for lost in locks.claims(LOST)] == ["a"]
    assert locks.refused(release(claim.token)).reason == "LOCK_NOT_HELD"

    locks.one(end(DELAY_OVER, claim))
    assert locks.holders() == ["b"]


def test_a_lock_delay_is_not_for_those_who_release(locks: Locks) -> None:
    claim = locks.ask(acquire("a", lock_delay_ms=15_000))
    locks.ask(acquire("b"))

    locks.one(release(claim.token))

    assert locks.holders() == ["b"]


def test_a_lost_reader_keeps_out_writers_but_no_readers(locks: Locks) -> None:
    claim = locks.ask(share("r1", lock_delay_ms=15_000))
    locks.one(end(EXPIRED, claim))

    assert locks.ask(share("r2")).state == HELD
    assert locks.ask(acquire("w")).state == WAITING


def test_a_lost_holder_of_a_semaphore_takes_one_permit(locks: Locks) -> None:
    claim = locks.ask(permit("a", lock_delay_ms=15_000))
    locks.one(end(EXPIRED, claim))

    assert locks.ask(permit("b")).state == HELD
    assert locks.ask(permit("c")).state == WAITING


def test_who_gives_up_too_late_has_the_lock(locks: Locks) -> None:
    first = locks.ask(acquire("a"))
    claim = locks.ask(acquire("b"))

    locks.do(release(first.token), end(GIVEN_UP, claim))

    assert locks.holders() == ["b"]


def test_a_lock_that_nobody_heard_of_is_given_back(locks: Locks) -> None:
    first = locks.ask(acquire("a"))
    claim = locks.ask(acquire("b", lock_delay_ms=15_000))
    locks.ask(acquire("c"))

    locks.do(release(first.token), end(CALL_GONE, claim))

    assert locks.holders() == ["c"]


def test_what_ends_twice_ends_once(locks: Locks) -> None:
    claim = locks.ask(acquire("a", lock_delay_ms=1_000))

    locks.do(end(EXPIRED, claim), end(EXPIRED, claim), end(GIVEN_UP, claim), end(CALL_GONE, claim))

    assert [lost.holder_id for lost in locks.claims(LOST)] == ["a"]


def test_a_full_line_is_refused(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_WAITERS_MAX", 2)
    locks.do(acquire("a"), acquire("b"), acquire("c"))

    refused = locks.refused(acquire("d"))

    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "LOCK_LINE_FULL")


def test_all_who_wait_may_get_a_lock_at_once(locks: Locks) -> None:
    writer = locks.ask(acquire("w"))
    locks.do(*(share(f"r{place}") for place in range(limits.LOCK_WAITERS_MAX)))

    locks.one(release(writer.token))

    assert len(locks.holders()) == limits.LOCK_WAITERS_MAX
    assert locks.line() == []


def test_a_command_that_would_grant_too_much_leaves_the_rest_for_another(locks: Locks) -> None:
    names = [f"locks/{place}" for place in range(3)]
    writers = [locks.ask(acquire("w", name=name)) for name in names]
    for name in names:
        locks.do(*(share(f"r{place}", name=name) for place in range(2_000)))

    locks.one(end(EXPIRED, *writers))

    assert [len(locks.holders(name)) for name in names] == [2_000, 1, 1]
    locks.one(end(EXPIRED, *writers))
    assert [len(locks.holders(name)) for name in names] == [2_000, 2_000, 1]


def test_what_stands_too_far_back_in_its_entry_is_refused_and_comes_again(locks: Locks) -> None:
    claim = locks.ask(acquire("a"))
    before = [acquire("b", at_once=True)] * 4_096

    *_, asked, released, ended = locks.do(*before, acquire("c"), release(claim.token), end(EXPIRED, claim))

    assert isinstance(asked, Refused)
    assert isinstance(released, Refused)
    assert asked.reason == released.reason == "OVERLOADED"
    assert ended == Done()
    assert (locks.holders(), locks.line()) == (["a"], [])
    assert locks.one(release(claim.token)) == Done()


def test_what_becomes_of_claims_is_told(locks: Locks) -> None:
    first = locks.ask(acquire("a"))
    locks.ask(acquire("b"))
    locks.one(release(first.token))

    told = [(claim.holder_id, claim.state) for claim in locks.heard.changes]
    assert told == [("a", HELD), ("b", WAITING), ("a", ENDED), ("b", HELD)]


def test_a_lock_is_checked_by_its_token(locks: Locks) -> None:
    claim = locks.ask(acquire("a"))
    tables = locks.follower.machine._tables

    assert check_lock(tables, NAME, claim.token) is None
    refused = check_lock(tables, NAME, claim.token + 1)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "LOCK_NOT_HELD")
    assert check_lock(tables, "locks/other", claim.token) is not None


def test_locks_survive_a_restart_with_lines_and_tokens(locks: Locks) -> None:
    locks.do(share("r1"), share("r2"), acquire("w"), share("r3"), permit("s", name="locks/s"))
    lost = locks.ask(acquire("x", name="locks/x", lock_delay_ms=5_000, labels={"job": "import"}))
    locks.one(end(EXPIRED, lost))
    before = [
        list(locks.follower.machine.lock(name).claims.values()) for name in (NAME, "locks/s", "locks/x")
    ]

    locks.follower.restart()

    machine = locks.follower.machine
    after = [list(machine.lock(name).claims.values()) for name in (NAME, "locks/s", "locks/x")]
    assert after == before
    assert (locks.holders(), locks.line()) == (["r1", "r2"], ["w", "r3"])
    assert [lock.name for lock in machine.locks()] == [NAME, "locks/s", "locks/x"]
    assert [lock.name for lock in machine.locks(after_name=NAME, limit=1)] == ["locks/s"]
