import asyncio
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from taskraft.v1 import queue_pb2
from tests.node.single_node import Running, refusal, run, running, until

Code = grpc.StatusCode


def ranges(*pairs: tuple[int, int]) -> list[queue_pb2.SequenceRange]:
    return [queue_pb2.SequenceRange(first=first, last=last) for first, last in pairs]


async def pulled(node: Running, name: str, messages: int = 100, wait_s: int = 0) -> queue_pb2.PullResponse:
    request = queue_pb2.PullRequest(
        queue=f"queues/{name}", max_messages=messages, wait=Duration(seconds=wait_s)
    )
    answer: queue_pb2.PullResponse = await node.queues.Pull(request)
    return answer


def bodies(answer: queue_pb2.PullResponse) -> list[bytes]:
    return [message.body for delivery in answer.deliveries for message in delivery.messages]


def test_a_queue_is_created_shown_changed_listed_and_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("a", max_messages=10)
            await node.create("b")
            created = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/a"))).queue
            assert (created.max_messages, created.ack_deadline.seconds, created.max_message_bytes) == (
                10,
                30,
                1 << 20,
            )

            update = queue_pb2.UpdateQueueRequest(
                queue=queue_pb2.Queue(name="queues/a", etag=created.etag, paused=True),
                update_mask=FieldMask(paths=["paused", "max_messages"]),
            )
            changed = (await node.queues.UpdateQueue(update)).queue
            assert (changed.paused, changed.max_messages, changed.max_message_bytes) == (True, 0, 1 << 20)
            assert await refusal(node.queues.UpdateQueue(update)) == (
                Code.ABORTED,
                "ETAG_MISMATCH",
                (await refusal(node.queues.UpdateQueue(update)))[2],
            )

            page = await node.queues.ListQueues(queue_pb2.ListQueuesRequest(page_size=1))
            rest = await node.queues.ListQueues(
                queue_pb2.ListQueuesRequest(page_size=1, page_token=page.next_page_token)
            )
            assert [queue.name for queue in (*page.queues, *rest.queues)] == ["queues/a", "queues/b"]
            assert rest.next_page_token == ""

            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/a"))
            found = await refusal(node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/a")))
            assert found == (Code.NOT_FOUND, "QUEUE_NOT_FOUND", {"queue": "queues/a"})

    run(story())


def test_messages_are_published_pulled_and_acknowledged(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            assert await node.publish("q", b"one", b"two") == 1
            assert await node.publish("q", b"three") == 3

            answer = await pulled(node, "q")
            assert bodies(answer) == [b"one", b"two", b"three"]
            shown = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))).queue.stats
            assert (shown.messages, shown.leased_messages, shown.published_messages) == (3, 3, 3)

            await node.queues.Acknowledge(
                queue_pb2.AcknowledgeRequest(
                    queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 3))
                )
            )
            shown = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))).queue.stats
            assert (shown.messages, shown.leased_messages) == (0, 0)
            assert not shown.HasField("oldest_publish_time")

    run(story())


def test_a_pull_without_messages_waits_and_then_has_no_lease(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            assert (await pulled(node, "q")).lease_id == ""

            waiting = asyncio.ensure_future(pulled(node, "q", wait_s=10))
            await until(lambda: node.node.dispatcher.queue("queues/q")._pulls, "the pull waits")
            await node.publish("q", b"late")

            assert bodies(await waiting) == [b"late"]

    run(story())


def test_a_pull_that_is_cancelled_leases_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            request = queue_pb2.PullRequest(queue="queues/q", max_messages=5, wait=Duration(seconds=10))
            call = node.queues.Pull(request)
            queue = node.node.dispatcher.queue("queues/q")
            await until(lambda: queue._pulls, "the pull waits")
            call.cancel()
            await until(lambda: not queue._pulls, "the pull is gone")

            await node.publish("q", b"x")

            assert bodies(await pulled(node, "q")) == [b"x"]

    run(story())


def test_a_lease_that_is_gone_is_lost_and_the_rest_is_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1", b"2", b"3")
            answer = await pulled(node, "q", 2)

            acknowledge = queue_pb2.AcknowledgeRequest(
                queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 1), (3, 3))
            )
            code, reason, metadata = await refusal(node.queues.Acknowledge(acknowledge))

            assert (code, reason, metadata["ranges"]) == (Code.ABORTED, "LEASE_LOST", "3-3")
            shown = (await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))).queue
            assert shown.stats.messages == 2

    run(story())


