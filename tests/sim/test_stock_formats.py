"""Defects of stock PySyncObj in what it writes, sends and reads back: rows 6 to 8 and 10 to 12 of `test_stock_defects.py`."""

import logging
import os
import pickle
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from pysyncobj.journal import FileJournal
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.serializer import Serializer
from pysyncobj.tcp_connection import TcpConnection

from node.state import queues
from node.state.results import Published, Refused
from raft.ballot import Ballot
from raft.frames import Append, BadFrame, SnapshotPiece, decode
from raft.members import decode_members
from raft.records import Damaged, Entry
from raft.segments import Log
from raft.snapshots import Incoming
from raft.types import COMMAND
from tests.sim.alone import Alone
from tests.sim.disk import SimDisk
from tests.sim.logs import fill, flush
from tests.sim.state_log import Follower, MemoryLog, create, publish
from tests.sim.stock import Wires, append_entries

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # stock leaves files open


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Wires]:
    """Stock nodes with files, which do not fork and compact when they are told to."""

    def settings(name: str) -> dict[str, Any]:
        files = {
            "journalFile": str(tmp_path / f"{name}.journal"),
            "fullDumpFile": str(tmp_path / f"{name}.dump"),
        }
        return files | {"useFork": False, "logCompactionMinTime": 10**9, "logCompactionBatchSize": 200}

    wires = Wires(settings=settings)
    yield wires
    wires.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    alone = Alone(tmp_path)
    yield alone
    alone.close()


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


