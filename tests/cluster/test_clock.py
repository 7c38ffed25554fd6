"""Wall clocks jump while clients work; nobody notices, because nothing here trusts them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.calls import Plain, bodies
from tests.cluster.clocks import Clock
from tests.cluster.cluster import Cluster, Place, free_ports
from tests.cluster.conftest import Say, StartLoad

pytestmark = pytest.mark.cluster

HOUR_S, DAY_S = 3600.0, 86_400.0
JUMPS_S = [HOUR_S, -HOUR_S, 30.0, -DAY_S, 400 * DAY_S, 0.5, 0.0]


@pytest.fixture
def clocks(clock_shim: Path, tmp_path: Path) -> list[Clock]:
    return [Clock(clock_shim, tmp_path / f"clock{number}") for number in (1, 2, 3)]


@pytest.fixture
def cluster(clocks: list[Clock], tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes, each with a wall clock of its own."""
    with Cluster(tmp_path, places=[Place(ports=free_ports(), env=clock.env) for clock in clocks]) as cluster:
        yield cluster


def test_jumping_wall_clocks_end_no_lease_and_no_term(
    cluster: Cluster, clocks: list[Clock], start_load: StartLoad, say: Say
) -> None:
    load = start_load(cluster)
    load.wait_acknowledged(300)
    leader, term = cluster.leader(), cluster.term()
    with Plain(leader.grpc) as plain:
        plain.create("leased")
        plain.publish("leased", b"a", b"b", b"c")
        pulled = plain.pull("leased", 3)

        for turn, jump_s in enumerate(JUMPS_S):
            for number, clock in enumerate(clocks):
                clock.set(jump_s if (turn + number) % 3 != 1 else -jump_s)
            load.wait_acknowledged(200)
        plain.acknowledge("leased", pulled.lease_id, 1, 3)

        assert bodies(pulled) == {1: b"a", 2: b"b", 3: b"c"}
        assert plain.get("leased").stats.messages == 0
    verdict = load.finish()

    say(str(verdict))
    assert verdict.problems == ()
    assert (cluster.leader(), cluster.term()) == (leader, term)
