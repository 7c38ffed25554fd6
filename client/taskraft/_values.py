"""What users hand in and get back: frozen values without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from taskraft.v1 import cluster_pb2, queue_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

Overflow = Literal["reject", "drop_oldest"]
Role = Literal["unknown", "leader", "follower", "learner"]

_ROLES: dict[int, Role] = {
    cluster_pb2.MEMBER_ROLE_LEADER: "leader",
    cluster_pb2.MEMBER_ROLE_FOLLOWER: "follower",
    cluster_pb2.MEMBER_ROLE_LEARNER: "learner",
}


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish: a body and attributes for its consumer."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The messages `first_sequence` to `last_sequence` of a queue are stored on a majority of the nodes."""

    first_sequence: int
    count: int = 1
    duplicate: bool = False
    """True if an earlier attempt had stored them and this one stored nothing."""

    @property
    def sequence(self) -> int:
        """The sequence of the message, if it is one."""
        return self.first_sequence

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.count - 1


@dataclass(frozen=True, slots=True)
class SequenceRange:
    """The messages `first` to `last` of a queue, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """What is in a queue."""

    messages: int
    bytes: int
    leased_messages: int
    consumers: int
    published_messages: int
    oldest_publish_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue's settings and statistics. `name` is its id, without `queues/`; `ack_deadline` is in seconds."""

    name: str
    uid: str
    etag: str
    ack_deadline: float
    max_messages: int
    max_bytes: int
    max_message_bytes: int
    overflow: Overflow
    paused: bool
    create_time: datetime | None
    update_time: datetime | None
    stats: QueueStats


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberInfo:
    """One node of the cluster, as the node that was asked knows it. Addresses are host:port or empty."""

    id: str
    role: Role
    connected: bool
    match_index: int
    raft_address: str
    grpc_address: str
    http_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInfo:
    """The cluster as the node `node_id` sees it. `leader_id` is empty while no leader is known."""

    name: str
    node_id: str
    leader_id: str
    term: int
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    log_bytes: int
    version: str
    members: tuple[MemberInfo, ...]

    @property
    def leader(self) -> MemberInfo | None:
        return next((member for member in self.members if member.id == self.leader_id), None)


def time_of(stamp: Timestamp) -> datetime | None:
    """The time in UTC; None if the field is not set."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(UTC)


def queue_info(queue: queue_pb2.Queue) -> QueueInfo:
    dropping = queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
    return QueueInfo(
        name=queue.name.removeprefix("queues/"),
        uid=queue.uid,
        etag=queue.etag,
        ack_deadline=queue.ack_deadline.ToNanoseconds() / 1e9,
        max_messages=queue.max_messages,
        max_bytes=queue.max_bytes,
        max_message_bytes=queue.max_message_bytes,
        overflow="drop_oldest" if dropping else "reject",
        paused=queue.paused,
        create_time=time_of(queue.create_time),
        update_time=time_of(queue.update_time),
        stats=QueueStats(
            messages=queue.stats.messages,
            bytes=queue.stats.bytes,
            leased_messages=queue.stats.leased_messages,
            consumers=queue.stats.consumers,
            published_messages=queue.stats.published_messages,
            oldest_publish_time=time_of(queue.stats.oldest_publish_time),
        ),
    )


def cluster_info(cluster: cluster_pb2.Cluster) -> ClusterInfo:
    return ClusterInfo(
        name=cluster.name,
        node_id=cluster.node_id,
        leader_id=cluster.leader_id,
        term=cluster.term,
        commit_index=cluster.commit_index,
        applied_index=cluster.applied_index,
        first_index=cluster.first_index,
        last_index=cluster.last_index,
        log_bytes=cluster.log_bytes,
        version=cluster.version,
        members=tuple(
            MemberInfo(
                id=member.id,
                role=_ROLES.get(member.role, "unknown"),
                connected=member.connected,
                match_index=member.match_index,
                raft_address=member.raft_address,
                grpc_address=member.grpc_address,
                http_address=member.http_address,
            )
            for member in cluster.members
        ),
    )
