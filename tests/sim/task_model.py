"""Tasks in plain Python: what the promises say about submit, lease, settle, time, cancel and retry, task by task.

Nothing here is fast, and nothing but defaults and the jitter of pauses is shared with the implementation: every question
is answered by looking at all tasks. Schedules stand in `schedule_model.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from node.state.scheduling import rules_of
from node.state.task_rows import TaskRow
from node.state.tasks import pause_ms
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2

QUEUED = int(task_pb2.TASK_STATE_QUEUED)
BLOCKED = int(task_pb2.TASK_STATE_BLOCKED)
DELAYED = int(task_pb2.TASK_STATE_DELAYED)
LEASED = int(task_pb2.TASK_STATE_LEASED)
SUCCEEDED = int(task_pb2.TASK_STATE_SUCCEEDED)
FAILED = int(task_pb2.TASK_STATE_FAILED)
CANCELLED = int(task_pb2.TASK_STATE_CANCELLED)
EXPIRED = int(task_pb2.TASK_STATE_EXPIRED)
DEAD_LETTERED = int(task_pb2.TASK_STATE_DEAD_LETTERED)
WAITING = {QUEUED, BLOCKED, DELAYED}
ENDED = {SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD_LETTERED}
BAD = ENDED - {SUCCEEDED}

CONDITIONS = (MUST_SUCCEED, ANY_SUCCEEDED, MUST_END) = tuple(task_pb2.DependencyCondition.values()[1:])
CREATED, REPLACED, ALREADY = task_pb2.SubmitOutcome.values()[1:]

LIMITS_LINGER_MS = 3_000
"""What was decided under earlier limits may still be on its way to the log for so long."""


@dataclass(slots=True)
class ModelTask:
    """One task. `parents` are (number, condition) in the order of its dependencies; `order_ms` is since when it waits,
    or, while DELAYED, until when.
    """

    number: int
    spec: task_pb2.Task
    queue: str
    create_ms: int
    parents: list[tuple[int, int]] = field(default_factory=list)
    workflow: str = ""
    state: int = BLOCKED
    attempt: int = 0
    lives: int = 1
    """How often it was begun anew: by its submit, and by retries."""
    max_attempts: int = 0
    backoff_ms: int = 0
    lease_ms: int = 0
    lease_id: int = 0
    worker_id: str = ""
    order_ms: int = 0
    queued_at: int = 0
    """The entry of the log that made it QUEUED the last time."""
    size_ms: int = 0
    start_ms: int = 0
    ran_ms: int = 0
    end_ms: int = 0
    reason: str = ""
    deadline_ms: int = 0
    result: bytes = b""
    checkpoint: bytes = b""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(slots=True)
class ModelQueue:
    """A queue of kind TASK. `earlier` are the settings that were replaced, and when; `runs` how long tasks ran, by type."""

    config: queue_pb2.Queue
    earlier: list[tuple[int, queue_pb2.Scheduling]] = field(default_factory=list)
    runs: list[tuple[str, int]] = field(default_factory=list)

    def limits(self, now_ms: int) -> tuple[int, int]:
        """The most that may run, in all and of one key, by any settings of late; 0 = no limit."""
        late = [settings for when, settings in self.earlier if now_ms - when < LIMITS_LINGER_MS]
        late.append(self.config.scheduling)
        total = [settings.max_running for settings in late]
        per_key = [settings.max_running_per_key for settings in late]
        return max(total) if all(total) else 0, max(per_key) if all(per_key) else 0

    def expected_ms(self, kind: str) -> int:
        """Weighted mean of the runs of a type, or of all, or a second."""
        found = [ms for name, ms in self.runs if name == kind] or [ms for _, ms in self.runs]
        mean = 0.0
        for count, ms in enumerate(found, start=1):
            mean += 1 / min(count, 8) * (ms - mean)
        return max(1, round(mean)) if found else 1_000


@dataclass(slots=True)
class ModelWorkflow:
    """A workflow; `keep_ms` is until when its tasks are remembered at least, `forgotten` the states of those that are not."""

    cancelled: bool = False
    keep_ms: int = 0
    forgotten: set[int] = field(default_factory=set)


class Refusal(Exception):
    """The command changes nothing, for this reason."""


@dataclass(slots=True)
class TaskModel:
    """All tasks, and what became of leases."""

    queues: dict[str, ModelQueue] = field(default_factory=dict)
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    workflows: dict[str, ModelWorkflow] = field(default_factory=dict)
    by_number: dict[int, ModelTask] = field(default_factory=dict)
    """Forgotten ones, too."""
    accepted: dict[int, str] = field(default_factory=dict)
    """By lease: the kind of the end that the log has taken from it."""
    now_ms: int = 0
    index: int = 0
    """Of the entry in hand."""

    # Questions

    def named(self, names: Iterable[str]) -> list[ModelTask]:
        """Those of these tasks that there are, in their order."""
        return [self.tasks[name] for name in dict.fromkeys(names) if name in self.tasks]

    def of(self, queue: str, states: Collection[int]) -> list[ModelTask]:
        """The tasks of a queue in these states, in the order of their numbers."""
        return [task for task in self.tasks.values() if task.queue == queue and task.state in states]

    def in_order(self, queue: str) -> list[ModelTask]:
        """The QUEUED tasks of a queue as its policy would start them if every worker could run them all (FAIR_SHARE: of
        one tenant).
        """
        settings = self.queues[queue].config.scheduling
        aging_ms = settings.aging.ToMilliseconds()

        def place(task: ModelTask) -> tuple[float, ...]:
            match settings.policy:
                case queue_pb2.SCHEDULING_POLICY_PRIORITY if aging_ms:
                    waited_ms = self.now_ms - task.order_ms
                    return (-(task.spec.priority + waited_ms / aging_ms), task.number)
                case queue_pb2.SCHEDULING_POLICY_PRIORITY:
                    return (-task.spec.priority, task.order_ms, task.number)
                case queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST:
                    return (task.size_ms, task.number)
                case queue_pb2.SCHEDULING_POLICY_EARLIEST_DEADLINE:
                    return (task.deadline_ms or float("inf"), task.number)
            return (task.order_ms, task.number)

        return sorted(self.of(queue, {QUEUED}), key=place)

    def parents(self, task: ModelTask) -> list[tuple[ModelTask, int]]:
        """What a task depends on, and how, as far as it is not forgotten."""
        found = [(self.by_number[number], condition) for number, condition in task.parents]
        return [(parent, condition) for parent, condition in found if self.tasks.get(parent.name) is parent]

    def fate(self, task: ModelTask) -> int:
        """What its dependencies make of a task: BLOCKED, QUEUED if all are fulfilled, FAILED if they never will be."""
        states: defaultdict[int, list[int]] = defaultdict(list)
        for parent, condition in self.parents(task):
            states[condition].append(parent.state)
        if any(state in BAD for state in states[MUST_SUCCEED]):
            return FAILED
        alternatives = states[ANY_SUCCEEDED]
        if alternatives and all(state in BAD for state in alternatives):
            return FAILED
        fulfilled = (
            all(state == SUCCEEDED for state in states[MUST_SUCCEED])
            and all(state in ENDED for state in states[MUST_END])
            and (not alternatives or SUCCEEDED in alternatives)
        )
        return QUEUED if fulfilled else BLOCKED

    def of_workflow(self, name: str) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.workflow == name]

    def workflow_state(self, name: str) -> int:
        workflow = self.workflows[name]
        states = workflow.forgotten | {task.state for task in self.of_workflow(name)}
        if states - ENDED:
            return int(task_pb2.TASK_STATE_RUNNING)
        if workflow.cancelled:
            return CANCELLED
        return SUCCEEDED if states == {SUCCEEDED} else FAILED

    def due_ms(self, task: ModelTask) -> int:
        """When time does something to a waiting task; 0 = never."""
        deadline_ms = 0 if task.start_ms else task.deadline_ms
        moments = [deadline_ms, task.order_ms if task.state == DELAYED else 0]
        return min((ms for ms in moments if ms), default=0) if task.state in WAITING else 0

    # Submit

    def submit(self, command: internal.SubmitTasks) -> list[int]:
        """One SubmitOutcome per task. A workflow that is known stays as it is."""
        if command.workflow.name in self.workflows:
            return [ALREADY] * len(command.tasks)
        names = {task.name for task in command.tasks}
        for task in command.tasks:
            if task.queue not in self.queues:
                raise Refusal("QUEUE_NOT_FOUND")
        new = [task for task in command.tasks if task.name not in self.tasks]
        for name, count in Counter(task.queue for task in new).items():
            most = self.queues[name].config.max_messages
            if most and len(self.of(name, WAITING | {LEASED})) + count > most:
                raise Refusal("QUEUE_FULL")
        for task in new:
            if any(each.task not in names | self.tasks.keys() for each in task.dependencies):
                raise Refusal("UNKNOWN_DEPENDENCY")
        self._refuse_cycles({task.name: [each.task for each in task.dependencies] for task in new})
        if command.workflow.name and new:
            self.workflows[command.workflow.name] = ModelWorkflow()
        created = {task.name for task in new}
        for task in new:
            self._create(task, command.workflow.name)
        for task in new:
            self.tasks[task.name].parents = [
                (self.tasks[each.task].number, each.condition or MUST_SUCCEED) for each in task.dependencies
            ]
            if self.fate(self.tasks[task.name]) == FAILED:
                self._size(self.tasks[task.name])
        return [CREATED if task.name in created else self._replace(task) for task in command.tasks]

    @staticmethod
    def _refuse_cycles(waiting: dict[str, list[str]]) -> None:
        """Take away whoever waits for nobody who is left; those in a cycle, and behind one, stay."""
        while free := [name for name, others in waiting.items() if not set(others) & waiting.keys()]:
            for name in free:
                del waiting[name]
        if waiting:
            raise Refusal("CYCLE")

    def _create(self, spec: task_pb2.Task, workflow: str) -> None:
        """A new task, BLOCKED until `follow_up` finds that it is not."""
        task = ModelTask(len(self.by_number) + 1, spec, spec.queue, self.now_ms, workflow=workflow)
        self.tasks[spec.name] = self.by_number[task.number] = task
        self._take_over(task, spec)

    def _take_over(self, task: ModelTask, spec: task_pb2.Task) -> None:
        rules = rules_of(self.queues[task.queue].config)
        task.spec, task.max_attempts = spec, spec.max_attempts or rules.max_attempts
        task.backoff_ms = spec.backoff.ToMilliseconds() if spec.HasField("backoff") else rules.backoff_ms
        task.lease_ms = spec.lease.ToMilliseconds() if spec.HasField("lease") else rules.lease_ms
        task.size_ms, task.deadline_ms = spec.size.ToMilliseconds(), spec.deadline.ToMilliseconds()

    def _replace(self, spec: task_pb2.Task) -> int:
        task = self.tasks[spec.name]
        if task.state not in WAITING or task.queue != spec.queue or spec.priority <= task.spec.priority:
            return ALREADY
        waited_since_ms = min(task.order_ms, self.now_ms)
        self._take_over(task, spec)
        task.attempt, task.start_ms, task.ran_ms, task.reason = 0, 0, 0, ""
        task.result = task.checkpoint = b""
        if task.state != BLOCKED:
            self._ready(task, waited_since_ms)
        return REPLACED

    # Leases

    def lease(self, at: tuple[int, int], command: internal.LeaseTasks) -> list[int]:
        """The numbers that were leased; `at` is (log index, ordinal)."""
        leased = []
        made_here = [task.number for task in self.named(command.names) if task.queued_at == self.index]
        numbers = [*command.numbers] or made_here
        lanes = [*command.lane_ids] or [0] * len(numbers)
        for place, (number, lane_id) in enumerate(zip(numbers, lanes, strict=True)):
            task = self.by_number.get(number)
            if task is not None and task.state == QUEUED and self.is_of_lane(task, lane_id):
                task.state, task.worker_id, task.start_ms = LEASED, command.worker_id, self.now_ms
                task.lease_id = at[0] << 24 | at[1] << 12 | place
                task.attempt += 1
                leased.append(number)
        return leased

    def settle(self, command: internal.SettleTasks) -> list[int]:
        """The leases that were current."""
        settled = []
        for lease in command.leases:
            task = self.by_number.get(lease.number)
            if task is None or task.state != LEASED or task.lease_id != lease.lease_id:
                continue
            kind = lease.WhichOneof("kind") or ""
            self.accepted[lease.lease_id] = kind
            settled.append(lease.lease_id)
            if kind == "result":
                task.result = lease.result.data
                ran_ms = task.ran_ms + self.now_ms - task.start_ms
                self.queues[task.queue].runs.append((task.spec.type, ran_ms))
                task.checkpoint = b""
                self.end(task, SUCCEEDED, "")
            elif kind == "failure":
                self._failed(task, lease.failure)
            elif kind == "yield":
                self._yielded(task, getattr(lease, "yield"))
            elif task.attempt >= task.max_attempts:
                self.end(task, DEAD_LETTERED, lease.lost.reason)
            else:
                task.reason = lease.lost.reason
                self._back(task, task.order_ms)
        return settled

    def _failed(self, task: ModelTask, failure: worker_pb2.TaskFailure) -> None:
        reason = failure.error.reason
        if failure.permanent:
            self.end(task, FAILED, reason)
        elif task.attempt >= task.max_attempts:
            self.end(task, DEAD_LETTERED, reason)
        else:
            wait_ms = failure.delay.ToMilliseconds() if failure.HasField("delay") else self._pause_ms(task)
            task.reason = reason
            self._back(task, self.now_ms + wait_ms)

    def _pause_ms(self, task: ModelTask) -> int:
        row = TaskRow(task.number, "", 0, 0, 0, attempt=task.attempt, backoff_ms=task.backoff_ms)
        rules = rules_of(self.queues[task.queue].config)
        paused_ms = pause_ms(rules, row)
        doubled_ms = min(rules.backoff_max_ms, task.backoff_ms * 2 ** (task.attempt - 1))
        assert 0.74 * doubled_ms - 1 <= paused_ms <= 1.26 * doubled_ms + 1
        return paused_ms

    def _yielded(self, task: ModelTask, given: worker_pb2.TaskYield) -> None:
        began = given.reason in (worker_pb2.REVOKE_REASON_SLICE_END, worker_pb2.REVOKE_REASON_PREEMPTED)
        task.attempt -= 1
        task.checkpoint = given.checkpoint or task.checkpoint
        if not began and not task.attempt and not task.checkpoint:
            start_ms, task.start_ms = task.start_ms, 0
            self._back(task, task.order_ms, start_ms)
        else:
            ended = given.reason == worker_pb2.REVOKE_REASON_SLICE_END
            self._back(task, self.now_ms if ended else task.order_ms)

    def _back(self, task: ModelTask, order_ms: int, start_ms: int = 0) -> None:
        """A lease has ended, its task has not: it waits, as if since `order_ms`."""
        run_ms = self.now_ms - (start_ms or task.start_ms)
        task.ran_ms = task.ran_ms + run_ms if task.checkpoint else 0
        task.lease_id = 0
        self._ready(task, order_ms)

    def progress(self, command: internal.RecordProgress) -> None:
        for told in command.tasks:
            task = self.by_number.get(told.number)
            if task is not None and task.state == LEASED and task.lease_id == told.lease_id:
                task.checkpoint = told.checkpoint or task.checkpoint

    # Transitions

    def follow_up(self) -> None:
        """What the last changes mean for the tasks that wait for others, and for those that wait for these, and so on."""
        changed = True
        while changed:
            changed = False
            for task in self.tasks.values():
                if task.state == BLOCKED and (fate := self.fate(task)) != BLOCKED:
                    changed = True
                    if fate == FAILED:
                        self.end(task, FAILED, "DEPENDENCY_FAILED")
                    else:
                        self._ready(task, self.now_ms)

    def _ready(self, task: ModelTask, order_ms: int) -> None:
        """Nothing but time can keep a task from running: it waits as if since `order_ms`, or until then."""
        until_ms = max(order_ms, task.spec.not_before.ToMilliseconds())
        if until_ms > self.now_ms:
            task.state, task.order_ms = DELAYED, until_ms
        else:
            self._size(task)
            task.queued_at = task.queued_at if task.state == QUEUED else self.index
            task.state, task.order_ms = QUEUED, order_ms

    def _size(self, task: ModelTask) -> None:
        """From now on it is expected to run so long."""
        task.size_ms = task.size_ms or self.queues[task.queue].expected_ms(task.spec.type)

    def is_of_lane(self, task: ModelTask, lane_id: int) -> bool:
        """Whether a task is of that lane, as far as anybody knows; 0 stands for any."""
        return True

    def wake(self, task: ModelTask) -> None:
        """Its delay is over."""
        self._ready(task, task.order_ms)

    def end(self, task: ModelTask, state: int, reason: str) -> None:
        task.state, task.reason, task.end_ms, task.lease_id = state, reason, self.now_ms, 0
        if task.workflow:
            workflow = self.workflows[task.workflow]
            workflow.keep_ms = max(workflow.keep_ms, self.kept_until_ms(task))

    def kept_until_ms(self, task: ModelTask) -> int:
        """How long an ended task is remembered."""
        settings = self.queues[task.queue].config.scheduling
        retained = settings.retain_succeeded if task.state == SUCCEEDED else settings.retain_failed
        return task.end_ms + retained.ToMilliseconds()
