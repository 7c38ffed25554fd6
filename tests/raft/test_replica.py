"""Real replicas on one loop: sockets, files and threads, without a node around them."""

import asyncio
import errno
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from raft import (
    CatchUpTimeout,
    Member,
    MemberExists,
    NotLeader,
    Replica,
    ReplicaConfig,
    SnapshotMeta,
    Stopped,
    TransferFailed,
    WrongDirectory,
)

DEADLINE_S = 15.0
T = TypeVar("T")


class Lines:
    """A list of commands; its store is a file that is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.applied, self.applied_term = 0, 0
        self.members: tuple[Member, ...] | None = None
        self.lines: list[bytes] = []
        self._folder = folder

    def apply(self, index: int, term: int, payload: bytes) -> object:
        self.applied, self.applied_term = index, term
        if payload == b"poison":
            raise ValueError("a bug in the state machine")
        self.lines.append(payload)
        return len(self.lines)

    def record(self, index: int, term: int, members: tuple[Member, ...] | None) -> None:
        self.applied, self.applied_term, self.members = index, term, members or self.members

    def flush(self) -> None:
        """Everything is in memory."""

    def checkpointed(self) -> int:
        return self.applied

    def snapshot(self, path: Path) -> SnapshotMeta:
        path.write_bytes(b"\n".join(self.lines))
        return SnapshotMeta(self.applied, self.applied_term, self.members or ())

    def install(self, path: Path, meta: SnapshotMeta) -> None:
        self.lines = path.read_bytes().split(b"\n")
        self.applied, self.applied_term = meta.index, meta.term

    def fingerprint(self) -> str:
        return b"\n".join(self.lines).hex()


class Cluster:
    """Three or more replicas that can be stopped, started and wiped."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        self.folder = folder
        self.founders = tuple(Member(f"n{i}", f"127.0.0.1:{free_port()}") for i in range(1, size + 1))
        self.running: dict[str, tuple[Replica, Lines]] = {}

    async def start(self, member: Member, *, join: bool = False) -> Replica:
        data_dir = self.folder / member.id
        data_dir.mkdir(exist_ok=True)
        state = Lines(data_dir)
        config = ReplicaConfig(
            node_id=member.id,
            cluster="test",
            data_dir=data_dir,
            listen=member.address,
            advertise=member.address,
            members=() if join else self.founders,
            join=join,
            segment_bytes=1 << 16,
        )
        replica = await Replica.open(config, state)
        self.running[member.id] = (replica, state)
        return replica

    async def stop(self, member_id: str) -> None:
        replica, _ = self.running.pop(member_id)
        await replica.close()

    async def close(self) -> None:
        for member_id in list(self.running):
            await self.stop(member_id)

    async def leader(self) -> Replica:
        def found() -> Replica | None:
            leaders = [r for r, _ in self.running.values() if r.core.leading and leads_in_peace(r)]
            return max(leaders, key=lambda r: r.status.term) if leaders else None

        return await until(found)


def leads_in_peace(replica: Replica) -> bool:
    """It leads, and the list of members that its first term writes down is committed."""
    return 1 < replica.core.membership.index <= replica.status.applied


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], T | None]) -> T:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not (found := condition()):
        assert asyncio.get_running_loop().time() < deadline, "not in time"
        await asyncio.sleep(0.005)
    return found


def run(work: Callable[[Cluster], Coroutine[Any, Any, None]], folder: Path) -> None:
    async def main() -> None:
        cluster = Cluster(folder)
        try:
            for member in cluster.founders:
                await cluster.start(member)
            await work(cluster)
        finally:
            await cluster.close()

    asyncio.run(main())


def test_a_follower_acknowledges_what_is_on_its_disk_before_it_applies_what_was_committed(
    tmp_path: Path,
) -> None:
    ahead: list[int] = []

    def note_at(replica: Replica, state: Lines) -> None:
        apply = state.apply

        def noting(index: int, term: int, payload: bytes) -> object:
            me = next(member for member in replica.status.members if member.id == replica.status.node_id)
            ahead.append(me.match - index)
            return apply(index, term, payload)

        state.apply = noting  # type: ignore[method-assign]

    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        for replica, state in cluster.running.values():
            if replica is not leader:
                note_at(replica, state)
        for i in range(20):
            await leader.propose(b"%d" % i)

    run(work, tmp_path)
    assert sum(distance >= 1 for distance in ahead) >= 20, (
        "a heartbeat may bring a commit by itself, now and then"
    )


