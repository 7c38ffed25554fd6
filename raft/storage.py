"""A node's data directory: one process at a time, one node, one cluster; log and ballot checked before anything else."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from raft.ballot import Ballot
from raft.disk import OsDisk
from raft.records import Damaged
from raft.segments import Log
from raft.types import ReplicaConfig


class WrongDirectory(Exception):
    """This data directory is not this node's to use."""


@dataclass(slots=True)
class Storage:
    """What `open_storage` found. `close` when nothing is written any more."""

    disk: OsDisk
    log: Log
    ballot: Ballot
    _lock_fd: int

    def close(self) -> None:
        self.disk.close()
        os.close(self._lock_fd)


def open_storage(config: ReplicaConfig) -> Storage:
    """Open the data directory. Raises WrongDirectory, `Damaged`, or OSError. Reads the whole log: call it in a thread."""
    folder = config.data_dir / "raft"
    folder.mkdir(parents=True, exist_ok=True)
    lock_fd = os.open(config.data_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        raise WrongDirectory(f"{config.data_dir} is in use by another process") from None
    for stale in config.data_dir.glob("snapshot.*"):
        stale.unlink()
    disk = OsDisk(folder)
    ballot = Ballot.open(disk)
    if ballot.exists and (ballot.node_id, ballot.cluster) != (config.node_id, config.cluster):
        raise WrongDirectory(
            f"{config.data_dir} belongs to node {ballot.node_id!r} of cluster {ballot.cluster!r}, "
            f"not to {config.node_id!r} of {config.cluster!r}"
        )
    if ballot.exists and not any(name.startswith("log-") for name in disk.names()):
        raise Damaged("log", 0, None, "the ballot is here, the log is gone")
    log = Log.open(disk, segment_bytes=config.segment_bytes, cache_bytes=config.cache_bytes)
    return Storage(disk, log, ballot, lock_fd)
