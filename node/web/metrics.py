"""What a node measures. Counters and distributions are fed where things happen; gauges are read at scrape time.

Names, all with the prefix `taskraft_`, are a promise to dashboards and alerts. Labels are bounded: outcomes and
reasons are constants of our code, and beyond QUEUES_MAX queues the rest shares one label, OTHER. Ids of messages,
clients or requests are never labels. Everything here belongs to the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from node.web.distribution import (
    CALL_SECONDS,
    DISK_SECONDS,
    MESSAGE_SECONDS,
    OTHER,
    PREFIX,
    QUEUES_MAX,
    SNAPSHOT_SECONDS,
    Distribution,
)
from node.web.task_metrics import TaskQueueReading, task_queue_gauges
from taskraft.v1 import queue_pb2

PUBLISH_OUTCOMES: Final = ("stored", "duplicate", "refused", "unknown")
DEAD_LETTER_REASONS: Final = {
    queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS: "max_attempts",
    queue_pb2.DEAD_LETTER_REASON_EXPIRED: "expired",
    queue_pb2.DEAD_LETTER_REASON_OVERFLOW: "overflow",
    queue_pb2.DEAD_LETTER_REASON_REJECTED: "rejected",
}
REDELIVERY_REASONS: Final = ("lease_expired", "rejected", "consumer_lost", "leader_changed")


class Measured(Distribution, Collector):
    """A distribution under its name."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        super().__init__(bounds)
        self._name, self._about = PREFIX + name, about

    def collect(self) -> Iterator[Metric]:
        yield HistogramMetricFamily(self._name, self._about, self.buckets(), self.sum_s)


@dataclass(frozen=True, slots=True)
class QueueReading:
    """A queue at this moment, each message in one number; `oldest_age_s` is the age of its oldest message, 0 without one."""

    name: str
    ready: int
    leased: int
    oldest_age_s: float
    delayed: int = 0
    """Messages whose time has not come, or was put off by a consumer."""
    parked: int = 0
    """Messages that the leader has read and that wait for their key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What a node knows about itself at this moment. Leases and leased messages are the leader's knowledge."""

    raft_term: int
    raft_is_leader: bool
    raft_commit_lag_entries: int
    """Committed entries that are not applied here yet."""
    log_bytes: int
    disk_free_bytes: int
    leases_active: int
    """Messages that are delivered and not settled."""
    grpc_streams_open: int
    publish_inflight_bytes: int
    queues: Iterable[QueueReading] = ()
    """In an order that stays the same, by name for instance: the first QUEUES_MAX keep their own labels."""
    task_queues: Iterable[TaskQueueReading] = ()
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Everything that is counted, one attribute each; `create` makes a fresh set with a registry of its own."""

    registry: CollectorRegistry
    publish: Counter
    """Messages, by `outcome`: one of PUBLISH_OUTCOMES."""
    deliveries: Counter
    """Messages sent to consumers, again and again included."""
    acks: Counter
    """Messages acknowledged."""
    redeliveries: Counter
    """Messages that go out again, by `reason`: one of REDELIVERY_REASONS."""
    dead_letters: Counter
    """Messages that became dead letters or went for the same reason, by `reason`: one of DEAD_LETTER_REASONS."""
    rejects: Counter
    """Calls refused, by `reason`: the reason of their ErrorInfo."""
    elections: Counter
    commit_seconds: Distribution
    """From a publish to its commit."""
    wait_seconds: Distribution
    """From a message's commit to its first delivery."""
    service_seconds: Distribution
    """From a message's delivery to its acknowledgement."""
    end_to_end_seconds: Distribution
    """From a message's commit to its acknowledgement."""
    raft_fsync_seconds: Distribution
    snapshot_seconds: Distribution

    @classmethod
    def create(cls) -> Self:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)

        def counter(name: str, about: str, *labels: str, known: Iterable[str] = ()) -> Counter:
            made = Counter(PREFIX + name, about, labels, registry=registry)
            for value in known:  # a counter that is there at zero shows its first increase
                made.labels(value)
            return made

        def distribution(name: str, about: str, bounds: Sequence[float]) -> Distribution:
            made = Measured(name, about, bounds)
            registry.register(made)
            return made

        return cls(
            registry=registry,
            publish=counter("publish_total", "Messages published.", "outcome", known=PUBLISH_OUTCOMES),
            deliveries=counter("deliveries_total", "Messages sent to consumers."),
            acks=counter("acks_total", "Messages acknowledged."),
            redeliveries=counter(
                "redeliveries_total", "Messages sent again.", "reason", known=REDELIVERY_REASONS
            ),
            dead_letters=counter(
                "dead_letters_total",
                "Messages that became dead letters.",
                "reason",
                known=DEAD_LETTER_REASONS.values(),
            ),
            rejects=counter("rejects_total", "Calls refused.", "reason"),
            elections=counter("elections_total", "Elections that this node stood for."),
            commit_seconds=distribution("commit_seconds", "Publish to commit.", CALL_SECONDS),
            wait_seconds=distribution("wait_seconds", "Commit to first delivery.", MESSAGE_SECONDS),
            service_seconds=distribution("service_seconds", "Delivery to acknowledgement.", MESSAGE_SECONDS),
            end_to_end_seconds=distribution(
                "end_to_end_seconds", "Commit to acknowledgement.", MESSAGE_SECONDS
            ),
            raft_fsync_seconds=distribution("raft_fsync_seconds", "Syncs of the log.", DISK_SECONDS),
            snapshot_seconds=distribution("snapshot_seconds", "Snapshots written.", SNAPSHOT_SECONDS),
        )

    def page(self, readings: Readings | None, accept: str) -> tuple[bytes, str]:
        """The scraped page and its content type. Without readings (the node is starting) it has no gauges."""
        encode, content_type = choose_encoder(accept)
        return encode(_Page(self.registry, readings)), content_type


