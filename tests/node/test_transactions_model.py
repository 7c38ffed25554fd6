"""Random transactions: what is committed is the same as its commands one by one, what is refused is nothing."""

import random
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import pytest

from node.state.results import Committed, Refused, Result, Settlement, Success
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.task_log import submit, task
from tests.node.test_state_model import NAMES, check_queues, random_command
from tests.node.test_transactions import check_queue, transaction
from tests.sim.model_queue import ModelQueue
from tests.sim.queue_model import Model, same_answer
from tests.sim.state_log import Follower, MemoryLog, ack, create, publish

TASKS = "queues/t"


class TransactionModel(Model):
    """Queues in plain Python that know transactions of publishes and acks."""

    def transact(self, parts: list[command_pb2.Command]) -> list[Success] | None:
        """The answers; None if it is refused. What it acknowledges must be there before, and still be when it is its turn."""
        before = deepcopy(self.queues)
        if not all(_holds(before, part) for part in parts):
            return None
        answers: list[Success] = []
        for part in parts:
            answer = self.apply(part) if _holds(self.queues, part) else None
            if answer is None or isinstance(answer, Refused):
                self.queues = before
                return None
            answers.append(answer)
        return answers


def _holds(queues: Mapping[str, ModelQueue], part: command_pb2.Command) -> bool:
    """True unless it acknowledges what is not there."""
    queue = queues.get(part.ack.queue)
    if part.WhichOneof("kind") != "ack" or queue is None:
        return True
    live = set(queue.live())
    return all(s in live for r in part.ack.ranges for s in range(r.first, r.last + 1))


def random_part(rng: random.Random, model: Model) -> command_pb2.Command:
    name = rng.choice(NAMES)
    queue = model.queues.get(name)
    if rng.random() < 0.5 or queue is None or not queue.live():
        return publish(name, *(rng.randbytes(rng.choice([3, 20])) for _ in range(rng.choice([1, 1, 3]))))
    live = queue.live()
    first = rng.choice(live)
    last = first + rng.choice([0, 0, 0, 1])
    return ack(name, (first, last))


@pytest.mark.parametrize("seed", range(10))
def test_transactions_do_what_the_plain_model_does(seed: int, tmp_path: Path) -> None:
    rng, model = random.Random(seed), TransactionModel()
    follower = Follower(MemoryLog(), tmp_path / "state")
    seen: set[str] = set()
    for step in range(200):
        commands: list[command_pb2.Command] = []
        expected: list[Result | None] = []
        model.now_ms = follower.log.time_ms + 10
        for _ in range(rng.choice([1, 1, 3])):
            if rng.random() < 0.6:
                parts = [random_part(rng, model) for _ in range(rng.choice([1, 2, 3, 6]))]
                commands.append(transaction(*parts))
                answers = model.transact(parts)
                expected.append(None if answers is None else Committed(tuple(answers)))
            else:
                commands.append(random_command(rng, model))
                expected.append(model.apply(commands[-1]))

        results = follower.do(*commands)

        assert all(map(same_answer, expected, results)), (step, expected, results)
        for command, wanted, result in zip(commands, expected, results, strict=True):
            if command.HasField("transaction"):
                assert isinstance(result, Refused) == (wanted is None), (step, result)
                seen.add(result.reason if isinstance(result, Refused) else "Committed")
        if step % 10 == 0:
            check_queues(model, follower)
        if step % 70 == 69:
            follower.reclaim(entries_each=7, log_bytes_max=rng.choice([0, 1 << 40]))
            follower.restart()
            for name in model.queues:
                assert len(follower.bodies(name)) == len(model.queues[name].live())
    check_queues(model, follower)
    assert seen >= {"Committed", "QUEUE_NOT_FOUND"}


def random_task_part(rng: random.Random, follower: Follower) -> command_pb2.Command:
    match rng.choice(["submit", "settle", "settle", "publish", "ack", "check"]):
        case "submit":
            dependencies = [task_pb2.Dependency(task=f"tasks/{rng.randrange(40)}")] * rng.choice([0, 0, 1])
            return submit(
                *(task(str(rng.randrange(40)), dependencies, TASKS) for _ in range(rng.choice([1, 3])))
            )
        case "settle":
            leased = follower.machine.leased_tasks()
            number, lease_id = (0, 1) if not leased else rng.choice(leased)[:2]
            lease_id += rng.random() < 0.1
            settled = command_pb2.SettledLease(number=number, lease_id=lease_id, result=task_pb2.TaskResult())
            return command_pb2.Command(settle_tasks=command_pb2.SettleTasks(leases=[settled]))
        case "publish":
            return publish("queues/full" if rng.random() < 0.1 else "queues/m", b"x")
        case "ack":
            return ack("queues/m", (first := rng.randrange(1, 30), first), strict=True)
        case _:
            row = follower.machine.queue("queues/m")
            assert row is not None
            return check_queue("queues/m", "old" if rng.random() < 0.1 else row.etag)


def plain(rng: random.Random, follower: Follower) -> command_pb2.Command:
    """A command beside the transactions: tasks are leased, and what is due is done."""
    if rng.random() < 0.2:
        return command_pb2.Command(advance_tasks=command_pb2.AdvanceTasks(limit=100))
    numbers = [rng.randrange(1, 60) for _ in range(5)]
    lease = command_pb2.LeaseTasks(worker_id="w", instance_id="i", numbers=[*dict.fromkeys(numbers)])
    return command_pb2.Command(lease_tasks=lease)


@pytest.mark.parametrize("seed", range(10))
def test_a_committed_transaction_is_its_commands_and_a_refused_one_is_nothing(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    asked = Follower(MemoryLog(), tmp_path / "asked")
    plainly = Follower(MemoryLog(), tmp_path / "plainly")
    full = create("queues/full", max_messages=1)
    for one in (asked, plainly):
        kind = queue_pb2.QUEUE_KIND_TASK
        one.do(create("queues/m"), full, publish("queues/full", b"x"), create(TASKS, kind=kind))
    outcomes: set[str] = set()
    for step in range(150):
        before = [plain(rng, asked) for _ in range(rng.choice([0, 1]))]
        parts = [random_task_part(rng, asked) for _ in range(rng.choice([1, 2, 4]))]
        after = [plain(rng, asked) for _ in range(rng.choice([0, 1]))]

        answer = asked.do(*before, transaction(*parts), *after)[len(before)]

        if isinstance(answer, Committed):
            same = plainly.do(*before, *parts, *after)
            assert tuple(same[len(before) : len(before) + len(parts)]) == answer.results, step
            assert not any(isinstance(one, Settlement) and one.refused for one in answer.results)
            outcomes.add("Committed")
        else:
            assert isinstance(answer, Refused)
            assert answer.reason != "INTERNAL"
            hopeless = [check_queue("queues/none", "")] * len(parts)
            plainly.do(*before, transaction(*hopeless), *after)
            outcomes.add(answer.reason)
        if step % 5 == 0:
            assert asked.machine.fingerprint() == plainly.machine.fingerprint(), step
        if step % 40 == 20:
            rng.choice([asked, plainly]).crash()
            asked.catch_up()
            plainly.catch_up()
    assert asked.machine.fingerprint() == plainly.machine.fingerprint()
    assert outcomes >= {"Committed", "LEASE_LOST", "ETAG_MISMATCH", "QUEUE_FULL"}
