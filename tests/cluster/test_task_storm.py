"""Nodes and workers are killed and paused in turn, under load; each task ends once, and what ran twice has a cause."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskraft import SyncClient
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say
from tests.cluster.processes import wait_for
from tests.cluster.task_app import app, sleep
from tests.cluster.task_driver import histories
from tests.cluster.task_history import problems, repeated
from tests.cluster.task_worker import Workers

pytestmark = pytest.mark.cluster

LAYERS, WIDTH = 6, 50
PLAIN = 100
NAMES = ("w1", "w2", "w3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "storm") as cluster:
        app.addresses = cluster.addresses
        yield cluster
        app.close()


@pytest.fixture
def workers(cluster: Cluster, tmp_path: Path) -> Iterator[Workers]:
    found = Workers(cluster, tmp_path / "executions")
    yield found
    found.close()


class Storm:
    """Things that go wrong; each lasts until the cluster has got on in spite of it."""

    def __init__(self, cluster: Cluster, workers: Workers, dice: random.Random) -> None:
        self._cluster, self._workers, self._dice = cluster, workers, dice

    def _get_on(self, tasks: int) -> None:
        """Until so many more executions have begun, or all have."""
        goal = min(len(self._workers.executions()) // 2 + tasks, LAYERS * WIDTH + PLAIN)
        wait_for(lambda: len(self._workers.executions()) // 2 >= goal, f"{tasks} more tasks", timeout_s=40)

    def leader_killed(self) -> None:
        leader = self._cluster.leader()
        leader.kill()
        self._get_on(20)
        leader.start()

    def leader_paused(self) -> None:
        """It still takes itself for the leader when it goes on."""
        leader = self._cluster.leader()
        leader.pause()
        self._get_on(30)
        leader.resume()

    def worker_killed(self) -> None:
        name = self._dice.choice(NAMES)
        self._workers.kill(name)
        self._get_on(20)
        self._workers.start(name, "--threads", "4")

    def worker_paused(self) -> None:
        """For longer than its leases: others have its tasks when it goes on, and ends them, too."""
        name = self._dice.choice(NAMES)
        before = len(self._workers.executions())
        self._workers.send(name, signal.SIGSTOP)
        lost = [one for one in self._workers.executions()[:before] if one.what == "begin"]
        known = {one.lease for one in lost}
        tasks = {one.task for one in lost}
        wait_for(
            lambda: (
                any(one.task in tasks and one.lease not in known for one in self._workers.executions())
                or len(self._workers.executions()) - before > 80
            ),
            "its tasks at others",
        )
        self._workers.send(name, signal.SIGCONT)


def test_every_task_ends_once_in_a_storm_and_every_repetition_has_a_cause(
    cluster: Cluster, workers: Workers, say: Say, tmp_path: Path
) -> None:
    for name in NAMES:
        workers.start(name, "--threads", "4")
    with app.workflow(tmp_path.name) as workflow:
        layer = list(workflow.map(sleep, [0.2] * WIDTH))
        for _ in range(LAYERS - 1):
            layer = [workflow.add(sleep.options(after=[one]), 0.2) for one in layer]
    plain = sleep.map([0.2] * PLAIN)
    workers.begun(10)

    dice = random.Random(1)
    storm = Storm(cluster, workers, dice)
    kinds: list[Callable[[], None]] = [
        storm.leader_killed,
        storm.leader_paused,
        storm.worker_killed,
        storm.worker_paused,
    ]
    for fault in dice.sample(kinds * 2, 2 * len(kinds)):
        fault()

    assert workflow.handle.wait(timeout=60).state == "succeeded"
    assert plain.results(timeout=60) == [0.2] * PLAIN
    with SyncClient(cluster.addresses) as client:
        ids = [task.id for task in client.tasks.list(queue="work")]
        told = histories(client, ids)
    assert len(told) == LAYERS * WIDTH + PLAIN
    assert problems(told, workers.executions()) == []
    say(
        f"{len(told)} tasks, {repeated(workers.executions())} executions repeated, each after a lease that was lost"
    )
