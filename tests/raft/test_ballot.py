"""Term and vote: what was promised is never forgotten, whatever happens to the disk."""

import random

import pytest

from raft.ballot import SLOT_BYTES, Ballot
from raft.records import Damaged
from tests.sim.disk import PowerCut, SimDisk, Write


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


def flush(ballot: Ballot) -> None:
    while batch := ballot.take():
        ballot.write(batch)
        ballot.written(batch)


def voted(disk: SimDisk, term: int, vote: str | None) -> Ballot:
    ballot = Ballot.open(disk)
    if not ballot.exists:
        ballot.found("n1", "shop")
    ballot.put(term, vote)
    flush(ballot)
    return ballot


def test_a_blank_disk_has_no_ballot(disk: SimDisk) -> None:
    ballot = Ballot.open(disk)

    assert not ballot.exists
    assert (ballot.term, ballot.vote, ballot.founded, ballot.join_floor) == (0, None, False, 0)
    assert (ballot.node_id, ballot.cluster) == ("", "")
    assert not ballot.dirty
    assert ballot.take() is None
    assert disk.names() == []


def test_a_founder_remembers_its_cluster_and_its_vote(disk: SimDisk) -> None:
    voted(disk, 3, "n2")

    disk.crash(power_loss=True, torn=True)

    ballot = Ballot.open(disk)
    assert ballot.exists
    assert (ballot.term, ballot.vote, ballot.founded, ballot.join_floor) == (3, "n2", True, 0)
    assert (ballot.node_id, ballot.cluster) == ("n1", "shop")


def test_a_node_that_joined_remembers_since_when(disk: SimDisk) -> None:
    ballot = Ballot.open(disk)
    ballot.join("n4", "shöp", floor=77)
    assert ballot.exists
    flush(ballot)

    disk.crash(power_loss=True, torn=True)

    ballot = Ballot.open(disk)
    assert ballot.exists
    assert (ballot.founded, ballot.join_floor, ballot.node_id, ballot.cluster) == (False, 77, "n4", "shöp")


def test_the_longest_names_fit(disk: SimDisk) -> None:
    ballot = Ballot.open(disk)
    ballot.found("n" * 255, "c" * 255)
    ballot.put(2**63, "v" * 255)
    flush(ballot)

    ballot = Ballot.open(disk)

    assert (ballot.node_id, ballot.cluster, ballot.vote) == ("n" * 255, "c" * 255, "v" * 255)
    assert ballot.term == 2**63


def test_a_new_term_has_no_vote_until_it_is_given(disk: SimDisk) -> None:
    voted(disk, 3, "n2")
    voted(disk, 4, None)
    assert Ballot.open(disk).vote is None

    voted(disk, 4, "n3")

    assert Ballot.open(disk).vote == "n3"


def test_nothing_is_written_when_nothing_changes(disk: SimDisk) -> None:
    ballot = voted(disk, 3, "n2")

    ballot.put(3, "n2")

    assert not ballot.dirty


def test_a_put_while_a_batch_is_in_flight_goes_with_the_next(disk: SimDisk) -> None:
    ballot = voted(disk, 3, None)
    ballot.put(4, None)
    batch = ballot.take()
    assert batch is not None
    ballot.put(4, "n2")
    assert ballot.dirty

    ballot.write(batch)
    ballot.written(batch)

    assert Ballot.open(disk).vote is None
    flush(ballot)
    assert (Ballot.open(disk).term, Ballot.open(disk).vote) == (4, "n2")


@pytest.mark.parametrize(("term", "vote"), [(2, "n2"), (3, "n3"), (3, None)])
def test_a_vote_is_never_taken_back(disk: SimDisk, term: int, vote: str | None) -> None:
    ballot = voted(disk, 3, "n2")

    with pytest.raises(AssertionError):
        ballot.put(term, vote)


