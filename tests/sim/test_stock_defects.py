"""What is wrong with PySyncObj 0.3.17 as it comes, each defect shown on it and then absent here.

 1  what was acknowledged is in the page cache only: the journal is never synced, the vote is renamed unsynced
 2  a follower cuts its log at every append_entries, conflict or not
 3  acknowledgements have no term, and votes are counted, not attributed
 4  each acknowledgement takes back what was sent since: a busy leader sends everything again and again
 5  in batch mode a commit waits for the tick: 100 ms
 6  everything is pickle: whoever reaches the port, or the disk, runs code                      test_stock_formats.py
 7  a replicated method that raises stops its cluster for good                                  test_stock_formats.py
 8  snapshots fork and pickle; one that cannot be read is logged, and the state is empty        test_stock_snapshots.py
 9  no pre-vote, no linearizable read, a leader alone leads for 30 s, and commands over the batch size are cut wrongly
10  32-bit offsets and no checksums in the journal                                              test_stock_formats.py
11  a restart between writing a snapshot and cutting the log clears the log                     test_stock_snapshots.py
12  pieces of snapshots have neither position nor checksum, and a leader spins while it writes  test_stock_snapshots.py
"""

import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import pytest

from raft.frames import Append, AppendReply, VoteReply
from tests.sim.alone import Alone
from tests.sim.network import Weather
from tests.sim.stock import NAMES, Wires, append_entries
from tests.sim.world import World

BRIGHT = Weather(loss=0, double=0, late=0)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(1, weather=BRIGHT)
    world.run(2.0)
    yield world
    world.close()


