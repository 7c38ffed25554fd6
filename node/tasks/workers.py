"""Workers as their leader knows them: what each can run, what it has, and when it was last heard of.

A worker outlives its stream: when that breaks, its leases go on until they end, and a new stream of the same instance
takes them over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.clock import Clock
from node.state.rows import timestamp
from node.state.task_rows import Leased
from node.tasks.placement import Capacity
from node.tasks.session import Session
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import worker_pb2


@dataclass(slots=True, eq=False)
class Lease:
    """A committed lease. `received` and the rest are this leader's own knowledge, not the log's."""

    leased: Leased
    worker: Worker
    demand: command_pb2.Demand
    resources: Mapping[str, float]
    received: bool = False
    settling: bool = False
    """Its end is on its way into the log: its worker's outcome, or what this leader found out."""
    answered: bool = False
    """Its place at the worker is free again: the worker's outcome has come."""
    refused: bool = False
    """Its worker was or will be told that its outcome came too late."""
    revoked: bool = False
    """Its worker was asked to yield."""
    succeeded: bool = False
    """Its task was completed, and not by its worker's outcome."""
    over: Session | None = None
    """The stream over which its worker has it: it was sent there, or named by the worker when it came back."""
    paid: Session | None = None
    """The stream whose credit it took."""
    charged_ms: int = 0
    """What its queue's policy was told of its run time."""

    @property
    def limit_key(self) -> str:
        return self.demand.limit_key

    @property
    def tenant(self) -> str:
        return self.demand.tenant

    @property
    def preemptible(self) -> bool:
        return self.demand.preemptible


@dataclass(slots=True, eq=False)
class Worker:
    """A worker, by its id. `leases` are those in force, of earlier runs of it too; `stale` those that have ended while
    it still runs them.

    Invariant: `held` counts leases that are proposed, in force and not answered, or stale; `capacity.used` is what
    they take.
    """

    worker_id: str
    connected_ms: int  # wall clock
    heard_ms: int  # monotonic
    heard_wall_ms: int
    instance_id: str = ""
    """Its present run; empty until it has connected to this leader."""
    heartbeat_ms: int = 0
    queues: frozenset[int] = frozenset()
    queue_names: tuple[str, ...] = ()
    types: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)
    capacity: Capacity = field(default_factory=lambda: Capacity({}))
    slots: int = 0
    load: float = 0.0
    credit: int = 0
    credit_bytes: int | None = None
    held: int = 0
    draining: bool = False
    silent: bool = False
    """Nothing was heard of it for so long that it gets nothing more until it is."""
    session: Session | None = None
    leases: dict[int, Lease] = field(default_factory=dict)
    stale: dict[int, Lease] = field(default_factory=dict)
    unreceived: dict[int, int] = field(default_factory=dict)
    """Lease ids by when they were assigned (monotonic), oldest first."""
    overdue: frozenset[int] = frozenset()
    lease_ms_min: int = 0
    """No lease of it is shorter; 0 = it has had none."""
    _by_queue: Counter[int] = field(default_factory=Counter)

    @property
    def willing(self) -> bool:
        """True if it takes tasks at all now; whether one fits is another question."""
        session = self.session
        return (
            self.credit > 0
            and session is not None
            and not session.ended
            and not self.draining
            and not self.silent
        )

    def held_of(self, queue_id: int) -> int:
        """How many tasks of a queue it has."""
        return self._by_queue[queue_id]

    def room_for(self, size: int) -> bool:
        """True if a payload of so many bytes may be assigned; a large one alone."""
        return self.credit_bytes is None or size <= self.credit_bytes or not self.held

    def take(self, queue_id: int, resources: Mapping[str, float], size: int) -> None:
        """A place is taken."""
        self.held += 1
        self.credit -= 1
        self._by_queue[queue_id] += 1
        self.capacity.take(resources)
        if self.credit_bytes is not None:
            self.credit_bytes -= size

    def hold(self, lease: Lease) -> None:
        """It works on a lease that an earlier stream or leader gave."""
        self.reserve(lease.leased.queue_id, lease.resources)

    def reserve(self, queue_id: int, resources: Mapping[str, float]) -> None:
        """A place is taken that costs no credit of this stream."""
        self.held += 1
        self._by_queue[queue_id] += 1
        self.capacity.take(resources)

    def give(self, queue_id: int, resources: Mapping[str, float]) -> None:
        """A place is free again; credit for the next task comes from the worker."""
        assert self.held > 0
        self.held -= 1
        self._by_queue[queue_id] -= 1
        self.capacity.give(resources)

    def refund(self, session: Session | None, size: int) -> None:
        """The worker never saw a task that credit of this stream was taken for."""
        if session is not None and session is self.session:
            self.credit += 1
            if self.credit_bytes is not None:
                self.credit_bytes += size

    def own(self, lease: Lease) -> None:
        """A lease of this worker is in force."""
        self.leases[lease.leased.lease_id] = lease
        lease_ms = lease.leased.lease_ms
        self.lease_ms_min = min(self.lease_ms_min or lease_ms, lease_ms)

    def set_capacity(self, capacity: Mapping[str, float]) -> None:
        """It has so much of each resource now; what its tasks take stays taken."""
        used = self.capacity.used
        self.capacity = Capacity(dict(capacity))
        self.capacity.take(used)

    def heard(self, clock: Clock) -> None:
        self.heard_ms, self.heard_wall_ms, self.silent = clock.now_ms(), clock.wall_ms(), False

    def introduce(self, hello: worker_pb2.Hello, queues: Iterable[int]) -> None:
        """Take over what a Hello says; its leases are not counted yet."""
        self.queues, self.queue_names = frozenset(queues), tuple(hello.queues)
        self.types, self.labels = frozenset(hello.types), dict(hello.labels)
        self.capacity, self.slots = Capacity(dict(hello.capacity)), hello.slots
        self.held, self.credit, self.credit_bytes = 0, 0, None
        self.draining = self.draining and self.instance_id == hello.instance_id
        self.instance_id, self.overdue = hello.instance_id, frozenset()
        self.stale.clear()
        self.unreceived.clear()
        self._by_queue.clear()

    def to_proto(self) -> worker_pb2.Worker:
        """The worker as the API shows it."""
        return worker_pb2.Worker(
            worker_id=self.worker_id,
            instance_id=self.instance_id,
            queues=self.queue_names,
            types=sorted(self.types),
            labels=self.labels,
            capacity=self.capacity.total,
            used={name: value for name, value in self.capacity.used.items() if value},
            slots=self.slots,
            leases=len(self.leases),
            load=self.load,
            connected=self.session is not None,
            draining=self.draining,
            connect_time=timestamp(self.connected_ms),
            heartbeat_time=timestamp(self.heard_wall_ms),
            overdue_tasks=len(self.overdue),
        )