def test_a_repeated_acknowledgement_with_the_same_request_id_is_answered_as_the_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1", b"2")
            answer = await pulled(node, "q")
            request = queue_pb2.AcknowledgeRequest(
                queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 2)), request_id="r1"
            )

            await node.queues.Acknowledge(request)
            await node.queues.Acknowledge(request)
            node.replica.follow()
            node.replica.lead()
            await node.queues.Acknowledge(request)

            request.request_id = "r2"
            assert (await refusal(node.queues.Acknowledge(request)))[1] == "LEASE_LOST"

    run(story())


def test_a_lease_of_an_earlier_leader_still_acknowledges_what_nobody_else_has(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1", b"2")
            answer = await pulled(node, "q")
            node.replica.follow()
            node.replica.lead()

            await node.queues.Acknowledge(
                queue_pb2.AcknowledgeRequest(
                    queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 1))
                )
            )

            assert (
                await node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"))
            ).queue.stats.messages == 1

    run(story())


def test_what_an_earlier_call_of_that_request_id_did_not_have_is_not_acknowledged_and_comes_again(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1")
            request = queue_pb2.AcknowledgeRequest(queue="queues/q", ranges=ranges((1, 1)), request_id="r1")
            request.lease_id = (await pulled(node, "q")).lease_id
            back = queue_pb2.RejectRequest(queue="queues/q", lease_id=request.lease_id, ranges=ranges((1, 1)))
            await node.queues.Reject(back)
            assert (await refusal(node.queues.Acknowledge(request)))[1] == "LEASE_LOST"
            request.lease_id = (await pulled(node, "q")).lease_id

            assert (await refusal(node.queues.Acknowledge(request)))[1] == "LEASE_LOST"

            (again,) = (await pulled(node, "q")).deliveries
            assert (again.first_sequence, again.attempt) == (1, 3)

    run(story())


def test_a_lease_on_a_queue_that_was_deleted_does_not_touch_the_one_made_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"old")
            answer = await pulled(node, "q")
            await node.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(name="queues/q"))
            await node.create("q")
            await node.publish("q", b"new")
            node.replica.follow()
            node.replica.lead()

            acknowledge = queue_pb2.AcknowledgeRequest(
                queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 1))
            )

            assert (await refusal(node.queues.Acknowledge(acknowledge)))[1] == "LEASE_LOST"
            assert bodies(await pulled(node, "q", wait_s=5)) == [b"new"]

    run(story())


def test_a_rejected_message_comes_again_and_an_extended_lease_stays(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", ack_deadline=Duration(seconds=1))
            await node.publish("q", b"1", b"2")
            answer = await pulled(node, "q")
            await node.queues.ModifyAckDeadline(
                queue_pb2.ModifyAckDeadlineRequest(
                    queue="queues/q",
                    lease_id=answer.lease_id,
                    ranges=ranges((2, 2)),
                    ack_deadline=Duration(seconds=60),
                )
            )
            await node.queues.Reject(
                queue_pb2.RejectRequest(queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 1)))
            )

            again = await pulled(node, "q")
            assert bodies(again) == [b"1"]
            assert again.deliveries[0].attempt == 2
            expired = await pulled(node, "q", wait_s=5)
            assert bodies(expired) == [b"1"]
            assert expired.deliveries[0].attempt == 3

    run(story())


def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", max_messages=1)
            await node.publish("q", b"1")

            assert (await refusal(node.publish("q", b"2")))[:2] == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")

    run(story())


def test_a_node_without_disk_space_takes_no_messages_but_lets_them_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            await node.publish("q", b"1")
            node.node.disk.low = True

            assert (await refusal(node.publish("q", b"2")))[:2] == (Code.RESOURCE_EXHAUSTED, "DISK_LOW")
            answer = await pulled(node, "q")
            await node.queues.Acknowledge(
                queue_pb2.AcknowledgeRequest(
                    queue="queues/q", lease_id=answer.lease_id, ranges=ranges((1, 1))
                )
            )

    run(story())


def test_a_publish_with_a_request_id_is_stored_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q")
            request = queue_pb2.PublishRequest(
                queue="queues/q", request_id="r", messages=[queue_pb2.Message(body=b"x")]
            )

            first, second = await node.queues.Publish(request), await node.queues.Publish(request)

            assert (first.first_sequence, first.duplicate) == (1, False)
            assert (second.first_sequence, second.duplicate) == (1, True)

    run(story())