def test_what_is_proposed_while_a_write_is_under_way_goes_with_the_next_one(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()

        results: list[object] = []
        for wave in range(40):
            futures = [leader.propose(b"%d.%d" % (wave, i)) for i in range(20)]
            await asyncio.sleep(0)
            results += await asyncio.gather(*futures)

        assert results == list(range(1, 801))
        states = [state for _, state in cluster.running.values()]
        await until(lambda: all(len(s.lines) == 800 for s in states) or None)
        assert len({s.fingerprint() for s in states}) == 1

    run(work, tmp_path)


def test_a_follower_refuses_proposals_and_names_the_leader(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        follower = next(r for r, _ in cluster.running.values() if r is not leader)
        await until(lambda: follower.status.leader_id)

        with pytest.raises(NotLeader) as refused:
            await follower.propose(b"x")

        assert refused.value.leader_id == leader.status.node_id

    run(work, tmp_path)


def test_a_stopped_leader_is_followed_by_another_that_has_everything(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        await leader.propose(b"before")

        await cluster.stop(leader.status.node_id)
        successor = await cluster.leader()

        assert await successor.propose(b"after") == 2
        assert await successor.read_barrier() >= 4

    run(work, tmp_path)


def test_leadership_goes_to_whom_it_is_handed(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        target = next(m.id for m in cluster.founders if m.id != leader.status.node_id)

        assert await leader.transfer_leadership(target) == target

        with pytest.raises((NotLeader, TransferFailed)):
            await leader.transfer_leadership("n9")

    run(work, tmp_path)


def test_a_wiped_member_comes_back_without_a_vote_and_gets_it_when_it_has_caught_up(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        for i in range(50):
            await leader.propose(b"%d" % i)
        victim = next(m for m in cluster.founders if m.id != leader.status.node_id)
        await cluster.stop(victim.id)
        shutil.rmtree(tmp_path / victim.id)

        replica = await cluster.start(victim)
        began_with_a_vote = replica.core.voter
        await until(lambda: replica.core.voter or None)

        assert not began_with_a_vote
        assert replica.core.ballot.join_floor > 50
        await until(lambda: len(cluster.running[victim.id][1].lines) == 50 or None)

    run(work, tmp_path)


def test_a_new_member_is_caught_up_by_a_snapshot_and_then_votes(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        for _ in range(30):
            await leader.propose(b"x" * 10_000)
        leader.release(leader.status.applied)
        assert leader.status.first > 2
        newcomer = Member("n4", f"127.0.0.1:{free_port()}")

        replica = await cluster.start(newcomer, join=True)
        await leader.add_member(newcomer, DEADLINE_S)

        assert [m.id for m in leader.status.members if m.voter] == ["n1", "n2", "n3", "n4"]
        await until(lambda: replica.core.voter or None)
        assert len(cluster.running["n4"][1].lines) == 30
        with pytest.raises(MemberExists):
            await leader.add_member(Member("n4", newcomer.address), 1.0)
        await leader.remove_member("n4", 5.0)
        assert len(leader.status.members) == 3

    run(work, tmp_path)


def test_a_member_that_cannot_be_reached_is_added_but_gets_no_vote(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()

        with pytest.raises(CatchUpTimeout):
            await leader.add_member(Member("n4", f"127.0.0.1:{free_port()}"), 0.3)

        assert [m.voter for m in leader.status.members] == [True, True, True, False]
        assert await leader.propose(b"still a majority of three") == 1

    run(work, tmp_path)


def test_a_state_machine_that_raises_ends_the_replica_and_nothing_else(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        future = leader.propose(b"poison")

        await asyncio.wait([leader.failed], timeout=DEADLINE_S)

        assert isinstance(leader.failed.exception(), ValueError)
        with pytest.raises(Exception, match="may or may not"):
            await future
        with pytest.raises(Stopped):
            await leader.propose(b"more")

    run(work, tmp_path)


def test_a_failed_write_ends_the_replica_and_is_never_tried_again(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        tries = 0

        def fail(name: str) -> None:
            nonlocal tries
            tries += 1
            raise OSError(errno.EIO, "the disk is gone")

        leader.core.log._disk.sync = fail  # type: ignore[method-assign]
        future = leader.propose(b"x")
        await asyncio.wait([leader.failed], timeout=DEADLINE_S)

        assert isinstance(leader.failed.exception(), OSError)
        assert tries == 1
        await asyncio.wait([future], timeout=DEADLINE_S)
        assert future.exception() is not None

    run(work, tmp_path)


@pytest.mark.parametrize("end", ["fails", "is closed"])
def test_who_waits_for_a_replica_is_told_when_it_ends(tmp_path: Path, end: str) -> None:
    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        newcomer = Member("n4", f"127.0.0.1:{free_port()}")
        waiting = [
            asyncio.create_task(leader.transfer_leadership(None, DEADLINE_S)),
            asyncio.create_task(leader.read_barrier(DEADLINE_S)),
        ]
        await asyncio.sleep(0)

        if end == "fails":
            leader._fail(OSError("the disk is gone"))
            assert leader.failed.exception() is not None
        else:
            await cluster.stop(leader.status.node_id)

        with pytest.raises(TransferFailed):
            await asyncio.wait_for(waiting[0], 1.0)
        with pytest.raises(NotLeader):
            await asyncio.wait_for(waiting[1], 1.0)
        for late in (
            leader.read_barrier(DEADLINE_S),
            leader.transfer_leadership(None, DEADLINE_S),
            leader.add_member(newcomer, DEADLINE_S),
            leader.remove_member("n3", DEADLINE_S),
        ):
            with pytest.raises(NotLeader):
                await asyncio.wait_for(late, 1.0)

    run(work, tmp_path)


def test_a_replica_that_cannot_listen_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Cluster(tmp_path, size=1)
        (member,) = cluster.founders
        host, port = member.address.split(":")
        with socket.create_server((host, int(port))), pytest.raises(OSError, match="in use"):
            await cluster.start(member)
        assert [t.name for t in threading.enumerate() if t.name.startswith("raft")] == []

        await cluster.start(member)  # its data directory is free
        await cluster.close()

    asyncio.run(main())


def test_a_data_directory_serves_one_process_and_one_node(tmp_path: Path) -> None:
    async def open_wrong(member: Member, folder: Path) -> Awaitable[None] | None:
        config = ReplicaConfig(
            node_id=member.id,
            cluster="test",
            data_dir=folder,
            listen=f"127.0.0.1:{free_port()}",
            advertise=member.address,
        )
        with pytest.raises(WrongDirectory):
            await Replica.open(config, Lines(folder))
        return None

    async def work(cluster: Cluster) -> None:
        leader = await cluster.leader()
        mine = cluster.founders[0]
        await open_wrong(mine, tmp_path / mine.id)
        await until(lambda: all(r.status.leader_id for r, _ in cluster.running.values()) or None)
        del leader
        await cluster.stop(mine.id)
        await open_wrong(Member("other", mine.address), tmp_path / mine.id)

    run(work, tmp_path)
