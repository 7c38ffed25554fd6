"""Peers that err or lie: whatever they say, this node goes on, and keeps what it promised.

Bytes that are no message end at the connection (`test_frames.py`, `test_transport_strangers.py`); here they are messages.
"""

import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import pytest

from raft.frames import (
    Append,
    AppendReply,
    Message,
    PreVote,
    PreVoteReply,
    SnapshotPiece,
    SnapshotReply,
    SnapshotStatus,
    TimeoutNow,
    Vote,
    VoteReply,
)
from raft.records import Entry
from raft.snapshots import Incoming
from raft.types import COMMAND, MEMBERS
from tests.sim.alone import Alone

STRANGER = "n9"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    alone = Alone(tmp_path)
    yield alone
    alone.close()


@pytest.fixture
def leader(alone: Alone) -> Alone:
    alone.lead()
    return alone


@pytest.fixture
def follower(alone: Alone) -> Alone:
    """It follows n2 in term 2, with entries up to 4, of which 3 are committed."""
    alone.follow("n2", 1, 1, 2, commit=3)
    alone.wait(0.02)
    assert (alone.core.applied, alone.core.log.last) == (3, (4, 2))
    return alone


def ignore(result: object, error: Exception | None) -> None:
    """Nobody waits."""


def propose(leader: Alone, count: int) -> int:
    """So many commands, on disk here and sent to the others; the index of the last one."""
    for _ in range(count):
        leader.core.propose(b"x", ignore)
    leader.wait(0.02)
    return leader.core.log.last[0]


# Who does not count.


def test_a_stranger_elects_nobody(alone: Alone) -> None:
    alone.stand()

    for stranger in (STRANGER, "n8", "n7"):
        alone.hear(stranger, VoteReply(alone.core.engine.term))

    assert alone.core.leading is None


def test_a_stranger_allows_nobody_to_stand(alone: Alone) -> None:
    while not alone.said(PreVote):
        alone.wait(0.02)
    question = alone.said(PreVote)[-1]

    for stranger in (STRANGER, "n8", "n7"):
        alone.hear(stranger, PreVoteReply(question.term, question.round, granted=True))
    alone.wait(0.02)

    assert alone.said(Vote) == []


def test_a_stranger_commits_nothing(leader: Alone) -> None:
    committed = leader.core.commit
    last = propose(leader, 3)

    leader.hear(STRANGER, AppendReply(leader.core.engine.term, 10**6, success=True, index=last))

    assert leader.core.commit == committed


def test_only_the_leader_can_ask_for_an_election(follower: Alone) -> None:
    for peer in ("n3", STRANGER):
        follower.hear(peer, TimeoutNow(follower.core.engine.term))
    assert follower.said(Vote) == []

    follower.hear("n2", TimeoutNow(follower.core.engine.term))

    assert {vote.transfer for vote in follower.said(Vote)} == {True}


# Answers that nobody could give.


def test_an_acknowledgement_of_what_was_never_sent_is_not_believed(leader: Alone) -> None:
    committed = leader.core.commit
    last = propose(leader, 3)

    for peer in leader.peers:
        leader.hear(peer, AppendReply(leader.core.engine.term, 10**6, success=True, index=last + 1))
    assert leader.core.commit == committed
    leader.acknowledge()

    assert leader.core.commit == last


def test_an_append_of_an_old_term_is_answered_without_its_round(follower: Alone) -> None:
    """A leader that came back in a newer term would take that round for one of its own, and confirm reads by it."""
    follower.hear("n3", Append(term=1, round=500, prev_index=1, prev_term=0, commit=1, entries=()))

    assert follower.said(AppendReply, "n3") == [AppendReply(term=2, round=0, success=False, index=4)]


def test_a_rejection_of_everything_makes_the_leader_start_from_the_first_entry(leader: Alone) -> None:
    propose(leader, 3)
    for _ in range(5):
        sent = leader.said(Append, "n3")[-1]
        leader.hear("n3", AppendReply(sent.term, sent.round, success=False, index=1))

    assert leader.said(Append, "n3")[-1].prev_index == leader.core.log.base[0]


