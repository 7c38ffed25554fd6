"""Who leads, as this node knows: the one place that listens to the log's events and tells the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from node.errors import NotLeader
from node.replication import Replicated
from raft.types import MemberStatus

POLL_S = 0.05  # a peer's announced address comes without an event
GRPC, HTTP = "grpc", "http"  # the names under which a node announces its addresses to the others


class Follower(Protocol):
    """Something that works on the leader only."""

    def lead(self, term: int) -> None:
        """This node leads, and its state has all that was committed before."""
        ...

    def follow(self) -> None:
        """This node leads no longer; nothing may be promised any more."""
        ...


class Leadership:
    """This node's view of who leads. `term` is None unless this node leads and its state is current."""

    def __init__(self, replica: Replicated) -> None:
        self.term: int | None = None
        self._replica = replica
        self._followers: list[Follower] = []
        self._changed = asyncio.Event()
        replica.on_leader, replica.on_follower, replica.on_change = self._lead, self._follow, self.announce

    def tell(self, *followers: Follower) -> None:
        """From now on tell these, in this order; when leadership is lost, in the opposite order."""
        self._followers.extend(followers)

    @property
    def leader(self) -> MemberStatus | None:
        """The leader, if one is known; a node that was just elected is none before its state is current."""
        status = self._replica.status
        if status.leader_id is None or (status.leader_id == status.node_id and self.term is None):
            return None
        return next((member for member in status.members if member.id == status.leader_id), None)

    @property
    def leader_endpoint(self) -> str:
        """host:port of the leader's gRPC port; empty if it is this node, or not known."""
        leader = self.leader
        if leader is None or self.term is not None:
            return ""
        return leader.announce.get(GRPC, "")

    def endpoints(self) -> list[str]:
        """gRPC addresses of the other nodes, the leader's first."""
        status = self._replica.status
        others = [member for member in status.members if member.id != status.node_id]
        others.sort(key=lambda member: (member.id != status.leader_id, not member.connected))
        return [address for member in others if (address := member.announce.get(GRPC))]

    def not_leader(self) -> NotLeader:
        """What a node that does not lead answers."""
        status = self._replica.status
        return NotLeader(
            leader_id=status.leader_id or "", leader_endpoint=self.leader_endpoint, term=status.term
        )

    async def changed(self, timeout_s: float | None) -> None:
        """Wait until leader, term or members change, at most `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 may swallow a cancellation
                await self._changed.wait()
        except TimeoutError:
            return

    def _lead(self, term: int) -> None:
        self.term = term
        for follower in self._followers:
            follower.lead(term)
        self.announce()

    def _follow(self) -> None:
        if self.term is not None:
            self.term = None
            followers: Iterable[Follower] = reversed(self._followers)
            for follower in followers:
                follower.follow()
        self.announce()

    async def successor(self, timeout_s: float) -> None:
        """Wait until another node is known to lead, if there are others, at most `timeout_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while not self.leader_endpoint and len(self._replica.status.members) > 1 and loop.time() < until_s:
            await self.changed(min(POLL_S, until_s - loop.time()))

    def announce(self) -> None:
        """Wake all that wait for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
