"""Consume, transform, produce: exactly once, whoever is killed while that goes on."""

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskraft import SyncClient
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say
from tests.cluster.processes import ROOT, end, python, start, wait_for
from tests.cluster.transaction_app import LEASE_S, app, is_billed

pytestmark = pytest.mark.cluster

ORDERS = 3_000
STYLES = ("one", "batch", "pull")
ROUNDS = 4


class Programs:
    """Processors and workers of one test."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        addresses = self._cluster.addresses
        if name in STYLES:
            command = python("tests.cluster.transaction_app", addresses, name)
        else:
            words = ("worker", "tests.cluster.transaction_app:app", "--name", name, "--threads", "4")
            command = python("taskraft.cli", *words)
        env = {"TASKRAFT_ADDRESS": addresses, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
        self._running[name] = start(command, log=self._folder / f"{name}.log", env=env)

    def kill(self, name: str) -> None:
        end(self._running[name])

    def close(self) -> None:
        for process in self._running.values():
            end(process)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "transactions") as cluster:
        app.addresses = cluster.addresses
        yield cluster
        app.close()


@pytest.fixture
def programs(cluster: Cluster, tmp_path: Path) -> Iterator[Programs]:
    found = Programs(cluster, tmp_path)
    yield found
    found.close()


def done(client: SyncClient) -> int:
    """How many orders have led to something."""
    return sum(client.get_queue(name).stats.published_messages for name in ("shipments", "billing"))


def reach(client: SyncClient, orders: int) -> None:
    wait_for(lambda: done(client) >= orders, f"{orders} orders", timeout_s=90)


def bodies(client: SyncClient, queue: str) -> list[bytes]:
    """All messages of a queue, which are then gone."""
    found: list[bytes] = []
    while pulled := client.queue(queue).pull(max_messages=1_000):
        found += pulled.bodies()
        pulled.ack()
    return found


def test_each_order_leads_to_one_shipment_or_one_invoice_although_leaders_and_processors_die(
    cluster: Cluster, programs: Programs, say: Say
) -> None:
    dice = random.Random(5)
    orders = [b"%d" % number for number in range(ORDERS)]
    with SyncClient(cluster.addresses, timeout=60) as client:
        for name in ("orders", "shipments", "invoices"):
            client.create_queue(name, ack_deadline=LEASE_S)
        client.create_queue("billing", kind="task", lease=2.0, max_attempts=20, backoff=0.05)
        client.queue("orders").publish_many(orders)
        names = (*STYLES, "w1", "w2")
        for name in names:
            programs.start(name)

        for number in range(ROUNDS):
            goal = ORDERS * (number + 1) // (ROUNDS + 2)
            reach(client, goal)
            leader = cluster.leader()
            if number % 2:
                leader.pause()
            else:
                leader.kill()
            victim = dice.choice(names)
            programs.kill(victim)
            programs.start(victim)
            reach(client, goal + 50)
            if number % 2:
                leader.resume()
            else:
                leader.start()
            cluster.wait_healthy()
            say(f"round {number + 1}: {leader} and {victim}, {done(client)} orders")

        wait_for(lambda: client.get_queue("orders").stats.messages == 0, "all orders", timeout_s=120)
        wait_for(lambda: client.get_queue("billing").stats.messages == 0, "all bills", timeout_s=120)
        shipped, billed = Counter(bodies(client, "shipments")), Counter(bodies(client, "invoices"))
        tasks = list(client.tasks.list(queue="billing"))

    assert shipped == Counter(order for order in orders if not is_billed(order))
    assert billed == Counter(order for order in orders if is_billed(order))
    assert len(tasks) == sum(map(is_billed, orders))
    assert {task.state for task in tasks} == {"succeeded"}
