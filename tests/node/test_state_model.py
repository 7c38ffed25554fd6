"""The machine against a plain model, under random commands, crashes, restarts, reclaims and snapshots."""

import random
from pathlib import Path

import pytest

from node.state.results import Refused
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.queue_model import Model, same_answer
from tests.sim.state_log import TERM, Follower, MemoryLog, ack, create, delete, delivered, publish, purge

NAMES = ["queues/a", "queues/b", "queues/c"]
POLICIES = [queue_pb2.OVERFLOW_POLICY_REJECT, queue_pb2.OVERFLOW_POLICY_DROP_OLDEST]


def random_range(rng: random.Random, newest: int) -> tuple[int, int]:
    first = rng.randrange(1, newest + 2)
    return first, first + rng.choice([0, 0, 1, 3, 10, 40])


def random_command(rng: random.Random, model: Model) -> command_pb2.Command:
    name = rng.choice(NAMES)
    queue = model.queues.get(name)
    newest = queue.next_sequence if queue else 1
    match rng.choices(["create", "publish", "ack", "delivered", "purge", "delete"], [6, 40, 40, 10, 2, 1])[0]:
        case "create":
            return create(
                name,
                max_messages=rng.choice([0, 0, 5, 40]),
                max_bytes=rng.choice([0, 0, 300, 2_000]),
                overflow_policy=rng.choice(POLICIES),
            )
        case "publish":
            bodies = [rng.randbytes(rng.choice([0, 3, 20, 100])) for _ in range(rng.choice([1, 1, 2, 7, 20]))]
            return publish(name, *bodies)
        case "ack":
            return ack(name, *(random_range(rng, newest) for _ in range(rng.choice([1, 1, 2, 4]))))
        case "delivered":
            first, last = random_range(rng, newest)
            return delivered(name, rng.randrange(newest + 5), [(first, last, rng.randrange(2, 9))])
        case "purge":
            return purge(name)
        case _:
            return delete(name)


def check_queues(model: Model, follower: Follower) -> None:
    """The machine holds exactly what the model holds."""
    machine = follower.machine
    assert {row.name for row in machine.queues()} == model.queues.keys()
    for name, queue in model.queues.items():
        row = machine.queue(name)
        assert row is not None
        live = queue.live()
        assert follower.live(name) == live
        assert row.messages == len(live)
        assert row.bytes == queue.bytes()
        assert (row.next_sequence, row.watermark) == (queue.next_sequence, queue.watermark)
        recorded = machine.attempts(row.id, 1, row.next_sequence)
        assert {s: recorded[s] for s in live if s in recorded} == {
            s: queue.attempts[s] for s in live if s in queue.attempts
        }


@pytest.mark.parametrize("seed", range(12))
def test_the_machine_does_what_the_plain_model_does(seed: int, tmp_path: Path) -> None:
    rng, model = random.Random(seed), Model()
    follower = Follower(MemoryLog(), tmp_path / "state")
    for step in range(250):
        commands = []
        expected = []
        for _ in range(rng.choice([1, 1, 2, 5])):
            command = random_command(rng, model)
            commands.append(command)
            expected.append(model.apply(command))

        answers = follower.do(*commands)

        assert all(map(same_answer, expected, answers)), (step, expected, answers)
        if step % 10 == 0:
            check_queues(model, follower)
    check_queues(model, follower)


@pytest.mark.parametrize("seed", range(10))
def test_machines_that_crash_restart_and_reclaim_stay_equal_to_one_that_does_not(
    seed: int, tmp_path: Path
) -> None:
    rng, model, log = random.Random(1_000 + seed), Model(), MemoryLog()
    calm = Follower(log, tmp_path / "calm")
    tried = Follower(MemoryLog(log.entries), tmp_path / "tried")
    for step in range(300):
        commands = []
        for _ in range(rng.choice([1, 3])):
            command = random_command(rng, model)
            commands.append(command)
            model.apply(command)
        calm.do(*commands)
        tried.log.last = log.last
        tried.clock.ms += rng.choice([0, 5, 60])
        tried.catch_up()
        match rng.randrange(20):
            case 0:
                tried.crash()
                tried.catch_up()
            case 1:
                tried.restart()
            case 2:
                tried.checkpoint()
            case 3:
                tried.reclaim(entries_each=7, log_bytes_max=rng.choice([0, 3_000, 1 << 40]))
        if step % 20 == 0:
            assert tried.machine.fingerprint() == calm.machine.fingerprint()
    tried.restart()
    check_queues(model, tried)
    assert tried.machine.fingerprint() == calm.machine.fingerprint()
    assert [tried.bodies(name) for name in model.queues] == [calm.bodies(name) for name in model.queues]
    assert tried.log.released > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_machine_made_from_a_snapshot_goes_on_like_the_one_it_was_taken_of(
    seed: int, tmp_path: Path
) -> None:
    rng, model, log = random.Random(2_000 + seed), Model(), MemoryLog()
    source = Follower(log, tmp_path / "source")
    copy = Follower(MemoryLog(log.entries), tmp_path / "copy")
    for _ in range(3):
        for _ in range(60):
            command = random_command(rng, model)
            model.apply(command)
            source.do(command)
        source.reclaim(entries_each=9, log_bytes_max=rng.choice([0, 2_000]))
        meta = source.machine.snapshot(tmp_path / "snapshot")
        copy.machine.install(tmp_path / "snapshot", meta)
        copy.log.release(meta.index)  # everything older has to be in the snapshot

        assert (meta.index, meta.term) == (source.machine.applied, TERM)
        copy.log.last = log.last
        copy.catch_up()
        assert copy.machine.fingerprint() == source.machine.fingerprint()
        assert [copy.bodies(name) for name in model.queues] == [source.bodies(name) for name in model.queues]
    check_queues(model, copy)


def test_the_random_commands_reach_every_answer(tmp_path: Path) -> None:
    rng, model = random.Random(5), Model()
    follower = Follower(MemoryLog(), tmp_path / "state")
    seen = set()
    for _ in range(1_500):
        command = random_command(rng, model)
        model.apply(command)
        answer = follower.one(command)
        seen.add(answer.reason if isinstance(answer, Refused) else type(answer).__name__)
        if getattr(answer, "dropped", 0):
            seen.add("dropped")

    refusals = {"QUEUE_FULL", "QUEUE_EXISTS", "QUEUE_NOT_FOUND"}
    assert seen == {"Acked", "Published", "Purged", "QueueResult", "Done", "dropped"} | refusals
