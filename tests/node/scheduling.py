"""A scheduler on a real state machine with a log of one node, a clock that tests move, and workers that speak frames."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeAlias

from node import commands
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.errors import Internal, NotLeader, Refusal
from node.state.machine import Machine
from node.state.results import Refused, Result
from node.state.task_rows import TaskRow
from node.tasks.scheduler import Scheduler
from node.tasks.session import Session
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2

EPOCH_MS = 1_700_000_000_000

Proposed: TypeAlias = list[tuple[Command, Answer]]


class SimpleWorker:
    """A worker that answers when it is told to. `held`: its assignments by lease id, in the order of arrival."""

    def __init__(self, house: "House", hello: worker_pb2.Hello) -> None:
        self._house = house
        self.hello = hello
        self.held: dict[int, worker_pb2.Assignment] = {}
        self.acked: list[int] = []
        self.rejected: dict[int, str] = {}
        self.revoked: dict[int, int] = {}
        self.welcome: worker_pb2.Welcome | None = None
        self.heartbeats: list[int] = []
        self.is_to_drain = False
        self.session: Session = house.scheduler.desk.connect(hello, lambda: None)
        house.workers.append(self)

    def read(self) -> None:
        """Take all frames that wait."""
        while (frame := self.session.next_frame(self._house.machine)) is not None:
            response = worker_pb2.WorkResponse.FromString(frame)
            match response.WhichOneof("response"):
                case "welcome":
                    self.welcome = response.welcome
                case "assign":
                    self.held.update((one.lease_id, one) for one in response.assign.assignments)
                case "acked":
                    self.acked += response.acked.lease_ids
                case "rejected":
                    self.rejected |= dict.fromkeys(response.rejected.lease_ids, response.rejected.reason)
                case "heartbeat_ack":
                    self.heartbeats.append(response.heartbeat_ack.sequence)
                case "drain":
                    self.is_to_drain = True
                case "revoke":
                    self.revoked |= dict.fromkeys(response.revoke.lease_ids, response.revoke.reason)

    def say(self, **request: object) -> None:
        self._house.scheduler.desk.handle(self.session, worker_pb2.WorkRequest(**request))  # type: ignore[arg-type]

    def credit(self, tasks: int, **more: object) -> None:
        self.say(credit=worker_pb2.WorkCredit(tasks=tasks, **more))  # type: ignore[arg-type]
        self._house.settle()

    def receive(self) -> list[str]:
        """Say that all assignments have arrived; the names of their tasks in the order of arrival."""
        self.read()
        self.say(received=worker_pb2.Received(lease_ids=self.held))
        self._house.settle()
        return [one.task.name.removeprefix("tasks/") for one in self.held.values()]

    def succeed(self, *lease_ids: int, data: bytes = b"done") -> None:
        result = task_pb2.TaskResult(data=data)
        self.end([worker_pb2.Outcome(lease_id=one, result=result) for one in lease_ids or tuple(self.held)])

    def send_results(self) -> None:
        """Say that all it holds has succeeded; nothing is committed yet."""
        result = task_pb2.TaskResult(data=b"done")
        outcomes = [worker_pb2.Outcome(lease_id=one, result=result) for one in self.held]
        self.say(outcomes=worker_pb2.Outcomes(outcomes=outcomes))

    def fail(self, *lease_ids: int, permanent: bool = False) -> None:
        failure = worker_pb2.TaskFailure(
            error=task_pb2.TaskError(reason="Oops", message="it broke"), permanent=permanent
        )
        self.end([worker_pb2.Outcome(lease_id=one, failure=failure) for one in lease_ids or tuple(self.held)])

    def give_up(self, lease_id: int, reason: worker_pb2.RevokeReason, checkpoint: bytes = b"") -> None:
        given_up = worker_pb2.TaskYield(reason=reason, checkpoint=checkpoint)
        self.end([worker_pb2.Outcome(lease_id=lease_id, **{"yield": given_up})])  # type: ignore[arg-type]

    def end(self, outcomes: list[worker_pb2.Outcome]) -> None:
        for outcome in outcomes:
            self.held.pop(outcome.lease_id, None)
        self.say(outcomes=worker_pb2.Outcomes(outcomes=outcomes))
        self._house.settle()

    def heartbeat(self, load: float = 0.0) -> None:
        self.say(heartbeat=worker_pb2.Heartbeat(load=load))
        self._house.settle()

    def cut(self) -> None:
        """The stream breaks."""
        self._house.scheduler.desk.disconnect(self.session)
        self._house.workers.remove(self)
        self._house.settle()

    def back(self, instance_id: str | None = None, held: Iterable[int] | None = None) -> "SimpleWorker":
        """The worker comes back over a new stream, naming what it holds."""
        again = self.connect_again(instance_id, held)
        self._house.settle()
        again.held = {one: self.held[one] for one in again.welcome.held_lease_ids if one in self.held}  # type: ignore[union-attr]
        return again

    def connect_again(
        self, instance_id: str | None = None, held: Iterable[int] | None = None
    ) -> "SimpleWorker":
        """Another stream of this worker, which takes the place of this one if that is open; nothing is committed yet."""
        hello = worker_pb2.Hello()
        hello.CopyFrom(self.hello)
        hello.instance_id = instance_id or hello.instance_id
        del hello.held_lease_ids[:]
        hello.held_lease_ids.extend(self.held if held is None else held)
        if self in self._house.workers:
            self._house.workers.remove(self)
        return SimpleWorker(self._house, hello)


class House:
    """One node that leads. Everything that is proposed is committed at once, in `settle`."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = 1_000
        self.wall_shift_ms = 0
        self.clock = Clock(
            now_ms=lambda: self.now_ms, wall_ms=lambda: EPOCH_MS + self.now_ms + self.wall_shift_ms
        )
        self.machine = Machine.open(folder, clock_ms=self.clock.now_ms)
        self.workers: list[SimpleWorker] = []
        self._index = self.machine.applied
        self._term = 0
        self._instances = count(1)
        self.due_ms: int | None = None
        self._touched = False
        self.scheduler = self._new_scheduler()
        self.elect()

    def _new_scheduler(self) -> Scheduler:
        scheduler = Scheduler(
            self.machine,
            clock=self.clock,
            touch=self._touch,
            wake=lambda: None,
            not_leader=NotLeader,
        )
        self.machine.listeners = [scheduler]
        return scheduler

    def elect(self) -> None:
        """Another term begins, with a scheduler that knows only the state; streams are cut."""
        self.scheduler.follow()
        self.workers.clear()
        self._term += 1
        self._index += 1
        self.machine.record(self._index, self._term, None)
        self.scheduler = self._new_scheduler()
        self.scheduler.lead(self._term)
        self.settle()

    def _touch(self) -> None:
        self._touched = True

    def apply(self, *each: Command) -> list[Result]:
        """One entry of the log."""
        self._index += 1
        results = self.machine.apply(
            self._index, self._term, commands.batch(self.clock.wall_ms(), list(each))
        )
        self.machine.flush()
        return results

    def settle(self) -> None:
        """Pump and commit until nothing moves; workers take what is said to them."""
        while True:
            self._touched = False
            self.due_ms = self.scheduler.pump()
            proposed = list(self.scheduler.commands())
            if proposed:
                self._commit(proposed)
            elif not self._touched:
                break
        for worker in self.workers:
            worker.read()

    def _commit(self, proposed: Proposed, then: Sequence[Command] = ()) -> None:
        results = self.apply(*(command for command, _ in proposed), *then)
        for (_, answer), result in zip(proposed, results, strict=False):
            answer(_error(result))

    def propose(self) -> Proposed:
        """What the scheduler proposes now. It is on its way into the log until `commit`."""
        self.scheduler.pump()
        return list(self.scheduler.commands())

    def commit(self, *proposed: Proposed, then: Sequence[Command] = ()) -> None:
        """What was proposed is committed, each in one entry, the last one with other commands behind it; all that
        follows is done.
        """
        for place, each in enumerate(proposed):
            self._commit(each, then if place == len(proposed) - 1 else ())
        self.settle()

    def fail(self) -> int:
        """What is proposed now cannot be applied, by a mistake of ours; how much that is."""
        proposed = self.propose()
        for _, answer in proposed:
            answer(Internal())
        return len(proposed)

    @contextmanager
    def slow(self, worker: SimpleWorker) -> Iterator[None]:
        """The stream of this worker takes nothing meanwhile."""
        self.workers.remove(worker)
        yield
        self.workers.append(worker)

    def tick(self, elapsed_ms: int, *, heartbeats: bool = True, receiving: bool = False) -> None:
        """Time passes; workers that are connected say that they are alive, and that they have what they were given."""
        until_ms = self.now_ms + elapsed_ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + 100)
            if heartbeats:
                for worker in self.workers:
                    worker.say(heartbeat=worker_pb2.Heartbeat())
            if receiving:
                for worker in self.workers:
                    worker.say(received=worker_pb2.Received(lease_ids=worker.held))
            self.settle()

    # What tests ask for -------------------------------------------------------------------------------------------

    def command(self, **kind: object) -> Result:
        result = self.apply(plain(internal.Command(**kind)))[0]  # type: ignore[arg-type]
        self.settle()
        return result

    def queue(self, name: str = "work", **scheduling: object) -> None:
        config = queue_pb2.Queue(
            name=f"queues/{name}",
            kind=queue_pb2.QUEUE_KIND_TASK,
            scheduling=queue_pb2.Scheduling(**scheduling),  # type: ignore[arg-type]
        )
        assert not isinstance(self.command(create_queue=internal.CreateQueue(queue=config)), Refused)

    def change(self, name: str = "work", *, paused: bool | None = None, **scheduling: object) -> None:
        (result,) = self.apply(changed(name, paused=paused, **scheduling))
        assert not isinstance(result, Refused), result
        self.settle()

    def submit(self, *names: str, queue: str = "work", kind: str = "job", **fields: object) -> Result:
        (result,) = self.apply(submitted(*names, queue=queue, kind=kind, **fields))
        assert not isinstance(result, Refused), result
        self.settle()
        return result

    def worker(
        self, name: str = "w1", *, credit: int = 0, queues: Iterable[str] = ("work",), **hello: object
    ) -> SimpleWorker:
        worker = SimpleWorker(
            self,
            worker_pb2.Hello(
                worker_id=name,
                instance_id=f"i{next(self._instances)}",
                queues=[f"queues/{queue}" for queue in queues],
                protocol_version=1,
                **hello,  # type: ignore[arg-type]
            ),
        )
        self.settle()
        if credit:
            worker.credit(credit)
        return worker

    def task(self, name: str) -> TaskRow:
        row = self.machine.task(f"tasks/{name}")
        assert row is not None
        return row

    def state(self, name: str) -> str:
        return task_pb2.TaskState.Name(self.task(name).state).removeprefix("TASK_STATE_")


