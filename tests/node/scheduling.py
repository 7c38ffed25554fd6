"""A scheduler on a real state machine with a log of one node, a clock that tests move, and workers that speak frames."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from node import commands
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.errors import NotLeader, Refusal
from node.state.machine import Machine
from node.state.results import Refused, Result
from node.state.task_rows import TaskRow
from node.tasks.scheduler import Scheduler
from node.tasks.session import Session
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2

EPOCH_MS = 1_700_000_000_000


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
        self._end([worker_pb2.Outcome(lease_id=one, result=result) for one in lease_ids or tuple(self.held)])

    def fail(self, *lease_ids: int, permanent: bool = False) -> None:
        failure = worker_pb2.TaskFailure(
            error=task_pb2.TaskError(reason="Oops", message="it broke"), permanent=permanent
        )
        self._end(
            [worker_pb2.Outcome(lease_id=one, failure=failure) for one in lease_ids or tuple(self.held)]
        )

    def give_up(self, lease_id: int, reason: worker_pb2.RevokeReason, checkpoint: bytes = b"") -> None:
        given_up = worker_pb2.TaskYield(reason=reason, checkpoint=checkpoint)
        self._end([worker_pb2.Outcome(lease_id=lease_id, **{"yield": given_up})])  # type: ignore[arg-type]

    def _end(self, outcomes: list[worker_pb2.Outcome]) -> None:
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
        hello = worker_pb2.Hello()
        hello.CopyFrom(self.hello)
        hello.instance_id = instance_id or hello.instance_id
        del hello.held_lease_ids[:]
        hello.held_lease_ids.extend(self.held if held is None else held)
        again = SimpleWorker(self._house, hello)
        self._house.settle()
        again.held = {one: self.held[one] for one in again.welcome.held_lease_ids if one in self.held}  # type: ignore[union-attr]
        return again


class House:
    """One node that leads. Everything that is proposed is committed at once, in `settle`."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = 1_000
        self.clock = Clock(now_ms=lambda: self.now_ms, wall_ms=lambda: EPOCH_MS + self.now_ms)
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
            not_leader=lambda: NotLeader(),
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
            proposed: list[tuple[Command, Answer]] = list(self.scheduler.commands())
            if proposed:
                results = self.apply(*(command for command, _ in proposed))
                for (_, answer), result in zip(proposed, results, strict=True):
                    answer(_error(result))
            elif not self._touched:
                break
        for worker in self.workers:
            worker.read()

    def tick(self, elapsed_ms: int, *, heartbeats: bool = True) -> None:
        """Time passes; workers that are connected say that they are alive."""
        until_ms = self.now_ms + elapsed_ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + 100)
            if heartbeats:
                for worker in self.workers:
                    worker.say(heartbeat=worker_pb2.Heartbeat())
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
        fields = [f"scheduling.{field}" for field in scheduling] + (["paused"] if paused is not None else [])
        config = queue_pb2.Queue(
            name=f"queues/{name}",
            paused=bool(paused),
            scheduling=queue_pb2.Scheduling(**scheduling),  # type: ignore[arg-type]
        )
        update = internal.UpdateQueue(queue=config, fields=fields)
        assert not isinstance(self.command(update_queue=update), Refused)

    def submit(self, *names: str, queue: str = "work", kind: str = "job", **fields: object) -> Result:
        tasks = [
            task_pb2.Task(name=f"tasks/{name}", queue=f"queues/{queue}", type=kind, **fields)  # type: ignore[arg-type]
            for name in names
        ]
        result = self.command(submit_tasks=internal.SubmitTasks(tasks=tasks))
        assert not isinstance(result, Refused), result
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
