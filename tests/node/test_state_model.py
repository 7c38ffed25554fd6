"""The machine against a plain model, under random commands, crashes, restarts, reclaims and snapshots."""

import random
from pathlib import Path
from typing import Any

import pytest

from node.state.results import Refused
from node.state.rows import duration
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.model_queue import Letter
from tests.sim.queue_model import Model, same_answer
from tests.sim.state_log import (
    TERM,
    Follower,
    MemoryLog,
    ack,
    advance_queues,
    create,
    delete,
    delivered,
    message,
    move,
    publish,
    purge,
    send,
    update,
)

NAMES = ["queues/a", "queues/b", "queues/c"]
POLICIES = [queue_pb2.OVERFLOW_POLICY_REJECT, queue_pb2.OVERFLOW_POLICY_DROP_OLDEST]


def random_range(rng: random.Random, newest: int) -> tuple[int, int]:
    first = rng.randrange(1, newest + 2)
    return first, first + rng.choice([0, 0, 1, 3, 10, 40])


def random_message(rng: random.Random, now_ms: int) -> queue_pb2.Message:
    """Mostly plain, so that there are long runs."""
    headers: dict[str, Any] = {"country": rng.choice(["de", "fr"])} if rng.random() < 0.5 else {}
    body = rng.randbytes(rng.choice([0, 3, 20, 100]))
    if rng.random() < 0.6:
        return message(body, **headers)
    return message(
        body,
        priority=rng.choice([0, 0, 1, 9]),
        ttl_ms=rng.choice([0, 0, 5, 60, 900]),
        delay_ms=rng.choice([0, 0, 1, 40, 700]),
        at_ms=0 if rng.random() < 0.9 else now_ms + rng.randrange(-100, 900),
        **headers,
    )


def settings(rng: random.Random) -> dict[str, Any]:
    """Settings that can change."""
    patterns = rng.sample(["a.*", "a.>", "b.c", ">"], rng.choice([0, 1, 2]))
    headers: list[dict[str, str]] = [{}, {"country": "de"}, {"country": "de", "no": "where"}]
    return {
        "dead_letter_queue": rng.choice(["", "", "", "", *NAMES]),
        "max_age": duration(rng.choice([1_000, 1_500])) if rng.random() < 0.4 else None,
        "bindings": [queue_pb2.Binding(pattern=each, headers=rng.choice(headers)) for each in patterns],
    }


def random_ranges(rng: random.Random, newest: int, count: int) -> list[tuple[int, int]]:
    """Ascending, without overlaps."""
    ends = sorted(rng.sample(range(1, newest + 2 * count + 2), 2 * count))
    return list(zip(ends[::2], ends[1::2], strict=True))


def random_command(rng: random.Random, model: Model) -> command_pb2.Command:
    name = rng.choice(NAMES)
    queue = model.queues.get(name)
    newest = queue.next_sequence if queue else 1
    kinds = {
        "create": 12,
        "publish": 25,
        "send": 20,
        "topic": 8,
        "ack": 40,
        "delivered": 10,
        "move": 8,
        "advance": 8,
        "update": 3,
        "purge": 2,
        "delete": 2,
    }
    match rng.choices([*kinds], [*kinds.values()])[0]:
        case "create":
            return create(
                name,
                max_messages=rng.choice([0, 0, 5, 40]),
                max_bytes=rng.choice([0, 0, 300, 2_000]),
                overflow_policy=rng.choice(POLICIES),
                **settings(rng),
            )
        case "update":
            changed = settings(rng)
            return update(name, rng.sample([*changed], rng.choice([1, 2])), **changed)
        case "publish":
            bodies = [rng.randbytes(rng.choice([0, 3, 20, 100])) for _ in range(rng.choice([1, 1, 2, 7, 20]))]
            return publish(name, *bodies)
        case "send" | "topic" as kind:
            to = name if kind == "send" else rng.choice(["topics/a.x", "topics/b.c", "topics/a.b.c"])
            messages = [random_message(rng, model.now_ms) for _ in range(rng.choice([1, 1, 2, 7, 20]))]
            return send(to, *messages, allow_unroutable=rng.random() < 0.5)
        case "ack":
            ranges = [random_range(rng, newest) for _ in range(rng.choice([1, 1, 2, 4]))]
            return ack(name, *ranges[: 1 if rng.random() < 0.2 else 4], strict=len(ranges) == 1)
        case "delivered":
            first, last = random_range(rng, newest)
            marks = {rng.choice([1, 9]): rng.randrange(newest + 5)}
            return delivered(
                name, rng.randrange(newest + 5), [(first, last, rng.randrange(2, 9))], priorities=marks
            )
        case "move":
            ranges = [random_range(rng, newest) for _ in range(rng.choice([1, 1, 3]))]
            reason = rng.choice([queue_pb2.DEAD_LETTER_REASON_REJECTED, 0, 0])
            target = rng.choice(["", *NAMES]) if not reason else ""
            moved = [(first, last, rng.randrange(9)) for first, last in ranges]
            strict = len(ranges) == 1 and rng.random() < 0.3
            return move(name, *moved, reason=reason, target=target, strict=strict)  # type: ignore[arg-type]
        case "advance":
            spared = {each[7:]: random_ranges(rng, 60, rng.choice([0, 1, 3])) for each in NAMES}
            return advance_queues(limit=100_000, **spared)
        case "purge":
            return purge(name)
        case _:
            return delete(name)


