"""Whether there is disk space left: a node that runs out of it refuses messages before it has to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from node.leadership import GRPC, Leadership
from node.replication import Replicated
from raft.errors import RaftError

_log = logging.getLogger(__name__)

LOOK_S = 0.1
RESERVE_BYTES_MAX = 16 << 20
RECOVER_PERCENT = 110  # of the minimum must be free before writes are taken again
HAND_OVER_S = 10.0  # between two tries to find a leader with more space
ASK_S = 1.0


class Disk:
    """Free space where the data is, and a reserve of it for a node that has to end in order when there is none.

    Invariant: `low` falls only when clearly more than the minimum is free.
    """

    def __init__(
        self, path: Path, free_min_bytes: int, free_bytes: Callable[[Path], int] | None = None
    ) -> None:
        self.low = False
        self.free_bytes = 0
        self._path, self._free_min_bytes = path, free_min_bytes
        self._reserve = path / "reserve"
        self._reserve_bytes = min(RESERVE_BYTES_MAX, free_min_bytes // 2)
        self._read = free_bytes or free_space
        self.look()

    def is_low(self) -> bool:
        return self.low

    def look(self) -> bool:
        """Read the free space; True if `low` changed. With plenty of space the reserve is set aside."""
        was_low = self.low
        self.free_bytes = self._read(self._path)
        plenty = self._free_min_bytes * RECOVER_PERCENT // 100
        self.low = self.free_bytes < (plenty if was_low else self._free_min_bytes)
        if self.free_bytes >= plenty + self._reserve_bytes and not self._reserve.exists():
            self._set_aside()
        return self.low != was_low

    def release(self) -> bool:
        """The disk is full: give the reserve away; False if there is none left."""
        self.low = True
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        return True

    def _set_aside(self) -> None:
        if not self._reserve_bytes:
            return
        with self._reserve.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self._reserve_bytes)
            except OSError as error:
                _log.warning("no_reserve", extra={"fields": {"why": str(error)}})
                self._reserve.unlink()


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


def is_full(error: BaseException | None) -> bool:
    """True if `error`, or what caused it, is a full disk: the same may succeed later."""
    match error:
        case None:
            return False
        case sqlite3.Error() if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return True
        case _:
            return is_full(error.__cause__)
