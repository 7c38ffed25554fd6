"""Clients of a simulated cluster: they submit tasks, workflows and schedules, cancel, retry and change their minds.

Each call has a request_id and is repeated, at whoever leads then, until it is answered: nothing may be done twice.
"""

from collections.abc import Callable
from typing import Any

from node.state.results import Refused, Result
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2
from tests.sim.task_model import CONDITIONS
from tests.sim.task_world import TaskWorld

PATIENCE_S = 1.0
TYPES = ("draw", "send")
FIFO, PRIORITY, SHORTEST, ROBIN, DEADLINE, FAIR = queue_pb2.SchedulingPolicy.values()[1:]


def scheduling(policy: int, **settings: Any) -> queue_pb2.Scheduling:
    """Short times, so that they matter within a run."""
    made = queue_pb2.Scheduling(policy=policy, max_attempts=settings.pop("max_attempts", 4), **settings)  # type: ignore[arg-type]
    made.lease.FromMilliseconds(1_000)
    made.backoff.FromMilliseconds(30)
    made.backoff_max.FromMilliseconds(300)
    made.aging.FromMilliseconds(500)
    made.time_slice.FromMilliseconds(60)
    made.retain_succeeded.FromSeconds(60)
    made.retain_failed.FromSeconds(60)
    return made


def rate(per_second: float, *, burst: int) -> queue_pb2.RateLimit:
    return queue_pb2.RateLimit(per_second=per_second, burst=burst)


QUEUES = {
    "queues/first": scheduling(FIFO, max_running=6, max_running_per_key=2),
    "queues/urgent": scheduling(PRIORITY, preemption=True, max_running_per_key=3),
    "queues/turns": scheduling(ROBIN, max_running=5),
    "queues/shared": scheduling(FAIR, tenant_weights={"x": 2.0}, rate_per_key=rate(10, burst=2)),
    "queues/short": scheduling(SHORTEST, rate=rate(12, burst=2)),
    "queues/timed": scheduling(DEADLINE, max_attempts=2),
}