class Hostile:
    """Unpickling this writes a file, as it could do anything else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self._path, "run")


# 6


def test_stock_runs_what_it_receives(tmp_path: Path) -> None:
    class Polled:
        def subscribe(self, descriptor: int, callback: Any, events: int) -> None:
            self.callback = callback

        def unsubscribe(self, descriptor: int) -> None:
            """The connection ends."""

    data = zlib.compress(pickle.dumps(Hostile(tmp_path / "owned")))
    stranger, ours = socket.socketpair()
    ours.setblocking(False)
    poller = Polled()
    connection = TcpConnection(poller, socket=ours, timeout=1e9)
    stranger.sendall(struct.pack("i", len(data)) + data)

    poller.callback(ours.fileno(), POLL_EVENT_TYPE.READ)

    assert (tmp_path / "owned").read_text() == "run"
    connection.disconnect()
    stranger.close()


def test_stock_runs_what_stands_in_its_log_and_in_its_meta_file(wires: Wires, tmp_path: Path) -> None:
    follower = wires.nodes["n2"]
    message = append_entries((1, 0), 1, commit=2)
    message["entries"] = [(b"\0" + pickle.dumps(Hostile(tmp_path / "by log")), 2, 1)]
    follower.hear("n1", message)
    with pytest.raises(KeyError):
        follower.tick()  # it is no command, which shows when it has run
    (tmp_path / "other.meta").write_bytes(pickle.dumps(Hostile(tmp_path / "by meta")))
    with pytest.raises(AttributeError):
        FileJournal(str(tmp_path / "other")).getCurrentTerm()

    assert (tmp_path / "by log").exists()
    assert (tmp_path / "by meta").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_here_such_bytes_are_no_frame_no_members_no_log_and_no_ballot(
    alone: Alone, disk: SimDisk, tmp_path: Path, protocol: int
) -> None:
    hostile = pickle.dumps(Hostile(tmp_path / "owned"), protocol)

    for frame in (hostile, struct.pack("<I", len(hostile)) + hostile, zlib.compress(hostile)):
        with pytest.raises(BadFrame):
            decode(memoryview(frame))
    with pytest.raises(ValueError, match=r".*"):
        decode_members(hostile)
    alone.hear("n2", Append(1, 1, 1, 0, 2, (Entry(2, 1, COMMAND, hostile),)))
    alone.core.tick()
    disk.write("log-00000001-0000000000000001", 0, [hostile])
    with pytest.raises(Damaged):
        Log.open(disk, segment_bytes=4096)
    disk.write("ballot", 0, [hostile])
    with pytest.raises(Damaged):
        Ballot.open(disk)

    assert alone.state.commands == [hostile]  # a command is bytes, and stays bytes
    assert not (tmp_path / "owned").exists()


# 7


def test_a_stock_cluster_never_applies_anything_again_after_a_method_raised(wires: Wires) -> None:
    leader = wires.elect("n1")
    leader.stumble()
    leader.put("behind it")
    for _ in range(20):
        for node in wires.nodes.values():
            wires.now += 0.01
            try:
                node.tick()
            except RuntimeError:
                """A stock thread logs this and ticks again."""
        wires.deliver()

    stuck = {node.raftLastApplied for node in wires.nodes.values()}
    assert stuck == {leader.last - 2}
    assert [node.history for node in wires.nodes.values()] == [[], [], []]


def test_here_a_command_that_meets_a_bug_is_refused_and_the_next_one_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = queues.HANDLERS["publish"]

    def stumble(*args: Any) -> Any:
        if b"poison" in args[-1].chunk:
            raise RuntimeError("a bug in applying it")
        return sound(*args)

    monkeypatch.setitem(queues.HANDLERS, "publish", stumble)
    follower = Follower(MemoryLog(), tmp_path)

    results = follower.do(create("queues/a"), publish("queues/a", b"poison"), publish("queues/a", b"next"))

    assert isinstance(results[1], Refused)
    assert results[1].reason == "INTERNAL"
    assert results[2] == Published(1, 1)


# 8


def test_stock_forks_to_write_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[str] = []

    def fork() -> int:
        forks.append("forked")
        return os.getpid()  # this is the parent

    monkeypatch.setattr(os, "fork", fork)
    wires = Wires(settings=lambda name: {"fullDumpFile": str(tmp_path / name)})
    leader = wires.elect("n1")
    for value in range(5):
        leader.put(value)
    wires.wait(0.3)

    leader.forceLogCompaction()
    leader.tick()

    assert forks == ["forked"]
    wires.close()


def test_a_stock_node_that_cannot_read_its_snapshot_goes_on_with_nothing(
    wires: Wires, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leader = wires.elect("n1")
    for value in range(5):
        leader.put(value)
    wires.wait(0.3)
    node = wires.nodes["n2"]
    node.forceLogCompaction()
    wires.wait(0.1)
    node.destroy()
    dump = tmp_path / "n2.dump"
    dump.write_bytes(dump.read_bytes()[:-20])

    reborn = wires.nodes["n2"] = wires.make("n2")
    with caplog.at_level(logging.ERROR):
        wires.wait(1.0)

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


# 10


def test_a_stock_journal_ends_at_four_gigabytes(tmp_path: Path) -> None:
    journal = FileJournal(str(tmp_path / "journal"))

    with pytest.raises(struct.error):
        journal._FileJournal__setLastRecordOffset(1 << 32)

    journal._destroy()


def test_a_stock_journal_believes_every_bit(tmp_path: Path) -> None:
    journal = FileJournal(str(tmp_path / "journal"))
    journal.add(b"pay 100", 2, 1)
    journal._destroy()
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content.replace(b"pay 100", b"pay 900"))

    journal = FileJournal(str(tmp_path / "journal"))

    assert journal[0] == (b"pay 900", 2, 1)
    journal._destroy()


def test_here_a_log_goes_on_beyond_any_index_of_32_bits(disk: SimDisk) -> None:
    log = Log.open(disk, segment_bytes=4096)
    log.reset(1 << 40, 1 << 35)
    fill(log, 200, term=1 << 36)
    flush(log)

    log = Log.open(disk, segment_bytes=4096)

    assert log.base == (1 << 40, 1 << 35)
    assert log.last == ((1 << 40) + 200, 1 << 36)
    assert len(log.segments()) > 3


def test_here_one_bit_is_enough_to_refuse(disk: SimDisk) -> None:
    log = Log.open(disk, segment_bytes=4096)
    log.append(2, 1, COMMAND, b"pay 100")
    flush(log)
    log.append(3, 1, COMMAND, b"and this says that it was durable")
    flush(log)
    name = disk.names()[0]

    disk.flip(name, 8 * disk.read(name).index(b"pay 100") + 3)

    with pytest.raises(Damaged, match="checksum"):
        Log.open(disk, segment_bytes=4096)


# 11


def test_a_stock_restart_between_snapshot_and_cut_clears_the_log(wires: Wires) -> None:
    follower = wires.nodes["n2"]
    follower.hear("n1", append_entries((1, 0), 1, 1, 1, 1, commit=5))
    follower.hear("n1", append_entries((5, 1), 1, 1, 1, commit=5))  # acknowledged: a majority may hang on it
    follower.tick()
    follower.forceLogCompaction()
    follower.tick()  # the snapshot is written, the log would be cut in the next tick
    assert follower.last == 8
    follower.destroy()

    reborn = wires.nodes["n2"] = wires.make("n2")
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
    wires: Wires, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leader = wires.elect("n1")
    for _ in range(40):
        leader.put(random.randbytes(40))
    wires.wait(1.0)
    leader.forceLogCompaction()
    wires.wait(0.2)
    wires.nodes["n3"].destroy()
    (tmp_path / "n3.journal").unlink()
    laggard = wires.nodes["n3"] = wires.make("n3")
    leader.forget_progress_of("n3")
    wires.mail.clear()
    wires.now += 0.2
    leader.tick()
    pieces = [m for _, to, m in wires.mail if to == "n3" and m.get("serialized") is not None]
    assert len(pieces) > 3
    wires.mail.clear()

    with caplog.at_level(logging.ERROR):
        for number, piece in enumerate(pieces):
            if number != 1:  # it was lost
                laggard.hear("n1", piece)

    assert "failed to load full dump" in caplog.text
    assert laggard.history == []
    answers = [m for sender, _, m in wires.mail if sender == "n3"]
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
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = wires.elect("n1")
    for value in range(5):
        leader.put(value)
    wires.wait(0.3)
    leader.forceLogCompaction()
    wires.wait(0.1)
    leader.forget_progress_of("n3")
    monkeypatch.setattr(Serializer, "getTransmissionData", lambda *args: None)  # what it answers meanwhile
    wires.mail.clear()

    wires.now += 0.2
    leader.tick()

    assert sum(to == "n3" for _, to, _ in wires.mail) > 1000


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
