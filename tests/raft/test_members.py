"""Lists of members in the log: what is read is what was written, and what is cut takes its change along."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.members import (
    MEMBERS_MAX,
    NAME_BYTES_MAX,
    Membership,
    decode_members,
    encode_members,
    with_voter,
)
from raft.types import Member

A, B, C = (Member(name, f"{name}:1") for name in "abc")
names = st.text(min_size=1, max_size=NAME_BYTES_MAX // 4)


@given(
    st.lists(
        st.builds(Member, names, st.text(max_size=NAME_BYTES_MAX // 4), st.booleans()),
        min_size=1,
        max_size=MEMBERS_MAX,
        unique_by=lambda member: member.id,
    )
)
def test_a_list_comes_back_from_its_entry(members: list[Member]) -> None:
    assert decode_members(encode_members(members)) == tuple(members)


def test_names_and_addresses_may_be_as_long_as_the_limit() -> None:
    member = Member("n" * NAME_BYTES_MAX, "a" * NAME_BYTES_MAX)

    assert decode_members(encode_members([member])) == (member,)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [],
        [[f"n{i}", "", True] for i in range(MEMBERS_MAX + 1)],
        ["n1"],
        [["n1", "n1:1"]],
        [["n1", "n1:1", 1]],
        [[1, "n1:1", True]],
        [["n1", None, True]],
        [["", "n1:1", True]],
        [["n" * (NAME_BYTES_MAX + 1), "", True]],
        [["n1", "a" * (NAME_BYTES_MAX + 1), True]],
        [["n1", "n1:1", True], ["n1", "n1:2", False]],
    ],
)
def test_what_is_not_a_list_of_members_is_refused(rows: object) -> None:
    with pytest.raises(ValueError, match="member"):
        decode_members(json.dumps(rows).encode())


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_raise_a_value_error(payload: bytes) -> None:
    try:
        members = decode_members(payload)
    except ValueError:
        return
    assert decode_members(encode_members(members)) == members


def test_the_newest_list_counts_from_where_it_stands_committed_or_not() -> None:
    membership = Membership(1, (A, B))
    learner = Member("c", "c:1", voter=False)

    membership.appended(5, (A, B, learner))

    assert membership.current == (A, B, learner)
    assert membership.index == 5
    assert membership.voters == ("a", "b")
    assert membership.find("c") == learner
    assert membership.find("d") is None


def test_an_entry_that_is_cut_takes_its_change_along() -> None:
    membership = Membership(1, (A,))
    membership.appended(5, (A, B))
    membership.appended(9, (A, B, C))

    assert not membership.truncated(10)
    assert membership.truncated(9)
    assert membership.current == (A, B)
    assert membership.truncated(2)
    assert membership.voters == ("a",)


def test_the_first_list_is_never_cut() -> None:
    membership = Membership(4, (A,))

    assert not membership.truncated(1)
    assert membership.current == (A,)


@pytest.mark.parametrize("index", [5, 8])
def test_what_is_committed_is_the_first_list_from_then_on(index: int) -> None:
    membership = Membership(1, (A,))
    membership.committed(1)
    membership.appended(5, (A, B))
    membership.appended(9, (A, B, C))

    membership.committed(index)

    assert membership.truncated(2)
    assert (membership.index, membership.current) == (5, (A, B))


def test_a_list_never_stands_before_the_one_it_changes() -> None:
    membership = Membership(5, (A,))

    with pytest.raises(AssertionError):
        membership.appended(5, (A, B))


@pytest.mark.parametrize("voter", [True, False])
def test_a_vote_is_given_or_taken_and_nothing_else_changes(voter: bool) -> None:
    members = (A, Member("b", "b:1", voter=not voter), C)

    assert with_voter(members, "b", voter=voter) == (A, Member("b", "b:1", voter=voter), C)


@given(st.sets(st.sampled_from("abcdefg"), min_size=1), st.sampled_from("abcdefg"))
def test_majorities_of_lists_that_differ_by_one_voter_share_a_node(voters: set[str], other: str) -> None:
    changed = voters ^ {other}
    least = len(voters) // 2 + 1 + len(changed) // 2 + 1

    assert not changed or least > len(voters | changed)
