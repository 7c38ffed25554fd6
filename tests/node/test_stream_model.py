"""Consumer groups and compaction against a plain model, under random commands, crashes, restarts and reclaims."""

import random
from pathlib import Path

import pytest

from node.state.results import Refused
from taskraft.internal.v1 import command_pb2
from tests.sim.state_log import Follower, MemoryLog, purge
from tests.sim.stream_commands import (
    ack_in,
    create_stream,
    delete_group,
    delivered_to,
    publish_keyed,
    seek,
)
from tests.sim.stream_model import ModelStream

NAME = "queues/s"
GROUPS = ["a", "b", "c"]
KEYS = ["", "", "x", "y", "z"]


def some_ranges(rng: random.Random, model: ModelStream, group: str) -> list[tuple[int, int]]:
    """What a consumer may have: mostly near the position, sometimes far away or twice."""
    begin = model.position(group) if rng.random() < 0.8 else rng.randrange(1, model.next_sequence + 3)
    found = []
    for _ in range(rng.choice([1, 1, 2, 4])):
        first = max(1, begin + rng.choice([0, 0, 0, 1, 2, 5, -3]))
        last = first + rng.choice([0, 0, 1, 3, 9])
        found.append((first, last))
        begin = last + 1
    return found


def random_step(rng: random.Random, model: ModelStream, time_ms: int) -> command_pb2.Command:
    """A command, and the model after it."""
    group = rng.choice(GROUPS)
    known = group in model.groups
    kinds = ["publish", "ack", "seek", "delivered", "delete", "purge"]
    match rng.choices(kinds, [30, 40, 8, 10, 1, 1])[0]:
        case "ack" if known:
            ranges = some_ranges(rng, model, group)
            model.ack(group, {each for first, last in ranges for each in range(first, last + 1)})
            return ack_in(NAME, group, *ranges)
        case "delivered" if known:
            (first, last), attempt = some_ranges(rng, model, group)[0], rng.randrange(2, 6)
            pending = set(model.pending(group))
            model.groups[group].attempts.update(
                (each, attempt) for each in range(first, last + 1) if each in pending
            )
            return delivered_to(NAME, group, rng.randrange(model.next_sequence + 3), [(first, last, attempt)])
        case "delete" if known:
            del model.groups[group]
            return delete_group(NAME, group)
        case "purge":
            model.purge()
            return purge(NAME)
        case "publish":
            count = rng.choice([1, 1, 2, 5, 8])
            messages = [(rng.choice(KEYS), rng.randbytes(rng.choice([0, 3, 20]))) for _ in range(count)]
            model.publish(messages, time_ms)
            return publish_keyed(NAME, messages)
        case _:
            place = rng.choice(["beginning", "end", "sequence", "sequence", "time"])
            value = (
                rng.randrange(model.next_sequence + 2) if place == "sequence" else rng.randrange(time_ms + 50)
            )
            create_only = rng.random() < 0.5
            model.seek(group, place, value, create_only=create_only)
            return seek(NAME, group, place, value, create_only=create_only)


def check(model: ModelStream, follower: Follower) -> None:
    """The machine holds exactly what the model holds."""
    machine = follower.machine
    row = machine.queue(NAME)
    assert row is not None
    assert follower.live(NAME) == sorted(model.messages)
    assert follower.bodies(NAME) == [model.messages[each].body for each in sorted(model.messages)]
    assert row.messages == len(model.messages)
    shown = {group.name: group for group in machine.groups(row.id)}
    assert shown.keys() == model.groups.keys()
    for name, held in model.groups.items():
        group = machine.group(row.id, name)
        assert group is not None
        assert group.position - 1 <= group.watermark < row.next_sequence
        pending = [
            chunk.first_sequence + place
            for chunk in machine.group_chunks(group.id, 1, -1)
            for place in range(chunk.count)
            if not chunk.acked >> place & 1
        ]
        assert pending == model.pending(name)
        assert shown[name].position == model.position(name)
        assert shown[name].pending_messages == model.waiting(name)
        recorded = machine.group_attempts(group.id, 1, row.next_sequence)
        left = {each: held.attempts[each] for each in model.pending(name) if each in held.attempts}
        assert {each: recorded[each] for each in model.pending(name) if each in recorded} == left


@pytest.mark.parametrize("seed", range(8))
def test_groups_of_a_stream_do_what_the_plain_model_does(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    model = ModelStream(max_messages=rng.choice([0, 40]), compaction=rng.choice([False, True]))
    log = MemoryLog(time_ms=0)
    calm, tried = Follower(log, tmp_path / "calm"), Follower(MemoryLog(log.entries), tmp_path / "tried")
    calm.one(create_stream(NAME, max_messages=model.max_messages, compaction=model.compaction))
    for step in range(200):
        commands = [random_step(rng, model, log.time_ms + 10) for _ in range(rng.choice([1, 1, 3]))]

        answers = calm.do(*commands)

        assert not [each for each in answers if isinstance(each, Refused) and each.reason != "OUT_OF_RANGE"]
        if step % 10 == 0:
            check(model, calm)
        tried.log.last = log.last
        match rng.randrange(40):
            case 0:
                tried.crash()
            case 1:
                tried.restart()
            case 2:
                tried.catch_up()
                tried.reclaim(entries_each=7, log_bytes_max=rng.choice([0, 3_000, 1 << 40]))
        if step % 25 == 0:
            tried.catch_up()
            assert tried.machine.fingerprint() == calm.machine.fingerprint()
    tried.catch_up()
    check(model, tried)
    check(model, calm)