def submitted(*names: str, queue: str = "work", kind: str = "job", **fields: object) -> Command:
    """These tasks are submitted."""
    tasks = [
        task_pb2.Task(name=f"tasks/{name}", queue=f"queues/{queue}", type=kind, **fields)  # type: ignore[arg-type]
        for name in names
    ]
    return plain(internal.Command(submit_tasks=internal.SubmitTasks(tasks=tasks)))


def cancelled(*names: str) -> Command:
    """These tasks are cancelled."""
    names = tuple(f"tasks/{name}" for name in names)
    return plain(internal.Command(cancel_tasks=internal.CancelTasks(names=names)))


def retried(*names: str) -> Command:
    """These tasks are retried."""
    names = tuple(f"tasks/{name}" for name in names)
    return plain(internal.Command(retry_tasks=internal.RetryTasks(names=names)))


def changed(name: str = "work", *, paused: bool | None = None, **scheduling: object) -> Command:
    """A queue gets other settings."""
    fields = [f"scheduling.{field}" for field in scheduling] + (["paused"] if paused is not None else [])
    config = queue_pb2.Queue(
        name=f"queues/{name}",
        paused=bool(paused),
        scheduling=queue_pb2.Scheduling(**scheduling),  # type: ignore[arg-type]
    )
    return plain(internal.Command(update_queue=internal.UpdateQueue(queue=config, fields=fields)))


def _error(result: Result) -> Exception | None:
    if isinstance(result, Refused):
        return Refusal(result.code, result.reason, result.message, result.metadata)
    return None


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """A House that is closed in the end."""
    found = House(folder)
    try:
        yield found
    finally:
        found.machine.close()
