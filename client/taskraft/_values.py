"""What users hand in and get back: frozen values without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from taskraft._queue_values import (
    Binding,
    GroupInfo,
    MessageRates,
    Percentiles,
    group_info,
    message_rates,
    percentiles,
)
from taskraft._scheduling import QueueKind, Scheduling, kind_of, scheduling_of
from taskraft._task_values import TaskCounts, task_counts
from taskraft._times import seconds_of, time_of
from taskraft.v1 import cluster_pb2, queue_pb2

Overflow = Literal["reject", "drop_oldest"]
Role = Literal["unknown", "leader", "follower", "learner"]

_ROLES: dict[int, Role] = {
    cluster_pb2.MEMBER_ROLE_LEADER: "leader",
    cluster_pb2.MEMBER_ROLE_FOLLOWER: "follower",
    cluster_pb2.MEMBER_ROLE_LEARNER: "learner",
}


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish: a body, attributes for its consumer, and what it says about its way.

    Messages of one `key` keep their order and replace each other, where the queue says so; higher ones of `priority`, 0 to
    9, come first. After `ttl` seconds the message is not worth delivering any more. It comes into the queue after
    `delay` seconds, or at `deliver_at`; a time without a zone is local. Not both.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    priority: int = 0
    ttl: float | None = None
    delay: float = 0.0
    deliver_at: datetime | None = None


class Receipt(NamedTuple):
    """Messages are stored on a majority of the nodes: in a queue those from `first_sequence` to `last_sequence`."""

    first_sequence: int
    """0 if there is no telling: they went to a topic, or are delayed."""
    count: int = 1  # type: ignore[assignment]  # hides the method of tuples, which nobody misses here
    duplicate: bool = False
    """True if an earlier attempt had stored them and this one stored nothing."""
    delayed: int = 0
    """How many of them come into their queues later."""
    queues: int = 1
    """How many queues they went to."""

    @property
    def sequence(self) -> int:
        """The sequence of the message, if it is one."""
        return self.first_sequence

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.count - self.delayed - 1 if self.first_sequence else 0


@dataclass(frozen=True, slots=True)
class SequenceRange:
    """The messages `first` to `last` of a queue, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRates:
    """Latency and throughput of a queue of tasks over the last `window` seconds, as its leader has seen it.

    `throughput` is tasks ended per second; `latency` the mean time that a task spent outside its processing;
    `waiting` is from ready to leased, `running` from leased to ended, `end_to_end` from submitted to ended, all in
    seconds.
    """

    window: float
    submitted: int
    started: int
    ended: int
    throughput: float
    latency: float
    waiting: Percentiles
    running: Percentiles
    end_to_end: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """What is in a queue.

    Of a queue of tasks, `messages` and `bytes` count those that have not ended, `leased_messages` those at workers,
    `consumers` the workers, `published_messages` those ever submitted; `tasks` counts them by state. `tasks` and
    `rates` are None for a queue of messages, which has `message_rates`. Messages whose time has not come are
    `delayed_messages`, not `messages`; `groups` are the consumer groups of a stream.
    """

    messages: int
    bytes: int
    leased_messages: int
    consumers: int
    published_messages: int
    oldest_publish_time: datetime | None
    tasks: TaskCounts | None = None
    rates: TaskRates | None = None
    delayed_messages: int = 0
    delayed_bytes: int = 0
    groups: tuple[GroupInfo, ...] = ()
    message_rates: MessageRates | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue's settings and statistics. `name` and `dead_letter_queue` are ids, without `queues/`; `ack_deadline` and
    `max_age` are in seconds. 0, an empty text or nothing is no limit, no dead-letter queue, no binding.

    `scheduling` are the settings of a queue of tasks, as `update_queue` takes them; None for one of messages.
    """

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
    kind: QueueKind = "message"
    scheduling: Scheduling | None = None
    max_attempts: int = 0
    dead_letter_queue: str = ""
    max_age: float = 0.0
    bindings: tuple[Binding, ...] = ()
    max_in_flight_per_key: int = 0
    hold_key: bool = False
    compaction: bool = False


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


def queue_info(queue: queue_pb2.Queue) -> QueueInfo:
    dropping, stats = queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST, queue.stats
    return QueueInfo(
        name=queue.name.removeprefix("queues/"),
        uid=queue.uid,
        etag=queue.etag,
        ack_deadline=seconds_of(queue.ack_deadline),
        max_messages=queue.max_messages,
        max_bytes=queue.max_bytes,
        max_message_bytes=queue.max_message_bytes,
        overflow="drop_oldest" if dropping else "reject",
        paused=queue.paused,
        create_time=time_of(queue.create_time),
        update_time=time_of(queue.update_time),
        stats=QueueStats(
            messages=stats.messages,
            bytes=stats.bytes,
            leased_messages=stats.leased_messages,
            consumers=stats.consumers,
            published_messages=stats.published_messages,
            oldest_publish_time=time_of(stats.oldest_publish_time),
            tasks=task_counts(stats.tasks) if stats.HasField("tasks") else None,
            rates=_rates(stats.rates) if stats.HasField("rates") else None,
            delayed_messages=stats.delayed_messages,
            delayed_bytes=stats.delayed_bytes,
            groups=tuple(map(group_info, stats.groups)),
            message_rates=message_rates(stats.message_rates) if stats.HasField("message_rates") else None,
        ),
        kind=kind_of(queue),
        scheduling=scheduling_of(queue),
        max_attempts=queue.max_attempts,
        dead_letter_queue=queue.dead_letter_queue.removeprefix("queues/"),
        max_age=seconds_of(queue.max_age),
        bindings=tuple(Binding(one.pattern, dict(one.headers)) for one in queue.bindings),
        max_in_flight_per_key=queue.max_in_flight_per_key,
        hold_key=queue.hold_key,
        compaction=queue.compaction,
    )


def _rates(rates: queue_pb2.TaskRates) -> TaskRates:
    return TaskRates(
        window=seconds_of(rates.window),
        submitted=rates.submitted,
        started=rates.started,
        ended=rates.ended,
        throughput=rates.throughput,
        latency=seconds_of(rates.latency),
        waiting=percentiles(rates.waiting),
        running=percentiles(rates.running),
        end_to_end=percentiles(rates.end_to_end),
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
