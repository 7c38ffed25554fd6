"""What a node does beside serving: make its state durable, and give old log segments back."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from typing import Protocol

from node.disk import is_full
from node.state.machine import Machine
from raft.records import SegmentInfo
from raft.types import Status

_log = logging.getLogger(__name__)

LOOK_S = 0.25
CHECKPOINT_LOG_BYTES = 64 << 20  # a checkpoint comes early when the log has grown by so much
RECLAIM_PAUSE_S = 0.02  # between two steps, for everything else


class Segmented(Protocol):
    """The part of the replicated log that gives segments back."""

    @property
    def status(self) -> Status: ...

    def segments(self) -> Sequence[SegmentInfo]:
        """The files of the log, oldest first."""
        ...

    def release(self, index: int) -> None:
        """Nothing up to `index` is needed for its content any more."""
        ...


async def keep_up(machine: Machine, replica: Segmented, *, checkpoint_ms: int, log_bytes_max: int) -> None:
    """Checkpoint and reclaim until cancelled. A full disk is waited out; any other failure is raised."""
    loop = asyncio.get_running_loop()
    next_s, last_bytes = loop.time(), 0
    while True:
        await asyncio.sleep(LOOK_S)
        grown = replica.status.log_bytes - last_bytes
        if loop.time() < next_s and grown < CHECKPOINT_LOG_BYTES:
            continue
        try:
            await checkpoint(machine)
            await reclaim(machine, replica, log_bytes_max)
        except (sqlite3.OperationalError, OSError) as error:
            if not is_full(error):
                raise
            _log.warning("checkpoint_postponed", extra={"fields": {"why": str(error)}})
        next_s, last_bytes = loop.time() + checkpoint_ms / 1000, replica.status.log_bytes


async def checkpoint(machine: Machine) -> None:
    """Make the state durable. The copying runs in a thread and is not cut short when this is cancelled."""
    begun = machine.begin_checkpoint()
    running = asyncio.get_running_loop().run_in_executor(None, begun.run)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    machine.end_checkpoint(begun)


async def reclaim(machine: Machine, replica: Segmented, log_bytes_max: int) -> None:
    """Empty old segments, step by step."""
    while True:
        release = machine.reclaim(replica.segments(), log_bytes_max)
        if release:
            replica.release(release)
        if not machine.reclaiming:
            return
        await asyncio.sleep(RECLAIM_PAUSE_S)
