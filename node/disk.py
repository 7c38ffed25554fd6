"""Whether there is disk space left: a node that runs out of it refuses messages before it has to stop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from node.leadership import GRPC, Leadership
from node.replication import Replicated
from raft.errors import RaftError

_log = logging.getLogger(__name__)

LOOK_S = 1.0
RECOVER_PERCENT = 110  # of the minimum must be free before writes are taken again
HAND_OVER_S = 10.0  # between two tries to find a leader with more space
ASK_S = 1.0


class Disk:
    """Free space where the data is. Invariant: `low` falls only when clearly more than the minimum is free."""

    def __init__(
        self, path: Path, free_min_bytes: int, free_bytes: Callable[[Path], int] | None = None
    ) -> None:
        self.low = False
        self.free_bytes = 0
        self._path, self._free_min_bytes = path, free_min_bytes
        self._read = free_bytes or free_space
        self.look()

    def is_low(self) -> bool:
        return self.low

    def look(self) -> bool:
        """Read the free space; True if `low` changed."""
        was_low = self.low
        self.free_bytes = self._read(self._path)
        enough = self._free_min_bytes * RECOVER_PERCENT // 100 if was_low else self._free_min_bytes
        self.low = self.free_bytes < enough
        return self.low != was_low


def free_space(path: Path) -> int:
    """Bytes that this process may still write to the file system of `path`."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


async def watch(
    disk: Disk,
    *,
    leadership: Leadership,
    replica: Replicated,
    writable: str,
    say: Callable[[str, bool], Awaitable[None]],
) -> None:
    """Look each second; tell health checks under the name `writable`; hand leadership to a node with more space."""
    loop = asyncio.get_running_loop()
    next_try_s = 0.0
    await say(writable, not disk.low)
    while True:
        if disk.low and leadership.term is not None and loop.time() >= next_try_s:
            next_try_s = loop.time() + HAND_OVER_S
            await _hand_over(replica, writable)
        await asyncio.sleep(LOOK_S)
        if disk.look():
            _log.warning(
                "disk_low" if disk.low else "disk_recovered",
                extra={"fields": {"free_bytes": disk.free_bytes}},
            )
            await say(writable, not disk.low)


async def _hand_over(replica: Replicated, writable: str) -> None:
    """Let another voter lead if it has space; without one this node stays, and refuses writes."""
    status = replica.status
    others = [each for each in status.members if each.id != status.node_id and each.voter and each.connected]
    for member in sorted(others, key=lambda each: -each.match):
        endpoint = member.announce.get(GRPC)
        if endpoint and await _is_serving(endpoint, writable):
            try:
                leader = await replica.transfer_leadership(member.id, ASK_S)
            except RaftError as error:
                _log.warning("hand_over_failed", extra={"fields": {"to": member.id, "why": str(error)}})
                continue
            _log.warning("handed_over_for_disk_space", extra={"fields": {"to": leader}})
            return


async def _is_serving(endpoint: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(endpoint) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=ASK_S)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