def test_a_node_belongs_to_one_cluster_for_ever(disk: SimDisk) -> None:
    ballot = voted(disk, 3, "n2")

    with pytest.raises(AssertionError):
        ballot.found("n1", "other")
    with pytest.raises(AssertionError):
        ballot.join("n1", "other", floor=1)


@pytest.mark.parametrize("slot", [0, 1])
def test_a_rotten_slot_costs_nothing_and_is_repaired(disk: SimDisk, slot: int) -> None:
    voted(disk, 3, "n2")
    voted(disk, 4, "n3")

    for byte in range(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES, 13):
        before = disk.read("ballot")
        disk.flip("ballot", byte * 8 + byte % 8)
        ballot = Ballot.open(disk)
        assert (ballot.term, ballot.vote) == (4, "n3")
        assert disk.read("ballot") == before


def test_two_rotten_slots_are_damage(disk: SimDisk) -> None:
    voted(disk, 3, "n2")
    disk.flip("ballot", 100)
    disk.flip("ballot", SLOT_BYTES * 8 + 100)

    with pytest.raises(Damaged, match="ballot is damaged at byte 0: neither"):
        Ballot.open(disk)


def test_a_file_cut_short_is_damage(disk: SimDisk) -> None:
    voted(disk, 3, "n2")
    disk.truncate("ballot", 100)

    with pytest.raises(Damaged):
        Ballot.open(disk)


@pytest.mark.parametrize("seed", range(200))
def test_after_a_crash_at_any_step_it_says_the_old_or_the_new_and_keeps_to_it(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk(rng)
    promised: tuple[int, str | None] = (0, None)
    seen = promised
    for term in range(1, 40):
        disk.cut_after = rng.randrange(12)
        try:
            ballot = Ballot.open(disk)
            said = (ballot.term, ballot.vote)
            assert said in (promised, seen)
            promised = said  # who opens it acts on it
            if not ballot.exists:
                ballot.join("n" * 255, "c" * 255, floor=1)
            seen = (term, f"{rng.randrange(3)}" * 255)  # long, so that most torn slots are bad ones
            ballot.put(*seen)
            flush(ballot)
            promised = seen
        except PowerCut:
            disk.crash(power_loss=rng.random() < 0.5, torn=True)


@pytest.mark.parametrize("steps", range(4))
def test_no_power_cut_can_spoil_both_slots(disk: SimDisk, steps: int) -> None:
    ballot = voted(disk, 3, "n2")
    ballot.put(4, "n3")
    batch = ballot.take()
    assert batch is not None
    disk.cut_after = steps
    with pytest.raises(PowerCut):
        ballot.write(batch)
    disk.cut_after = None

    file = disk._files["ballot"]
    file.lose_all_but([Write(c.offset, b"?" * SLOT_BYTES) for c in file.changes if isinstance(c, Write)])

    opened = Ballot.open(disk)
    assert (opened.term, opened.vote) in {(3, "n2"), (4, "n3")}


@pytest.mark.parametrize("first", [True, False])
def test_a_disk_that_fails_is_never_tried_again(disk: SimDisk, first: bool) -> None:
    ballot = Ballot.open(disk) if first else voted(disk, 3, "n2")
    ballot.put(4, "n3")
    batch = ballot.take()
    assert batch is not None
    disk.fail_sync = True

    with pytest.raises(OSError, match="cannot write back"):
        ballot.write(batch)

    disk.fail_sync = False
    with pytest.raises(AssertionError):
        ballot.write(batch)
    with pytest.raises(AssertionError):
        ballot.written(batch)
    with pytest.raises(AssertionError):
        ballot.put(5, None)


def test_a_ballot_in_use_needs_no_room_on_the_disk(disk: SimDisk) -> None:
    ballot = voted(disk, 3, "n2")
    disk.full_after = 0

    ballot.put(4, "n1")
    flush(ballot)

    assert Ballot.open(disk).vote == "n1"