class SyncCounter:
    """Notes every fsync, fdatasync and msync of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noted(getattr(os, name)))
        counter = self

        class NotedMmap(mmap.mmap):
            def flush(self, *args: Any) -> None:
                counter.count += 1
                super().flush(*args)

        monkeypatch.setattr("pysyncobj.journal.mmap", SimpleNamespace(mmap=NotedMmap))

    def _noted(self, sync: Any) -> Any:
        def noted(fd: int) -> None:
            self.count += 1
            sync(fd)

        return noted


# 1


def test_stock_forgets_what_it_acknowledged_when_the_power_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = SyncCounter(monkeypatch)
    wires = Wires(settings=lambda name: {"journalFile": str(tmp_path / name)})
    answers: list[tuple[Any, Any]] = []
    leader = wires.elect("n1")
    leader.put("paid", callback=lambda result, error: answers.append((result, error)))
    wires.wait(0.3)
    assert answers == [(1, 0)]
    assert syncs.count == 0  # so this is what the disks hold: nothing
    wires.close()
    for path in tmp_path.iterdir():
        path.unlink()

    wires = Wires(settings=lambda name: {"journalFile": str(tmp_path / name)})
    wires.elect("n2")

    assert [node.history for node in wires.nodes.values()] == [[], [], []]
    wires.close()


def test_here_it_is_on_the_disks_of_a_majority(world: World) -> None:
    leader = world.leader()
    assert leader is not None
    world.propose(leader)
    world.run(0.2)
    assert world.counts["acknowledged"] == 1

    for node in world.nodes.values():
        node.crash(power_loss=True)
    world.converge()

    assert all((node.store.commands() or [])[:1] == [b"c1"] for node in world.nodes.values())


# 2


def test_a_stock_follower_cuts_its_log_without_a_conflict(
    wires: Wires, caplog: pytest.LogCaptureFixture
) -> None:
    follower = wires.nodes["n2"]
    follower.hear("n1", append_entries((1, 0), 1, 1, 1, commit=4))
    follower.tick()
    assert (follower.last, follower.raftLastApplied) == (4, 4)

    with caplog.at_level(logging.CRITICAL):
        follower.hear("n1", append_entries((1, 0), 1))  # the first of them once more, late

    assert follower.last == 2
    assert "truncating already-applied log entries" in caplog.text


def test_here_a_late_append_changes_nothing(alone: Alone) -> None:
    first = alone.append(1)
    alone.follow("n2", 1, 1, 1)

    alone.hear("n2", first)

    assert alone.core.log.last == (4, 1)


# 3


def test_one_vote_elects_a_stock_leader_of_five_if_it_comes_twice() -> None:
    wires = Wires((*NAMES, "n4", "n5"))
    candidate = wires.nodes["n1"]
    candidate.stand()

    for _ in range(2):
        candidate.hear("n2", {"type": "response_vote", "term": 1})

    assert candidate._isLeader()
    wires.close()


def test_here_a_vote_counts_once(tmp_path: Path) -> None:
    alone = Alone(tmp_path, members=5)
    alone.stand()

    for _ in range(3):
        alone.hear("n2", VoteReply(alone.core.engine.term))
    assert alone.core.leading is None
    alone.hear("n3", VoteReply(alone.core.engine.term))

    assert alone.core.leading is not None
    alone.close()


def test_a_stock_leader_commits_by_an_acknowledgement_of_another_leaders_entry(wires: Wires) -> None:
    leader = wires.nodes["n1"]
    leader.hear(
        "n3", append_entries((1, 0), 1, 1, 1, 1, 1)
    )  # n3 leads term 1; n2 has said that it holds entry 6
    late = {"type": "next_node_idx", "next_node_idx": 7, "reset": False, "success": True}
    leader.hear("n3", append_entries((1, 0), 2, term=2))  # but term 2 begins with other entries
    leader.stand()
    leader.hear("n3", {"type": "response_vote", "term": 3})
    wires.mail.clear()
    for value in range(5):
        leader.put(value)
    leader.tick()

    leader.hear("n2", late)
    leader.tick()

    assert leader.raftCommitIndex == 6
    assert leader.raftLastApplied == 6


def test_here_an_acknowledgement_counts_in_its_term_only(alone: Alone) -> None:
    alone.lead()
    committed = alone.core.commit
    for payload in (b"a", b"b", b"c"):
        alone.core.propose(payload, lambda result, error: None)
    alone.wait(0.02)
    last = alone.core.log.last[0]

    alone.hear("n2", AppendReply(alone.core.engine.term - 1, 99, success=True, index=last))

    assert alone.core.commit == committed < last


# 4


def test_a_stock_leader_sends_again_what_is_in_flight(wires: Wires) -> None:
    leader = wires.elect("n1")
    wires.mail.clear()
    sent: list[int] = []
    for value in range(3):
        leader.put(value)
        leader.tick()
        wires.now += 0.11
        leader.tick()  # the heartbeat takes it along; nobody has answered yet
    for _, receiver, message in wires.mail:
        sent += [index for _, index, _ in message.get("entries", ()) if receiver == "n2"]
    first, last = min(sent), max(sent)
    assert sent == list(range(first, last + 1))

    wires.mail.clear()
    leader.hear("n2", {"type": "next_node_idx", "next_node_idx": first + 1, "reset": False, "success": True})
    wires.now += 0.11
    leader.tick()

    again = [index for _, to, m in wires.mail for _, index, _ in m.get("entries", ()) if to == "n2"]
    assert again == list(range(first + 1, last + 1))


def test_here_every_entry_is_sent_once(alone: Alone) -> None:
    alone.lead()
    first = alone.core.log.last[0] + 1
    for _ in range(5):
        alone.core.propose(b"x", lambda result, error: None)
        alone.wait(0.02)
    alone.acknowledge()

    for peer in alone.peers:
        sent = [e.index for m in alone.said(Append, peer) for e in m.entries if e.index >= first]
        assert sent == list(range(first, first + 5))


# 5


def test_a_stock_command_waits_for_the_next_heartbeat(wires: Wires) -> None:
    leader = wires.elect("n1")
    wires.mail.clear()
    while not wires.mail:
        wires.now += 0.001
        leader.tick()  # a heartbeat has just left
    wires.mail.clear()

    began = wires.now
    leader.put("x")
    while not any(message.get("entries") for _, _, message in wires.mail):
        wires.now += 0.001
        leader.tick()

    assert wires.now - began > 0.09


def test_here_a_command_leaves_at_once(alone: Alone) -> None:
    alone.lead()
    before = len(alone.said(Append, "n2"))

    alone.core.propose(b"x", lambda result, error: None)
    alone.core.tick()

    sent = alone.said(Append, "n2")[before:]
    assert [[entry.payload for entry in message.entries] for message in sent] == [[b"x"]]


# 9


def test_a_stock_node_that_was_cut_off_throws_out_a_leader_that_is_alive(wires: Wires) -> None:
    wires.elect("n1")
    wires.wait(10.0, cut="n3")
    assert wires.leaders() == ["n1"]
    term = wires.nodes["n1"].raftCurrentTerm
    assert wires.nodes["n3"].raftCurrentTerm > term + 3

    wires.wait(0.2)
    wires.nodes["n3"].stand()  # at the latest when its timeout is over
    wires.deliver()

    assert wires.nodes["n1"].raftCurrentTerm > term
    assert not wires.nodes["n1"]._isLeader()


def test_here_a_node_that_was_cut_off_comes_back_quietly(world: World) -> None:
    leader = world.leader()
    assert leader is not None
    assert leader.core is not None
    away = next(name for name in world.nodes if name != leader.id)
    term = leader.core.engine.term

    world.network.cut = {(a, b) for a in world.nodes for b in world.nodes if away in (a, b)}
    world.run(10.0)
    world.network.heal()
    world.run(3.0)

    assert world.leader() is leader
    assert leader.core.engine.term == term


def test_a_stock_leader_that_is_alone_leads_for_half_a_minute_and_answers_from_the_past(wires: Wires) -> None:
    old = wires.elect("n1")
    wires.wait(3.0, cut="n1")
    new = next(wires.nodes[name] for name in wires.leaders() if name != "n1")
    new.put("written since")
    wires.wait(20.0, cut="n1")

    assert new.history == ["written since"]
    assert old._isLeader()
    assert old.history == []  # what it tells whoever asks


def test_here_a_leader_that_is_alone_steps_down_and_confirms_no_read(world: World) -> None:
    leader = world.leader()
    assert leader is not None
    assert leader.core is not None
    assert leader.core.leading is not None
    answers: list[int | None] = []
    world.network.cut = {(a, b) for a in world.nodes for b in world.nodes if leader.id in (a, b)}

    leader.core.leading.read(answers.append)
    world.run(0.7)

    assert leader.core.leading is None
    assert answers == [None]


def test_a_stock_command_of_almost_two_batches_never_arrives() -> None:
    """Its length without its envelope decides which chunk is called the last: two of them are."""
    wires = Wires(settings=lambda name: {"appendEntriesBatchSizeBytes": 1 << 10})
    leader = wires.elect("n1")
    leader.put("x" * ((1 << 11) - 40))
    leader.tick()
    wires.now += 0.2
    leader.tick()
    ends = [m["transmission"] for _, to, m in wires.mail if to == "n2" and "transmission" in m]
    assert ends == ["start", "finish", "finish"]

    with pytest.raises((UnpicklingError, EOFError, UnicodeDecodeError)):
        wires.deliver()
    wires.close()


@pytest.mark.parametrize("size", [(1 << 11) - 40, 1 << 11, 3 << 20])
def test_here_a_command_of_any_size_is_one_entry(world: World, size: int) -> None:
    leader = world.leader()
    assert leader is not None
    assert leader.core is not None
    core, results = leader.core, list[object]()

    leader.run(lambda: core.propose(b"x" * size, lambda *answer: results.append(answer)), leader.life)
    world.run(1.0)

    assert results == [(1, None)]
    assert all(node.store.commands() == [b"x" * size] for node in world.nodes.values())
