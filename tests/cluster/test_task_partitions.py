"""The network between workers and nodes breaks; tasks end once, and only what was out of reach for too long runs again.

Three nodes, two workers and a client live in network namespaces on one bridge. The tests share the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, Node, Place
from tests.cluster.processes import throughout, wait_for
from tests.cluster.rooms import Network, both_ways
from tests.cluster.task_driver import Driver
from tests.cluster.task_history import problems, repeated
from tests.cluster.task_worker import Execution, Workers

pytestmark = [pytest.mark.cluster, pytest.mark.root]

NODES = 3
CLIENT, FIRST, SECOND = 3, 4, 5
HOSTS = {"w1": FIRST, "w2": SECOND}
LEASE_S = 2.0
"""Of the tasks of `task_app.py`."""


@dataclass(frozen=True, slots=True)
class Net:
    """A cluster, its network, and a client in it."""

    cluster: Cluster
    network: Network
    driver: Driver

    def host(self, node: Node) -> int:
        return self.cluster.nodes.index(node)

    def away(self, worker: str) -> None:
        """A worker and the nodes do not hear each other."""
        self.network.cut(both_ways([HOSTS[worker]], range(NODES)))

    def heal(self) -> None:
        self.network.heal()


@pytest.fixture(scope="module")
def shared(root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    network = Network(NODES + 3)
    folder = tmp_path_factory.mktemp("task-partitions")
    try:
        places = [Place(host=network.host(i), prefix=network.rooms[i].prefix) for i in range(NODES)]
        clients = network.rooms[CLIENT].prefix
        with Cluster(folder, places=places, prefix=clients) as cluster:
            driver = Driver(cluster.addresses, clients, folder / "driver.log")
            yield Net(cluster, network, driver)
            driver.close()
    finally:
        network.close()


@pytest.fixture
def net(shared: Net) -> Net:
    """The shared cluster with all links working."""
    shared.heal()
    shared.cluster.wait_healthy()
    return shared


@pytest.fixture
def workers(net: Net, tmp_path: Path) -> Iterator[Workers]:
    found = Workers(net.cluster, tmp_path / "executions")
    yield found
    found.close()


def start(net: Net, workers: Workers, name: str) -> None:
    workers.start(name, "--threads", "4", prefix=net.network.rooms[HOSTS[name]].prefix)


def ended(workers: Workers, begun: list[Execution]) -> int:
    """How many of these executions have come to their end."""
    leases = {one.lease for one in begun}
    return sum(one.what == "end" and one.lease in leases for one in workers.executions())


def test_a_worker_that_is_away_for_less_than_its_lease_goes_on_and_nothing_is_repeated(
    net: Net, workers: Workers
) -> None:
    start(net, workers, "w1")
    ids = net.driver.submit(1.5, 4)
    workers.begun(4)
    start(net, workers, "w2")  # would take what is given up

    net.away("w1")
    throughout(LEASE_S / 3, lambda: None)
    net.heal()
    told = net.driver.histories(ids)

    assert problems(told, workers.executions(), frozenset()) == []
    assert repeated(workers.executions()) == 0


def test_what_a_worker_has_that_is_away_for_longer_runs_elsewhere_and_its_late_results_count_for_nothing(
    net: Net, workers: Workers
) -> None:
    start(net, workers, "w1")
    ids = net.driver.submit(1.0, 4)
    lost = workers.begun(4)
    start(net, workers, "w2")

    net.away("w1")
    workers.begun(8)
    wait_for(lambda: ended(workers, lost) == 4, "the ends of what is out of reach")
    net.heal()
    told = net.driver.histories(ids)
    again = net.driver.submit(0.0, 20)

    assert problems({**told, **net.driver.histories(again)}, workers.executions()) == []
    assert all("LEASE_EXPIRED" in reasons for reasons in told.values())
    assert repeated(workers.executions()) == 4


@pytest.mark.parametrize("deaf", [True, False], ids=["worker hears nothing", "nodes hear nothing"])
def test_a_link_that_works_one_way_only_repeats_nothing_without_a_cause(
    net: Net, workers: Workers, deaf: bool
) -> None:
    start(net, workers, "w1")
    ids = net.driver.submit(0.3, 40)
    workers.begun(4)

    links = product(range(NODES), [FIRST]) if deaf else product([FIRST], range(NODES))
    net.network.cut(links)
    start(net, workers, "w2")
    workers.begun(16)
    net.heal()
    told = net.driver.histories(ids)

    assert problems(told, workers.executions()) == []


def test_a_leader_that_only_workers_can_reach_is_left_and_nothing_is_repeated(
    net: Net, workers: Workers
) -> None:
    start(net, workers, "w1")
    start(net, workers, "w2")
    ids = net.driver.submit(0.5, 80)
    workers.begun(16)

    leader = net.cluster.leader()
    others = [net.host(node) for node in net.cluster.others(leader)]
    net.network.cut(both_ways([net.host(leader)], others))
    told = net.driver.histories(ids)

    assert problems(told, workers.executions(), frozenset({"HANDED_BACK"})) == []
    assert repeated(workers.executions()) == 0
