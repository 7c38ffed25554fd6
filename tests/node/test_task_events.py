"""Listeners hear of everything: what they are told adds up to the state, under random commands and restarts."""

import random
from collections import Counter
from pathlib import Path

import pytest

from node.state.machine import Machine
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.node.task_log import (
    Tasks,
    advance,
    cancel,
    duration,
    lease,
    on,
    retry,
    settle,
    submit,
    success,
    task,
)
from tests.node.task_mirror import Mirror
from tests.sim.state_log import Follower, MemoryLog, create, delete, purge, update

QUEUES = ["queues/a", "queues/b"]
POLICIES = [
    queue_pb2.SCHEDULING_POLICY_FIFO,
    queue_pb2.SCHEDULING_POLICY_PRIORITY,
    queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST,
]


class Chaos:
    """Random commands, made with an eye on the state that they meet."""

    def __init__(self, seed: int, machine: Machine) -> None:
        self.dice, self.machine = random.Random(seed), machine
        self.workflows = 0

    def command(self, now_ms: int) -> command_pb2.Command:
        dice = self.dice
        kinds = ["submit", "lease", "settle", "advance", "cancel", "retry", "progress", "update", "reorder"]
        weights = [30, 30, 30, 12, 3, 3, 4, 1, 4]
        match dice.choices([*kinds, "purge", "delete", "create"], [*weights, 1, 0.5, 2])[0]:
            case "submit":
                return self._submit(now_ms)
            case "lease":
                return lease(self._some(1))
            case "settle":
                return self._settle()
            case "advance":
                return advance(limit=dice.choice([8, 20, 1_000]))
            case "cancel":
                if dice.random() < 0.2:
                    return cancel(queue=dice.choice(QUEUES), limit=5)
                return cancel(*(str(dice.randrange(60)) for _ in range(3)))
            case "retry":
                if dice.random() < 0.3:
                    return retry(queue=dice.choice(QUEUES), limit=5)
                return retry(*(str(dice.randrange(60)) for _ in range(3)))
            case "progress":
                rows = [self.machine.task_by_number(number) for number in self._some(4)]
                said = [
                    command_pb2.RecordedProgress(number=row.number, lease_id=row.lease_id, checkpoint=b"c")
                    for row in rows
                    if row is not None
                ]
                return command_pb2.Command(record_progress=command_pb2.RecordProgress(tasks=said))
            case "update":
                scheduling = queue_pb2.Scheduling(policy=dice.choice(POLICIES))
                return update(dice.choice(QUEUES), ["scheduling.policy"], scheduling=scheduling)
            case "reorder":
                step = command_pb2.ReorderTasks(queue=dice.choice(QUEUES), limit=dice.choice([3, 50]))
                return command_pb2.Command(reorder_tasks=step)
            case "purge":
                return purge(dice.choice(QUEUES))
            case "delete":
                return delete(dice.choice(QUEUES))
        return self.create(dice.choice(QUEUES))

    @staticmethod
    def create(name: str) -> command_pb2.Command:
        scheduling = queue_pb2.Scheduling(
            max_ended=20,
            retain_succeeded=duration(3_000),
            retain_failed=duration(9_000),
            backoff=duration(50),
        )
        return create(name, kind=queue_pb2.QUEUE_KIND_TASK, scheduling=scheduling)

    def _submit(self, now_ms: int) -> command_pb2.Command:
        dice = self.dice
        made = []
        for _ in range(dice.choice([1, 2, 6])):
            settings: dict[str, object] = {"priority": dice.randrange(4)}
            if dice.random() < 0.2:
                settings["tenant"] = dice.choice("xyz")
            if dice.random() < 0.15:
                settings["not_before"] = {"seconds": now_ms // 1000 + dice.randrange(3)}
            if dice.random() < 0.15:
                settings["deadline"] = {"seconds": now_ms // 1000 + dice.randrange(4)}
            parents = [str(dice.randrange(60)) for _ in range(dice.choice([0, 0, 0, 1, 2]))]
            known = [parent for parent in parents if self.machine.task(f"tasks/{parent}")]
            condition = dice.choice(["SUCCEEDED", "ENDED", "ANY_SUCCEEDED"])
            dependencies = on(*known, condition=condition)
            made.append(task(str(dice.randrange(60)), dependencies, dice.choice(QUEUES), **settings))
        workflow = ""
        if dice.random() < 0.2:
            self.workflows += 1
            workflow = f"w{self.workflows}"
        return submit(*made, workflow=workflow)

    def _some(self, state: int) -> list[int]:
        rows, _ = self.machine.tasks_list(states=[state])
        return [row.number for row in rows if self.dice.random() < 0.4]

    def _settle(self) -> command_pb2.Command:
        settled = []
        for number in self._some(4):
            row = self.machine.task_by_number(number)
            assert row is not None
            one = command_pb2.SettledLease(number=number, lease_id=row.lease_id)
            match self.dice.randrange(6):
                case 0:
                    one.failure.error.reason = "Boom"
                    one.failure.permanent = self.dice.random() < 0.3
                case 1:
                    one.lost.reason = "LEASE_EXPIRED"
                case 2:
                    why = self.dice.choice([1, 2, 3, 6])
                    given = worker_pb2.TaskYield(reason=why, checkpoint=self.dice.choice([b"", b"c"]))  # type: ignore[arg-type]
                    getattr(one, "yield").CopyFrom(given)
                case _:
                    one.result.data = self.dice.choice([b"", b"r"])
            settled.append(one)
        return settle(settled)


def check(machine: Machine) -> None:
    """What is kept as counts is what there is."""
    tables = machine._tables.tasks
    rows, _ = machine.tasks_list(looked_at=1 << 20)
    for queue in machine.queues():
        mine = [row for row in rows if row.queue_id == queue.id]
        counts = machine.queue_counts(queue.id)
        by_state = Counter(row.state for row in mine)
        assert counts[:9] == tuple(by_state[state] for state in (1, 2, 3, 4, 6, 7, 8, 9, 10))
        unended = [row for row in mine if row.state < task_pb2.TASK_STATE_SUCCEEDED]
        assert (queue.messages, queue.bytes) == (len(unended), sum(row.bytes for row in unended))
        held = tables.queue(queue.id)
        assert held is not None
        assert held.forgettable == sum(not row.workflow_id for row in mine) - sum(
            not row.workflow_id for row in unended
        )
    stored = machine._store.execute("SELECT lane_id, count(*) FROM tasks WHERE state < 6 GROUP BY lane_id")
    assert dict(machine._store.execute("SELECT id, tasks FROM lanes WHERE tasks > 0")) == dict(stored)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_told_adds_up_to_the_state(seed: int, tmp_path: Path) -> None:
    log = MemoryLog()
    calm, tried = Follower(log, tmp_path / "calm"), Follower(MemoryLog(log.entries), tmp_path / "tried")
    dice, mirror, faults = random.Random(seed), Mirror(), []
    calm.machine.listeners.append(mirror)
    calm.machine.on_fault = lambda *fault: faults.append(fault)
    calm.do(*(Chaos.create(name) for name in QUEUES))
    chaos = Chaos(seed, calm.machine)
    for step in range(250):
        time_ms = log.time_ms + dice.choice([0, 10, 100, 900])
        calm.do(*(chaos.command(time_ms) for _ in range(dice.choice([1, 1, 3]))), time_ms=time_ms)
        assert not faults
        mirror.compare(calm.machine)
        if step % 10 == 0:
            check(calm.machine)
            tried.log.last = log.last
            tried.catch_up()
            (tried.restart if dice.random() < 0.5 else tried.crash)()
            tried.catch_up()
            assert tried.machine.fingerprint() == calm.machine.fingerprint()
    check(calm.machine)


def test_a_task_that_changes_twice_in_an_entry_is_told_once_as_it_is_in_the_end(tmp_path: Path) -> None:
    follower, mirror = Follower(MemoryLog(), tmp_path / "state"), Mirror()
    follower.do(Chaos.create("queues/a"))
    follower.machine.listeners.append(mirror)

    follower.do(submit(task("x", queue="queues/a"), task("y", queue="queues/a")), lease([1]), cancel("x"))

    (queue,) = follower.machine.queues()
    (lane,) = follower.machine.lanes(queue.id)
    assert mirror.told == [
        ("ready", lane.id, [1, 2]),
        ("leased", [1]),
        ("settled", [1]),
        ("changed", [1, 2]),
    ]
    assert mirror.states == {1: task_pb2.TASK_STATE_CANCELLED, 2: task_pb2.TASK_STATE_QUEUED}


def test_every_listener_hears_everything_in_turn(tmp_path: Path) -> None:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(Chaos.create("queues/a"))
    first, second = Mirror(), Mirror()
    follower.machine.listeners += [first, second]

    follower.do(submit(task("x", queue="queues/a")), lease([1]))

    assert first.told == second.told != []


def test_a_silent_machine_tells_no_listener_of_leases_and_ends_and_its_state_is_the_same(
    tmp_path: Path,
) -> None:
    loud, quiet = Tasks(tmp_path / "loud"), Tasks(tmp_path / "quiet")
    mirror = Mirror()
    quiet.machine.listeners.append(mirror)
    quiet.machine.silent = True
    for tasks in (loud, quiet):
        tasks.do(submit(task("a"), task("b")))
        tasks.lease("a", "b")
        tasks.do(settle([success(tasks.row("a"), b"x")]))

    assert not mirror.ready
    assert not mirror.leased
    assert quiet.machine.fingerprint() == loud.machine.fingerprint()
    quiet.machine.silent = False
    quiet.do(submit(task("c")))
    assert [one.number for lane in mirror.ready.values() for one in lane.values()] == [3]