@pytest.mark.parametrize("status", ["more", "installed", "refused"])
def test_an_answer_about_a_snapshot_that_was_never_sent_is_ignored(
    leader: Alone, status: SnapshotStatus
) -> None:
    committed = leader.core.commit
    last = propose(leader, 3)

    leader.hear("n2", SnapshotReply(leader.core.engine.term, "n1-1-9", last, status))

    assert leader.core.commit == committed


# What no leader may ask.


@pytest.mark.parametrize(
    "entry",
    [Entry(5, 2, 3, b""), Entry(5, 2, 254, b""), Entry(5, 2, MEMBERS, b"[]"), Entry(5, 2, MEMBERS, b"\xff")],
    ids=["kind 3", "kind 254", "nobody is a member", "no list of members"],
)
def test_an_entry_that_cannot_be_applied_does_not_get_into_the_log(follower: Alone, entry: Entry) -> None:
    follower.hear("n2", Append(2, 9, 4, 2, 5, (entry,)))
    follower.wait(0.02)

    assert follower.core.log.last == (4, 2)


def test_committed_entries_stay_whoever_leads(follower: Alone) -> None:
    before = follower.core.log.entry(3)

    follower.hear("n3", Append(9, 1, 2, 1, 3, (Entry(3, 9, COMMAND, b"other"),)))

    assert follower.core.log.entry(3) == before
    assert follower.said(AppendReply, "n3") == []


def test_a_leader_hears_no_other_leader_of_its_term(leader: Alone) -> None:
    term, last = leader.core.engine.term, leader.core.log.last

    leader.hear("n2", Append(term, 1, *last, last[0] + 1, (Entry(last[0] + 1, term, COMMAND, b"other"),)))

    assert leader.core.leading is not None
    assert leader.core.log.last == last


def piece(data: bytes, **changes: int | bool) -> SnapshotPiece:
    fields = {"offset": 0, "total_bytes": len(data), "crc": google_crc32c.value(data), "last": True} | changes
    return SnapshotPiece(term=2, snapshot_id="s", index=50, index_term=2, data=data, **fields)


@pytest.mark.parametrize(
    "wrong",
    [
        piece(b"abc", crc=1),
        piece(b"abc", offset=1),
        piece(b"abc", total_bytes=2),
        piece(b"abc", total_bytes=4),
        piece(b"abc", total_bytes=0, crc=1),
        piece(b"", total_bytes=0),
        piece(b"abc", offset=2**63, total_bytes=2**63),
    ],
    ids=["checksum", "offset", "longer", "shorter", "of nothing", "nothing", "huge"],
)
def test_a_wrong_piece_completes_no_snapshot(tmp_path: Path, wrong: SnapshotPiece) -> None:
    incoming = Incoming(tmp_path / "in")

    incoming.take(wrong)

    assert not incoming.complete(wrong)
    incoming.abandon()


# Votes.


def test_a_second_candidate_of_a_term_gets_no_vote_not_even_after_a_power_cut(alone: Alone) -> None:
    alone.hear("n2", Vote(term=7, last_index=9, last_term=6, transfer=False))
    alone.restart()

    alone.hear("n3", Vote(term=7, last_index=9, last_term=6, transfer=True))

    assert alone.said(VoteReply) == [VoteReply(7)]
    assert alone.said(VoteReply, "n2") == [VoteReply(7)]


def test_a_candidate_with_an_older_log_gets_no_vote(follower: Alone) -> None:
    for index, term in ((3, 2), (99, 1)):
        follower.hear("n3", Vote(term=8, last_index=index, last_term=term, transfer=True))

    assert follower.said(VoteReply) == []


# Anything.


