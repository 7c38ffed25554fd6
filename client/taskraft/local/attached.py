"""A local cluster that someone else started, by its cluster.json."""

import asyncio
import os
import signal
from pathlib import Path

from taskraft.local.errors import LocalClusterError
from taskraft.local.layout import NodePlace, node_environment, read_cluster_file

POLL_S = 0.01


class AttachedCluster:
    """Kills and restarts nodes that belong to another process. What it restarts lives on when we end.

    Invariant: it signals a process only if its command line is the one that cluster.json names.
    """

    def __init__(self, path: Path) -> None:
        self.layout, self.pids = read_cluster_file(path)
        self._places = {place.id: place for place in self.layout.nodes}
        self._ours: dict[str, int] = {}  # pids of our own children

    @property
    def address(self) -> str:
        """What a Client takes to reach this cluster."""
        return self.layout.address

    def pid(self, node_id: str) -> int:
        """The process id of a node. Raises LocalClusterError if it does not run."""
        pid = self.pids.get(node_id)
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
        while runs(self.pids[node_id], place):  # noqa: ASYNC110  not our child: nobody tells us
            await asyncio.sleep(POLL_S)
        if node_id in self._ours:
            os.waitpid(self._ours[node_id], 0)  # noqa: ASYNC222  it is dead: this only buries it
        self._ours[node_id] = self.pids[node_id] = spawn(place)
        self.layout.write(self.pids)


def spawn(place: NodePlace) -> int:
    """Start a node that lives on without us; its output goes to the end of its log. Returns its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(place.log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(place.argv[0], place.argv, node_environment(), file_actions=actions, setsid=True)


def runs(pid: int, place: NodePlace) -> bool:
    """True if that process is this node, and not a stranger that got its pid later."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.split(b"\0")[:-1] == [word.encode() for word in place.argv]
