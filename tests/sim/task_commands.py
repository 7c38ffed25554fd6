"""Random commands about tasks: such as leaders propose, mistakes and late ones included."""

import random
from typing import Any

from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.sim.command_model import CommandModel
from tests.sim.task_model import CONDITIONS, LEASED, QUEUED

QUEUES = {"queues/busy": 12, "queues/usual": 6, "queues/rare": 1}
"""And how often each is meant: where little happens, what is forgotten shows."""
POLICIES = tuple(queue_pb2.SchedulingPolicy.values()[1:])
WORKERS = ("w1", "w2", "w3")
TYPES = ("draw", "send")
YIELDS = (
    worker_pb2.REVOKE_REASON_SLICE_END,
    worker_pb2.REVOKE_REASON_PREEMPTED,
    worker_pb2.REVOKE_REASON_DRAINED,
    worker_pb2.REVOKE_REASON_LEASE_LOST,
)


class RandomTasks:
    """Makes commands that mostly make sense, given what `model` has."""

    def __init__(self, dice: random.Random, model: CommandModel) -> None:
        self._dice, self._model = dice, model
        self._sent: list[internal.Command] = []
        """Those with a request_id: clients may repeat them."""

    def command(self) -> internal.Command:
        if self._sent and self._dice.random() < 0.05:
            return self._dice.choice(self._sent[-5:])
        kinds = {
            self.create: 4,
            self.update: 2,
            self.submit: 20,
            self.workflow: 6,
            self.lease: 25,
            self.settle: 25,
            self.progress: 4,
            self.advance: 8,
            self.reorder: 8,
            self.cancel: 4,
            self.retry: 4,
        }
        make = self._dice.choices([*kinds], [*kinds.values()])[0]
        command = make()
        if self._dice.random() < 0.1:
            command.request_id = f"r{len(self._sent)}"
            self._sent.append(command)
        return command

    def _queue(self) -> str:
        return self._dice.choices([*QUEUES], [*QUEUES.values()])[0]

    def upheaval(self) -> internal.Command:
        """The end of a queue, or of all that waits in it: not for models, which do not know when graves are dug."""
        if self._dice.random() < 0.5:
            return internal.Command(purge_queue=internal.PurgeQueue(name=self._queue()))
        return internal.Command(delete_queue=internal.DeleteQueue(name=self._queue()))

    def create(self) -> internal.Command:
        queue = queue_pb2.Queue(name=self._queue(), kind=queue_pb2.QUEUE_KIND_TASK)
        queue.max_messages = self._dice.choice((0, 0, 8))
        queue.scheduling.CopyFrom(self.scheduling())
        return internal.Command(create_queue=internal.CreateQueue(queue=queue))

    def scheduling(self) -> queue_pb2.Scheduling:
        """Settings with short times, so that they matter within a test."""
        dice = self._dice
        settings = queue_pb2.Scheduling(max_attempts=dice.choice((1, 2, 5)))
        settings.policy = dice.choice(POLICIES)  # type: ignore[assignment]
        settings.aging.FromMilliseconds(dice.choice((0, 100, 1_000)))
        settings.backoff.FromMilliseconds(dice.choice((1, 50, 400)))
        settings.backoff_max.FromMilliseconds(dice.choice((100, 1_000)))
        settings.retain_succeeded.FromMilliseconds(dice.choice((200, 2_000)))
        settings.retain_failed.FromMilliseconds(dice.choice((400, 4_000)))
        settings.max_ended = dice.choice((3, 1_000))
        return settings

    def update(self) -> internal.Command:
        queue = queue_pb2.Queue(name=self._queue(), scheduling=self.scheduling())
        fields = ["scheduling"]
        return internal.Command(update_queue=internal.UpdateQueue(queue=queue, fields=fields))

    def task(self, name: str) -> task_pb2.Task:
        dice, now_ms = self._dice, self._model.now_ms
        task = task_pb2.Task(name=name, queue=self._queue(), type=dice.choice(TYPES))
        task.payload = dice.randbytes(dice.choice((0, 5, 50)))
        task.priority = dice.choice((-5, 0, 0, 0, 1, 7))
        if dice.random() < 0.3:
            task.size.FromMilliseconds(dice.choice((1, 30, 700)))
        if dice.random() < 0.2:
            task.resources["cpu"] = dice.choice((1.0, 2.5))
        if dice.random() < 0.1:
            task.not_before.FromMilliseconds(now_ms + dice.choice((-50, 30, 500)))
        if dice.random() < 0.15:
            task.deadline.FromMilliseconds(now_ms + dice.choice((40, 300, 5_000)))
        if dice.random() < 0.2:
            task.max_attempts = dice.choice((1, 3))
        if dice.random() < 0.2:
            task.backoff.FromMilliseconds(dice.choice((5, 80)))
        task.tenant, task.limit_key = dice.choice(("", "", "x")), dice.choice(("", "", "k"))
        return task

    def _name(self) -> str:
        return f"tasks/{self._dice.randrange(60)}"

    def submit(self) -> internal.Command:
        """Some tasks, many under names that exist, with dependencies that may not."""
        tasks = [self.task(self._name()) for _ in range(self._dice.choice((1, 1, 2, 8)))]
        tasks = list({task.name: task for task in tasks}.values())
        known = [*self._model.tasks, *(task.name for task in tasks), "tasks/none"]
        for task in tasks:
            if self._dice.random() < 0.3:
                self._depend(task, self._dice.sample(known, min(len(known), self._dice.choice((1, 2, 3)))))
        if self._dice.random() < 0.05:
            tasks[0].dependencies.add(task=tasks[-1].name)
            tasks[-1].dependencies.add(task=tasks[0].name)
        return internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks))

    def _depend(self, task: task_pb2.Task, names: list[str]) -> None:
        for name in names:
            if name != task.name:
                task.dependencies.add(task=name, condition=self._dice.choice(CONDITIONS))

    def workflow(self) -> internal.Command:
        """A graph without cycles."""
        number = self._dice.randrange(8)
        count = self._dice.choice((2, 5, 12))
        tasks = [self.task(f"tasks/w{number}.{place}") for place in range(count)]
        for place, task in enumerate(tasks):
            if place:
                parents = self._dice.sample(range(place), self._dice.randint(0, min(place, 3)))
                self._depend(task, [tasks[parent].name for parent in parents])
        workflow = task_pb2.Workflow(name=f"workflows/{number}")
        return internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks, workflow=workflow))

    def lease(self) -> internal.Command:
        waiting = [task.number for task in self._model.tasks.values() if task.state == QUEUED]
        numbers = self._dice.sample(waiting, self._dice.randint(0, min(len(waiting), 6)))
        numbers += [self._dice.randint(1, 40)] * (self._dice.random() < 0.2)
        worker = self._dice.choice(WORKERS)
        lease = internal.LeaseTasks(
            worker_id=worker, instance_id=f"{worker}.1", numbers=dict.fromkeys(numbers)
        )
        return internal.Command(lease_tasks=lease)

    def settle(self) -> internal.Command:
        leased = [task for task in self._model.tasks.values() if task.state == LEASED]
        chosen = self._dice.sample(leased, self._dice.randint(0, min(len(leased), 6)))
        ends = [self._end(task.number, task.lease_id) for task in chosen]
        if self._dice.random() < 0.2:
            ends.append(self._end(self._dice.randint(1, 40), self._dice.randrange(1 << 40)))
        return internal.Command(settle_tasks=internal.SettleTasks(leases=ends))

    def _end(self, number: int, lease_id: int) -> internal.SettledLease:
        dice = self._dice
        end = internal.SettledLease(number=number, lease_id=lease_id)
        match dice.choice(("result", "result", "failure", "yield", "lost")):
            case "result":
                end.result.data = dice.randbytes(dice.choice((0, 8)))
            case "failure":
                end.failure.error.reason = "Oops"
                end.failure.permanent = dice.random() < 0.2
                if dice.random() < 0.2:
                    end.failure.delay.FromMilliseconds(dice.choice((0, 60)))
            case "yield":
                given: Any = getattr(end, "yield")
                given.reason = dice.choice(YIELDS)
                given.checkpoint = dice.randbytes(dice.choice((0, 4)))
            case _:
                end.lost.reason = dice.choice(("LEASE_EXPIRED", "INSTANCE_REPLACED"))
        return end

    def progress(self) -> internal.Command:
        leased = [task for task in self._model.tasks.values() if task.state == LEASED]
        told = [
            internal.RecordedProgress(
                number=task.number,
                lease_id=task.lease_id + (self._dice.random() < 0.2),
                progress=task_pb2.TaskProgress(fraction=0.5, message="half"),
                checkpoint=self._dice.randbytes(self._dice.choice((0, 3))),
            )
            for task in self._dice.sample(leased, min(len(leased), 2))
        ]
        return internal.Command(record_progress=internal.RecordProgress(tasks=told))

    def advance(self) -> internal.Command:
        return internal.Command(advance_tasks=internal.AdvanceTasks(limit=10_000))

    def reorder(self) -> internal.Command:
        step = internal.ReorderTasks(queue=self._queue(), limit=self._dice.choice((3, 1_000)))
        return internal.Command(reorder_tasks=step)

    def cancel(self) -> internal.Command:
        cancel = internal.CancelTasks(limit=10_000, reason="why not")
        match self._dice.choice(("names", "names", "workflow", "queue")):
            case "names":
                cancel.names.extend([self._name(), self._name(), f"tasks/w{self._dice.randrange(8)}.1"])
            case "workflow":
                cancel.workflow = f"workflows/{self._dice.randrange(8)}"
            case _:
                cancel.queue = self._queue()
        return internal.Command(cancel_tasks=cancel)

    def retry(self) -> internal.Command:
        retry = internal.RetryTasks(limit=10_000)
        match self._dice.choice(("names", "names", "workflow", "queue")):
            case "names":
                retry.names.extend([self._name(), self._name(), f"tasks/w{self._dice.randrange(8)}.1"])
            case "workflow":
                retry.workflow, retry.all = f"workflows/{self._dice.randrange(8)}", self._dice.random() < 0.3
            case _:
                retry.queue = self._queue()
        return internal.Command(retry_tasks=retry)


class BlindTasks(RandomTasks):
    """Makes commands without knowing what there is: guesses, many of which fail."""

    def __init__(self, dice: random.Random, number: int, now_ms: int) -> None:
        """`number` is about the log index."""
        super().__init__(dice, CommandModel(now_ms=now_ms))
        self._number = number

    def command(self) -> internal.Command:
        """In the beginning there have to be queues."""
        return self.create() if self._dice.random() < 10 / (self._number + 10) else super().command()

    def lease(self) -> internal.Command:
        """A dozen numbers, each at its own place."""
        first = 12 * self._dice.randrange(6)
        lease = internal.LeaseTasks(worker_id="w", instance_id="w.1", numbers=range(first, first + 12))
        return internal.Command(lease_tasks=lease)

    def settle(self) -> internal.Command:
        """Each guess is an entry in which the lease may have been given."""
        ends = [
            self._end(number, index << 24 | number % 12)
            for number in self._dice.sample(range(1, 72), 8)
            for index in range(max(1, self._number - 4), self._number + 8)
        ]
        return internal.Command(settle_tasks=internal.SettleTasks(leases=ends))
