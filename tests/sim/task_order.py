"""Nobody is overtaken: what a leader leases is compared with what waited at that moment, as its node knew it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from node.state.listener import Silence
from node.state.machine import Machine
from node.state.task_rows import Leased, ReadyTask
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2
from tests.sim.checks import Violation
from tests.sim.workers import Profile


class Starts(NamedTuple):
    """Tasks that were chosen at some moment of this time."""

    from_s: float
    to_s: float
    tasks: int


SETTLED_MS = 3_000
"""So long after a change of its settings a queue may still act by the earlier ones."""


TURNS_MISSED_MAX = 2
"""A task may be passed over when a worker was kept for another queue in the first moment of a choice, and not in the last."""
TURN_S = 0.005
WINDOW_S = 2.0
CLOCK_S = 0.002
"""Nodes count in milliseconds."""


class Waiting(NamedTuple):
    """A task that waits, and since when this node knows."""

    task: ReadyTask
    queue_id: int
    lane_id: int
    since_s: float


@dataclass(slots=True)
class Waiters(Silence):
    """The QUEUED tasks of one node. `leasing` are those that its scheduler has taken and whose leases are not applied."""

    machine: Machine
    now_s: float = 0.0
    waiting: dict[int, Waiting] = field(default_factory=dict)
    leasing: set[int] = field(default_factory=set)
    changed_ms: dict[int, int] = field(default_factory=dict)
    passed: dict[int, list[float]] = field(default_factory=dict)
    """Tasks that were passed over by tasks of other lanes, and when."""

    starts: dict[tuple[int, str], list[Starts]] = field(default_factory=dict)
    """What this leader has started of each queue, and of each key of it, while it leads."""

    def lead(self) -> None:
        """Another leader counts anew."""
        self.starts.clear()

    def fill(self) -> None:
        """Read what waits when the node starts, or has another state."""
        self.waiting.clear()
        for queue in self.machine.queues():
            for lane in self.machine.lanes(queue.id):
                self.tasks_ready(queue.id, lane.id, self.machine.ready(lane.id, None, -1))

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        for task in tasks:
            self.waiting[task.number] = Waiting(task, queue_id, lane_id, self.now_s)

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        for _, number in tasks:
            self.waiting.pop(number, None)

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        for leased in leases:
            self.waiting.pop(leased.number, None)
            self.passed.pop(leased.number, None)

    def queue_changed(self, queue_id: int) -> None:
        self.changed_ms[queue_id] = self.machine.time_ms

    def reset(self) -> None:
        self.fill()

    def check(self, since_s: float, command: internal.LeaseTasks, worker: Profile) -> None:
        """C4, C5: whoever has waited since then, and comes first, and could have had this place, is not passed over."""
        chosen = [one for number in command.numbers if (one := self.waiting.get(number))]
        for other in self.waiting.values():
            if other.task.number in self.leasing or other.since_s >= since_s:
                continue
            for one in chosen:
                if not self._comes_before(other, one) or not self._could_have(other, one, worker):
                    continue
                times = self.passed.setdefault(other.task.number, [])
                if not times or self.now_s - times[-1] > TURN_S:
                    times.append(self.now_s)
                if other.lane_id == one.lane_id or len(times) > TURNS_MISSED_MAX:
                    raise Violation(f"{one} is leased before {other} to {worker}, passed over at {times}")

    def _comes_before(self, other: Waiting, one: Waiting) -> bool:
        if other.queue_id != one.queue_id or self.machine.reordering(one.queue_id):
            return False
        if self.machine.time_ms - self.changed_ms.get(one.queue_id, 0) < SETTLED_MS:
            return False
        return (other.task.key, other.task.number) < (one.task.key, one.task.number)

    def _could_have(self, other: Waiting, one: Waiting, worker: Profile) -> bool:
        """Whether what one task gets is surely enough for the other: the same worker, resources, time and limits."""
        if other.lane_id == one.lane_id:
            return True
        queue = self.machine.queue_by_id(one.queue_id)
        lanes = self.machine.lane(other.lane_id), self.machine.lane(one.lane_id)
        if queue is None or lanes[0] is None or lanes[1] is None:
            return False
        wants, gets = lanes[0].demand, lanes[1].demand
        return (
            queue.config.scheduling.policy != queue_pb2.SCHEDULING_POLICY_FAIR_SHARE
            and other.task.size_ms <= one.task.size_ms
            and (not worker.types or wants.type in worker.types)
            and wants.worker_labels.items() <= worker.labels.items()
            and all(amount <= gets.resources.get(name, 0) for name, amount in wants.resources.items())
            and wants.limit_key in ("", gets.limit_key)
        )

    def check_pace(self, since_s: float, leases: Sequence[internal.LeaseTasks]) -> None:
        """C8: in no time do more tasks start than the rate allows, and a burst. They were chosen since then."""
        counts: Counter[tuple[int, str]] = Counter()
        for number in (number for lease in leases for number in lease.numbers):
            if one := self.waiting.get(number):
                lane = self.machine.lane(one.lane_id)
                assert lane is not None
                counts.update(dict.fromkeys([(one.queue_id, ""), (one.queue_id, lane.demand.limit_key)], 1))
        for (queue_id, key), count in counts.items():
            queue = self.machine.queue_by_id(queue_id)
            if queue is None:
                continue
            settings = queue.config.scheduling
            limit = settings.rate_per_key if key else settings.rate
            if limit.per_second:
                self._within(limit, (queue_id, key), Starts(since_s, self.now_s, count))

    def _within(self, limit: queue_pb2.RateLimit, what: tuple[int, str], new: Starts) -> None:
        starts = [one for one in self.starts.get(what, []) if new.to_s - one.to_s < WINDOW_S]
        self.starts[what] = [*starts, new]
        total = 0
        for one in reversed(self.starts[what]):
            total += one.tasks
            allowed = limit.burst + limit.per_second * (new.to_s - one.from_s + CLOCK_S)
            if total > allowed:
                raise Violation(
                    f"{total} tasks of {what} start, at most {allowed:.1f} may: {self.starts[what]}"
                )
