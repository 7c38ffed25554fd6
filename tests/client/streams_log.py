"""A cluster in memory as the runtime sees it, which fails wherever it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from taskraft.errors import CommitUnknown, Unavailable
from taskraft.streams import Record
from taskraft.streams._plan import Output
from taskraft.streams._processor import Cut
from taskraft.streams.errors import Superseded


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Cluster:
    """What the nodes hold: records, state, results. A transaction is refused if another came since its owner loaded."""

    records: Sequence[Record] = ()
    state: dict[str, bytes] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    transactions: int = 0


class MemoryLog:
    """One processor's way to the cluster. `fault` is asked before and after each step and may raise."""

    def __init__(
        self, cluster: Cluster, fault: Callable[[str], None] = lambda step: None, *, batch: int = 10
    ) -> None:
        self.cluster = cluster
        self.fault = fault
        self.batch = batch
        self._seen = -1

    async def load(self, quiet_s: float) -> Mapping[str, bytes]:
        before = -1
        while before != self.cluster.transactions:
            before = self.cluster.transactions
            await asyncio.sleep(min(quiet_s, 0.001))
        self.fault("load")
        self._seen = self.cluster.transactions
        return dict(self.cluster.state)

    async def receive(self, after: int | None, wait_s: float) -> Sequence[Record]:
        self.fault("receive")
        await asyncio.sleep(0)
        first = 0 if after is None else after
        return self.cluster.records[first : first + self.batch]

    async def commit(self, cut: Cut) -> None:
        self.fault("commit")
        await asyncio.sleep(0)
        cluster = self.cluster
        if self._seen != cluster.transactions:
            raise Superseded
        cluster.transactions += 1
        self._seen = cluster.transactions
        cluster.state |= cut.state
        cluster.outputs += cut.outputs
        cluster.taken += cut.taken
        self.fault("committed")


class Faults:
    """Fails at the given steps of a run, counted from 0, each with its failure."""

    KINDS = (Killed, Unavailable, CommitUnknown)

    def __init__(self, at: Mapping[int, int]) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, step: str) -> None:
        kind = self.at.get(self.steps)
        self.steps += 1
        if kind is not None:
            raise self.KINDS[kind]
