"""The network between the nodes breaks, in every shape, while the clients reach all of them; nothing is lost.

Three nodes and the clients live in network namespaces on one bridge. The tests share the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.cluster import Cluster, Node, Place
from tests.cluster.conftest import Say, StartLoad
from tests.cluster.processes import wait_for
from tests.cluster.rooms import Network, both_ways

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SERVICE_S_MAX = 6.0
NODES = 3


@dataclass(frozen=True, slots=True)
class Net:
    """A cluster, its network, and which host a node is."""

    cluster: Cluster
    network: Network

    def host(self, node: Node) -> int:
        return self.cluster.nodes.index(node)

    def cut(self, *links: tuple[Node, Node]) -> None:
        """Nothing that the first of each pair sends reaches the second."""
        self.network.cut((self.host(sender), self.host(receiver)) for sender, receiver in links)

    def isolate(self, node: Node) -> None:
        """The node and the others do not hear each other; the clients hear all."""
        self.network.cut(both_ways([self.host(node)], map(self.host, self.cluster.others(node))))

    def heal(self) -> None:
        self.network.heal()

    def wait_deposed(self, node: Node) -> None:
        """Until the node does not take itself for the leader any more."""
        wait_for(lambda: self.cluster.leader_seen_by(node) != node.id, f"{node} steps down")


@pytest.fixture(scope="module")
def shared(root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    network = Network(NODES + 1)
    try:
        places = [Place(host=network.host(i), prefix=network.rooms[i].prefix) for i in range(NODES)]
        clients = network.rooms[NODES].prefix
        with Cluster(tmp_path_factory.mktemp("partitions"), places=places, prefix=clients) as cluster:
            yield Net(cluster, network)
    finally:
        network.close()


@pytest.fixture
def net(shared: Net) -> Net:
    """The shared cluster with all links working."""
    shared.heal()
    shared.cluster.wait_healthy()
    return shared


def test_a_leader_alone_is_replaced_and_what_it_could_not_commit_is_not_lost(
    net: Net, start_load: StartLoad, say: Say
) -> None:
    load = start_load(net.cluster)
    load.wait_acknowledged(500)
    leader = net.cluster.leader()

    with load.fault("leader alone") as began_ms:
        net.isolate(leader)
        successor = net.cluster.leader(net.cluster.others(leader))
        service_s = load.wait_service(began_ms)
        load.wait_acknowledged(500)
        net.wait_deposed(leader)
        net.heal()
        net.cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert successor != leader
    assert service_s < SERVICE_S_MAX


@pytest.mark.parametrize("way", ["it can send but not receive", "it can receive but not send"])
def test_a_leader_that_is_cut_off_one_way_does_not_stop_the_cluster(
    net: Net, start_load: StartLoad, say: Say, way: str
) -> None:
    load = start_load(net.cluster)
    load.wait_acknowledged(500)
    leader = net.cluster.leader()

    with load.fault("one-way partition") as began_ms:
        for other in net.cluster.others(leader):
            net.cut((other, leader) if way == "it can send but not receive" else (leader, other))
        net.cluster.leader(net.cluster.others(leader))
        service_s = load.wait_service(began_ms)
        load.wait_acknowledged(500)
        net.heal()
        net.cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert service_s < SERVICE_S_MAX


def test_a_follower_cut_off_does_not_disturb_the_majority_when_it_returns(
    net: Net, start_load: StartLoad, say: Say
) -> None:
    load = start_load(net.cluster)
    load.wait_acknowledged(500)
    leader, follower, term = net.cluster.leader(), net.cluster.followers()[0], net.cluster.term()

    net.isolate(follower)
    wait_for(lambda: net.cluster.leader_seen_by(follower) == "", "the follower misses its leader")
    load.wait_acknowledged(1000)
    net.heal()
    net.cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; longest wait {load.longest_gap():.2f} s")
    assert verdict.problems == ()
    assert (net.cluster.leader(), net.cluster.term()) == (leader, term), "pre-vote must keep the leader"


def test_two_followers_that_lose_each_other_do_not_notice(net: Net, start_load: StartLoad, say: Say) -> None:
    load = start_load(net.cluster)
    load.wait_acknowledged(300)
    one, other = net.cluster.followers()
    term = net.cluster.term()

    net.cut((one, other), (other, one))
    load.wait_acknowledged(1000)
    net.heal()
    verdict = load.finish()

    say(f"{verdict}; longest wait {load.longest_gap():.2f} s")
    assert verdict.problems == ()
    assert net.cluster.term() == term


def test_links_that_flap_lose_nothing(net: Net, start_load: StartLoad, say: Say) -> None:
    load = start_load(net.cluster)
    load.wait_acknowledged(300)

    with load.fault("flapping links"):
        for _ in range(3):
            leader = net.cluster.leader()
            net.isolate(leader)
            net.wait_deposed(leader)
            net.heal()
            one, other = net.cluster.others(leader)
            net.cut((one, other), (leader, one))
            load.wait_service()
            net.heal()
        net.cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; longest wait {load.longest_gap():.2f} s")
    assert verdict.problems == ()
