"""Who may vote when lists of members and disks change: stories that the random runs meet too seldom."""

from collections.abc import Callable, Iterator

import pytest

from raft.core import Core
from raft.types import Member
from tests.sim.network import Weather
from tests.sim.node import SimNode
from tests.sim.world import World


class Calm(World):
    """A world without faults of its own."""

    def __init__(self, nodes: int) -> None:
        super().__init__(1, nodes=nodes, weather=Weather(loss=0, double=0, late=0))

    def wait(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        end = self.now + within_s
        while not condition():
            assert self.now < end, "not in time"
            self.run(0.001, step_s=0.001)

    def core(self, name: str) -> Core:
        core = self.nodes[name].core
        assert core is not None
        return core

    def leading(self) -> SimNode:
        """The leader, once its first list of members is committed."""
        self.wait(lambda: self.leader() is not None and len(self.members()) > 0 and self.index() > 1)
        leader = self.leader()
        assert leader is not None
        return leader

    def index(self) -> int:
        """Where the leader's newest list stands."""
        leader = self.leader()
        return 0 if leader is None or leader.core is None else leader.core.membership.index

    def cut_off(self, name: str) -> None:
        self.network.cut = {(a, b) for a in self.nodes for b in self.nodes if name in (a, b)}


@pytest.fixture
def make() -> Iterator[Callable[[int], Calm]]:
    worlds: list[Calm] = []

    def make(nodes: int) -> Calm:
        worlds.append(Calm(nodes))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def test_a_vote_that_its_owner_has_not_heard_of_elects_the_one_who_gave_it(
    make: Callable[[int], Calm],
) -> None:
    world = make(1)
    leader = world.leading()
    learner = Member("n2", "n2:1")
    world.nodes["n2"] = SimNode(world, learner, (), join=True)
    assert world.nodes["n2"].start()
    assert leader.core is not None
    assert leader.core.leading is not None
    leader.core.leading.add(learner, lambda result, error: None)
    world.wait(lambda: "n2" in world.core("n1").membership.voters)
    world.cut_off("n2")  # before it can know
    world.wait(lambda: world.core("n1").log.durable >= world.core("n1").membership.index)
    assert "n2" not in world.core("n2").membership.voters

    leader.crash(power_loss=True)
    world.network.heal()
    assert leader.start()
    world.converge()

    assert world.core("n1").membership.voters == ("n1", "n2")


def test_a_node_without_its_disk_votes_when_it_holds_what_was_committed_and_not_before(
    make: Callable[[int], Calm],
) -> None:
    world = make(3)
    leader = world.leading()
    for _ in range(300):
        world.propose(leader)
        world.run(0.01)
    lost = next(node for node in world.nodes.values() if node is not leader)
    lost.crash(power_loss=True)
    lost.wipe()

    assert lost.start()
    votes: list[tuple[bool, int, int]] = []

    def seen() -> bool:
        core = world.core(lost.id)
        votes.append((core.elections.may_vote, core.log.last[0], core.ballot.join_floor))
        return lost.id in core.membership.voters and core.membership.index > core.ballot.join_floor > 0

    world.wait(seen)

    assert {may_vote for may_vote, _, floor in votes if floor == 0} == {False}
    assert all(may_vote == (last >= floor) for may_vote, last, floor in votes if floor)
    assert {may_vote for may_vote, _, _ in votes} == {False, True}
