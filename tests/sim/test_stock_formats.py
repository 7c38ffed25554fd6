"""Defects of stock PySyncObj in what it writes, sends and reads back: rows 6, 7 and 10 of `test_stock_defects.py`."""

import pickle
import random
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.journal import FileJournal
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.tcp_connection import TcpConnection

from node.state import handlers
from node.state.results import Published, Refused
from raft.ballot import Ballot
from raft.frames import Append, BadFrame, decode
from raft.members import decode_members
from raft.records import Damaged, Entry
from raft.segments import Log
from raft.types import COMMAND
from tests.sim.alone import Alone
from tests.sim.disk import SimDisk
from tests.sim.logs import fill, flush
from tests.sim.state_log import Follower, MemoryLog, create, publish
from tests.sim.stock import Wires, append_entries

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # stock leaves files open


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


def test_stock_runs_what_stands_in_its_log_and_in_its_meta_file(filed: Wires, tmp_path: Path) -> None:
    follower = filed.nodes["n2"]
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


def test_a_stock_cluster_never_applies_anything_again_after_a_method_raised(filed: Wires) -> None:
    leader = filed.elect("n1")
    before = leader.last
    leader.stumble()
    leader.put("behind it")
    for _ in range(20):
        for node in filed.nodes.values():
            filed.now += 0.01
            try:
                node.tick()
            except RuntimeError:
                """A stock thread logs this and ticks again."""
        filed.deliver()

    stuck = {node.raftLastApplied for node in filed.nodes.values()}
    assert stuck == {before}
    assert [node.history for node in filed.nodes.values()] == [[], [], []]


def test_here_a_command_that_meets_a_bug_is_refused_and_the_next_one_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = handlers.HANDLERS["publish"]

    def stumble(*args: Any) -> Any:
        if b"poison" in args[-1].chunk:
            raise RuntimeError("a bug in applying it")
        return sound(*args)

    monkeypatch.setitem(handlers.HANDLERS, "publish", stumble)
    follower = Follower(MemoryLog(), tmp_path)

    results = follower.do(create("queues/a"), publish("queues/a", b"poison"), publish("queues/a", b"next"))

    assert isinstance(results[1], Refused)
    assert results[1].reason == "INTERNAL"
    assert results[2] == Published(1, 1)


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
