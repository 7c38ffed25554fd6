"""ClusterService: what this node knows of the cluster, and changes of its members, which the leader carries out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from node.api import validate
from node.api.forward import Context
from node.errors import CommitUnknown, MemberExists, MemberNotFound
from node.leadership import GRPC, HTTP, Leadership
from node.replication import Replicated
from raft import errors as raft_errors
from raft.types import Member, MemberStatus, Status
from taskraft.v1 import cluster_pb2

CATCH_UP_MS_DEFAULT, CATCH_UP_MS_MAX = 60_000, 3_600_000
CHANGE_TIMEOUT_S = 30.0
TRANSFER_TIMEOUT_S = 5.0
REQUESTS_KEPT = 1_000


class Cluster:
    """ClusterService's methods by name."""

    def __init__(
        self, replica: Replicated, leadership: Leadership, *, name: str, stopping: asyncio.Event
    ) -> None:
        self._replica, self._leadership = replica, leadership
        self._name, self._version = name, software_version()
        self._stopping = stopping
        self._answered: OrderedDict[str, bytes] = OrderedDict()

    async def GetCluster(self, data: bytes) -> bytes:
        cluster_pb2.GetClusterRequest.FromString(data)
        return cluster_pb2.GetClusterResponse(cluster=self.shown()).SerializeToString()

    async def WatchCluster(self, data: bytes, context: Context) -> None:
        cluster_pb2.WatchClusterRequest.FromString(data)
        told: tuple[object, ...] | None = None
        while not self._stopping.is_set():
            cluster = self.shown()
            facts = (
                cluster.leader_id,
                cluster.term,
                [(m.id, m.raft_address, m.role) for m in cluster.members],
            )
            if facts != told:
                told = facts
                await context.write(cluster_pb2.WatchClusterResponse(cluster=cluster).SerializeToString())
            await self._leadership.changed(None)

    async def AddMember(self, data: bytes) -> bytes:
        request = cluster_pb2.AddMemberRequest.FromString(data)
        member = Member(
            validate.member_id(request.member_id, "member_id"),
            validate.address(request.raft_address, "raft_address"),
        )
        timeout_ms = CATCH_UP_MS_DEFAULT
        if request.HasField("catch_up_timeout"):
            timeout_ms = validate.duration_ms(
                request.catch_up_timeout, "catch_up_timeout", 1, CATCH_UP_MS_MAX
            )

        async def add() -> bytes:
            for (
                other
            ) in self._replica.status.members:  # two ids at one address would take its connections in turns
                if other.address == member.address and other.id != member.id:
                    raise MemberExists(
                        f"{other.id} is the member at {member.address}.",
                        member_id=other.id,
                        raft_address=member.address,
                    )
            await self._replica.add_member(member, timeout_ms / 1000)
            return cluster_pb2.AddMemberResponse(cluster=self.shown()).SerializeToString()

        return await self._once("add", request.request_id, add)

    async def RemoveMember(self, data: bytes) -> bytes:
        request = cluster_pb2.RemoveMemberRequest.FromString(data)
        member_id = validate.member_id(request.member_id, "member_id")

        async def remove() -> bytes:
            status = self._replica.status
            if member_id == status.node_id:
                await self._replica.transfer_leadership(None, TRANSFER_TIMEOUT_S)
                raise raft_errors.NotLeader(self._replica.status.leader_id)
            try:
                await self._replica.remove_member(member_id, CHANGE_TIMEOUT_S)
            except TimeoutError:
                raise CommitUnknown from None
            return cluster_pb2.RemoveMemberResponse(cluster=self.shown()).SerializeToString()

        return await self._once("remove", request.request_id, remove)

    async def TransferLeadership(self, data: bytes) -> bytes:
        request = cluster_pb2.TransferLeadershipRequest.FromString(data)
        target, status = request.target_id or None, self._replica.status
        if target is not None and all(member.id != target for member in status.members):
            raise MemberNotFound(member_id=target)
        leader = status.node_id
        if target != leader:
            leader = await self._replica.transfer_leadership(target, TRANSFER_TIMEOUT_S)
        return cluster_pb2.TransferLeadershipResponse(leader_id=leader).SerializeToString()

    async def _once(self, what: str, request_id: str, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """A change of members is repeated by this node's memory: the answer it gave before is given again."""
        key = f"{what} {validate.request_id(request_id)}"
        if key in self._answered:
            return self._answered[key]
        answer = await work()
        if request_id:
            self._answered[key] = answer
            if len(self._answered) > REQUESTS_KEPT:
                self._answered.popitem(last=False)
        return answer

    def shown(self) -> cluster_pb2.Cluster:
        """The cluster as this node sees it."""
        status = self._replica.status
        return cluster_pb2.Cluster(
            name=self._name,
            node_id=status.node_id,
            leader_id=status.leader_id or "",
            term=status.term,
            commit_index=status.commit,
            applied_index=status.applied,
            first_index=status.first,
            last_index=status.last,
            log_bytes=status.log_bytes,
            members=[_member(member, status) for member in status.members],
            version=self._version,
        )


def software_version() -> str:
    """The installed version; a source tree that was not installed has none."""
    try:
        return version("taskraft")
    except PackageNotFoundError:
        return "source"


def _member(member: MemberStatus, status: Status) -> cluster_pb2.Member:
    role = cluster_pb2.MEMBER_ROLE_FOLLOWER if member.voter else cluster_pb2.MEMBER_ROLE_LEARNER
    if member.id == status.leader_id:
        role = cluster_pb2.MEMBER_ROLE_LEADER
    return cluster_pb2.Member(
        id=member.id,
        raft_address=member.address,
        grpc_address=member.announce.get(GRPC, ""),
        http_address=member.announce.get(HTTP, ""),
        role=role,
        connected=member.connected,
        match_index=member.match,
    )
