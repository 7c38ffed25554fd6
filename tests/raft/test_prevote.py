"""Who may stand for election: a majority of today's voters was asked, and said yes to this term."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.frames import PreVote
from raft.prevote import PreVoteRound, may_grant, up_to_date

VOTERS = ("n1", "n2", "n3", "n4", "n5")
PATIENCE_S = 1.0


def asking(next_term: int = 7, now: float = 0.0) -> PreVoteRound:
    """n1 has asked."""
    round_ = PreVoteRound()
    round_.ask(me="n1", next_term=next_term, now=now, patience_s=PATIENCE_S)
    return round_


def grant(round_: PreVoteRound, *voters: str) -> None:
    for voter in voters:
        round_.grant(voter, round_.number)


def test_a_round_is_won_by_a_majority_the_asker_included() -> None:
    round_ = asking()

    grant(round_, "n2")
    assert not round_.won(VOTERS, 7)
    grant(round_, "n3")
    assert round_.won(VOTERS, 7)


def test_an_answer_counts_once_however_often_it_comes() -> None:
    round_ = asking()

    grant(round_, "n2", "n2", "n2")

    assert not round_.won(VOTERS, 7)


def test_only_voters_of_today_count_and_so_does_the_asker() -> None:
    round_ = asking()

    grant(round_, "n2", "n8", "n9")

    assert not round_.won(VOTERS, 7)
    assert round_.won(("n1", "n2", "n3"), 7)
    assert not round_.won(("n2", "n3", "n4"), 7)


def test_a_round_allows_one_term_and_no_other() -> None:
    round_ = asking(next_term=7)

    grant(round_, "n2", "n3")

    assert not round_.won(VOTERS, 8)
    assert not round_.won(VOTERS, 6)


def test_an_answer_to_another_round_does_not_count() -> None:
    round_ = asking()

    round_.grant("n2", round_.number - 1)
    round_.grant("n3", round_.number + 1)

    assert not round_.won(VOTERS, 7)


def test_asking_again_soon_keeps_the_answers() -> None:
    round_ = asking(now=0.0)
    grant(round_, "n2")

    round_.ask(me="n1", next_term=7, now=0.9, patience_s=PATIENCE_S)
    grant(round_, "n3")

    assert round_.won(VOTERS, 7)


@pytest.mark.parametrize(("next_term", "now"), [(8, 0.1), (7, 1.1)], ids=["another term", "too late"])
def test_asking_for_another_term_or_late_begins_anew(next_term: int, now: float) -> None:
    round_ = asking(next_term=7, now=0.0)
    grant(round_, "n2", "n3")

    round_.ask(me="n1", next_term=next_term, now=now, patience_s=PATIENCE_S)

    assert not round_.won(VOTERS, next_term)


def test_a_round_is_used_once_and_late_answers_do_not_revive_it() -> None:
    round_ = asking()
    grant(round_, "n2", "n3")

    round_.end()
    grant(round_, "n2", "n3", "n4", "n5")

    assert not round_.won(VOTERS, 7)


def test_after_a_round_was_used_the_next_one_can_be_won_by_its_own_answers_only() -> None:
    round_ = asking()
    grant(round_, "n2", "n3")
    used = round_.number
    round_.end()

    round_.ask(me="n1", next_term=7, now=0.1, patience_s=PATIENCE_S)
    for voter in VOTERS:
        round_.grant(voter, used)
    assert not round_.won(VOTERS, 7)
    grant(round_, "n2", "n3")

    assert round_.won(VOTERS, 7)


def test_nobody_has_won_before_asking() -> None:
    round_ = PreVoteRound()
    grant(round_, *VOTERS)

    assert not round_.won(VOTERS, 0)


@pytest.mark.parametrize(
    ("candidate", "newer"),
    [((10, 3), True), ((11, 3), True), ((2, 4), True), ((9, 3), False), ((99, 2), False)],
)
def test_the_newer_log_is_the_one_with_the_newer_last_term_then_the_longer_one(
    candidate: tuple[int, int], newer: bool
) -> None:
    assert up_to_date((10, 3), *candidate) is newer


@given(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_of_two_logs_at_least_one_is_up_to_date_for_the_other(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert up_to_date(one, *other) or up_to_date(other, *one)


def granted(
    *,
    next_term: int = 6,
    last: tuple[int, int] = (10, 3),
    voter: bool = True,
    leads: bool = False,
    alive: bool = False,
) -> bool:
    """The answer of a node in term 5 with `last` to a candidate that holds (10, 3)."""
    question = PreVote(term=5, round=1, next_term=next_term, last_index=10, last_term=3)
    return may_grant(question, own_term=5, last=last, voter=voter, leads=leads, leader_alive=alive)


def test_a_voter_without_a_leader_grants_a_newer_term_to_an_equal_log() -> None:
    assert granted()


def test_nobody_is_granted_a_term_that_has_begun() -> None:
    assert not granted(next_term=5)


def test_nobody_is_granted_who_lacks_what_is_held_here() -> None:
    assert not granted(last=(11, 3))
    assert not granted(last=(5, 4))


@pytest.mark.parametrize("why_not", [{"voter": False}, {"leads": True}, {"alive": True}])
def test_learners_leaders_and_followers_of_a_leader_that_is_alive_grant_nothing(
    why_not: dict[str, bool],
) -> None:
    assert not granted(**why_not)  # type: ignore[arg-type]
