import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import commands, limits
from node.broker import Broker
from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import ApiError, CommitUnknown, NotLeader, Overloaded, Refusal, ShuttingDown
from node.state.machine import Machine
from node.state.results import Published
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.node.memory_replica import MemoryReplica
from tests.node.single_node import run, until


def create(name: str) -> Command:
    queue = queue_pb2.Queue(name=f"queues/{name}", max_message_bytes=1_000)
    return commands.plain(command_pb2.Command(create_queue=command_pb2.CreateQueue(queue=queue)))


def publish(size: int = 10) -> Command:
    chunk = command_pb2.Chunk(messages=[queue_pb2.Message(body=b"x" * size)]).SerializeToString()
    return commands.publish(queue="queues/q", chunk=chunk, count=1)


def fail(error: Exception) -> None:
    raise AssertionError from error


class Desk:
    """A broker on a leader with one queue, `queues/q`."""

    def __init__(self, directory: Path, *, inflight_bytes_max: int = 10_000) -> None:
        self.now_ms = 1_000
        clock = Clock(wall_ms=lambda: self.now_ms)
        self.replica = MemoryReplica(Machine.open(directory, clock_ms=clock.now_ms))
        self.broker = Broker(self.replica, clock=clock, inflight_bytes_max=inflight_bytes_max, fail=fail)

    async def ready(self) -> None:
        self.replica.lead()
        await self.broker.submit(create("q"))
        self.replica.entries.clear()

    def batches(self) -> list[command_pb2.Batch]:
        held = [payload for payload, _ in self.replica.held]
        return [command_pb2.Batch.FromString(each) for each in (*self.replica.entries.values(), *held)]


def test_commands_of_one_turn_of_the_loop_share_an_entry(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()

        results = await asyncio.gather(*(desk.broker.submit(publish()) for _ in range(5)))

        assert [each.first_sequence for each in results if isinstance(each, Published)] == [1, 2, 3, 4, 5]
        assert [len(batch.commands) for batch in desk.batches()] == [5]

    run(story())


def test_what_comes_while_entries_are_in_flight_gathers_into_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        desk.replica.holding = True
        futures = []
        for _ in range(limits.ENTRIES_IN_FLIGHT_MAX):
            futures.append(desk.broker.submit(publish()))
            await asyncio.sleep(0)
        for _ in range(7):
            futures.append(desk.broker.submit(publish()))
            await asyncio.sleep(0)
        assert len(desk.replica.held) == limits.ENTRIES_IN_FLIGHT_MAX

        desk.replica.let_go()
        await asyncio.gather(*futures)

        assert [len(batch.commands) for batch in desk.batches()] == [1] * limits.ENTRIES_IN_FLIGHT_MAX + [7]

    run(story())


def test_an_entry_is_closed_before_it_is_too_large_for_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, inflight_bytes_max=100 * limits.MIB)
        await desk.ready()

        await asyncio.gather(*(desk.broker.submit(publish(900_000)) for _ in range(10)))

        assert all(len(payload) <= limits.ENTRY_BYTES_MAX for payload in desk.replica.entries.values())
        assert [len(batch.commands) for batch in desk.batches()] == [2, 2, 2, 2, 2]
        desk.replica.entries.clear()
        await asyncio.gather(*(desk.broker.submit(publish(size)) for size in (1_000_000, 3_300_000)))
        assert [len(batch.commands) for batch in desk.batches()] == [1, 1]

    run(story())


def test_an_entry_is_closed_before_its_messages_that_are_looked_at_one_by_one_hold_the_loop(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, inflight_bytes_max=100 * limits.MIB)
        await desk.ready()
        enough = limits.ENTRY_COMMANDS_SOFT * limits.MARKED_MESSAGES_A_COMMAND
        chunk = command_pb2.Chunk(messages=[queue_pb2.Message(priority=1)] * enough).SerializeToString()
        slow = commands.publish(queue="queues/q", chunk=chunk, count=enough, marked=True)

        await asyncio.gather(*(desk.broker.submit(slow) for _ in range(3)))

        assert [len(batch.commands) for batch in desk.batches()] == [1, 1, 1]

    run(story())