def check_queues(model: Model, follower: Follower) -> None:
    """The machine holds exactly what the model holds."""
    machine = follower.machine
    assert {row.name for row in machine.queues()} == model.queues.keys()
    assert machine.next_queue_due_ms(1 << 60) == model.next_due_ms()
    for name, queue in model.queues.items():
        row = machine.queue(name)
        assert row is not None
        live = queue.live()
        assert follower.live(name) == live
        assert row.messages == len(live)
        assert row.bytes == queue.bytes()
        assert (row.next_sequence, row.watermark) == (queue.next_sequence, queue.watermark)
        assert {0: row.watermark, **machine.priorities(row.id)} == queue.watermarks
        for priority in queue.watermarks:
            chunks = machine.chunks(row.id, 1, -1, priority)
            found = [
                chunk.first_sequence + place
                for chunk in chunks
                for place in range(chunk.count)
                if not chunk.acked >> place & 1
            ]
            assert found == sorted(s for c in queue.chunks if c.priority == priority for s in c.live)
        stats = row.to_proto().stats
        assert stats.delayed_messages == queue.delayed_messages()
        assert stats.delayed_bytes == queue.delayed_bytes()
        assert letters(follower, name) == queue.letters()
        recorded = machine.attempts(row.id, 1, row.next_sequence)
        assert {s: recorded[s] for s in live if s in recorded} == {
            s: queue.attempts[s] for s in live if s in queue.attempts
        }


def letters(follower: Follower, name: str) -> dict[int, Letter]:
    """What is said of the live dead letters of a queue."""
    found: dict[int, Letter] = {}
    for row in follower.rows(name) if name else ():
        letter = queue_pb2.DeadLetter.FromString(row.dead_letter)
        for place in range(row.count) if row.dead_letter else ():
            if not row.acked >> place & 1:
                said = letter.source, letter.source_sequence + place, letter.reason, letter.attempts
                found[row.first_sequence + place] = said
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_machine_does_what_the_plain_model_does(seed: int, tmp_path: Path) -> None:
    rng, model = random.Random(seed), Model()
    follower = Follower(MemoryLog(), tmp_path / "state")
    for step in range(250):
        commands = []
        expected = []
        model.now_ms = follower.log.time_ms + rng.choice([10, 10, 10, 400])
        for _ in range(rng.choice([1, 1, 2, 5])):
            command = random_command(rng, model)
            commands.append(command)
            expected.append(model.apply(command))

        answers = follower.do(*commands, time_ms=model.now_ms)

        assert all(map(same_answer, expected, answers)), (step, expected, answers)
        if step % 10 == 0:
            check_queues(model, follower)
        if step % 50 == 0:
            assert {n: follower.bodies(n) for n in model.queues} == {
                n: q.bodies() for n, q in model.queues.items()
            }
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
        model.now_ms = log.time_ms + rng.choice([10, 10, 10, 400])
        for _ in range(rng.choice([1, 3])):
            command = random_command(rng, model)
            commands.append(command)
            model.apply(command)
        calm.do(*commands, time_ms=model.now_ms)
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
            model.now_ms = log.time_ms + rng.choice([10, 10, 400])
            command = random_command(rng, model)
            model.apply(command)
            source.do(command, time_ms=model.now_ms)
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
        model.now_ms = follower.log.time_ms + rng.choice([10, 10, 400])
        command = random_command(rng, model)
        model.apply(command)
        answer = follower.one(command, time_ms=model.now_ms)
        seen.add(answer.reason if isinstance(answer, Refused) else type(answer).__name__)
        seen.update(part for part in ("dropped", "delayed") if getattr(answer, part, 0))
        letters = (letter for queue in model.queues.values() for letter in queue.letters().values())
        seen.update(queue_pb2.DeadLetterReason.Name(letter[2])[19:] for letter in letters)

    answers = {
        "Acked",
        "Published",
        "Purged",
        "QueueResult",
        "Done",
        "Moved",
        "Advanced",
        "dropped",
        "delayed",
    }
    refusals = {"QUEUE_FULL", "QUEUE_EXISTS", "QUEUE_NOT_FOUND", "LEASE_LOST", "UNROUTABLE", "INVALID_FIELD"}
    reasons = {"OVERFLOW", "EXPIRED", "REJECTED"}
    assert seen == answers | refusals | reasons | {"DEAD_LETTER_LOOP", "QUEUE_IN_USE"}
