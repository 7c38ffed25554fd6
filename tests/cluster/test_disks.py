"""Disks fill up and lose power while clients publish; every acknowledged message is there afterwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from tests.cluster.calls import Plain, Refusal, refusal
from tests.cluster.cluster import Cluster, Node, Place, free_ports
from tests.cluster.conftest import Say, StartLoad
from tests.cluster.processes import wait_for
from tests.cluster.rooms import Disk, MemoryDisk, PowerDisk, Room

pytestmark = [pytest.mark.cluster, pytest.mark.root]

FREE_MIN_BYTES = 24 << 20
DISK_BYTES = 160 << 20
SERVICE_S_MAX = 6.0

D = TypeVar("D", bound=Disk)


@contextmanager
def cluster_on(make: Callable[[Room, Path], D], folder: Path) -> Iterator[tuple[Cluster, dict[str, D]]]:
    """Three nodes, each with a disk of its own, and the disks by node id."""
    with ExitStack() as rooms:
        places, disks = [], {}
        for number in (1, 2, 3):
            room = Room(network=False)
            rooms.callback(room.close)
            disk = make(room, folder / f"disk{number}")
            disks[f"n{number}"] = disk
            places.append(Place(ports=free_ports(), prefix=room.prefix, data_dir=disk.path / "data"))
        settings = {"disk_free_min_bytes": FREE_MIN_BYTES}
        with Cluster(folder, places=places, settings=settings) as cluster:
            yield cluster, disks


@pytest.fixture(scope="module")
def memory(root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, dict[str, Disk]]]:
    def make(room: Room, path: Path) -> Disk:
        return MemoryDisk(room, path, size_bytes=DISK_BYTES)

    with cluster_on(make, tmp_path_factory.mktemp("full")) as made:
        yield made


@pytest.fixture(scope="module")
def power(
    root: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, dict[str, PowerDisk]]]:
    def make(room: Room, path: Path) -> PowerDisk:
        return PowerDisk(room, path, size_bytes=DISK_BYTES)

    with cluster_on(make, tmp_path_factory.mktemp("power")) as made:
        yield made


def test_a_leader_whose_disk_is_full_hands_over_and_comes_back(
    memory: tuple[Cluster, dict[str, Disk]], start_load: StartLoad, say: Say
) -> None:
    cluster, disks = memory
    load = start_load(cluster)
    load.wait_acknowledged(500)
    full = cluster.leader()

    with load.fault("the leader's disk is full") as began_ms:
        disks[full.id].fill(leave_bytes=FREE_MIN_BYTES // 2)
        wait_for(lambda: cluster.leader(cluster.others(full)) != full, "another node leads", timeout_s=20)
        service_s = load.wait_service(began_ms)
        load.wait_acknowledged(500)
        disks[full.id].empty()
        cluster.wait_healthy()
    load.wait_acknowledged(300)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
    assert service_s < SERVICE_S_MAX


def test_a_disk_without_a_single_free_byte_stops_one_follower_until_there_is_space(
    memory: tuple[Cluster, dict[str, Disk]], start_load: StartLoad, say: Say
) -> None:
    cluster, disks = memory
    cluster.wait_healthy()
    follower = cluster.followers()[0]
    process = follower.process

    disks[follower.id].fill(leave_bytes=0)
    load = start_load(cluster, rate=300, body_bytes=32 << 10)
    wait_for(lambda: "disk_full" in follower.log.read_text(), "the follower runs out of space")
    load.wait_acknowledged(200)
    disks[follower.id].empty()
    cluster.wait_healthy()
    load.wait_acknowledged(100)
    verdict = load.finish()

    say(f"{verdict}; longest wait {load.longest_gap():.2f} s")
    assert verdict.problems == ()
    assert follower.process is process
    assert load.longest_gap() < SERVICE_S_MAX


def test_full_disks_everywhere_refuse_writes_with_disk_low_until_there_is_space(
    memory: tuple[Cluster, dict[str, Disk]], start_load: StartLoad, say: Say
) -> None:
    cluster, disks = memory
    cluster.wait_healthy()
    load = start_load(cluster, late=1)
    load.wait_acknowledged(500)

    with Plain(cluster.nodes[0].grpc) as plain, load.fault("all disks full"):
        plain.create("refused")
        for disk in disks.values():
            disk.fill(leave_bytes=0)

        def refused() -> Refusal | None:
            answer = refusal(lambda: plain.publish("refused", b"x"))
            return answer if answer is not None and answer.reason == "DISK_LOW" else None

        answer = wait_for(refused, "a publish is refused with DISK_LOW")
        assert answer.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert plain.get(load.queue).stats.messages >= load.acknowledged()
        for disk in disks.values():
            disk.empty()
        wait_for(lambda: refusal(lambda: plain.publish("refused", b"x")) is None, "a publish is taken again")
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(str(verdict))
    assert verdict.problems == ()


def lose_power(cluster: Cluster, disks: dict[str, PowerDisk], nodes: list[Node]) -> None:
    """The disks of these nodes lose what was not synced, all at once, the processes end, and all start again."""
    for node in nodes:
        disks[node.id].cut_power()
    for node in nodes:
        node.kill()
    for node in nodes:
        disks[node.id].restore_power()
        node.start()


def test_a_power_cut_of_the_leader_loses_nothing(
    power: tuple[Cluster, dict[str, PowerDisk]], start_load: StartLoad, say: Say
) -> None:
    cluster, disks = power
    load = start_load(cluster)
    load.wait_acknowledged(1000)

    with load.fault("power cut of the leader") as began_ms:
        lose_power(cluster, disks, [cluster.leader()])
        service_s = load.wait_service(began_ms)
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()


def test_a_power_cut_of_all_nodes_at_once_loses_nothing(
    power: tuple[Cluster, dict[str, PowerDisk]], start_load: StartLoad, say: Say
) -> None:
    cluster, disks = power
    cluster.wait_healthy()
    load = start_load(cluster, late=1, rate=2000)
    load.wait_acknowledged(2000)

    with load.fault("power cut"):
        lose_power(cluster, disks, cluster.nodes)
        load.wait_acknowledged(100)
        lose_power(cluster, disks, cluster.nodes)
        service_s = load.wait_service()
        cluster.wait_healthy()
    load.wait_acknowledged(500)
    verdict = load.finish()

    say(f"{verdict}; served again after {service_s:.2f} s")
    assert verdict.problems == ()