def test_time_in_the_log_never_goes_back(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        for now_ms in (2_000, 1_500, 2_001):
            desk.now_ms = now_ms
            await desk.broker.submit(publish())

        assert [batch.time_ms for batch in desk.batches()] == [2_000, 2_000, 2_001]

    run(story())


def test_more_bytes_than_may_be_in_flight_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, inflight_bytes_max=500)
        await desk.ready()
        desk.replica.holding = True
        first = desk.broker.submit(publish(2_000))

        with pytest.raises(Overloaded):
            desk.broker.submit(publish(100))
        waiting = asyncio.ensure_future(desk.broker.room_for(100))
        await asyncio.sleep(0)
        assert not waiting.done()

        desk.replica.let_go()
        await first
        await waiting
        await desk.broker.submit(publish(100))
        assert desk.broker.inflight_bytes == 0

    run(story())


def test_a_refusal_of_the_state_machine_is_an_error_for_its_caller_only(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        unknown = commands.plain(command_pb2.Command(purge_queue=command_pb2.PurgeQueue(name="queues/none")))

        refused, stored = await asyncio.gather(
            desk.broker.submit(unknown), desk.broker.submit(publish()), return_exceptions=True
        )

        assert isinstance(refused, Refusal)
        assert refused.name == "QUEUE_NOT_FOUND"
        assert isinstance(stored, Published)

    run(story())


def test_who_does_not_lead_says_that_nothing_was_done(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)

        with pytest.raises(NotLeader):
            await desk.broker.submit(publish())
        assert desk.broker.inflight_bytes == 0

    run(story())


def test_who_loses_leadership_says_that_it_does_not_know(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        desk.replica.holding = True
        in_flight = desk.broker.submit(publish())
        await until(lambda: desk.replica.held, "the entry is in flight")

        desk.replica.follow()

        with pytest.raises(CommitUnknown):
            await in_flight

    run(story())


def test_a_broker_that_stops_finishes_what_it_took(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        taken = desk.broker.submit(publish())

        desk.broker.stop()

        with pytest.raises(ShuttingDown):
            desk.broker.submit(publish())
        assert not desk.broker.idle
        assert isinstance(await taken, Published)
        assert desk.broker.idle

    run(story())


def test_a_source_rides_along_and_is_told_what_came_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        offered = [publish(), publish()]
        answers: list[BaseException | None] = []

        def source() -> Iterator[tuple[Command, Answer]]:
            while offered:
                yield offered.pop(), answers.append

        desk.broker.draw_from(source)
        await asyncio.sleep(0)
        assert desk.batches() == []
        await desk.broker.submit(publish())
        assert answers == [None, None]

        offered.append(publish())
        desk.broker.wake()
        await until(lambda: len(answers) == 3, "a source that wakes the broker gets an entry")
        assert [len(batch.commands) for batch in desk.batches()] == [3, 1]

    run(story())


def test_an_entry_has_no_more_commands_than_ids_of_leases_have_room_for(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, inflight_bytes_max=1 << 20)
        await desk.ready()
        offered = [publish(1)] * 5_000
        answers: list[BaseException | None] = []

        def source() -> Iterator[tuple[Command, Answer]]:
            while offered:
                yield offered.pop(), answers.append

        desk.broker.draw_from(source)
        many = commands.transaction([publish(1)] * limits.OPERATIONS_MAX, "")
        submitted = [desk.broker.submit(many) for _ in range(4)]
        await asyncio.gather(*submitted)
        await until(lambda: len(answers) == 5_000, "all that was offered")

        counts = [
            sum(len(each.transaction.commands) or 1 for each in batch.commands) for batch in desk.batches()
        ]
        assert sum(counts) == 9_000
        assert max(counts) <= limits.ENTRY_COMMANDS_MAX

    run(story())


def test_a_caller_that_went_away_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        await desk.ready()
        gone, there = desk.broker.submit(publish()), desk.broker.submit(publish())

        gone.cancel()

        assert isinstance(await there, Published)

    run(story())


def test_every_error_of_the_api_has_a_reason_that_may_travel() -> None:
    def tree(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)

    for kind in tree(ApiError):
        assert kind.__doc__
        assert kind.reason.replace("_", "").isupper()
        assert len(kind.reason) <= 63
