"""Members come and go at run time, under load."""

import asyncio
from pathlib import Path

import pytest

from taskraft import Client
from tests.cluster.cluster import Cluster, Node
from tests.cluster.conftest import Say, StartLoad

pytestmark = pytest.mark.cluster

CHANGE_S_MAX = 30.0


def add(cluster: Cluster, node: Node) -> None:
    """Adds a member and returns when it votes."""

    async def run() -> None:
        async with Client(cluster.addresses, timeout=CHANGE_S_MAX) as client:
            await client.add_member(node.id, node.raft)

    asyncio.run(run())


def remove(cluster: Cluster, node: Node) -> None:
    """Removes a member."""

    async def run() -> None:
        async with Client(cluster.addresses, timeout=CHANGE_S_MAX) as client:
            await client.remove_member(node.id)

    asyncio.run(run())


def hand_over(cluster: Cluster, node: Node) -> None:
    """Lets another node lead, which teaches clients who is in the cluster now."""

    async def run() -> None:
        async with Client(cluster.addresses, timeout=CHANGE_S_MAX) as client:
            await client.transfer_leadership(node.id)

    asyncio.run(run())


def test_a_cluster_grows_to_five_and_shrinks_to_three_others_under_load(
    tmp_path: Path, start_load: StartLoad, say: Say
) -> None:
    with Cluster(tmp_path) as cluster:
        load = start_load(cluster)
        load.wait_acknowledged(500)

        leaving = cluster.nodes[:2]
        with load.fault("members change"):
            for _ in range(2):
                newcomer = cluster.newcomer()
                newcomer.start()
                add(cluster, newcomer)
                load.wait_acknowledged(200)
            cluster.wait_healthy()
            for node in sorted(leaving, key=lambda each: each != cluster.leader()):
                remove(cluster, node)
                node.kill()
                cluster.forget(node)
                load.wait_service()
            cluster.wait_healthy()
        load.wait_acknowledged(300)

        with load.fault("leadership handed over and its holder killed") as began_ms:
            hand_over(cluster, cluster.node("n5" if cluster.leader().id == "n4" else "n4"))
            load.wait_acknowledged(300)
            cluster.leader().kill()
            load.wait_service(began_ms)
        verdict = load.finish()

        say(f"{verdict}; longest wait {load.longest_gap():.2f} s")
        assert verdict.problems == ()
        assert [node.id for node in cluster.nodes] == ["n3", "n4", "n5"]
