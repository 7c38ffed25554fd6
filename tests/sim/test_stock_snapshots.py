"""Defects of stock PySyncObj in its snapshots: rows 8, 11 and 12 of `test_stock_defects.py`."""

import logging
import os
import random
from pathlib import Path

import google_crc32c
import pytest
from pysyncobj.serializer import Serializer

from raft.frames import SnapshotPiece
from raft.snapshots import Incoming
from tests.sim.alone import Alone
from tests.sim.stock import Wires, append_entries

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # stock leaves files open


# 8


def test_stock_forks_to_write_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[str] = []

    def fork() -> int:
        forks.append("forked")
        return os.getpid()  # this is the parent

    monkeypatch.setattr(os, "fork", fork)
    filed = Wires(settings=lambda name: {"fullDumpFile": str(tmp_path / name)})
    leader = filed.elect("n1")
    for value in range(5):
        leader.put(value)
    filed.wait(0.3)

    leader.forceLogCompaction()
    leader.tick()

    assert forks == ["forked"]
    filed.close()


def test_a_stock_node_that_cannot_read_its_snapshot_goes_on_with_nothing(
    filed: Wires, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leader = filed.elect("n1")
    for value in range(5):
        leader.put(value)
    filed.wait(0.3)
    node = filed.nodes["n2"]
    node.forceLogCompaction()
    filed.wait(0.1)
    node.destroy()
    dump = tmp_path / "n2.dump"
    dump.write_bytes(dump.read_bytes()[:-20])

    reborn = filed.nodes["n2"] = filed.make("n2")
    with caplog.at_level(logging.ERROR):
        filed.wait(1.0)

    assert "failed to load full dump" in caplog.text
    assert leader.history == [0, 1, 2, 3, 4]
    assert reborn.history != leader.history
    assert reborn.raftCommitIndex == leader.raftCommitIndex  # and it votes, and acknowledges


def test_here_a_node_whose_state_is_older_than_its_log_does_not_start(alone: Alone) -> None:
    alone.core.log.reset(50, 3)
    alone.write()
    assert alone.core.log.base == (50, 3)

    with pytest.raises(AssertionError, match="the state is older than the log's base"):
        alone.restart()


# 11


def test_a_stock_restart_between_snapshot_and_cut_clears_the_log(filed: Wires) -> None:
    follower = filed.nodes["n2"]
    follower.hear("n1", append_entries((1, 0), 1, 1, 1, 1, commit=5))
    follower.hear("n1", append_entries((5, 1), 1, 1, 1, commit=5))  # acknowledged: a majority may hang on it
    follower.tick()
    follower.forceLogCompaction()
    follower.tick()  # the snapshot is written, the log would be cut in the next tick
    assert follower.last == 8
    follower.destroy()

    reborn = filed.nodes["n2"] = filed.make("n2")
    assert reborn.last == 8
    reborn.tick()

    assert reborn.last == 5


def test_here_the_log_keeps_what_the_state_does_not_have(alone: Alone) -> None:
    alone.follow("n2", 1, 1, 1, 1, commit=5)
    alone.follow("n2", 1, 1, 1, commit=5)
    alone.state_disk.committed = alone.state._saved()
    alone.state.checkpoint()  # and the log was not cut yet

    alone.restart()

    assert alone.state.applied == 5
    assert alone.core.log.last == (8, 1)


# 12


def test_stock_installs_a_snapshot_with_a_hole_and_says_that_all_went_well(
    filed: Wires, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leader = filed.elect("n1")
    for _ in range(40):
        leader.put(random.randbytes(40))
    filed.wait(1.0)
    leader.forceLogCompaction()
    filed.wait(0.2)
    filed.nodes["n3"].destroy()
    (tmp_path / "n3.journal").unlink()
    laggard = filed.nodes["n3"] = filed.make("n3")
    leader.forget_progress_of("n3")
    filed.mail.clear()
    filed.now += 0.2
    leader.tick()
    pieces = [m for _, to, m in filed.mail if to == "n3" and m.get("serialized") is not None]
    assert len(pieces) > 3
    filed.mail.clear()

    with caplog.at_level(logging.ERROR):
        for number, piece in enumerate(pieces):
            if number != 1:  # it was lost
                laggard.hear("n1", piece)

    assert "failed to load full dump" in caplog.text
    assert laggard.history == []
    answers = [m for sender, _, m in filed.mail if sender == "n3"]
    assert [(m["type"], m["success"]) for m in answers] == [("next_node_idx", True)]


def test_here_a_hole_or_a_wrong_byte_in_a_snapshot_waits_for_the_right_one(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 4
    pieces = [
        SnapshotPiece(
            term=1,
            snapshot_id="s",
            index=9,
            index_term=1,
            offset=at,
            total_bytes=len(whole),
            data=whole[at : at + 100],
            crc=google_crc32c.value(whole[at : at + 100]),
            last=at + 100 >= len(whole),
        )
        for at in range(0, len(whole), 100)
    ]
    incoming = Incoming(tmp_path / "in")
    assert incoming.take(pieces[0]) == 100

    assert incoming.take(pieces[2]) == 100
    assert not incoming.complete(pieces[-1])
    for piece in pieces[1:]:
        incoming.take(piece)

    assert incoming.complete(pieces[-1])
    assert (tmp_path / "in").read_bytes() == whole


def test_a_stock_leader_spins_while_it_writes_a_snapshot(
    filed: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = filed.elect("n1")
    for value in range(5):
        leader.put(value)
    filed.wait(0.3)
    leader.forceLogCompaction()
    filed.wait(0.1)
    leader.forget_progress_of("n3")
    monkeypatch.setattr(Serializer, "getTransmissionData", lambda *args: None)  # what it answers meanwhile
    filed.mail.clear()

    filed.now += 0.2
    leader.tick()

    assert sum(to == "n3" for _, to, _ in filed.mail) > 1000


def test_here_a_leader_asks_for_one_snapshot_and_heartbeats_meanwhile(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(alone.ears, "make_snapshot", lambda: asked.append("n3"))
    alone.lead()
    for _ in range(200):
        alone.core.propose(b"x" * 100, lambda result, error: None)
    alone.wait(0.1)
    alone.acknowledge("n2")
    alone.core.log.release(alone.core.applied)
    assert alone.core.log.base[0] > 50
    alone.core.disconnected("n3")
    alone.core.connected("n3")
    before = len(alone.ears.sent)

    alone.wait(1.0)

    assert asked == ["n3"]
    assert sum(peer == "n3" for peer, _ in alone.ears.sent[before:]) < 40