class Clients:
    """Makes calls, and tells the checkers what was answered. `open` calls have no answer yet."""

    def __init__(self, world: TaskWorld) -> None:
        self._world, self._dice = world, world.dice
        self._calls = 0
        self._names: list[str] = []
        self._workflows: list[str] = []
        self._schedules: list[str] = []
        self.open: set[int] = set()

    def found(self) -> None:
        """Create the queues."""
        for name, settings in QUEUES.items():
            queue = queue_pb2.Queue(name=name, kind=queue_pb2.QUEUE_KIND_TASK, scheduling=settings)
            self._call(internal.Command(create_queue=internal.CreateQueue(queue=queue)))

    def _call(self, command: internal.Command, answered: Callable[[Any], None] | None = None) -> None:
        self._calls += 1
        number = self._calls
        command.request_id = f"call{number}"
        self.open.add(number)
        self._try(number, command, answered)

    def _try(self, number: int, command: internal.Command, answered: Callable[[Any], None] | None) -> None:
        def told(result: Result | None) -> None:
            if result is None or number not in self.open:
                return
            self.open.discard(number)
            if isinstance(result, Refused):
                self._world.counts[f"refused {result.reason}"] += 1
                assert result.reason != "INTERNAL", result
            elif answered is not None:
                answered(result)

        def again() -> None:
            if number in self.open:
                self._try(number, command, answered)

        self._world.submit(command, told)
        self._world.at(PATIENCE_S, again)

    # Calls.

    def submit(self) -> None:
        """Some tasks, some of them known already."""
        tasks = [self._task(self._new_name()) for _ in range(self._dice.choice((1, 1, 3, 12)))]
        if self._names and self._dice.random() < 0.2:
            tasks.append(self._task(self._dice.choice(self._names)))
        tasks = list({task.name: task for task in tasks}.values())
        if len(tasks) > 1 and self._dice.random() < 0.3:
            tasks[1].dependencies.add(task=tasks[0].name, condition=self._dice.choice(CONDITIONS))
        self._submit(internal.SubmitTasks(tasks=tasks))

    def workflow(self) -> None:
        """A graph of up to thirty tasks in one commit."""
        name = f"workflows/{len(self._workflows)}"
        self._workflows.append(name)
        tasks = [self._task(self._new_name()) for _ in range(self._dice.choice((3, 8, 30)))]
        for place, task in enumerate(tasks):
            for parent in self._dice.sample(range(place), min(place, self._dice.choice((0, 1, 1, 2, 4)))):
                condition = self._dice.choice((CONDITIONS[0], *CONDITIONS))
                task.dependencies.add(task=tasks[parent].name, condition=condition)
        self._submit(internal.SubmitTasks(tasks=tasks, workflow=task_pb2.Workflow(name=name)))

    def _submit(self, command: internal.SubmitTasks) -> None:
        names = [task.name for task in command.tasks]
        self._call(internal.Command(submit_tasks=command), lambda _: self._world.tasks.acknowledged(names))

    def _new_name(self) -> str:
        self._names.append(f"tasks/{len(self._names)}")
        return self._names[-1]

    def _task(self, name: str) -> task_pb2.Task:
        dice, now_ms = self._dice, int(self._world.now * 1000)
        task = task_pb2.Task(name=name, queue=dice.choice(list(QUEUES)), type=dice.choice(TYPES))
        task.priority = dice.choice((-3, 0, 0, 0, 2, 9))
        task.limit_key = dice.choice(("", "", "k", "l"))
        task.tenant = dice.choice(("", "x", "y"))
        task.preemptible = dice.random() < 0.3
        if dice.random() < 0.4:
            task.resources["cpu"] = dice.choice((0.5, 1.0, 3.0))
        if dice.random() < 0.1:
            task.worker_labels["zone"] = "a"
        if dice.random() < 0.3:
            task.size.FromMilliseconds(dice.choice((10, 80, 300)))
        if dice.random() < 0.1:
            task.not_before.FromMilliseconds(now_ms + dice.choice((100, 1_500)))
        if dice.random() < 0.1:
            task.deadline.FromMilliseconds(now_ms + dice.choice((200, 5_000)))
        if dice.random() < 0.1:
            task.timeout.FromMilliseconds(1_000)
        return task

    def cancel(self) -> None:
        cancel = internal.CancelTasks(limit=10_000)
        luck = self._dice.random()
        if luck < 0.6 and self._names:
            cancel.names.append(self._dice.choice(self._names))
        elif luck < 0.9 and self._workflows:
            cancel.workflow = self._dice.choice(self._workflows)
        else:
            cancel.queue = self._dice.choice(list(QUEUES))
        self._call(internal.Command(cancel_tasks=cancel))

    def retry(self) -> None:
        retry = internal.RetryTasks(limit=10_000)
        luck = self._dice.random()
        if luck < 0.3 and self._names:
            retry.names.append(self._dice.choice(self._names))
        elif luck < 0.6 and self._workflows:
            retry.workflow, retry.all = self._dice.choice(self._workflows), self._dice.random() < 0.2
        else:
            retry.queue = self._dice.choice(list(QUEUES))
        self._call(internal.Command(retry_tasks=retry))

    def change(self) -> None:
        """Another policy, other limits, or a pause."""
        name = self._dice.choice(list(QUEUES))
        queue = queue_pb2.Queue(name=name, scheduling=QUEUES[name])
        fields = ["scheduling"]
        if self._dice.random() < 0.3:
            queue.paused, fields = self._dice.random() < 0.5, ["paused"]
        elif self._dice.random() < 0.5:
            queue.scheduling.policy = self._dice.choice((FIFO, PRIORITY, SHORTEST, ROBIN, DEADLINE, FAIR))  # type: ignore[assignment]
            queue.scheduling.max_running = self._dice.choice((0, 2, 6))
        self._call(internal.Command(update_queue=internal.UpdateQueue(queue=queue, fields=fields)))

    def unpause(self) -> None:
        """Let every queue run."""
        for name in QUEUES:
            update = internal.UpdateQueue(queue=queue_pb2.Queue(name=name, paused=False), fields=["paused"])
            self._call(internal.Command(update_queue=update))

    # Schedules.

    def schedule(self) -> None:
        """A new schedule: a tick every second or so."""
        name = f"schedules/{len(self._schedules)}"
        self._schedules.append(name)
        dice = self._dice
        made = schedule_pb2.Schedule(
            name=name,
            overlap_policy=dice.choice(schedule_pb2.OverlapPolicy.keys()),
            missed_policy=dice.choice(schedule_pb2.MissedPolicy.keys()),
            task=task_pb2.Task(queue=dice.choice(list(QUEUES)), type="draw"),
        )
        made.missed_window.FromSeconds(dice.choice((1, 60)))
        made.interval.FromSeconds(dice.choice((1, 1, 2)))
        if dice.random() < 0.3:
            made.jitter.FromMilliseconds(400)
        create = internal.CreateSchedule(schedule=made)
        create.next_tick_ms = (int(self._world.now) + 1) * 1000
        self._call(internal.Command(create_schedule=create))

    def change_schedule(self, *, paused: bool | None = None) -> None:
        """Pause one, or let it go on."""
        if not self._schedules:
            return
        name = self._dice.choice(self._schedules)
        self._pause(name, self._dice.random() < 0.5 if paused is None else paused)

    def _pause(self, name: str, paused: bool) -> None:
        update = internal.UpdateSchedule(
            schedule=schedule_pb2.Schedule(name=name, paused=paused), fields=["paused"]
        )
        self._call(internal.Command(update_schedule=update))

    def trigger(self) -> None:
        if self._schedules:
            trigger = internal.TriggerSchedule(name=self._dice.choice(self._schedules), task=self._new_name())
            self._call(internal.Command(trigger_schedule=trigger))

    def pause_schedules(self) -> None:
        """No more ticks."""
        for name in self._schedules:
            self._pause(name, True)
