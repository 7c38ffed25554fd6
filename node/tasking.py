"""All that a leader does with tasks beside applying commands: chooses, fires schedules, tells watchers, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node.broker import Broker
from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.leadership import Leadership
from node.policies import Policy
from node.state.machine import Machine
from node.state.rows import QueueRow
from node.state.task_rows import TaskRow
from node.tasks.firing import Firing
from node.tasks.observer import Observer
from node.tasks.outlook import Outlook
from node.tasks.pump import Pump
from node.tasks.scheduler import Scheduler
from node.tasks.watch import Watchers
from node.web.metrics import Metrics
from node.web.task_metrics import TaskMeter, TaskQueueReading
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2


class Tasking:
    """Scheduler, schedules and watchers, put to work together."""

    def __init__(
        self,
        machine: Machine,
        *,
        clock: Clock,
        broker: Broker,
        leadership: Leadership,
        metrics: Metrics,
        fail: Callable[[Exception], None],
    ) -> None:
        """They hear of leadership and of the machine's events, and offer their commands to the broker."""
        self._machine = machine
        choosing, firing = Pump(clock=clock, fail=fail), Pump(clock=clock, fail=fail)
        self.scheduler = Scheduler(
            machine, clock=clock, touch=choosing.touch, wake=broker.wake, not_leader=leadership.not_leader
        )
        self.observer = Observer(machine, clock=clock)
        self.outlook = Outlook(machine, self.scheduler, clock=clock)
        self.firing = Firing(machine, clock=clock, touch=firing.touch, wake=broker.wake)
        self.watchers = Watchers(machine, not_leader=leadership.not_leader)
        meter = TaskMeter(machine)
        metrics.registry.register(meter)
        self.scheduler.on_received = self.watchers.received
        choosing.drive(self.scheduler.pump)
        firing.drive(self.firing.pump)
        broker.draw_from(self.scheduler.commands)
        broker.draw_from(self.firing.commands)
        leadership.tell(self.scheduler, self.firing, self.watchers, self.observer, meter)
        machine.listeners += [self.scheduler, self.firing, self.watchers, self.observer, meter]

    def stop(self) -> None:
        """Give no more tasks away; streams end, and are told to reconnect."""
        self.scheduler.desk.stop()
        self.watchers.stop()

    @property
    def busy(self) -> bool:
        """True while a worker waits for what it said to be committed."""
        return self.scheduler.desk.busy

    # For the API --------------------------------------------------------------------------------------------------

    def policy(self, queue_id: int) -> Policy | None:
        """The policy of a queue as it is used, with what tenants have used."""
        queue = self.scheduler.queues.get(queue_id)
        return None if queue is None else queue.policy

    def check_feasible(self, tasks: Sequence[task_pb2.Task]) -> None:
        """Raises DeadlineInfeasible for the first of these tasks that is not expected to end in time."""
        self.outlook.check_feasible(tasks)

    def foresee(self, tasks: Sequence[task_pb2.Task]) -> list[tuple[Command, Answer]]:
        """Leases that may stand in the very entry that makes these tasks."""
        return self.scheduler.foresight.leases(tasks)

    def explain(self, row: TaskRow) -> task_pb2.ExplainTaskResponse:
        """Why a task does not run, and when it is expected to; without the task itself."""
        return self.outlook.explain(row)

    def workers(self) -> list[worker_pb2.Worker]:
        """All that are connected, or were and hold leases."""
        return [worker.to_proto() for worker in self.scheduler.pool]

    def drain_worker(self, worker_id: str) -> None:
        """Ask a worker to finish and stop. Raises WorkerNotFound."""
        self.scheduler.desk.drain(worker_id)

    def describe(self, row: QueueRow, stats: queue_pb2.QueueStats) -> None:
        """Complete the statistics of a queue of kind TASK."""
        counts = self._machine.queue_counts(row.id)
        stats.tasks.CopyFrom(counts.to_proto())
        stats.leased_messages = counts.leased
        stats.consumers = len(self.scheduler.pool.of_queue(row.id))
        rates = self.observer.rates(row.id)
        if rates is not None:
            stats.rates.CopyFrom(rates)

    # For metrics --------------------------------------------------------------------------------------------------

    def reading(self, row: QueueRow) -> TaskQueueReading:
        """A queue of kind TASK at this moment."""
        workers = self.scheduler.pool.of_queue(row.id)
        counts = self._machine.queue_counts(row.id)
        return TaskQueueReading(row.name, counts, len(workers), sum(worker.credit for worker in workers))
