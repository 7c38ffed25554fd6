"""The replicated log as one asyncio object: `Core` with a clock, a disk and sockets.

One loop owns everything; only writes to the log (one at a time, with their fsync) and the making of snapshots run in
threads. If a write fails, the state machine raises or the log turns out damaged, the replica stops for good and
`failed` says why: a node that cannot trust its disk must not go on (a failed fsync is never retried).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raft.core import Core
from raft.errors import CatchUpTimeout, MemberNotFound, NoQuorum, NotLeader, Stopped, TransferFailed
from raft.frames import Message
from raft.leading import Leading
from raft.promises import Write
from raft.records import SegmentInfo
from raft.snapshots import Incoming
from raft.storage import Storage, open_storage
from raft.transport import Peers
from raft.types import Member, MemberStatus, ReplicaConfig, SnapshotMeta, StateMachine, Status
from raft.writer import Writer

_log = logging.getLogger(__name__)

TICKS_PER_HEARTBEAT = 4
MARK_AFTER_S = 0.05  # an idle log says once more what is durable, so that damage to its end is noticed


def _nothing(*_args: object) -> None:
    """The default of the event attributes."""


class Replica:
    """One node's part in the replicated log. See `raft/__init__.py` for the contract."""

    def __init__(self, config: ReplicaConfig, state: StateMachine, storage: Storage) -> None:
        self.on_leader: Callable[[int], None] = _nothing
        self.on_follower: Callable[[], None] = _nothing
        self.on_change: Callable[[], None] = _nothing
        self.on_fsync: Callable[[float], None] = _nothing
        self.on_snapshot: Callable[[float], None] = _nothing
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._config, self._state, self._storage, self._raft_log = config, state, storage, storage.log
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="raft-snapshot")
        self._tasks: set[asyncio.Task[None]] = set()
        self._kicked = self._postponed = self._closed = False
        self._changed = asyncio.Event()
        self._linked: dict[str, str] = {}
        self._peers = Peers(
            config.node_id,
            listen=config.listen,
            hello=lambda: self.core.hello(),  # noqa: PLW0108  the core comes later
            on_hello=lambda peer_id, hello: self._guarded(self.core.greeted, peer_id, hello),
            on_connected=lambda peer_id: self._guarded(self.core.connected, peer_id),
            on_disconnected=lambda peer_id: self._guarded(self.core.disconnected, peer_id),
            on_message=lambda peer_id, message: self._guarded(self.core.receive, peer_id, message),
            accept=lambda hello: True,  # the list of members may lag; who counts is decided by the core
            outbox_bytes_max=config.outbox_bytes_max,
            idle_ms=config.idle_ms,
            ssl_server=config.ssl_server,
            ssl_client=config.ssl_client,
        )
        clock, dice, incoming = time.monotonic, random.Random(), Incoming(config.data_dir / "snapshot.in")
        self.core = Core(
            config, storage.log, storage.ballot, state, self, dice=dice, clock=clock, snapshot_in=incoming
        )
        self._writer = Writer(self._wrote)  # last: its thread lives until it is told to end

    @classmethod
    async def open(cls, config: ReplicaConfig, state: StateMachine) -> Replica:
        """Open the log, check all of it, and take part. Raises `Damaged` if the disk cannot be trusted."""
        storage = await asyncio.get_running_loop().run_in_executor(None, open_storage, config)
        try:
            self = cls(config, state, storage)
        except BaseException:
            storage.close()
            raise
        try:
            await self._peers.start()
        except BaseException:
            self._shut()
            raise
        self._spawn(self._tick_for_ever())
        self.kick()
        return self

    async def close(self, *, transfer: bool = False) -> None:
        """Stop; with `transfer`, hand leadership over first if there is anyone to take it."""
        if self._closed:
            return
        if transfer and self.core.leading is not None and not self.failed.done():
            try:
                await self.transfer_leadership(None, timeout_s=2.0)
            except (TransferFailed, NotLeader, Stopped):
                _log.warning("leadership_not_handed_over")
        self._closed = True
        await self._peers.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.core.stop()
        await self._loop.run_in_executor(None, self._shut)
        if not self.failed.done():
            self.failed.cancel()

    def _shut(self) -> None:
        """Let the write under way finish, write what is left, close the files."""
        self._worker.shutdown(wait=True)
        self._writer.close()
        self._storage.close()

    # Proposals and reads.

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        """Put a command into the log. The future gets what applying it here answered, or NotLeader (nothing was
        done), Overwritten (it never will be), CommitUnknown (ask again with the same request_id) or Stopped.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        if self._closed or self.failed.done():
            future.set_exception(Stopped())
        else:
            self.core.propose(payload, lambda result, error: _resolve(future, result, error))
        return future

    async def read_barrier(self, timeout_s: float = 5.0) -> int:
        """Wait until everything that was committed before this call is applied here; returns its index.

        Raises NotLeader, or NoQuorum if no majority confirms the leadership in time.
        """
        leading = self.core.leading
        if leading is None:
            raise NotLeader(self.core.leader_id)
        future: asyncio.Future[object] = self._loop.create_future()
        leading.read(lambda index: _resolve(future, index, None if index is not None else NotLeader(None)))
        try:
            async with asyncio.timeout(timeout_s):
                index = await future
        except TimeoutError:
            raise NoQuorum from None
        assert isinstance(index, int)
        return index

    # The log as a store of bodies.

    def body(self, index: int) -> bytes:
        """The payload of an entry that is still held; KeyError if its segment was released. Thread-safe for
        entries that are durable.
        """
        if not self._raft_log.base[0] < index <= self._raft_log.last[0]:
            raise KeyError(index)
        return self._raft_log.entry(index).payload

    def release(self, index: int) -> None:
        """The node needs no bodies from segments that end at or below `index` any more."""
        keep = self.core.leading.snapshots.keep_from() if self.core.leading is not None else None
        index = min(index, self._state.checkpointed(), index if keep is None else keep)
        if index > self._raft_log.base[0]:
            self._raft_log.release(index)
            self.kick()

    def segments(self) -> list[SegmentInfo]:
        return self._raft_log.segments()

    # The cluster.

    @property
    def status(self) -> Status:
        core = self.core
        members = tuple(
            MemberStatus(
                id=m.id,
                address=m.address,
                announce=self._announced(m.id),
                voter=m.voter,
                connected=m.id == core.me or m.id in core.links,
                match=self._match(m.id),
            )
            for m in core.membership.current
        )
        return Status(
            node_id=core.me,
            role="follower" if core.role == "leader" and core.leading is None else core.role,
            term=core.engine.term,
            leader_id=core.leader_id,
            commit=core.commit,
            applied=self.core.applied,
            first=self._raft_log.base[0] + 1,
            last=self._raft_log.last[0],
            log_bytes=self._raft_log.size_bytes,
            members=members,
        )

    def _announced(self, member_id: str) -> dict[str, str]:
        if member_id == self.core.me:
            return dict(self._config.announce)
        hello = self.core.hellos.get(member_id)
        return {} if hello is None else hello.announce

    def _match(self, member_id: str) -> int:
        leading = self.core.leading
        if member_id == self.core.me:
            return self._raft_log.durable
        if leading is None or member_id not in leading.progress:
            return 0
        return leading.progress[member_id].acked

    @property
    def elections(self) -> int:
        """How often this node stood for election since it was started."""
        return self.core.elections.count

    async def transfer_leadership(self, target: str | None, timeout_s: float = 5.0) -> str:
        """Hand leadership to `target`, or to the most caught-up member; returns who leads then."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._leading().hand_over(target, timeout_s, lambda result, error: _resolve(future, result, error))
        await future
        deadline = self._loop.time() + timeout_s
        while (leader := self.core.leader_id) is None:
            if not self.core.links:
                raise TransferFailed("All others went away.")
            await self._wait_for_change(deadline, TransferFailed("No leader was elected in time."))
        if leader == self.core.me or (target is not None and leader != target):
            raise TransferFailed(f"{leader} leads.")
        return leader

    async def add_member(self, member: Member, timeout_s: float) -> None:
        """Add `member`, catch it up, give it a vote; returns when it has one. It stays in the list without a vote
        if that takes longer than `timeout_s` (CatchUpTimeout), and gets its vote later.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        self._leading().add(member, lambda result, error: _resolve(future, result, error))
        await future
        deadline = self._loop.time() + timeout_s
        while not ((found := self.core.membership.find(member.id)) and found.voter and self._committed()):
            if self.core.leading is None:
                raise NotLeader(self.core.leader_id)
            await self._wait_for_change(deadline, CatchUpTimeout(member.id))

    async def remove_member(self, member_id: str, timeout_s: float) -> None:
        """Remove a member. NotLeader if it is this node: hand over first."""
        future: asyncio.Future[object] = self._loop.create_future()
        leading = self._leading()
        if self.core.membership.find(member_id) is None:
            raise MemberNotFound(member_id)
        leading.remove(member_id, lambda result, error: _resolve(future, result, error))
        async with asyncio.timeout(timeout_s):
            await future

    def _leading(self) -> Leading:
        if self.core.leading is None:
            raise NotLeader(self.core.leader_id)
        return self.core.leading

    def _committed(self) -> bool:
        return self.core.membership.index <= self.core.applied

    async def _wait_for_change(self, deadline: float, error: Exception) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, min(0.1, deadline - self._loop.time()))):
                await self._changed.wait()
        except TimeoutError:
            if self._loop.time() >= deadline:
                raise error from None

    # What the core asks of its host.

    def send(self, peer_id: str, message: Message) -> bool:
        return self._peers.send(peer_id, message)

    def link(self, members: tuple[Member, ...]) -> None:
        wanted = {m.id: m.address for m in members}
        for peer_id in self._linked.keys() - wanted.keys():
            self._peers.disconnect(peer_id)
        for peer_id, address in wanted.items():
            if self._linked.get(peer_id) != address:
                self._peers.connect(peer_id, address)
        self._linked = wanted

    def kick(self) -> None:
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._tick)

    def hello_changed(self) -> None:
        self._loop.call_soon(self._peers.greet)

    def changed(self) -> None:
        self._changed.set()
        self.on_change()

    def lead(self, term: int) -> None:
        _log.info("leadership_won", extra={"fields": {"term": term}})
        self.on_leader(term)

    def follow(self) -> None:
        _log.info("leadership_lost", extra={"fields": {"term": self.core.engine.term}})
        self.on_follower()

    def make_snapshot(self) -> None:
        self._spawn(self._make_snapshot())

    # Driving.

    def _tick(self) -> None:
        self._kicked = False
        if self._closed:
            return
        self._guarded(self.core.take_proposals)  # what is new travels while what is committed is applied
        self._start_write()
        if self.core.promises.busy and not self._postponed and self.core.leading is None:
            self._postponed = True  # a leader waits for this write; what it committed is applied after it
            return
        self._postponed = False
        self._guarded(self.core.tick)
        self._start_write()

    def _start_write(self) -> None:
        if not self.failed.done() and (write := self.core.take_write()) is not None:
            self._writer.submit(write)

    def _wrote(self, write: Write, seconds: float, error: BaseException | None) -> None:
        if self._closed:
            return
        if error is not None:
            self._fail(error)
            return
        self.on_fsync(seconds)
        self._guarded(self.core.written, write)
        self._start_write()

    async def _tick_for_ever(self) -> None:
        period_s = self._config.heartbeat_ms / 1000 / TICKS_PER_HEARTBEAT
        while True:
            await asyncio.sleep(period_s)
            self._tick()
            self._guarded(self._mark_when_idle)

    def _mark_when_idle(self) -> None:
        if not self.core.promises.busy and self._writer.quiet_s > MARK_AFTER_S:
            self._raft_log.mark()
            self._start_write()

    async def _make_snapshot(self) -> None:
        started = time.perf_counter()
        path = self._config.data_dir / f"snapshot.out.{self.core.engine.term}"
        try:
            meta: SnapshotMeta = await self._loop.run_in_executor(self._worker, self._state.snapshot, path)
        except Exception as error:  # noqa: BLE001  no space, or the state was replaced meanwhile: this node goes on
            _log.error("snapshot_failed", extra={"fields": {"why": str(error)}}, exc_info=error)
            path.unlink(missing_ok=True)
            if self.core.leading is not None:
                self.core.leading.snapshots.failed()
            return
        self.on_snapshot(time.perf_counter() - started)
        if self.core.leading is None:
            path.unlink(missing_ok=True)
            return
        self._guarded(self.core.leading.snapshots.made, Path(path), meta)

    def _guarded(self, step: Callable[..., None], *args: object) -> None:
        """Run one step of the core; any exception out of it ends the replica."""
        if self._closed or self.failed.done():
            return
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001  whatever it is, this node's memory is not to be trusted any more
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            _log.critical("replica_failed", extra={"fields": {"error": str(error)}}, exc_info=error)
            self.failed.set_exception(error)
            self.core.stop()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _resolve(future: asyncio.Future[object], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
