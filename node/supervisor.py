"""One node as a process: opens what is on disk, serves, and ends in order.

If any part fails the whole process ends with one line that says why: a half-alive member is worse than none. On
SIGTERM or SIGINT the node stops taking calls, hands leadership over, tells streams where to go on, and exits with 0.
A full disk is no failure: the node closes what it has, waits for space, and begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from node.clock import Clock
from node.disk import LOOK_S, Disk, is_full
from node.last_resort import PATIENCE_S, end_after
from node.leadership import GRPC, HTTP
from node.process import Node
from node.setting_kinds import split_address
from node.settings import Settings
from node.state.machine import Machine
from node.upkeep import checkpoint, keep_up
from node.web import HttpServer, Metrics, Readings
from raft.replica import Replica
from raft.types import ReplicaConfig

_log = logging.getLogger(__name__)

LOCK, STATE = "state.lock", "state"
GC_THRESHOLDS = (50_000, 20, 100)  # what starts is kept for good; requests leave little behind


class InUse(Exception):
    """Another process uses this data directory."""


@dataclass(slots=True)
class Front:
    """What the HTTP port shows: the node that serves, or why there is none at the moment."""

    node: Node | None = None
    reason: str = "starting"

    def readings(self) -> Readings | None:
        return self.node.readings() if self.node else None

    def ready(self) -> tuple[bool, str]:
        return self.node.ready() if self.node else (False, self.reason)


async def run(settings: Settings) -> None:
    """Be a node until SIGTERM or SIGINT. Raises whatever ends it earlier."""
    loop = asyncio.get_running_loop()
    stop, front, metrics = asyncio.Event(), Front(), Metrics.create()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    last_resort = asyncio.create_task(limit_stop(stop, settings), name="last-resort")
    with locked(settings.data_dir):
        disk = Disk(settings.data_dir, settings.disk_free_min_bytes)
        host, port = split_address(settings.http_listen)
        http = HttpServer(host, port, metrics=metrics, readings=front.readings, ready=front.ready)
        await http.start()
        try:
            while not stop.is_set():
                try:
                    await live(settings, disk, metrics, front, stop)
                except Exception as error:
                    if not is_full(error):
                        raise
                    _log.error("disk_full", extra={"fields": {"why": str(error)}})
                    await space(disk, front, stop)
        finally:
            await http.close()
    last_resort.cancel()
    _log.info("stopped")


async def limit_stop(stop: asyncio.Event, settings: Settings) -> None:
    """From the moment the node is told to stop, its time is limited."""
    await stop.wait()
    await end_after(settings.shutdown_ms / 1000 + PATIENCE_S)


async def live(settings: Settings, disk: Disk, metrics: Metrics, front: Front, stop: asyncio.Event) -> None:
    """From opening to closing once: until `stop` is set, or a part fails, which is raised."""
    async with opened(settings, disk, metrics) as (node, replica):
        front.node = node
        try:
            say_ready(settings)
            await serve(node, replica, settings, stop)
            _log.info("stopping")
            await node.stop(settings.shutdown_ms / 1000)
        finally:
            front.node = None


async def serve(node: Node, replica: Replica, settings: Settings, stop: asyncio.Event) -> None:
    """Run the node's loops until `stop` is set; if one of them ends, or the node or its log fails, raise why."""
    upkeep = keep_up(
        node.machine, replica, checkpoint_ms=settings.checkpoint_ms, log_bytes_max=settings.log_bytes_max
    )
    loops = {"disk": node.watch_disk(), "health": node.tell_health(), "upkeep": upkeep}
    tasks = [asyncio.create_task(work, name=name) for name, work in loops.items()]
    stopped = asyncio.create_task(stop.wait(), name="signal")
    ends: list[asyncio.Future[None] | asyncio.Task[bool]] = [stopped, replica.failed, node.failed, *tasks]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        assert stopped in done, "a loop ended by itself"
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.wait([stopped, *tasks])


async def space(disk: Disk, front: Front, stop: asyncio.Event) -> None:
    """Return when it is worth a try to begin anew: at once with the reserve given away, otherwise with space."""
    front.reason = "the disk is full"
    if disk.release():
        return
    while disk.low and not stop.is_set():
        await asyncio.sleep(LOOK_S)
        disk.look()
    _log.warning("disk_recovered", extra={"fields": {"free_bytes": disk.free_bytes}})


@contextlib.asynccontextmanager
async def opened(settings: Settings, disk: Disk, metrics: Metrics) -> AsyncIterator[tuple[Node, Replica]]:
    """A node that serves gRPC, on its state and its log; all of it is closed in the end, in order."""
    clock = Clock()
    machine = Machine.open(settings.data_dir / STATE, clock_ms=clock.now_ms)
    try:
        replica = await Replica.open(replica_config(settings), machine)
        try:
            machine.log_body = replica.body
            replica.on_fsync = metrics.raft_fsync_seconds.observe
            replica.on_snapshot = metrics.snapshot_seconds.observe
            node = Node(settings, machine, replica, disk=disk, clock=clock, metrics=metrics)
            try:
                await node.start()
                tune_memory()
                yield node, replica
            finally:
                await node.grpc.stop(0)
        finally:
            await replica.close()
        await checkpoint(machine)
    finally:
        machine.close()


def replica_config(settings: Settings) -> ReplicaConfig:
    return ReplicaConfig(
        node_id=settings.node_id,
        cluster=settings.cluster,
        data_dir=settings.data_dir,
        listen=settings.raft_listen,
        advertise=settings.raft_advertise,
        members=settings.members,
        join=settings.join == "yes",
        announce={GRPC: settings.grpc_advertise, HTTP: settings.http_advertise},
        heartbeat_ms=settings.heartbeat_ms,
        election_ms=settings.election_ms,
        idle_ms=settings.peer_idle_ms,
        segment_bytes=settings.log_segment_bytes,
        cache_bytes=settings.log_cache_bytes,
        piece_bytes=settings.snapshot_piece_bytes,
        outbox_bytes_max=settings.peer_outbox_bytes_max,
    )


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Nobody else opens this state meanwhile. Raises InUse; the lock goes with the process, however it ends."""
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{data_dir} is used by another process") from None
        yield
    finally:
        os.close(descriptor)


def tune_memory() -> None:
    """What was made so far stays: the collector need not look at it again, and need not look often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def say_ready(settings: Settings) -> None:
    """One JSON line on standard output: the node listens."""
    fact = {
        "ready": settings.node_id,
        "pid": os.getpid(),
        "grpc": settings.grpc_listen,
        "http": settings.http_listen,
        "raft": settings.raft_listen,
    }
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()
