"""What of a leader's Append may be believed: told case by case, and against all pairs of logs that Raft allows."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.frames import Append
from raft.guard import Accepted, Malformed, Rejected, check_append
from raft.records import Entry
from raft.segments import Log
from raft.types import COMMAND
from tests.sim.disk import SimDisk


def log_of(*terms: int, base: tuple[int, int] = (1, 0)) -> Log:
    """A log whose entries behind `base` have these terms."""
    log = Log.open(SimDisk(random.Random(0)), segment_bytes=4096)
    if base != (1, 0):
        log.reset(*base)
    for index, term in enumerate(terms, start=base[0] + 1):
        log.append(index, term, COMMAND, b"")
    return log


def append(prev: tuple[int, int], *terms: int, term: int = 9, commit: int = 0) -> Append:
    """An Append of `term` with entries of these terms behind `prev`."""
    entries = tuple(Entry(index, t, COMMAND, b"") for index, t in enumerate(terms, start=prev[0] + 1))
    return Append(term=term, round=1, prev_index=prev[0], prev_term=prev[1], commit=commit, entries=entries)


def test_new_entries_follow_the_log() -> None:
    message = append((3, 1), 2, 9, term=9, commit=4)

    verdict = check_append(log_of(1, 1), message, committed=1)

    assert verdict == Accepted((3, 1), message.entries, verified=5, commit=4)


def test_entries_that_are_held_are_not_cut_to_be_written_again() -> None:
    log = log_of(1, 1, 1, 1)

    verdict = check_append(log, append((1, 0), 1, 1), committed=1)

    assert verdict == Accepted(log.last, (), verified=3, commit=0)


def test_of_entries_that_are_partly_held_only_the_new_ones_are_taken() -> None:
    message = append((1, 0), 1, 1, 2)

    verdict = check_append(log_of(1, 1), message, committed=3)

    assert verdict == Accepted((3, 1), message.entries[2:], verified=4, commit=0)


def test_a_conflict_cuts_from_the_first_entry_that_differs() -> None:
    message = append((2, 1), 1, 3, 3)

    verdict = check_append(log_of(1, 1, 2, 2, 2), message, committed=3)

    assert verdict == Accepted((3, 1), message.entries[1:], verified=5, commit=0)


def test_a_heartbeat_vouches_for_what_it_builds_on_and_nothing_behind_it() -> None:
    log = log_of(1, 1, 1)

    verdict = check_append(log, append((3, 1), commit=4), committed=1)

    assert verdict == Accepted(log.last, (), verified=3, commit=3)


def test_a_log_that_is_too_short_says_where_it_ends() -> None:
    assert check_append(log_of(1, 1), append((9, 1), 1), committed=1) == Rejected(3)


def test_a_wrong_term_is_skipped_in_one_step() -> None:
    log = log_of(1, 2, 2, 2, 2)

    assert check_append(log, append((6, 3), 3), committed=1) == Rejected(2)


def test_the_first_entry_of_the_log_can_be_rejected_down_to_the_base() -> None:
    log = log_of(2, 2, base=(7, 1))

    assert check_append(log, append((9, 3)), committed=7) == Rejected(7)


def test_what_lies_before_the_base_is_committed_and_thus_agreed() -> None:
    message = append((4, 1), 1, 1, 1, 2, 2)

    verdict = check_append(log_of(2, base=(7, 1)), message, committed=8)

    assert verdict == Accepted((8, 2), message.entries[4:], verified=9, commit=0)


def test_an_append_that_ends_before_the_base_vouches_for_nothing_newer() -> None:
    log = log_of(2, base=(7, 1))

    verdict = check_append(log, append((4, 1), 1, commit=30), committed=8)

    assert verdict == Accepted(log.last, (), verified=5, commit=5)


@pytest.mark.parametrize(
    "message",
    [
        Append(9, 1, 1, 0, 0, (Entry(3, 1, COMMAND, b""),)),
        Append(9, 1, 1, 0, 0, (Entry(2, 1, COMMAND, b""), Entry(2, 1, COMMAND, b""))),
        append((1, 0), 2, 1),
        append((3, 4), 3),
        append((1, 0), 10),
    ],
    ids=["a gap", "twice", "terms fall", "older than what it builds on", "newer than the leader"],
)
def test_what_no_correct_leader_sends_is_refused(message: Append) -> None:
    assert isinstance(check_append(log_of(1, 1), message, committed=1), Malformed)


def test_committed_entries_are_not_overwritten_whoever_asks() -> None:
    log = log_of(1, 1, 1)

    assert isinstance(check_append(log, append((2, 1), 2), committed=3), Malformed)
    assert isinstance(check_append(log, append((3, 1), 2), committed=3), Accepted)


@dataclass(frozen=True, slots=True)
class Pair:
    """A leader's and a follower's log, as terms by index from 1 on. They agree up to `common`, at least up to what is
    committed, and nowhere behind it: that is Raft's log matching.
    """

    leader: tuple[int, ...]
    follower: tuple[int, ...]
    common: int
    committed: int
    base: int

    def log(self) -> Log:
        return log_of(*self.follower[self.base :], base=(self.base, self.follower[self.base - 1]))

    def message(self, prev: int, count: int, commit: int) -> Append:
        prev_term = 0 if prev == 0 else self.leader[prev - 1]
        return append((prev, prev_term), *self.leader[prev : prev + count], term=50, commit=commit)


def result(pair: Pair, verdict: Accepted) -> tuple[int, ...]:
    """The follower's terms afterwards."""
    return (*pair.follower[: verdict.prev[0]], *(entry.term for entry in verdict.entries))


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    rising = st.lists(st.integers(1, 5), max_size=6).map(sorted)
    common = [0, *draw(rising)]
    tails = st.lists(st.integers(0, 4), max_size=6).map(sorted)
    leader = [10 + 2 * step for step in draw(tails)]
    follower = [11 + 2 * step for step in draw(tails)]
    committed = draw(st.integers(1, len(common)))
    base = draw(st.integers(1, committed))
    return Pair((*common, *leader), (*common, *follower), len(common), committed, base)


