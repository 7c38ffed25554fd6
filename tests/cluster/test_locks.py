"""Locks on a real cluster: leaders and holders are killed and stopped, and no lock has two holders."""

import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from taskraft import LockInfo, SyncClient
from tests.cluster.cluster import Cluster
from tests.cluster.processes import end, python, start, wait_for

pytestmark = pytest.mark.cluster

TTL_S = 4.0
"""Longer than an election takes, also on a busy machine."""
ENDLESS = 1_000_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("locks")) as cluster:
        yield cluster


class Said(NamedTuple):
    """A line that a holder has written."""

    at_s: float
    word: str
    token: int


class Holder:
    """A process that holds a lock again and again."""

    def __init__(
        self, cluster: Cluster, lock: str, folder: Path, name: str, *, rounds: int = 1, hold_s: float = 0.05
    ) -> None:
        self.file = folder / f"{name}.txt"
        self.name = name
        words = [cluster.addresses, lock, str(TTL_S), str(rounds), str(self.file), str(hold_s)]
        self.process: subprocess.Popen[str] = start(
            python("tests.cluster.lock_holder", *words), log=folder / f"{name}.log"
        )

    def said(self) -> list[Said]:
        written = self.file.read_text() if self.file.exists() else ""
        lines = written.split("\n")[:-1]  # the last one may be half written
        parts = [line.split() for line in lines]
        return [Said(float(part[0]), part[1], int(part[2]) if len(part) > 2 else 0) for part in parts]

    def words(self) -> list[str]:
        return [said.word for said in self.said()]

    def wait(self, word: str, timeout_s: float = 60) -> Said:
        """The first line with that word."""
        wait_for(lambda: word in self.words(), f"{self.name} says {word}", timeout_s=timeout_s)
        return next(said for said in self.said() if said.word == word)

    def times(self) -> dict[int, tuple[float, float]]:
        """From when to when it was sure to hold the lock, by token."""
        found: dict[int, tuple[float, float]] = {}
        for said in self.said():
            if said.word in ("got", "sure", "gave"):
                found[said.token] = (found.get(said.token, (said.at_s, 0.0))[0], said.at_s)
        return found


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    started: list[Holder] = []
    yield started
    for holder in started:
        end(holder.process)


def check(holders: list[Holder]) -> None:
    """Whoever had a greater token had the lock later, and not before the one before was through."""
    times = {token: span for holder in holders for token, span in holder.times().items()}
    for earlier, later in itertools.pairwise(sorted(times)):
        assert times[earlier][1] <= times[later][0], (earlier, times[earlier], later, times[later])


def shown(cluster: Cluster, lock: str) -> LockInfo:
    with SyncClient(cluster.addresses, timeout=60) as client:
        return client.locks.get(lock)


def wait_for_line(cluster: Cluster, lock: str, waiters: int) -> None:
    with SyncClient(cluster.addresses, timeout=60) as client:
        wait_for(lambda: client.locks.get(lock).waiter_count == waiters, f"{waiters} wait for {lock}")


def wait_for_rounds(holders: list[Holder], more: int) -> None:
    """Until they have had the lock so many times more."""

    def rounds() -> int:
        return sum(holder.words().count("gave") for holder in holders)

    until = rounds() + more
    wait_for(lambda: rounds() >= until, "the lock goes round", timeout_s=60)


def test_locks_go_round_while_leaders_die(cluster: Cluster, tmp_path: Path, holders: list[Holder]) -> None:
    holders += [Holder(cluster, "round", tmp_path, f"h{number}", rounds=ENDLESS) for number in range(4)]
    for holder in holders:
        holder.wait("got")

    for _ in range(3):
        leader = cluster.leader()
        leader.kill()
        wait_for_rounds(holders, 4)
        leader.start()
        cluster.wait_healthy()

    check(holders)
    assert [holder.words().count("lost") for holder in holders] == [0, 0, 0, 0]


def test_nobody_loses_a_lock_and_the_line_keeps_its_order_when_the_leader_dies(
    cluster: Cluster, tmp_path: Path, holders: list[Holder]
) -> None:
    holders.append(Holder(cluster, "line", tmp_path, "first", hold_s=3 * TTL_S))
    first = holders[0].wait("got")
    for number in range(4):
        holders.append(Holder(cluster, "line", tmp_path, f"w{number}"))
        wait_for_line(cluster, "line", number + 1)

    leader = cluster.leader()
    leader.kill()
    wait_for_line(cluster, "line", 4)

    assert [holder.token for holder in shown(cluster, "line").holders] == [first.token]
    assert [waiter.holder_id for waiter in shown(cluster, "line").waiters] == ["w0", "w1", "w2", "w3"]
    for holder in holders:
        holder.wait("done")
    assert "lost" not in holders[0].words()
    tokens = [holder.wait("got").token for holder in holders]
    assert tokens == sorted(tokens)
    check(holders)
    leader.start()
    cluster.wait_healthy()


def test_a_holder_that_sleeps_longer_than_its_ttl_finds_its_lock_lost(
    cluster: Cluster, tmp_path: Path, holders: list[Holder]
) -> None:
    holders.append(Holder(cluster, "sleeper", tmp_path, "sleeper", hold_s=600))
    token = holders[0].wait("got").token
    holders.append(Holder(cluster, "sleeper", tmp_path, "next", hold_s=0.5))
    wait_for_line(cluster, "sleeper", 1)

    stopped_s = time.monotonic()
    holders[0].process.send_signal(signal.SIGSTOP)
    taken = holders[1].wait("got")
    holders[0].process.send_signal(signal.SIGCONT)

    lost = holders[0].wait("lost")
    assert taken.token > token
    assert taken.at_s - stopped_s > TTL_S / 2
    after = [said for said in holders[0].said() if said.word == "sure" and said.at_s > taken.at_s]
    assert len(after) <= 1, "what it had begun before it slept, and nothing more"
    assert lost.token == token


def test_a_holder_that_dies_makes_room_for_the_next(
    cluster: Cluster, tmp_path: Path, holders: list[Holder]
) -> None:
    holders.append(Holder(cluster, "dies", tmp_path, "dies", hold_s=600))
    token = holders[0].wait("got").token
    holders.append(Holder(cluster, "dies", tmp_path, "waits-and-dies", hold_s=600))
    wait_for_line(cluster, "dies", 1)
    holders.append(Holder(cluster, "dies", tmp_path, "next"))
    wait_for_line(cluster, "dies", 2)

    end(holders[1].process)
    wait_for_line(cluster, "dies", 1)
    end(holders[0].process)

    assert holders[2].wait("got").token > token
    check(holders)


def test_a_leader_that_was_stopped_keeps_nothing_alive(
    cluster: Cluster, tmp_path: Path, holders: list[Holder]
) -> None:
    holders += [
        Holder(cluster, "stopped", tmp_path, f"h{number}", rounds=ENDLESS, hold_s=0.3) for number in range(3)
    ]
    for holder in holders:
        holder.wait("want")
    holders[0].wait("got")

    for _ in range(2):
        leader = cluster.leader()
        leader.pause()
        cluster.leader(cluster.others(leader))
        wait_for_rounds(holders, 4)
        leader.resume()
        cluster.wait_healthy()

    wait_for_rounds(holders, 4)
    check(holders)
