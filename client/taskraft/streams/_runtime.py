"""The loop that runs a processor against a log: read, process, store, and begin again when a transaction fails.

What a transaction stores (records taken, state, results) is stored wholly or not at all, and only by the processor that
knows the transaction before it. So after any failure it is enough to forget everything and to read what is stored.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from taskraft import errors
from taskraft._retry import Backoff
from taskraft.streams import _limits
from taskraft.streams._processor import Cut, Processor
from taskraft.streams.errors import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from taskraft.streams._plan import Plan, Record

_PASSING = (errors.Unavailable, errors.CommitUnknown, errors.DeadlineExceeded, errors.ResourceExhausted)
"""What goes away by itself, or when somebody makes room."""

_log = logging.getLogger("taskraft.streams")


class Log(Protocol):
    """What the runtime needs of a cluster, for one group.

    Any method may raise a TaskraftError; after that `load` comes next. `commit` may also have been done then.
    """

    async def load(self, quiet_s: float) -> Mapping[str, bytes]:
        """All that is stored, by key, once nothing was stored for so long."""
        ...

    async def receive(self, after: int | None, wait_s: float) -> Sequence[Record]:
        """The next records after that sequence (None: from the first one), in order; none if none came in time."""
        ...

    async def commit(self, cut: Cut) -> None:
        """Store it, wholly or not at all. Superseded if anything was stored by another since `load`."""
        ...


class Runner:
    """Runs a plan until it is cancelled, or until no record has come for `until_idle_s`."""

    def __init__(
        self, plan: Plan, log: Log, *, now: Callable[[], float], until_idle_s: float | None = None
    ) -> None:
        self._plan = plan
        self._source = log
        self._now = now
        self._until_idle_s = until_idle_s
        self._backoff = Backoff()

    async def run(self) -> None:
        """What may go away by itself is waited for; what else fails is raised."""
        quiet_s = 0.0
        while True:
            try:
                processor = Processor(self._plan, await self._source.load(quiet_s))
                _log.info("state was loaded: %d open, %s", processor.open_slots, processor.clock)
                return await self._process(processor)
            except Superseded:
                _log.info("another processor is at work: waiting until it is silent")
                quiet_s = _limits.TAKEOVER_S
            except _PASSING as error:
                _log.warning("beginning again from what is stored: %s", error)
                quiet_s = 0.0
            await asyncio.sleep(self._backoff.next_s())

    async def _process(self, processor: Processor) -> None:
        idle_after_ms = self._plan.idle_after_ms
        wait_s = _limits.RECEIVE_S if idle_after_ms is None else _limits.IDLE_S
        await self._settle(processor)
        heard_s = told_s = self._now()
        while True:
            records = await self._source.receive(processor.clock.position, wait_s)
            if records:
                await self._take(processor, records)
                heard_s = told_s = self._now()
                continue
            now_s = self._now()
            if idle_after_ms is not None and (now_s - heard_s) * 1_000 >= idle_after_ms:
                processor.pass_time(int((now_s - told_s) * 1_000))
                told_s = now_s
                await self._settle(processor)
            if self._until_idle_s is not None and now_s - heard_s >= self._until_idle_s:
                return

    async def _take(self, processor: Processor, records: Sequence[Record]) -> None:
        for record in records:
            processor.take(record)
            while processor.step():
                if processor.full:
                    await self._commit(processor)
            if processor.full:
                await self._commit(processor)
        await self._commit(processor)

    async def _settle(self, processor: Processor) -> None:
        """Publish what is due without a record: what a predecessor had no time for, and what ended while nothing came."""
        while processor.step():
            if processor.full:
                await self._commit(processor)
        await self._commit(processor)

    async def _commit(self, processor: Processor) -> None:
        if processor.changed:
            await self._source.commit(processor.cut())
            self._backoff.reset()
