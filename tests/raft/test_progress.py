"""A follower as its leader sees it, and what a majority has answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raft.progress import Progress, majority, quorum_round


def test_one_append_is_in_flight_until_it_is_answered() -> None:
    progress = Progress(next=5)
    progress.sent(3, now=1.0)

    with pytest.raises(AssertionError):
        progress.sent(4, now=1.1)
    progress.answered(3)
    progress.sent(4, now=1.2)

    assert (progress.inflight, progress.inflight_since) == (4, 1.2)


@pytest.mark.parametrize("round_", [2, 4], ids=["an older round", "a heartbeat that overtook it"])
def test_another_answer_does_not_speak_for_what_is_in_flight(round_: int) -> None:
    progress = Progress(next=5)
    progress.sent(3, now=1.0)

    progress.answered(round_)

    assert progress.inflight == 3


def test_the_newest_round_answered_never_falls() -> None:
    progress = Progress(next=5)

    for round_ in (4, 2, 3):
        progress.answered(round_)

    assert progress.round_seen == 4


def test_an_acknowledgement_moves_on_and_a_late_one_does_not_move_back() -> None:
    progress = Progress(next=5)

    progress.matched(9)
    progress.matched(7)

    assert (progress.acked, progress.next) == (9, 10)


def test_an_acknowledgement_does_not_take_back_what_was_sent_since() -> None:
    progress = Progress(next=20)

    progress.matched(9)

    assert progress.next == 20


@pytest.mark.parametrize(("retry_from", "next_"), [(3, 4), (8, 9), (50, 9), (0, 1)])
def test_a_rejection_goes_back_at_least_by_one_and_never_below_the_first_entry(
    retry_from: int, next_: int
) -> None:
    progress = Progress(next=10)
    progress.sent(1, now=1.0)

    progress.rejected(retry_from)

    assert (progress.next, progress.inflight) == (next_, None)


def test_after_a_broken_connection_what_is_known_to_be_there_is_not_sent_again() -> None:
    known, unknown = Progress(next=20, acked=9), Progress(next=20)
    for progress in (known, unknown):
        progress.sent(1, now=1.0)

        progress.reconnected(last=30)

    assert (known.next, known.inflight) == (10, None)
    assert (unknown.next, unknown.inflight) == (31, None)


class AnyOrder(RuleBasedStateMachine):
    """Whatever is heard in whatever order, the next entry to send is one that is not known to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress(next=31)
        self.round = 0

    @precondition(lambda self: self.progress.inflight is None)
    @rule()
    def send(self) -> None:
        self.round += 1
        self.progress.sent(self.round, now=0.0)

    @rule(round_=st.integers(1, 20))
    def answer(self, round_: int) -> None:
        self.progress.answered(min(round_, self.round))

    @rule(index=st.integers(1, 30))
    def match(self, index: int) -> None:
        self.progress.matched(index)

    @rule(index=st.integers(0, 40))
    def reject(self, index: int) -> None:
        self.progress.rejected(index)

    @rule()
    def reconnect(self) -> None:
        self.progress.reconnected(last=30)

    @invariant()
    def next_is_behind_what_is_acknowledged(self) -> None:
        assert 0 <= self.progress.acked < self.progress.next


TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize(("count", "least"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (15, 8)])
def test_a_majority_is_more_than_half(count: int, least: int) -> None:
    assert majority(count) == least


def rounds(**seen: int) -> dict[str, Progress]:
    return {name: Progress(next=2, round_seen=round_) for name, round_ in seen.items()}


@pytest.mark.parametrize(
    ("voters", "confirmed"),
    [
        (("me",), 9),
        (("me", "a"), 5),
        (("me", "a", "b"), 5),
        (("me", "a", "b", "c", "d"), 3),
        (("a", "b", "c"), 3),
        (("me", "x"), 0),
        ((), 0),
    ],
)
def test_a_round_is_confirmed_by_a_majority_of_the_voters(voters: tuple[str, ...], confirmed: int) -> None:
    assert quorum_round("me", voters, rounds(a=5, b=3, c=2, d=1, learner=8), own_round=9) == confirmed


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9), min_size=1), st.integers(0, 9))
def test_a_majority_and_no_more_than_need_be_has_answered_the_confirmed_round(
    seen: dict[str, int], own_round: int
) -> None:
    answered = [*seen.values(), own_round]

    confirmed = quorum_round("me", ["me", *seen], rounds(**seen), own_round)

    assert sum(round_ >= confirmed for round_ in answered) >= majority(len(answered))
    assert sum(round_ > confirmed for round_ in answered) < majority(len(answered))