class _Page(CollectorRegistry):
    """One scrape: what was counted, then what is read now."""

    def __init__(self, counted: CollectorRegistry, readings: Readings | None) -> None:
        super().__init__()
        self._counted, self._readings = counted, readings

    def collect(self) -> Iterator[Metric]:
        for family in self._counted.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        if self._readings is not None:
            yield from _node_gauges(self._readings)
            yield from _queue_gauges(self._readings.queues)
            yield from task_queue_gauges(self._readings.task_queues)


def _node_gauges(now: Readings) -> Iterator[Metric]:
    for name, about, value in (
        ("raft_term", "The current term.", now.raft_term),
        ("raft_is_leader", "1 on the leader, 0 elsewhere.", int(now.raft_is_leader)),
        ("raft_commit_lag_entries", "Committed entries not applied here yet.", now.raft_commit_lag_entries),
        ("log_bytes", "Bytes of the log on disk.", now.log_bytes),
        ("disk_free_bytes", "Free bytes where the data is kept.", now.disk_free_bytes),
        ("leases_active", "Messages delivered and not settled; on the leader.", now.leases_active),
        ("grpc_streams_open", "Streams of clients and other nodes.", now.grpc_streams_open),
        ("publish_inflight_bytes", "Publishes on their way to a commit.", now.publish_inflight_bytes),
    ):
        yield GaugeMetricFamily(PREFIX + name, about, value)


def _queue_gauges(queues: Iterable[QueueReading]) -> Iterator[Metric]:
    depth = GaugeMetricFamily(PREFIX + "queue_depth", "Messages in a queue.", labels=("queue", "state"))
    age = GaugeMetricFamily(PREFIX + "oldest_age_seconds", "Age of the oldest message.", labels=("queue",))
    for queue in _bounded(queues):
        depth.add_metric((queue.name, "ready"), queue.ready)
        depth.add_metric((queue.name, "leased"), queue.leased)
        depth.add_metric((queue.name, "delayed"), queue.delayed)
        depth.add_metric((queue.name, "parked"), queue.parked)
        age.add_metric((queue.name,), queue.oldest_age_s)
    yield depth
    yield age


def _bounded(queues: Iterable[QueueReading]) -> Iterator[QueueReading]:
    """The first QUEUES_MAX queues, then one that stands for all others: the sum, and the oldest age."""
    ready = leased = delayed = parked = seen = 0
    oldest_s = 0.0
    for queue in queues:
        seen += 1
        if seen <= QUEUES_MAX:
            yield queue
        else:
            ready, leased = ready + queue.ready, leased + queue.leased
            delayed, parked = delayed + queue.delayed, parked + queue.parked
            oldest_s = max(oldest_s, queue.oldest_age_s)
    if seen > QUEUES_MAX:
        yield QueueReading(OTHER, ready, leased, oldest_s, delayed, parked)
