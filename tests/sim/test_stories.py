"""Short stories in calm weather, each about one thing that the random runs meet too seldom."""

from collections.abc import Callable, Iterator

import pytest

from raft.core import Core
from raft.frames import Append, Message
from raft.types import Member
from tests.sim.network import Weather
from tests.sim.node import SimNode
from tests.sim.world import World

Make = Callable[..., World]
CALM = Weather(loss=0, double=0, late=0)


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(nodes: int, weather: Weather = CALM) -> World:
        worlds.append(World(1, nodes=nodes, weather=weather))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def core_of(node: SimNode) -> Core:
    assert node.core is not None
    return node.core


def wait(world: World, condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = world.now + within_s
    while not condition():
        assert world.now < end, "not in time"
        world.run(0.01)


def leader_of(world: World) -> SimNode:
    def announced() -> bool:
        node = world.leader()
        return (
            node is not None
            and node.core is not None
            and bool(node.core.leading and node.core.leading.announced)
        )

    wait(world, announced)
    leader = world.leader()
    assert leader is not None
    return leader


def restart(node: SimNode) -> None:
    """A power cut, and the node is back at once."""
    node.crash(power_loss=True)
    assert node.start()


def add_learner(world: World, leader: SimNode, name: str) -> SimNode:
    member = Member(name, f"{name}:1")
    world.nodes[name] = SimNode(world, member, (), join=True)
    assert world.nodes[name].start()
    leading = core_of(leader).leading
    assert leading is not None
    leading.add(member, lambda result, error: None)
    return world.nodes[name]


def settled(world: World, leader: SimNode) -> Callable[[], bool]:
    return lambda: 1 < core_of(leader).membership.index <= core_of(leader).applied


def test_a_sole_voter_says_nothing_in_a_term_that_a_power_cut_may_take_back(make_world: Make) -> None:
    world = make_world(1)
    leader = leader_of(world)
    wait(world, lambda: 1 < core_of(leader).membership.index <= core_of(leader).applied)
    learner = add_learner(world, leader, "n2")
    wait(world, lambda: core_of(learner).applied > 1)
    learner.pause()
    world.slow_disk.add(leader.id)
    restart(leader)
    learner.resume()

    for power_cut in (True, False):
        wait(world, lambda: core_of(leader).leading is not None)
        for _ in range(3):
            world.propose(leader)
        world.run(0.15)
        if power_cut:
            restart(leader)
    world.converge()

    assert learner.store.commands() == leader.store.commands()


def test_a_follower_that_waits_for_a_snapshot_hears_its_leader(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(3)
    leader = leader_of(world)
    wait(world, lambda: all(core_of(node).applied >= 3 for node in world.nodes.values()))
    laggard, other = (node for node in world.nodes.values() if node is not leader)
    laggard.crash(power_loss=False)
    for _ in range(300):
        world.propose(leader)
        world.run(0.01)
    leader.store.checkpoint()
    core_of(leader).log.release(core_of(leader).applied)
    assert core_of(leader).log.base[0] > 100
    asked: list[bool] = []
    monkeypatch.setattr(leader, "make_snapshot", lambda: asked.append(True))
    term = core_of(leader).engine.term

    assert laggard.start()
    wait(world, lambda: bool(asked))
    other.crash(power_loss=False)  # now the leader has a majority with the laggard only
    world.run(3.0)

    assert core_of(leader).leading is not None
    assert core_of(leader).engine.term == term
    assert core_of(laggard).leader_id == leader.id


@pytest.mark.parametrize("delay_s", [0.001, 0.1])
def test_a_leader_is_elected_however_long_an_answer_takes(make_world: Make, delay_s: float) -> None:
    world = make_world(3, Weather(loss=0, double=0, late=0, delay_s=(delay_s, 1.1 * delay_s)))

    leader_of(world)


def test_a_pre_vote_that_was_not_used_is_void_when_a_leader_was_heard(make_world: Make) -> None:
    world = make_world(3)
    leader = leader_of(world)
    follower = next(node for node in world.nodes.values() if node is not leader)
    wait(world, lambda: core_of(follower).leader_id == leader.id)
    elections = core_of(follower).elections
    core_of(follower).engine.stand_at(0)
    elections.may_stand()  # the round begins
    for name in world.nodes:
        elections.on_prevote_granted(name, elections._prevote.number)

    world.run(0.2)  # with heartbeats
    world.network.cut = {(a, b) for a in world.nodes for b in world.nodes if follower.id in (a, b)}
    term = core_of(follower).engine.term
    world.run(1.5)

    assert core_of(follower).engine.term == term


def test_a_follower_with_a_slow_disk_is_sent_each_entry_once(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(3)
    leader = leader_of(world)
    wait(world, lambda: all(core_of(node).applied >= 3 for node in world.nodes.values()))
    slow = next(node for node in world.nodes.values() if node is not leader)
    delays = {slow.id: 0.2}  # several heartbeats, and less than the patience of a leader
    monkeypatch.setattr(world, "write_delay_s", lambda node: delays.get(node.id, 0.001))
    sent: list[int] = []
    send = leader.send

    def counted(peer_id: str, message: Message) -> bool:
        if isinstance(message, Append) and peer_id == slow.id:
            sent.extend(entry.index for entry in message.entries)
        return send(peer_id, message)

    monkeypatch.setattr(leader, "send", counted)
    for _ in range(100):
        world.propose(leader)
        world.run(0.01)
    wait(world, lambda: core_of(slow).applied == core_of(leader).log.last[0])

    assert len(sent) == len(set(sent)) == 100