@st.composite
def pairs_and_messages(draw: st.DrawFn) -> tuple[Pair, Append]:
    pair = draw(pairs())
    prev = draw(st.integers(0, len(pair.leader)))
    return pair, pair.message(prev, draw(st.integers(0, 8)), draw(st.integers(0, 30)))


@given(pairs_and_messages())
def test_no_entry_that_agrees_is_dropped_and_no_more_is_believed_than_is_vouched_for(
    drawn: tuple[Pair, Append],
) -> None:
    pair, message = drawn
    end = message.prev_index + len(message.entries)

    verdict = check_append(pair.log(), message, pair.committed)

    match verdict:
        case Accepted():
            after = result(pair, verdict)
            assert after[: pair.common] == pair.follower[: pair.common]
            assert verdict.verified == end
            assert after[: verdict.verified] == pair.leader[: verdict.verified]
            assert verdict.commit == min(message.commit, end)
            if not verdict.entries:
                assert after == pair.follower
            elif len(pair.follower) > verdict.prev[0]:
                assert pair.follower[verdict.prev[0]] != verdict.entries[0].term
        case Rejected():
            assert pair.base <= verdict.retry_from < message.prev_index
            assert message.prev_index > pair.common
        case Malformed():
            pytest.fail(verdict.why)


@given(pairs(), st.integers(1, 4))
def test_a_leader_that_goes_back_as_told_brings_every_follower_to_its_own_log(
    pair: Pair, at_a_time: int
) -> None:
    prev, steps = len(pair.leader), 0

    while (verdict := check_append(pair.log(), pair.message(prev, at_a_time, 0), pair.committed)) is not None:
        steps += 1
        assert steps < 40
        if isinstance(verdict, Rejected):
            prev = verdict.retry_from
            continue
        assert isinstance(verdict, Accepted)
        follower = result(pair, verdict)
        common = max(pair.common, verdict.verified)
        pair = Pair(pair.leader, follower, common, pair.committed, pair.base)
        prev = verdict.verified
        if prev == len(pair.leader):
            break

    assert pair.follower[: len(pair.leader)] == pair.leader
