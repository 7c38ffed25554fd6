"""Consumer groups and readers of streams through the API of one node."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from node import limits
from node.clock import Clock
from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running
from tests.node.stream_clients import Consuming, pairs, wire
from tests.sim.stream_commands import position

STREAM = queue_pb2.QUEUE_KIND_STREAM
Q = "queues/q"


class Reading(Consuming):
    """A Consume stream of a group, or, without one, of a reader."""

    async def begin(
        self,
        group: str = "",
        at: queue_pb2.Position | None = None,
        *,
        credit: int = 100,
        held: Iterable[tuple[int, int]] = (),
    ) -> queue_pb2.ConsumeStarted:
        start = queue_pb2.ConsumeStart(queue=self.queue, group=group, position=at, held=wire(held))
        await self.call.write(queue_pb2.ConsumeRequest(start=start))
        started: queue_pb2.ConsumeStarted = (await self.read("started")).started
        await self.credit(credit)
        return started

    async def batch(self) -> tuple[int, list[bytes]]:
        delivery = await self.delivery()
        return delivery.first_sequence, [message.body for message in delivery.messages]

    async def until(self, last: int) -> list[int]:
        """The sequences of all deliveries up to one that ends with `last`."""
        found: list[int] = []
        while not found or found[-1] < last:
            first, bodies = await self.batch()
            found += range(first, first + len(bodies))
        return found


async def stream_of(node: Running, *bodies: bytes, **settings: Any) -> None:
    await node.create("q", kind=STREAM, **settings)
    if bodies:
        await node.publish("q", *bodies)


async def groups(node: Running) -> dict[str, queue_pb2.ConsumerGroup]:
    answer = await node.queues.GetQueue(queue_pb2.GetQueueRequest(name=Q))
    return {group.name: group for group in answer.queue.stats.groups}


def pull(group: str = "g", messages: int = 10) -> queue_pb2.PullRequest:
    return queue_pb2.PullRequest(queue=Q, max_messages=messages, group=group)


def test_each_group_gets_every_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2", b"3")
            first, second = Reading(node), Reading(node)
            await first.begin("a")
            await second.begin("b", position("sequence", 2))

            assert await first.batch() == (1, [b"1", b"2", b"3"])
            assert await second.batch() == (2, [b"2", b"3"])
            await first.ack((1, 2))
            assert pairs((await first.read("acked")).acked.ranges) == [(1, 2)]

            shown = await groups(node)
            assert (shown["a"].position, shown["a"].pending_messages, shown["a"].leased_messages) == (3, 1, 1)
            assert (shown["b"].position, shown["b"].pending_messages, shown["b"].consumers) == (2, 2, 1)

    run(story())


def test_consumers_of_one_group_share_its_messages(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node)
            one, other = Reading(node), Reading(node)
            await one.begin("g")
            await other.begin("g")

            await node.publish("q", *[b"x"] * 4)

            (first, bodies), (second, others) = await one.batch(), await other.batch()
            assert len(bodies) == len(others) == 2
            assert {first, second} == {1, 3}

    run(story())


def test_what_a_group_was_given_and_gave_back_comes_again_with_the_next_attempt(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2")
            consuming = Reading(node)
            await consuming.begin("g")
            await consuming.batch()

            await consuming.nack((2, 2))

            again = await consuming.delivery()
            assert (again.first_sequence, again.attempt) == (2, 2)

    run(story())


def test_a_group_is_pulled_and_acknowledged_like_a_queue(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2")
            pulled = await node.queues.Pull(pull())
            settle = {"queue": Q, "group": "g", "lease_id": pulled.lease_id}

            await node.queues.Acknowledge(queue_pb2.AcknowledgeRequest(ranges=wire([(1, 1)]), **settle))
            await node.queues.ModifyAckDeadline(
                queue_pb2.ModifyAckDeadlineRequest(
                    ranges=wire([(2, 2)]), ack_deadline={"seconds": 60}, **settle
                )
            )
            await node.queues.Reject(queue_pb2.RejectRequest(ranges=wire([(2, 2)]), **settle))
            again = await node.queues.Pull(pull())

            assert [(each.first_sequence, each.attempt) for each in again.deliveries] == [(2, 2)]
            assert (await groups(node))["g"].position == 2
            assert (await node.queues.Pull(pull("other"))).deliveries[0].first_sequence == 1

    run(story())


def test_a_group_that_is_moved_gets_everything_from_there_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2", b"3")
            consuming = Reading(node)
            await consuming.begin("g")
            await consuming.batch()
            await consuming.ack((1, 2))
            await consuming.read("acked")

            answer = await node.queues.Seek(
                queue_pb2.SeekRequest(queue=Q, group="g", position=position("sequence", 2))
            )

            assert (answer.group.position, answer.group.pending_messages) == (2, 2)
            assert pairs((await consuming.read("lease_lost")).lease_lost.ranges) == [(3, 3)]
            assert await consuming.batch() == (2, [b"2", b"3"])

    run(story())


def test_a_group_that_is_deleted_ends_its_consumers_and_begins_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1")
            consuming = Reading(node)
            await consuming.begin("g")
            await consuming.batch()
            await consuming.ack((1, 1))
            await consuming.read("acked")

            await node.queues.DeleteGroup(queue_pb2.DeleteGroupRequest(queue=Q, group="g"))

            assert (await consuming.ended())[:2] == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND")
            assert (await node.queues.Pull(pull())).deliveries[0].first_sequence == 1

    run(story())


def test_a_reader_gets_everything_from_its_position_and_what_comes_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2", b"3")
            reading, late = Reading(node), Reading(node)
            await reading.begin(at=position("sequence", 2))
            await late.begin(at=position("end"))

            assert await reading.batch() == (2, [b"2", b"3"])
            assert await reading.batch() == (4, [])
            assert await late.batch() == (4, [])
            await node.publish("q", b"4")
            assert await reading.batch() == await late.batch() == (4, [b"4"])

    run(story())


def test_a_reader_gets_no_more_than_its_credit(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, *[bytes(1_000)] * 10)
            reading = Reading(node)
            await reading.begin(credit=3)
            assert (await reading.delivery()).first_sequence == 1

            await reading.credit(100, 2_500)

            deliveries = [await reading.delivery(), await reading.delivery()]
            assert [(each.first_sequence, len(each.messages)) for each in deliveries] == [(4, 2), (6, 1)]

    run(story())


@pytest.mark.parametrize("group", ["", "g"])
def test_one_time_is_said_only_of_messages_that_came_together(tmp_path: Path, group: str) -> None:
    wall_ms = [1_000_000]
    clock = Clock(Clock().now_ms, lambda: wall_ms[-1])

    async def story() -> None:
        async with running(tmp_path, clock=clock) as node:
            await stream_of(node)
            for time_ms in (0, limits.PARCEL_SPAN_MS, limits.PARCEL_SPAN_MS + 1):
                wall_ms.append(2_000_000 + time_ms)
                await node.publish("q", b"x")
            reading = Reading(node)
            await reading.begin(group)

            deliveries = [await reading.delivery() for _ in range(2)]

            assert [len(each.messages) for each in deliveries] == [2, 1]
            times = [each.publish_time.ToMilliseconds() - 2_000_000 for each in deliveries]
            assert times == [0, limits.PARCEL_SPAN_MS + 1]

    run(story())


def test_a_reader_that_is_behind_what_is_kept_goes_on_at_the_oldest_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, *[b"x"] * 5, max_messages=5)
            reading = Reading(node)
            await reading.begin(credit=2)
            await reading.batch()

            for _ in range(4):
                await node.publish("q", b"y")
            await reading.credit(100)

            assert await reading.until(9) == [5, 6, 7, 8, 9]

    run(story())


def test_a_reader_that_acknowledges_is_told_that_it_cannot(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1")
            for say in ("ack", "nack"):
                reading = Reading(node)
                await reading.begin()
                await getattr(reading, say)((1, 1))

                status, reason, metadata = await reading.ended()

                assert (status, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
                assert metadata["field"] == say

    run(story())


def test_readers_and_groups_end_with_their_stream(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1")
            consuming, reading = Reading(node), Reading(node)
            await consuming.begin("g")
            await reading.begin()

            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name=Q))

            assert (await consuming.ended())[1] == (await reading.ended())[1] == "QUEUE_NOT_FOUND"

    run(story())


@pytest.mark.parametrize("group", ["", "a b", "ä", "x" * (limits.GROUP_CHARS_MAX + 1)])
def test_a_name_that_no_group_can_have_is_refused(tmp_path: Path, group: str) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1")
            calls = [
                node.queues.Pull(pull(group)),
                node.queues.Seek(queue_pb2.SeekRequest(queue=Q, group=group)),
                node.queues.DeleteGroup(queue_pb2.DeleteGroupRequest(queue=Q, group=group)),
                node.queues.Acknowledge(
                    queue_pb2.AcknowledgeRequest(queue=Q, group=group, lease_id="1.1", ranges=wire([(1, 1)]))
                ),
            ]
            for call in calls:
                status, reason, metadata = await refusal(call)
                assert (status, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
                assert metadata["field"] == "group"

    run(story())


def test_positions_and_queues_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1")
            await node.create("m")
            far, never = position("sequence", 3), queue_pb2.Position(time={"seconds": -1})

            def seek(queue: str, at: queue_pb2.Position) -> Any:
                return node.queues.Seek(queue_pb2.SeekRequest(queue=queue, group="g", position=at))

            async def ended(queue: str, group: str, at: queue_pb2.Position | None) -> str:
                consuming = Reading(node, queue)
                start = queue_pb2.ConsumeStart(queue=f"queues/{queue}", group=group, position=at)
                await consuming.call.write(queue_pb2.ConsumeRequest(start=start))
                return (await consuming.ended())[1]

            assert (await refusal(seek(Q, far)))[:2] == (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")
            assert (await refusal(seek(Q, never)))[1] == "INVALID_FIELD"
            assert (await refusal(seek("queues/m", position("end"))))[1] == "WRONG_QUEUE_KIND"
            assert (await refusal(seek("queues/none", position("end"))))[1] == "QUEUE_NOT_FOUND"
            assert await ended("q", "", far) == "OUT_OF_RANGE"
            assert await ended("q", "g", far) == "OUT_OF_RANGE"
            assert await ended("q", "", never) == "INVALID_FIELD"
            assert await ended("m", "g", None) == "WRONG_QUEUE_KIND"
            assert await ended("m", "", position("end")) == "WRONG_QUEUE_KIND"
            missing = queue_pb2.DeleteGroupRequest(queue=Q, group="missing")
            assert (await refusal(node.queues.DeleteGroup(missing)))[1] == "GROUP_NOT_FOUND"

    run(story())


def test_a_transaction_acknowledges_in_a_group_what_it_publishes_the_outcome_of(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await stream_of(node, b"1", b"2")
            await node.create("out")
            consuming = Reading(node)
            started = await consuming.begin("g")
            await consuming.batch()
            done = queue_pb2.AcknowledgeOperation(
                queue=Q, group="g", lease_id=started.session_id, ranges=wire([(1, 2)])
            )
            outcome = queue_pb2.PublishOperation(queue="queues/out", messages=[queue_pb2.Message(body=b"3")])
            request = queue_pb2.CommitRequest(
                operations=[queue_pb2.Operation(acknowledge=done), queue_pb2.Operation(publish=outcome)]
            )

            await node.queues.Commit(request)

            assert (await groups(node))["g"].pending_messages == 0
            status, reason, _ = await refusal(node.queues.Commit(request))
            assert (status, reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
            for group in ("", "missing"):
                done.group = group
                wrong = queue_pb2.CommitRequest(operations=[queue_pb2.Operation(acknowledge=done)])
                assert (await refusal(node.queues.Commit(wrong)))[1] in ("INVALID_FIELD", "GROUP_NOT_FOUND")

    run(story())
