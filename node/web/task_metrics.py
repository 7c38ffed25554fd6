"""What a leader measures of tasks, by queue: how many start and end, and how long that takes.

Fed by the state machine's events while this node leads, so that the nodes of a cluster add up. Labels are bounded:
states are constants of the contract, and beyond QUEUES_MAX queues the rest shares one label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from node.state.listener import Silence
from node.state.rows import QueueRow
from node.state.schema import body_place
from node.state.task_rows import SUCCEEDED, Counts, Leased, Settled, TaskRow
from node.web.distribution import MESSAGE_SECONDS, OTHER, PREFIX, QUEUES_MAX, Distribution
from taskraft.v1 import task_pb2

STATES: Final = Counts._fields[: Counts._fields.index("dead_lettered") + 1]
"""As labels, in the order of TaskState."""
ENDED: Final = {
    state: name.removeprefix("TASK_STATE_").lower()
    for name, state in task_pb2.TaskState.items()
    if state >= SUCCEEDED
}
"""States in which a task has ended, as labels."""


class State(Protocol):
    """The part of the state machine that a meter reads."""

    @property
    def applied(self) -> int:
        """Index of the entry whose events are told."""
        ...

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        ...


class Figures:
    """What was counted of one queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = 0
        self.ended = dict.fromkeys(ENDED, 0)
        self.waiting, self.running, self.end_to_end = (Distribution(MESSAGE_SECONDS) for _ in range(3))


class TaskMeter(Silence, Collector):
    """Counts while this node leads, and keeps what it has counted when it does not."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._leads = False
        self._queues: dict[int, Figures] = {}
        self._others = Figures(OTHER)

    def lead(self, term: int) -> None:
        self._leads = True

    def follow(self) -> None:
        self._leads = False

    # What the state machine says ----------------------------------------------------------------------------------

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        if self._leads:
            waited = Counter((leased.queue_id, leased.start_ms - leased.ready_ms) for leased in leases)
            for (queue_id, wait_ms), count in waited.items():
                figures = self._figures(queue_id)
                figures.started += count
                figures.waiting.observe(wait_ms / 1000, count)

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        if self._leads:
            figures = self._figures(queue_id)
            for run_ms, count in Counter(ended.run_ms for ended in settled).items():
                figures.running.observe(run_ms / 1000, count)

    def tasks_changed(self, rows: Sequence[TaskRow]) -> None:
        if not self._leads:
            return
        applied = self._state.applied
        ended = Counter(
            (row.queue_id, row.state, row.end_ms - row.create_ms)
            for row in rows
            if row.state >= SUCCEEDED and body_place(row.stamp)[0] == applied
        )
        for (queue_id, state, total_ms), count in ended.items():
            figures = self._figures(queue_id)
            figures.ended[state] += count
            figures.end_to_end.observe(total_ms / 1000, count)

    def queue_deleted(self, queue_id: int) -> None:
        self._queues.pop(queue_id, None)

    def reset(self) -> None:
        self._queues.clear()

    def _figures(self, queue_id: int) -> Figures:
        figures = self._queues.get(queue_id)
        if figures is None:
            row = self._state.queue_by_id(queue_id)
            if row is None or len(self._queues) >= QUEUES_MAX:
                return self._others
            figures = self._queues[queue_id] = Figures(row.name)
        return figures

    # What is scraped ----------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        known = [*self._queues.values(), self._others]
        shown = [figures for figures in known if figures.started or any(figures.ended.values())]
        started = CounterMetricFamily(PREFIX + "tasks_started", "Tasks given to workers.", labels=("queue",))
        ended = CounterMetricFamily(PREFIX + "tasks_ended", "Tasks that ended.", labels=("queue", "state"))
        for figures in shown:
            started.add_metric((figures.name,), figures.started)
            for state, label in ENDED.items():
                ended.add_metric((figures.name, label), figures.ended[state])
        yield started
        yield ended
        for name, about in (
            ("waiting", "From ready to leased."),
            ("running", "From leased to the end of the lease."),
            ("end_to_end", "From submitted to ended."),
        ):
            family = HistogramMetricFamily(PREFIX + f"task_{name}_seconds", about, labels=("queue",))
            for figures in shown:
                distribution: Distribution = getattr(figures, name)
                family.add_metric((figures.name,), distribution.buckets(), distribution.sum_s)
            yield family


@dataclass(frozen=True, slots=True)
class TaskQueueReading:
    """A queue of tasks at this moment; workers and their credit are the leader's knowledge."""

    name: str
    counts: Counts
    workers: int
    credit: int


def task_queue_gauges(queues: Iterable[TaskQueueReading]) -> Iterator[Metric]:
    """What is read of queues of tasks, bounded as all labels are."""
    tasks = GaugeMetricFamily(PREFIX + "tasks", "Tasks in a queue.", labels=("queue", "state"))
    workers = GaugeMetricFamily(
        PREFIX + "task_workers", "Workers of a queue; on the leader.", labels=("queue",)
    )
    credit = GaugeMetricFamily(
        PREFIX + "task_credit", "Tasks that the workers of a queue ask for; on the leader.", labels=("queue",)
    )
    for queue in _bounded(queues):
        for state, count in zip(STATES, queue.counts, strict=False):
            tasks.add_metric((queue.name, state), count)
        workers.add_metric((queue.name,), queue.workers)
        credit.add_metric((queue.name,), queue.credit)
    yield tasks
    yield workers
    yield credit


def _bounded(queues: Iterable[TaskQueueReading]) -> Iterator[TaskQueueReading]:
    """The first QUEUES_MAX queues, then one that stands for all others: the sum; workers may be in it several times."""
    rest = [0] * len(STATES)
    seen = workers = credit = 0
    for queue in queues:
        seen += 1
        if seen <= QUEUES_MAX:
            yield queue
        else:
            rest = [total + count for total, count in zip(rest, queue.counts, strict=False)]
            workers, credit = workers + queue.workers, credit + queue.credit
    if seen > QUEUES_MAX:
        yield TaskQueueReading(OTHER, Counts(*rest), workers, credit)
