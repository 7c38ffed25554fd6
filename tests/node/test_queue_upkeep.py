"""When the leader proposes what time brings to queues, and what it spares."""

from pathlib import Path

import pytest

from node import limits
from node.clock import Clock
from node.dispatch.queue import Answer
from node.dispatch.upkeep import PAUSE_MS, Upkeep, at_most
from node.state.rows import duration
from taskraft.internal.v1 import command_pb2
from tests.sim.state_log import Follower, MemoryLog, create, delivered, message, publish, send

WALL_MS = 5_000_000
"""The wall clock when the other one is at 0."""


class Leader:
    """A node that leads, whose clock stands still; it knows when it would be asked next."""

    def __init__(self, directory: Path) -> None:
        self.follower = Follower(MemoryLog(), directory)
        self.now_ms = 0
        self.touched, self.woken = False, 0
        self.held: dict[str, list[tuple[int, int]]] = {}
        self.upkeep = Upkeep(
            self.follower.machine,
            clock=Clock(lambda: self.now_ms, lambda: WALL_MS + self.now_ms),
            spared=self._spared,
            touch=self._touch,
            wake=self._wake,
        )
        self.follower.machine.listeners.append(self.upkeep)

    def _spared(self, queue_id: int) -> list[tuple[int, int]]:
        row = self.follower.machine.queue_by_id(queue_id)
        assert row is not None
        return self.held.get(row.name, [])

    def _touch(self) -> None:
        self.touched = True

    def _wake(self) -> None:
        self.woken += 1

    def do(self, *commands: command_pb2.Command) -> None:
        self.follower.do(*commands, time_ms=WALL_MS + self.now_ms)

    def pump(self) -> int | None:
        self.touched = False
        return self.upkeep.pump()

    def proposed(self) -> list[tuple[command_pb2.AdvanceQueues, Answer]]:
        return [
            (command_pb2.Command.FromString(b"".join(command.parts)).advance_queues, answer)
            for command, answer in self.upkeep.commands()
        ]

    def carry_out(self) -> command_pb2.AdvanceQueues:
        """Propose what is due, apply it and answer."""
        ((step, answer),) = self.proposed()
        self.do(command_pb2.Command(advance_queues=step))
        answer(None)
        return step


@pytest.fixture
def leader(tmp_path: Path) -> Leader:
    leader = Leader(tmp_path / "state")
    leader.upkeep.lead(1)
    leader.now_ms += limits.FAILOVER_GRACE_MS
    leader.do(create("queues/a"), create("queues/b", max_age=duration(1_000)))
    return leader


def test_nothing_is_proposed_while_nothing_is_ahead(leader: Leader) -> None:
    leader.do(publish("queues/a", b"x"))

    assert leader.pump() is None
    assert (leader.woken, leader.proposed()) == (0, [])


def test_a_delayed_message_is_heard_of_and_proposed_when_its_time_has_come(leader: Leader) -> None:
    leader.pump()
    leader.do(send("queues/a", message(b"x", delay_ms=700)))
    assert leader.touched
    assert leader.pump() == leader.now_ms + 700

    leader.now_ms += 699
    assert leader.pump() == leader.now_ms + 1
    assert leader.woken == 0
    leader.now_ms += 1
    assert leader.pump() is None
    assert leader.woken == 1
    leader.carry_out()

    assert leader.follower.bodies("queues/a") == [b"x"]
    assert leader.touched
    assert leader.pump() is None
    assert leader.woken == 1


def test_a_later_message_wakes_nobody(leader: Leader) -> None:
    leader.do(send("queues/a", message(delay_ms=700)))
    leader.pump()

    leader.do(send("queues/a", message(delay_ms=900)))
    assert not leader.touched
    leader.do(send("queues/a", message(delay_ms=100)))
    assert leader.touched


def test_a_message_with_an_age_limit_is_heard_of(leader: Leader) -> None:
    leader.pump()
    leader.do(publish("queues/b", b"x"))

    assert leader.touched
    assert leader.pump() == leader.now_ms + 1_000


def test_one_step_is_on_its_way_at_a_time_and_the_next_follows_if_there_is_more(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.dispatch.upkeep.ADVANCED_RUNS", 2)
    leader.do(*[send("queues/a", message(delay_ms=5))] * 5)
    leader.now_ms += 5
    leader.pump()
    ((step, answer),) = leader.proposed()
    assert leader.proposed() == []
    assert leader.pump() is None
    leader.do(command_pb2.Command(advance_queues=step))
    answer(None)
    done = [len(leader.follower.live("queues/a"))]

    while leader.touched:
        leader.pump()
        if leader.woken > len(done):
            leader.carry_out()
            done.append(len(leader.follower.live("queues/a")))

    assert done == [2, 4, 5]


def test_what_consumers_hold_is_spared(leader: Leader) -> None:
    leader.do(publish("queues/b", b"1"), publish("queues/b", b"2"), send("queues/a", message(ttl_ms=1_000)))
    leader.held = {"queues/b": [(2, 2)], "queues/a": [(1, 1)]}
    leader.now_ms += 1_000
    leader.pump()

    step = leader.carry_out()

    assert {each.queue for each in step.spared} == {"queues/a", "queues/b"}
    assert (leader.follower.live("queues/a"), leader.follower.live("queues/b")) == ([1], [2])
    leader.held.clear()
    assert leader.pump() == leader.now_ms + 1_000
    leader.now_ms += 1_000
    leader.pump()
    leader.carry_out()
    assert (leader.follower.live("queues/a"), leader.follower.live("queues/b")) == ([], [])


def test_a_new_leader_spares_what_an_earlier_one_delivered_until_consumers_had_time_to_come_back(
    leader: Leader,
) -> None:
    leader.do(publish("queues/b", *[b"x"] * 3), delivered("queues/b", 2))
    leader.now_ms += 1_000
    leader.upkeep.follow()
    leader.upkeep.lead(2)
    leader.pump()

    leader.carry_out()
    assert leader.follower.live("queues/b") == [1, 2]

    leader.now_ms += max(1_000, limits.FAILOVER_GRACE_MS)
    leader.pump()
    leader.carry_out()
    assert leader.follower.live("queues/b") == []


def test_who_does_not_lead_proposes_nothing(leader: Leader) -> None:
    leader.do(send("queues/a", message(delay_ms=5)))
    leader.now_ms += 5
    leader.pump()

    leader.upkeep.follow()

    assert leader.proposed() == []
    assert leader.pump() is None


def test_a_step_that_could_not_be_applied_is_tried_again_a_little_later(leader: Leader) -> None:
    leader.do(send("queues/a", message(delay_ms=5)))
    leader.now_ms += 5
    leader.pump()
    ((_, answer),) = leader.proposed()

    answer(RuntimeError())

    assert leader.pump() == leader.now_ms + PAUSE_MS
    leader.now_ms += PAUSE_MS
    leader.pump()
    leader.carry_out()
    assert leader.follower.live("queues/a") == [1]


def test_too_many_ranges_become_fewer_that_hold_all_of_them() -> None:
    ranges = [(n, n) for n in range(1, 20, 2)]

    assert at_most(ranges, 20) == ranges
    assert at_most(ranges, 3) == [(1, 1), (3, 3), (5, 19)]