class Liar:
    """Says whatever has the form of a message, near to what would make sense."""

    def __init__(self, node: Alone, dice: random.Random) -> None:
        self._node, self._dice = node, dice
        kinds: list[Callable[[], Message]] = [self._append, self._append, self._append_reply, self._vote]
        self._kinds = [*kinds, self._prevote, self._piece, self._other]

    def message(self) -> Message:
        return self._dice.choice(self._kinds)()

    def _term(self) -> int:
        term = self._node.core.engine.term
        return max(0, self._dice.choice((0, 1, term - 1, term, term, term, term + 1, term + 9)))

    def _index(self) -> int:
        log = self._node.core.log
        base, last = log.base[0], log.last[0]
        near = (0, 1, base, last - 1, last, last, last + 1, last + 9, 2**40, self._dice.randint(0, last))
        return max(0, self._dice.choice(near))

    def _round(self) -> int:
        return self._dice.choice((0, 1, 2, 10, 10**9))

    def _yes(self) -> bool:
        return self._dice.random() < 0.5

    def _append(self) -> Append:
        prev = self._index()
        held = self._node.core.log.term_at(prev)
        prev_term = held if held is not None and self._dice.random() < 0.8 else self._term()
        entries, term = [], prev_term
        for index in range(prev + 1, prev + 1 + self._dice.randrange(4)):
            term = max(term, self._term()) if self._dice.random() < 0.8 else self._term()
            kind = self._dice.choice((0, 1, 1, 2, 2, 3, 200))
            payload = self._dice.choice((b"", b"x", b"[]", b'[["n1","n1:1",true],["n9","n9:1",true]]'))
            entries.append(Entry(index if self._dice.random() < 0.95 else self._index(), term, kind, payload))
        return Append(self._term(), self._round(), prev, prev_term, self._index(), tuple(entries))

    def _append_reply(self) -> AppendReply:
        return AppendReply(self._term(), self._round(), self._yes(), self._index())

    def _vote(self) -> Vote | VoteReply:
        if self._yes():
            return VoteReply(self._term())
        return Vote(self._term(), self._index(), self._term(), self._yes())

    def _prevote(self) -> PreVote | PreVoteReply:
        if self._yes():
            return PreVoteReply(self._term(), self._round(), self._yes())
        return PreVote(self._term(), self._round(), self._term(), self._index(), self._term())

    def _piece(self) -> SnapshotPiece:
        """Never a whole snapshot: what is in one is for the state to judge."""
        data = self._dice.randbytes(self._dice.randrange(9))
        crc = google_crc32c.value(data) if self._yes() else 5
        at, total = self._dice.choice((0, 1, 10, 2**63)), self._dice.choice((0, 100, 2**63))
        index = self._index()
        return SnapshotPiece(self._term(), "s", index, self._term(), at, total, data, crc, self._yes())

    def _other(self) -> SnapshotReply | TimeoutNow:
        if self._yes():
            return TimeoutNow(self._term())
        status: SnapshotStatus = self._dice.choice(("more", "installed", "refused"))
        return SnapshotReply(self._term(), "s", self._index(), status)


def put_in_role(node: Alone, role: str) -> None:
    match role:
        case "leader":
            node.lead()
            propose(node, 3)
        case "follower":
            node.follow("n2", 1, 1, 2, commit=3)
        case "candidate":
            node.stand()


@pytest.mark.parametrize("role", ["leader", "follower", "candidate", "founder"])
def test_nothing_that_a_peer_says_ends_the_node_or_takes_back_what_was_committed(
    tmp_path: Path, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)  # it complains a lot
    for seed in range(60):
        dice = random.Random(seed)
        node = Alone(tmp_path)
        put_in_role(node, role)
        liar = Liar(node, dice)
        committed: list[Entry] = []
        for _ in range(40):
            node.hear(dice.choice(("n2", "n3", STRANGER)), liar.message())
            log = node.core.log
            assert [log.entry(entry.index) for entry in committed] == committed
            committed += [log.entry(index) for index in range(2 + len(committed), node.core.applied + 1)]
        votes = {(vote.term, peer) for peer, vote in node.ears.sent if isinstance(vote, VoteReply)}
        assert len({term for term, _ in votes}) == len(votes)
        node.close()
