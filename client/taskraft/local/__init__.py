"""A cluster of real broker processes on this machine: for `taskraft up`, the benchmarks, the demo and tests.

You owe it: call it from the main thread of one asyncio loop, and `stop()` it (or leave its `async with`).
It owes you: what it starts dies with you, even if you are killed; a node that dies is reported and stays
dead until you restart it; a second cluster never runs on the same directory.

Read `layout.py` (which node listens where, cluster.json), `process.py` (one node), then `cluster.py`.
"""

from taskraft.local.attached import AttachedCluster
from taskraft.local.cluster import LocalCluster
from taskraft.local.errors import LocalClusterError
from taskraft.local.layout import CLUSTER_FILE, Layout, NodePlace, free_port, read_cluster_file
from taskraft.local.process import NodeProcess
from taskraft.local.recovery import wait_until_whole

__all__ = [
    "CLUSTER_FILE",
    "AttachedCluster",
    "Layout",
    "LocalCluster",
    "LocalClusterError",
    "NodePlace",
    "NodeProcess",
    "free_port",
    "read_cluster_file",
    "wait_until_whole",
]
