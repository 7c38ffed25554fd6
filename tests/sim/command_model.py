"""What each command about tasks, workflows and schedules does, in plain Python, on top of `task_model.py`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from node.state.schedule_rows import settings_of as schedule_of
from node.state.scheduling import scheduling_of
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2
from tests.sim.task_model import (
    BLOCKED,
    CANCELLED,
    DEAD_LETTERED,
    DELAYED,
    ENDED,
    EXPIRED,
    SUCCEEDED,
    WAITING,
    ModelQueue,
    ModelTask,
    Refusal,
    TaskModel,
)


@dataclass(slots=True)
class ModelSchedule:
    """One schedule. `ticks` are all that were fired, left out or missed, in order; `tasks` all that it has submitted."""

    config: schedule_pb2.Schedule
    etag: str
    next_ms: int
    last_ms: int = 0
    fired: list[int] = field(default_factory=list)
    overlapped: list[int] = field(default_factory=list)
    missed: list[tuple[int, int]] = field(default_factory=list)
    """The first of some missed ticks, and how many."""
    tasks: list[str] = field(default_factory=list)

    def counts(self) -> tuple[int, int, int]:
        """How many ticks were fired, left out, and missed."""
        return len(self.fired), len(self.overlapped), sum(count for _, count in self.missed)


@dataclass(slots=True)
class CommandModel(TaskModel):
    """Everything that commands change, but queues of messages."""

    schedules: dict[str, ModelSchedule] = field(default_factory=dict)
    requests: dict[tuple[str, str], object] = field(default_factory=dict)

    def apply(self, at: tuple[int, int], time_ms: int, command: internal.Command) -> object:
        """What the command answers: a value, or a Refusal. `at` is (log index, ordinal)."""
        self.now_ms, self.index = max(self.now_ms, time_ms), at[0]
        kind = command.WhichOneof("kind") or ""
        request = (kind, command.request_id)
        if command.request_id and request in self.requests:
            return self.requests[request]
        try:
            answer = self._perform(at, kind, getattr(command, kind))
        except Refusal as refusal:
            return refusal
        self.follow_up()
        if command.request_id:
            self.requests[request] = answer
        return answer

    def _perform(self, at: tuple[int, int], kind: str, content: Any) -> object:
        etag = f"{at[0]:x}.{at[1]:x}"
        simple: dict[str, Callable[[Any], object]] = {
            "create_queue": self.create_queue,
            "update_queue": self.update_queue,
            "submit_tasks": self.submit,
            "settle_tasks": self.settle,
            "record_progress": self.progress,
            "advance_tasks": self.advance,
            "cancel_tasks": self.cancel,
            "reorder_tasks": lambda command: self._queue(command.queue) and None,
            "retry_tasks": self.retry,
            "delete_schedule": self.delete_schedule,
            "fire_schedule": self.fire,
            "trigger_schedule": self.trigger,
        }
        match kind:
            case "lease_tasks":
                return self.lease(at, content)
            case "create_schedule":
                self.create_schedule(etag, content)
            case "update_schedule":
                self.update_schedule(etag, content)
            case _ if kind in simple:
                return simple[kind](content)
        return None

    # Queues

    def create_queue(self, command: internal.CreateQueue) -> None:
        if command.queue.kind != queue_pb2.QUEUE_KIND_TASK:
            return
        config = self._config(command.queue.name, command.queue.max_messages, command.queue.scheduling)
        there = self.queues.setdefault(config.name, ModelQueue(config))
        if there.config != config:
            raise Refusal("QUEUE_EXISTS")

    def update_queue(self, command: internal.UpdateQueue) -> None:
        """Of its settings only those of scheduling matter here."""
        if command.queue.name not in self.queues:
            raise Refusal("QUEUE_NOT_FOUND")
        queue = self.queues[command.queue.name]
        if "scheduling" in command.fields:
            queue.earlier.append((self.now_ms, queue.config.scheduling))
            before = queue.config
            queue.config = self._config(before.name, before.max_messages, command.queue.scheduling)

    @staticmethod
    def _config(name: str, max_messages: int, scheduling: queue_pb2.Scheduling) -> queue_pb2.Queue:
        config = queue_pb2.Queue(name=name, max_messages=max_messages)
        config.scheduling.CopyFrom(scheduling_of(scheduling))
        return config

    # Time

    def advance(self, command: internal.AdvanceTasks) -> int:
        """All that is due; the limit must be large enough for that."""
        due = [task for task in self.tasks.values() if 0 < self.due_ms(task) <= self.now_ms]
        assert len(due) < command.limit
        for task in due:
            if task.deadline_ms and not task.start_ms and task.deadline_ms <= self.now_ms:
                self.end(task, EXPIRED, "DEADLINE")
            elif task.state == DELAYED:
                self.wake(task)
        self.follow_up()
        for name in self.queues:
            self._forget_tasks(name)
        for name in list(self.workflows):
            self._forget_workflow(name)
        return len(due)

    def _forget_tasks(self, queue: str) -> None:
        """Those whose time is over, and the oldest of too many; of no workflow, and nobody waits for them."""
        ended = [task for task in self.of(queue, ENDED) if not task.workflow]
        needed = self._needed()
        free = sorted((t for t in ended if t.number not in needed), key=lambda t: (t.end_ms, t.number))
        over = [task for task in free if self.kept_until_ms(task) <= self.now_ms]
        rest = [task for task in free if task not in over]
        surplus = len(ended) - len(over) - self.queues[queue].config.scheduling.max_ended
        for task in over + rest[: max(0, surplus)]:
            del self.tasks[task.name]

    def _forget_workflow(self, name: str) -> None:
        """All its tasks when all have ended and the time of the last is over; those that are needed, a minute later."""
        workflow, tasks = self.workflows[name], self.of_workflow(name)
        if any(task.state not in ENDED for task in tasks) or workflow.keep_ms > self.now_ms:
            return
        needed = self._needed()
        for task in tasks:
            if task.number not in needed:
                workflow.forgotten.add(task.state)
                del self.tasks[task.name]
        workflow.keep_ms = self.now_ms + 60_000
        if not self.of_workflow(name):
            del self.workflows[name]

    def _needed(self) -> set[int]:
        """The tasks that others depend on which wait or run."""
        return {
            number for task in self.tasks.values() if task.state not in ENDED for number, _ in task.parents
        }

    # Cancel and retry

    def cancel(self, command: internal.CancelTasks) -> int:
        """How many were cancelled."""
        if command.workflow:
            found = self._workflow(command.workflow)
        elif command.queue:
            found = self.of(self._queue(command.queue), WAITING)
        else:
            found = self._named(command.names)
        count = self._cancel(found)
        if command.workflow and count:
            self.workflows[command.workflow].cancelled = True
        return count

    def _cancel(self, tasks: Iterable[ModelTask]) -> int:
        running = [task for task in tasks if task.state not in ENDED]
        for task in running:
            self.end(task, CANCELLED, "")
        return len(running)

    def retry(self, command: internal.RetryTasks) -> int:
        """How many were given new attempts."""
        if command.workflow:
            found = [
                task for task in self._workflow(command.workflow) if command.all or task.state != SUCCEEDED
            ]
        elif command.queue:
            found = self.of(self._queue(command.queue), {DEAD_LETTERED})
        else:
            found = [task for task in self._named(command.names) if task.state != SUCCEEDED]
        again = [task for task in found if task.state in ENDED]
        for task in again:
            if task.state == SUCCEEDED:
                task.result, task.ran_ms = b"", 0
            if task.deadline_ms <= self.now_ms:
                task.deadline_ms = 0
            task.state, task.attempt, task.end_ms, task.reason = BLOCKED, 0, 0, ""
            task.lives += 1
            if task.workflow:
                self.workflows[task.workflow].cancelled = False
        return len(again)

    def _workflow(self, name: str) -> list[ModelTask]:
        if not (found := self.of_workflow(name)):
            raise Refusal("WORKFLOW_NOT_FOUND")
        return found

    def _queue(self, name: str) -> str:
        if name not in self.queues:
            raise Refusal("QUEUE_NOT_FOUND")
        return name

    def _named(self, names: Iterable[str]) -> list[ModelTask]:
        if not (found := self.named(names)):
            raise Refusal("TASK_NOT_FOUND")
        return found

    # Schedules

    def create_schedule(self, etag: str, command: internal.CreateSchedule) -> None:
        config = schedule_of(command.schedule)
        there = self.schedules.get(config.name)
        if there is None:
            self.schedules[config.name] = ModelSchedule(config, etag, command.next_tick_ms)
        elif there.config != config:
            raise Refusal("SCHEDULE_EXISTS")

    def update_schedule(self, etag: str, command: internal.UpdateSchedule) -> None:
        """Of its settings only `paused` and `overlap_policy` are changed in these tests: its times stay."""
        schedule = self._schedule(command.schedule.name, command.schedule.etag)
        config = schedule_pb2.Schedule()
        config.CopyFrom(schedule.config)
        for name in command.fields:
            setattr(config, name, getattr(command.schedule, name))
        if config != schedule.config:
            schedule.config, schedule.etag = config, etag

    def delete_schedule(self, command: internal.DeleteSchedule) -> None:
        self._schedule(command.name, command.etag)
        del self.schedules[command.name]

    def fire(self, command: internal.FireSchedule) -> None:
        """One tick, or several missed ones, if it is the next one by these settings."""
        schedule = self._schedule(command.name, command.etag)
        if command.tick_ms != schedule.next_ms or not command.tick_ms:
            raise Refusal("TICK_NOT_NEXT")
        if command.tick_ms <= schedule.last_ms:
            schedule.next_ms = command.next_tick_ms
            return
        running = [self.tasks[name] for name in schedule.tasks if name in self.tasks]
        running = [task for task in running if task.state not in ENDED]
        if command.missed:
            schedule.missed.append((command.tick_ms, max(1, command.count)))
        elif running and schedule.config.overlap_policy == schedule_pb2.OVERLAP_POLICY_SKIP:
            schedule.overlapped.append(command.tick_ms)
        else:
            self._submit_task(schedule, f"tasks/{command.name.partition('/')[2]}:{command.tick_ms}")
            if schedule.config.overlap_policy == schedule_pb2.OVERLAP_POLICY_CANCEL_RUNNING:
                self._cancel(running)
            schedule.fired.append(command.tick_ms)
        schedule.next_ms, schedule.last_ms = command.next_tick_ms, command.tick_ms

    def trigger(self, command: internal.TriggerSchedule) -> None:
        self._submit_task(self._schedule(command.name), command.task)

    def _submit_task(self, schedule: ModelSchedule, name: str) -> None:
        task = task_pb2.Task()
        task.CopyFrom(schedule.config.task)
        task.name = name
        if name not in self.tasks:
            schedule.tasks.append(name)
        self.submit(internal.SubmitTasks(tasks=[task]))

    def _schedule(self, name: str, etag: str = "") -> ModelSchedule:
        if name not in self.schedules:
            raise Refusal("SCHEDULE_NOT_FOUND")
        if etag not in ("", self.schedules[name].etag):
            raise Refusal("ETAG_MISMATCH")
        return self.schedules[name]
