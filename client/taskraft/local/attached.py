"""A local cluster that someone else started, by its cluster.json."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from taskraft.local.errors import LocalClusterError
from taskraft.local.layout import NodePlace, node_environment, read_cluster_file

POLL_S = 0.01


class AttachedCluster:
    """Kills and restarts nodes that belong to another process. What it restarts lives on when we end.

    Invariant: it signals a process only if its command line is the one that cluster.json names.
    """

    def __init__(self, path: Path) -> None:
        self.layout, self._pids = read_cluster_file(path)
        self._places = {place.id: place for place in self.layout.nodes}
        self._ours: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """What a Client takes to reach this cluster."""
        return self.layout.address

    def pid(self, node_id: str) -> int:
        """The process id of a node. Raises LocalClusterError if it does not run."""
        pid = self._pids.get(node_id)
        if pid is None or not runs(pid, self._places[node_id]):
            raise LocalClusterError(
                f"{node_id} does not run as {self.layout.directory} says", "is `taskraft up` still running?"
            )
        return pid

    def kill(self, node_id: str) -> int:
        """SIGKILL one node, as a crash would; returns its pid."""
        pid = self.pid(node_id)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def restart(self, node_id: str) -> None:
        """Start a node that was killed again, with the command it had, and note its pid in cluster.json."""
        place = self._places[node_id]
        while runs(self._pids[node_id], place):  # noqa: ASYNC110  not our child: nobody tells us
            await asyncio.sleep(POLL_S)
        with place.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220  starting takes no time; we do not wait for it
                place.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=node_environment(),
                cwd=place.log.parent,
                start_new_session=True,
            )
        if node_id in self._ours:
            self._ours[node_id].wait()
        self._ours[node_id] = process
        self._pids[node_id] = process.pid
        self.layout.write(self._pids)


def runs(pid: int, place: NodePlace) -> bool:
    """True if that process is this node, and not a stranger that got its pid later."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.split(b"\0")[:-1] == [word.encode() for word in place.argv]
