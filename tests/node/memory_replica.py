"""A replicated log of a single node in memory: what is proposed is agreed on at once, unless it is held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from node.state.machine import Machine
from raft.errors import CommitUnknown, NotLeader, TransferFailed
from raft.types import Member, MemberStatus, Status


def _nothing(*_: object) -> None:
    pass


class MemoryReplica:
    """`others` are members that exist in the list only. `held` proposals wait for `let_go`."""

    def __init__(
        self, machine: Machine, *, node_id: str = "n1", announce: Mapping[str, str] | None = None
    ) -> None:
        self.machine, self.node_id = machine, node_id
        self.announce = announce or {}
        self.others: tuple[MemberStatus, ...] = ()
        self.term, self.index = 0, 1
        self.leader_id: str | None = None
        self.holding = False
        self.held: list[tuple[bytes, asyncio.Future[object]]] = []
        self.entries: dict[int, bytes] = {}
        self.on_leader: Callable[[int], None] = _nothing
        self.on_follower: Callable[[], None] = _nothing
        self.on_change: Callable[[], None] = _nothing
        machine.log_body = self.body

    @property
    def elections(self) -> int:
        return self.term

    def lead(self) -> None:
        """Win an election: the state has all that was committed."""
        self.term += 1
        self.leader_id = self.node_id
        self.index += 1
        self.machine.record(self.index, self.term, None)
        self.on_leader(self.term)
        self.on_change()

    def follow(self, leader_id: str | None = None) -> None:
        """Lose leadership: what is held back may or may not be committed."""
        was_leader, self.leader_id = self.leader_id == self.node_id, leader_id
        self.term += 1
        for _, future in self.held:
            if not future.done():
                future.set_exception(CommitUnknown())
        self.held.clear()
        if was_leader:
            self.on_follower()
        self.on_change()

    def let_go(self) -> None:
        """Commit what was held back."""
        self.holding = False
        held, self.held = self.held, []
        for payload, future in held:
            self._commit(payload, future)

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        if self.leader_id != self.node_id:
            future.set_exception(NotLeader(self.leader_id))
        elif self.holding:
            self.held.append((payload, future))
        else:
            loop.call_soon(self._commit, payload, future)
        return future

    def _commit(self, payload: bytes, future: asyncio.Future[object]) -> None:
        if self.leader_id != self.node_id:
            future.set_exception(CommitUnknown())
            return
        self.index += 1
        self.entries[self.index] = payload
        results = self.machine.apply(self.index, self.term, payload)
        self.machine.flush()
        if not future.done():
            future.set_result(results)

    def body(self, index: int) -> bytes:
        return self.entries[index]

    async def read_barrier(self) -> int:
        if self.leader_id != self.node_id:
            raise NotLeader(self.leader_id)
        return self.index

    @property
    def status(self) -> Status:
        me = MemberStatus(
            id=self.node_id,
            address="127.0.0.1:1",
            announce=self.announce,
            voter=True,
            connected=True,
            match=self.index,
        )
        return Status(
            node_id=self.node_id,
            role="leader" if self.leader_id == self.node_id else "follower",
            term=self.term,
            leader_id=self.leader_id,
            commit=self.index,
            applied=self.machine.applied,
            first=2,
            last=self.index,
            log_bytes=sum(map(len, self.entries.values())),
            members=(me, *self.others),
        )

    async def transfer_leadership(self, target: str | None, timeout_s: float) -> str:
        if not self.others:
            raise TransferFailed
        leader = target or self.others[0].id
        self.follow(leader)
        return leader

    async def add_member(self, member: Member, timeout_s: float) -> None:
        joined = MemberStatus(
            id=member.id, address=member.address, announce={}, voter=True, connected=True, match=self.index
        )
        self.others = (*self.others, joined)
        self.on_change()

    async def remove_member(self, member_id: str, timeout_s: float) -> None:
        self.others = tuple(each for each in self.others if each.id != member_id)
        self.on_change()
