"""What the node needs of the replicated log. `raft.replica.Replica` is it; tests have one of a single node in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from raft.types import Member, Status


class Replicated(Protocol):
    """The log that all nodes agree on, and the cluster that keeps it. Errors are those of `raft.errors`."""

    on_leader: Callable[[int], None]
    on_follower: Callable[[], None]
    on_change: Callable[[], None]

    @property
    def status(self) -> Status:
        """This node's view of the log and the cluster."""
        ...

    @property
    def elections(self) -> int:
        """How often this node stood for election since it was started."""
        ...

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        """Put an entry into the log; the future gets what applying it here answered."""
        ...

    async def read_barrier(self) -> int:
        """Wait until all that was committed before this call is applied here."""
        ...

    async def transfer_leadership(self, target: str | None, timeout_s: float) -> str:
        """Hand leadership to `target` or to the most caught-up member; returns who leads then."""
        ...

    async def add_member(self, member: Member, timeout_s: float) -> None:
        """Add a member and wait until it votes."""
        ...

    async def remove_member(self, member_id: str, timeout_s: float) -> None:
        """Remove a member other than this node."""
        ...
