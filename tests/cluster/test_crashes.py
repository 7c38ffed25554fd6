"""Nodes are killed, paused, wiped and left behind while clients publish and consume; nothing is lost.

The tests share one cluster, so that each also shows that the one before left it healthy.
"""

import time
from collections.abc import Iterator

import pytest

from node.state.machine import Machine
from tests.cluster.cluster import Cluster, Node
from tests.cluster.conftest import Say, StartLoad
from tests.cluster.processes import throughout, wait_for

pytestmark = pytest.mark.cluster

SERVICE_S_MAX = 5.0
"""A cluster with a majority serves again within this, on a machine that runs the tests at the same time."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("crashes")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """The shared cluster with every node running and healthy, whatever the test before did to it."""
    for node in shared.nodes:
        if node.paused:
            node.resume()
        if not node.running:
            node.start()
    shared.wait_healthy()
    return shared


def test_killing_the_leader_loses_nothing(cluster: Cluster, start_load: StartLoad, say: Say) -> None:
    load = start_load(cluster)
    load.wait_acknowledged(500)
    leader = cluster.leader()

    with load.fault("leader killed") as began_ms:
        leader.kill()
        service_s = load.wait_service(began_ms)
        load.wait_acknowledged(500)
        leader.start()
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert service_s < SERVICE_S_MAX


def test_killing_a_follower_interrupts_nobody(cluster: Cluster, start_load: StartLoad, say: Say) -> None:
    load = start_load(cluster)
    load.wait_acknowledged(500)
    follower, term = cluster.followers()[0], cluster.term()

    follower.kill()
    load.wait_acknowledged(500)
    follower.start()
    cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; longest wait for an answer {load.longest_gap():.2f} s")
    assert verdict.problems == ()
    assert cluster.term() == term
    assert load.longest_gap() < SERVICE_S_MAX


def test_killing_all_nodes_at_once_loses_nothing(cluster: Cluster, start_load: StartLoad, say: Say) -> None:
    load = start_load(cluster, late=1)
    load.wait_acknowledged(1500)

    with load.fault("all killed") as began_ms:
        cluster.kill_all()
        for node in cluster.nodes:
            node.start()
        service_s = load.wait_service(began_ms)
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()


def test_a_leader_that_is_told_to_stop_hands_over_first(
    cluster: Cluster, start_load: StartLoad, say: Say
) -> None:
    load = start_load(cluster)
    load.wait_acknowledged(500)
    leader = cluster.leader()

    with load.fault("leader stopped") as began_ms:
        code = leader.stop()
        service_s = load.wait_service(began_ms)
        leader.start()
        cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert code == 0
    assert service_s < SERVICE_S_MAX


def test_a_leader_that_stood_still_comes_back_as_a_follower(
    cluster: Cluster, start_load: StartLoad, say: Say
) -> None:
    load = start_load(cluster)
    load.wait_acknowledged(500)
    leader = cluster.leader()

    with load.fault("leader paused") as began_ms:
        leader.pause()
        successor = cluster.leader(cluster.others(leader))
        service_s = load.wait_service(began_ms)
        leader.resume()
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert successor != leader
    assert service_s < SERVICE_S_MAX


def test_a_wiped_node_gives_no_vote_before_it_has_caught_up_and_then_is_as_good_as_any(
    cluster: Cluster, start_load: StartLoad, say: Say
) -> None:
    load = start_load(cluster, late=1)
    load.wait_acknowledged(500)
    leader = cluster.leader()
    survivor, wiped = cluster.others(leader)

    with load.fault("one node wiped, the leader killed"):
        wiped.kill()
        wiped.wipe()
        leader.kill()
        wiped.start()
        wait_for(lambda: cluster.view(wiped), "the wiped node answers")
        wait_for(lambda: cluster.leader_seen_by(survivor) == "", "the survivor misses its leader")
        elected = throughout(2.0, lambda: cluster.leader_seen_by(survivor))
        leader.start()
        cluster.wait_healthy()
        load.wait_acknowledged(200)
        survivor.kill()
        load.wait_service()
        load.wait_acknowledged(500)
        survivor.start()
        cluster.wait_healthy()
    verdict = load.finish()

    say(f"{verdict}")
    assert elected == {""}, "an election was won with the vote of an empty disk"
    assert verdict.problems == ()


def test_a_follower_far_behind_gets_a_snapshot_while_the_leader_serves(
    cluster: Cluster, start_load: StartLoad, say: Say
) -> None:
    follower = cluster.followers()[0]
    behind = cluster.view(follower)
    assert behind is not None
    follower.kill()
    load = start_load(cluster, rate=300, body_bytes=32 << 10)

    def released() -> bool:
        view = cluster.view(cluster.leader())
        return view is not None and view.first > behind.last + 1

    wait_for(released, "the leader has released what the follower lacks", timeout_s=40)
    began_s = time.monotonic()
    follower.start()
    load.wait_acknowledged(200)
    cluster.wait_healthy()
    caught_up_s = time.monotonic() - began_s
    verdict = load.finish()

    say(f"{verdict}; caught up in {caught_up_s:.1f} s, longest wait {load.longest_gap():.2f} s")
    assert verdict.problems == ()
    after = cluster.view(follower)
    assert after is not None
    assert after.first > behind.last + 1
    assert load.longest_gap() < SERVICE_S_MAX


def test_after_all_this_the_nodes_hold_the_same_state(cluster: Cluster, start_load: StartLoad) -> None:
    load = start_load(cluster, late=1)
    load.wait_acknowledged(300)
    load.close()
    leader = cluster.wait_healthy()

    for node in [*cluster.others(leader), leader]:
        assert node.stop() == 0
    states = {node.id: state_of(node) for node in cluster.nodes}

    assert len(set(states.values())) == 1, states
    (index, _), *_ = states.values()
    assert index > 0


def state_of(node: Node) -> tuple[int, str]:
    """The last applied index of a stopped node and the fingerprint of its state."""
    machine = Machine.open(node.data_dir / "state", clock_ms=lambda: 0)
    try:
        return machine.applied, machine.fingerprint()
    finally:
        machine.close()
