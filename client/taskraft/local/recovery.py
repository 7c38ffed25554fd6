"""When a cluster is whole again after one of its nodes was gone."""

import asyncio

from taskraft import Client, ClusterInfo
from taskraft.errors import TaskraftError
from taskraft.local.errors import LocalClusterError

POLL_S = 0.05


async def wait_until_whole(client: Client, timeout_s: float) -> ClusterInfo:
    """Wait until every member is connected to the leader and has what was committed when we asked first.

    Returns the cluster as its leader sees it then; LocalClusterError if the time is up.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    goal = 0
    while asyncio.get_running_loop().time() < deadline:
        try:
            info = await client.cluster()
        except (TaskraftError, TimeoutError):
            info = None
        if (
            info is not None and info.node_id == info.leader_id
        ):  # the leader alone knows how far the others are
            goal = goal or info.commit_index
            others = [member for member in info.members if member.id != info.leader_id]
            if all(member.connected and member.match_index >= goal for member in others):
                return info
        await asyncio.sleep(POLL_S)
    raise LocalClusterError(f"not all nodes are back after {timeout_s:.0f} s", "the nodes' logs say more")
