from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from taskraft.v1 import queue_pb2, task_pb2
from tests.node.single_node import Running, refusal, run, running
from tests.node.stream_clients import Consuming, batch
from tests.node.task_clients import a_task, listed, submit, task_queue

Code = grpc.StatusCode
TASK = queue_pb2.QUEUE_KIND_TASK
OF_Q = task_pb2.TaskFilter(queue="queues/q")


async def shown(node: Running, name: str = "q") -> queue_pb2.Queue:
    answer = await node.queues.GetQueue(queue_pb2.GetQueueRequest(name=f"queues/{name}"))
    queue: queue_pb2.Queue = answer.queue
    return queue


def update(*paths: str, **settings: Any) -> queue_pb2.UpdateQueueRequest:
    queue = queue_pb2.Queue(name="queues/q", **settings)
    return queue_pb2.UpdateQueueRequest(queue=queue, update_mask=FieldMask(paths=paths))


def test_a_queue_of_tasks_has_all_its_defaults(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", kind=TASK)

            scheduling = (await shown(node)).scheduling

            assert scheduling.policy == queue_pb2.SCHEDULING_POLICY_FIFO
            assert scheduling.placement == queue_pb2.PLACEMENT_LEAST_LOADED
            assert (scheduling.max_attempts, scheduling.max_ended) == (3, 100_000)
            assert {
                name: getattr(scheduling, name).ToMilliseconds()
                for name in (
                    "aging",
                    "time_slice",
                    "lease",
                    "backoff",
                    "backoff_max",
                    "retain_succeeded",
                    "retain_failed",
                )
            } == {
                "aging": 60_000,
                "time_slice": 1_000,
                "lease": 10_000,
                "backoff": 1_000,
                "backoff_max": 300_000,
                "retain_succeeded": 3_600_000,
                "retain_failed": 7 * 86_400_000,
            }

    run(story())


def test_no_aging_is_something_else_than_the_default(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node, aging=Duration())

            assert (await shown(node)).scheduling.aging == Duration()

    run(story())


def test_each_setting_changes_alone_or_all_together(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node, max_running=5, rate=queue_pb2.RateLimit(per_second=2))
            wanted = queue_pb2.Scheduling(policy=queue_pb2.SCHEDULING_POLICY_FAIR_SHARE, max_attempts=7)

            await node.queues.UpdateQueue(
                update("scheduling.max_attempts", "paused", scheduling=wanted, paused=True)
            )
            one = await shown(node)
            await node.queues.UpdateQueue(update("scheduling.rate", scheduling=wanted))
            none = await shown(node)
            await node.queues.UpdateQueue(update("scheduling", scheduling=wanted))
            every = await shown(node)

            assert (one.scheduling.max_attempts, one.scheduling.max_running, one.paused) == (7, 5, True)
            assert one.scheduling.policy == queue_pb2.SCHEDULING_POLICY_FIFO
            assert one.scheduling.rate.burst == 1
            assert not none.scheduling.HasField("rate")
            assert (every.scheduling.policy, every.scheduling.max_running) == (
                queue_pb2.SCHEDULING_POLICY_FAIR_SHARE,
                0,
            )
            assert every.scheduling.lease.seconds == 10

    run(story())


def test_what_does_not_fit_the_kind_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await node.create("m")
            drop = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
            of_messages = queue_pb2.UpdateQueueRequest(
                queue=queue_pb2.Queue(name="queues/m"), update_mask=FieldMask(paths=["scheduling.lease"])
            )
            calls = {
                "queue.scheduling": node.create("x", scheduling=queue_pb2.Scheduling()),
                "queue.kind": node.create("x", kind=77),
                "queue.overflow_policy": node.create("x", kind=TASK, overflow_policy=drop),
                "update_mask": node.queues.UpdateQueue(of_messages),
            }

            for field, call in calls.items():
                code, _, metadata = await refusal(call)
                assert (code, metadata["field"]) == (Code.INVALID_ARGUMENT, field)
            later = await refusal(node.queues.UpdateQueue(update("overflow_policy", overflow_policy=drop)))
            assert later[2]["field"] == "queue.overflow_policy"
            unknown = await refusal(node.queues.UpdateQueue(update("scheduling.nonsense")))
            assert unknown[2]["path"] == "scheduling.nonsense"

    run(story())


def test_messages_do_not_go_into_a_queue_of_tasks(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            publication = queue_pb2.PublishRequest(queue="queues/q", messages=[queue_pb2.Message(body=b"x")])
            for call in (
                node.queues.Publish(publication),
                node.queues.Pull(queue_pb2.PullRequest(queue="queues/q", max_messages=1)),
            ):
                assert await refusal(call) == (
                    Code.FAILED_PRECONDITION,
                    "WRONG_QUEUE_KIND",
                    {"queue": "queues/q"},
                )
            consumer = Consuming(node)
            await consumer.call.write(
                queue_pb2.ConsumeRequest(start=queue_pb2.ConsumeStart(queue="queues/q"))
            )
            assert (await consumer.ended())[1] == "WRONG_QUEUE_KIND"
            producer = node.queues.PublishStream()
            await producer.write(batch(1, b"x"))
            assert (await producer.read()).failure.reason == "WRONG_QUEUE_KIND"
            producer.cancel()

    run(story())


def test_a_full_queue_of_tasks_refuses_and_a_purged_one_takes_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await node.create("q", kind=TASK, max_messages=2)
            await submit(node, a_task("a"), a_task("b"))
            code, reason, metadata = await refusal(submit(node, a_task("c")))
            assert (code, reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert (metadata["queue"], metadata["max_messages"]) == ("queues/q", "2")

            purge = await node.queues.PurgeQueue(queue_pb2.PurgeQueueRequest(name="queues/q"))

            assert purge.purged_messages == 2
            await submit(node, a_task("c"))
            assert await listed(node, filter=OF_Q) == ["c"]

    run(story())


def test_a_page_of_queues_ends_before_it_is_too_large(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            weights = {f"{place:0128}": 1.0 for place in range(9_000)}
            for name in ("a", "b", "c"):
                await task_queue(node, name, tenant_weights=weights)
            request, names = queue_pb2.ListQueuesRequest(), []
            while True:
                page = await node.queues.ListQueues(request)
                names.append([queue.name for queue in page.queues])
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token

            assert names == [["queues/a", "queues/b"], ["queues/c"]]

    run(story())
