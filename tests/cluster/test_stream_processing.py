"""Processors are killed and paused, and leaders die, while orders come; every order counts once, in every result."""

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from taskraft import SyncClient
from taskraft.errors import ClientClosed
from taskraft.streams import tumbling
from tests.client.streams_model import Event, Model
from tests.cluster import stream_program as program
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say
from tests.cluster.processes import end, python, start, wait_for

pytestmark = pytest.mark.cluster

MODEL = Model(tumbling("1m"), lateness_ms=30_000, disorder_ms=5_000)
START_MS = 1_767_225_600_000
ORDERS_IN_ALL = 3_000
PART, AHEAD_MAX = 20, 100


def orders(rng: random.Random) -> list[Event]:
    """One a second; most come nearly in order, some up to 40 s late, a few much later. The last one ends all windows."""
    found = []
    for number in range(ORDERS_IN_ALL - 1):
        late_ms = rng.choice([0] * 15 + [4_000, 20_000, 40_000, 40_000, 200_000])
        country = rng.choice(["de", "fr", "pt", "se"])
        found.append(Event(country, START_MS + 1_000 * number - rng.randrange(late_ms + 1)))
    return [*found, Event("pt", START_MS + 86_400_000)]


class Processors:
    """Programs that process the orders of a cluster, by name."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        log = self._folder / f"{name}.log"
        self._running[name] = start(python("tests.cluster.stream_program", self._cluster.addresses), log=log)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def was_superseded(self, name: str) -> bool:
        """True if its transaction was refused because another one had gone on."""
        return "another processor is at work" in (self._folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """kill -9."""
        end(self._running.pop(name))

    def close(self) -> None:
        for name in list(self._running):
            self.kill(name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("streams")) as cluster:
        yield cluster


@pytest.fixture
def processors(cluster: Cluster, tmp_path: Path) -> Iterator[Processors]:
    found = Processors(cluster, tmp_path)
    yield found
    found.close()


class Shop:
    """Sells without a pause, a little faster than orders are counted, so that processors are at work when things fail."""

    def __init__(self, addresses: str, events: list[Event]) -> None:
        self._client, self._events = SyncClient(addresses, timeout=60), events
        self._selling = threading.Thread(target=self._sell, daemon=True)

    def __enter__(self) -> Self:
        self._selling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()  # which ends the thread, should it still be selling
        self._selling.join()

    def counted(self) -> int:
        """How many orders the group is done with."""
        groups = self._client.get_queue(program.ORDERS).stats.groups
        return max([group.position - 1 for group in groups], default=0)

    def wait_until_counted(self, count: int) -> None:
        wait_for(lambda: self.counted() >= count, f"{count} orders are counted", timeout_s=60)

    def _sell(self) -> None:
        orders = [program.order(*event) for event in self._events]
        with suppress(ClientClosed):
            for sold in range(0, len(orders), PART):
                self._client.queue(program.ORDERS).publish_many(orders[sold : sold + PART])
                while sold - self.counted() > AHEAD_MAX:
                    time.sleep(0.01)


def all_of(client: SyncClient, queue: str) -> list[Any]:
    """Everything in a queue of messages, in order."""
    messages = client.queue(queue).pull(max_messages=10_000, wait=1).messages
    return [json.loads(message.body) for message in messages]


def test_every_order_counts_once_whoever_is_killed_or_paused(
    cluster: Cluster, processors: Processors, say: Say
) -> None:
    events = orders(random.Random(4))
    with SyncClient(cluster.addresses, timeout=60) as client:
        client.create_queue(program.ORDERS, kind="stream")
        for queue in (program.RESULTS, program.LATE, program.BAD):
            client.create_queue(queue)
        processors.start("first")
        with Shop(cluster.addresses, events) as shop:
            shop.wait_until_counted(300)
            processors.start("second")
            processors.kill("first")
            shop.wait_until_counted(700)
            say("the first processor was killed, the second one went on")
            processors.start("third")
            processors.signal("second", signal.SIGSTOP)
            shop.wait_until_counted(1_100)
            say("the second one was paused, the third one went on")
            leader = cluster.leader()
            leader.kill()
            shop.wait_until_counted(1_500)
            processors.signal("second", signal.SIGCONT)
            wait_for(lambda: processors.was_superseded("second"), "the second one is told that it is late")
            say("the leader was killed, and the second one is back and was refused")
            leader.start()
            shop.wait_until_counted(2_000)
            processors.kill("third")
            shop.wait_until_counted(len(events))

        expected, late = MODEL.emissions(events)
        assert [tuple(one) for one in all_of(client, program.RESULTS)] == expected
        assert [(one["country"], round(one["at"] * 1_000)) for one in all_of(client, program.LATE)] == late
        assert all_of(client, program.BAD) == []
        say(f"{len(events)} orders, {len(expected)} results, {sum(one[3] for one in expected)} corrections")
