"""All nodes of a local cluster: start, watch, kill, restart, stop."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

from taskraft import Client
from taskraft.errors import TaskraftError
from taskraft.local.attached import runs
from taskraft.local.errors import LocalClusterError
from taskraft.local.layout import CLUSTER_FILE, Layout, NodePlace, is_free, read_cluster_file
from taskraft.local.process import NodeProcess, describe_exit, log_tail

LOCK_FILE = "up.lock"
LEADER_TIMEOUT_S = 30.0
STOP_GRACE_S = 15.0  # more than a node lets its calls finish (shutdown_ms)
POLL_S = 0.05


class LocalCluster:
    """Real nodes on this machine. Invariant: while it runs, cluster.json names the pids of its nodes.

    `on_exit(place, description)` is called when a node ends that we did not ask to end.
    """

    def __init__(self, layout: Layout, *, on_exit: Callable[[NodePlace, str], None] | None = None) -> None:
        self.layout = layout
        self._places = {place.id: place for place in layout.nodes}
        self._processes: dict[str, NodeProcess] = {}
        self._on_exit = on_exit
        self._expected: set[NodeProcess] = set()  # we asked these to end
        self._watchers: set[asyncio.Task[None]] = set()
        self._lock: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            self.start()
            await self.wait_until_led()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """What a Client takes to reach this cluster."""
        return self.layout.address

    def pid(self, node_id: str) -> int:
        """The process id of a node that was started."""
        return self._processes[node_id].pid

    def start(self) -> None:
        """Start every node; LocalClusterError if the directory or a port is taken, before anything starts."""
        self._claim_directory()
        for place in self.layout.nodes:
            for address in (place.grpc, place.http, place.raft):
                if not is_free(address):
                    raise LocalClusterError(
                        f"{address} is in use", "choose other ports with --port, or stop what listens there"
                    )
        for place in self.layout.nodes:
            self._spawn(place)
        self._write()

    def kill(self, node_id: str) -> int:
        """SIGKILL one node, as a crash would; returns its pid."""
        process = self._processes[node_id]
        self._expected.add(process)
        process.signal(signal.SIGKILL)
        return process.pid

    async def restart(self, node_id: str) -> None:
        """Start a node again that is gone, or about to be, with the command it had."""
        await self._processes[node_id].exited
        self._spawn(self._places[node_id])
        self._write()

    async def wait_until_led(self, timeout_s: float = LEADER_TIMEOUT_S) -> str:
        """Wait until every node agrees on a leader; returns its id.

        Raises LocalClusterError, with the end of a log, if a node ends first or the time is up.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        for place in self.layout.nodes:
            leader = ""
            async with Client(place.grpc, timeout=1.0) as client:
                while not leader:
                    self._check_alive()
                    if asyncio.get_running_loop().time() > deadline:
                        raise LocalClusterError(
                            f"{place.id} knows no leader after {timeout_s:.0f} s", log_excerpt(place)
                        )
                    try:
                        leader = (await client.cluster()).leader_id
                    except (TaskraftError, TimeoutError):
                        leader = ""
                    if not leader:
                        await asyncio.sleep(POLL_S)
        return leader

    async def stop(self, grace_s: float = STOP_GRACE_S) -> list[str]:
        """SIGTERM to all, SIGKILL to those that are still there after `grace_s`; returns the ids of these.

        Nodes that someone else restarted with the command of cluster.json (`taskraft bench failover`) go too.
        """
        self._expected |= set(self._processes.values())
        adopted = self._adopted()
        for process in self._processes.values():
            process.signal(signal.SIGTERM)
        for pid in adopted.values():
            os.kill(pid, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + grace_s
        late = [id_ for id_, process in self._processes.items() if not await ended(process, deadline)]
        for node_id in late:
            self._processes[node_id].signal(signal.SIGKILL)
            await self._processes[node_id].exited
        for node_id, pid in adopted.items():
            place = self._places[node_id]
            while runs(pid, place) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  not our child
                await asyncio.sleep(POLL_S)
            if runs(pid, place):
                os.kill(pid, signal.SIGKILL)
                late.append(node_id)
        if self._watchers:
            await asyncio.wait(self._watchers)
        self._release_directory()
        return late

    def _spawn(self, place: NodePlace) -> None:
        process = NodeProcess(place)
        self._processes[place.id] = process
        watcher = asyncio.get_running_loop().create_task(self._watch(process), name=f"watch {place.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, process: NodeProcess) -> None:
        code = await process.exited
        if process not in self._expected and self._on_exit is not None:
            self._on_exit(process.place, describe_exit(code))

    def _check_alive(self) -> None:
        for process in self._processes.values():
            if process.exited.done() and process not in self._expected:
                raise LocalClusterError(
                    f"{process.place.id} ended with {describe_exit(process.exited.result())}",
                    log_excerpt(process.place),
                )

    def _claim_directory(self) -> None:
        directory = self.layout.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = (directory / LOCK_FILE).open("ab")
        except OSError as error:
            raise LocalClusterError(
                f"cannot use {directory}: {error.strerror}", "choose another one"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LocalClusterError(
                f"another cluster runs on {directory}", "stop it, or choose another directory with --data-dir"
            ) from None
        self._lock = lock

    def _release_directory(self) -> None:
        if self._lock is None:
            return
        if self._processes:
            self._write()
        self._lock.close()
        self._lock = None

    def _write(self) -> None:
        self.layout.write({id_: process.pid for id_, process in self._processes.items() if process.running})

    def _adopted(self) -> dict[str, int]:
        """Nodes of ours that run under a pid that is not ours, by cluster.json."""
        if not self._processes:
            return {}
        _, pids = read_cluster_file(self.layout.directory / CLUSTER_FILE)
        return {
            id_: pid
            for id_, pid in pids.items()
            if pid != self._processes[id_].pid and runs(pid, self._places[id_])
        }


async def ended(process: NodeProcess, deadline: float) -> bool:
    """Wait for a process until the loop's clock says `deadline`; True if it is gone."""
    left_s = deadline - asyncio.get_running_loop().time()
    await asyncio.wait([process.exited], timeout=max(0.0, left_s))
    return process.exited.done()


def log_excerpt(place: NodePlace) -> str:
    """Where a node's log is, and its last lines."""
    return f"{place.log} ends with:\n{log_tail(place.log)}"
