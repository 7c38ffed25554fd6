import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from node.api.server import LEADER, READY
from raft.types import MemberStatus
from taskraft.v1 import cluster_pb2, queue_pb2
from tests.node.single_node import Running, refusal, refusal_of, run, running, until
from tests.node.stream_clients import Consuming, batch

DIRECT = (("taskraft-direct", "1"),)


def member(node_id: str, address: str) -> MemberStatus:
    return MemberStatus(
        id=node_id, address="127.0.0.1:1", announce={"grpc": address}, voter=True, connected=True, match=1
    )


@asynccontextmanager
async def pair(directory: Path) -> AsyncIterator[tuple[Running, Running]]:
    """A leader, and a follower that knows it."""
    async with (
        running(directory / "1") as leader,
        running(directory / "2", node_id="n2", leads=False) as follower,
    ):
        follower.replica.others = (member("n1", leader.address),)
        leader.replica.others = (member("n2", follower.address),)
        follower.replica.follow("n1")
        await leader.create("q")
        yield leader, follower


def publication(body: bytes = b"x") -> queue_pb2.PublishRequest:
    return queue_pb2.PublishRequest(queue="queues/q", messages=[queue_pb2.Message(body=body)])


def test_a_follower_passes_calls_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            assert await follower.publish("q", b"x") == 1

            row = leader.machine.queue("queues/q")
            assert row
            assert row.messages == 1
            assert follower.machine.queue("queues/q") is None

    run(story())


def test_a_follower_passes_errors_on_as_they_are(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            request = queue_pb2.GetQueueRequest(name="queues/none")

            assert await refusal(follower.queues.GetQueue(request)) == await refusal(
                leader.queues.GetQueue(request)
            )

    run(story())


def test_a_follower_passes_streams_on_in_both_directions(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (_, follower):
            producer, consumer = follower.queues.PublishStream(), Consuming(follower)
            await consumer.start(credit=10)
            await producer.write(batch(1, b"x"))
            assert (await producer.read()).first_sequence == 1
            assert (await consumer.delivery()).messages[0].body == b"x"
            await consumer.ack((1, 1))
            await consumer.read("acked")

            await producer.done_writing()
            assert await producer.read() is grpc.aio.EOF
            assert await producer.code() is grpc.StatusCode.OK
            await consumer.credit(-1)
            assert (await consumer.ended())[1] == "INVALID_CREDIT"

    run(story())


def test_a_client_that_leaves_a_follower_leaves_the_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            consumer = Consuming(follower)
            await consumer.start(credit=10)
            assert len(leader.node.dispatcher.queue("queues/q").consumers) == 1

            consumer.call.cancel()

            await until(lambda: not leader.node.dispatcher.queue("queues/q").consumers, "the leader knows")

    run(story())


def test_a_client_that_finds_the_leader_itself_is_told_who_leads(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            code, reason, metadata = await refusal(follower.queues.Publish(publication(), metadata=DIRECT))

            assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
            assert metadata["leader_endpoint"] == leader.address
            assert metadata["leader_id"] == "n1"
            consumer = Consuming(follower)
            consumer.call = follower.queues.Consume(metadata=DIRECT)
            assert (await consumer.ended())[1] == "NOT_LEADER"

    run(story())


def test_a_call_waits_for_a_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (_, follower):
            follower.replica.follow(None)
            call = asyncio.ensure_future(follower.publish("q", b"x"))
            await asyncio.sleep(0.1)
            assert not call.done()

            follower.replica.follow("n1")

            assert await call == 1

    run(story())


def test_a_call_that_finds_no_leader_in_time_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, leads=False) as node:
            call = node.queues.GetQueue(queue_pb2.GetQueueRequest(name="queues/q"), metadata=DIRECT)

            assert (await refusal(call))[:2] == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER")

    run(story())


def test_two_nodes_that_take_each_other_for_the_leader_do_not_pass_a_call_around(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            leader.replica.follow("n2")

            assert (await refusal(follower.queues.Publish(publication())))[1] in ("NOT_LEADER", "NO_LEADER")

    run(story())


def test_a_leader_that_steps_down_passes_on_what_it_has_not_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (old, new):
            old.replica.leader_id = "n2"  # it does not know yet: its log refuses the command
            call = asyncio.ensure_future(old.publish("q", b"x"))
            await asyncio.sleep(0.05)
            new.replica.lead()
            await new.create("q")
            old.replica.on_follower()

            assert await call == 1
            row = new.machine.queue("queues/q")
            assert row
            assert row.messages == 1

    run(story())


def test_a_leader_that_cannot_be_reached_is_told_apart_from_one_that_was_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, leads=False) as node:
            node.replica.others = (member("n9", "127.0.0.1:1"),)
            node.replica.follow("n9")

            call = node.queues.Publish(publication(), timeout=10)

            assert (await refusal(call))[1] == "NO_LEADER"

    run(story())


def test_every_node_shows_the_cluster_itself(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, follower):
            cluster = (await follower.cluster.GetCluster(cluster_pb2.GetClusterRequest())).cluster

            assert (cluster.node_id, cluster.leader_id, cluster.name) == ("n2", "n1", "taskraft")
            roles = {each.id: each.role for each in cluster.members}
            assert roles == {
                "n1": cluster_pb2.MEMBER_ROLE_LEADER,
                "n2": cluster_pb2.MEMBER_ROLE_FOLLOWER,
            }
            assert {each.grpc_address for each in cluster.members} == {leader.address, follower.address}

    run(story())


def test_a_watcher_is_told_of_every_new_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            watch = node.cluster.WatchCluster(cluster_pb2.WatchClusterRequest())
            assert (await watch.read()).cluster.leader_id == "n1"

            node.replica.follow("n2")

            changed = (await watch.read()).cluster
            assert (changed.leader_id, changed.term) == ("n2", 2)

    run(story())


def test_members_are_added_and_removed_on_the_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (_, follower):
            add = cluster_pb2.AddMemberRequest(member_id="n3", raft_address="127.0.0.1:9")
            added = (await follower.cluster.AddMember(add)).cluster
            assert [each.id for each in added.members] == ["n1", "n2", "n3"]

            twin = cluster_pb2.AddMemberRequest(member_id="n4", raft_address="127.0.0.1:9")
            code, reason, metadata = await refusal(follower.cluster.AddMember(twin))
            assert (code, reason, metadata["member_id"]) == (
                grpc.StatusCode.ALREADY_EXISTS,
                "MEMBER_EXISTS",
                "n3",
            )

            remove = cluster_pb2.RemoveMemberRequest(member_id="n3", request_id="r")
            removed = (await follower.cluster.RemoveMember(remove)).cluster
            assert [each.id for each in removed.members] == ["n1", "n2"]

            bad = cluster_pb2.AddMemberRequest(member_id="n4", raft_address="nowhere")
            assert (await refusal(follower.cluster.AddMember(bad)))[2]["field"] == "raft_address"

    run(story())


def test_leadership_is_handed_over_on_request(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (leader, _):
            unknown = cluster_pb2.TransferLeadershipRequest(target_id="n9")
            assert (await refusal(leader.cluster.TransferLeadership(unknown)))[1] == "MEMBER_NOT_FOUND"

            asked = cluster_pb2.TransferLeadershipRequest(target_id="n2")

            assert (await leader.cluster.TransferLeadership(asked)).leader_id == "n2"

    run(story())


def test_health_says_whether_a_node_serves_and_whether_it_leads(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            telling = asyncio.create_task(node.node.tell_health())
            stub: Any = health_pb2_grpc.HealthStub(node.channel)

            async def watched(service: str, serving: bool) -> None:
                wanted = (
                    health_pb2.HealthCheckResponse.SERVING
                    if serving
                    else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
                    if answer.status == wanted:
                        return

            for service in ("", READY, LEADER):
                await watched(service, True)
            node.replica.follow()
            for service in (READY, LEADER):
                await watched(service, False)
            telling.cancel()

    run(story())


def test_reflection_names_all_services(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, leads=False) as node:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(node.channel)
            call = stub.ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            answer = await call.read()
            await call.done_writing()

            names = {each.name for each in answer.list_services_response.service}
            assert {
                "taskraft.v1.QueueService",
                "taskraft.v1.TaskService",
                "taskraft.v1.WorkerService",
                "taskraft.v1.ScheduleService",
                "taskraft.v1.LockService",
                "taskraft.v1.ClusterService",
                "grpc.health.v1.Health",
            } <= names

    run(story())


def test_a_method_that_does_not_exist_is_unimplemented(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            call: Any = node.channel.unary_unary("/taskraft.v1.QueueService/Divine")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"")

            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(story())


def test_a_not_leader_answer_asks_stubs_to_try_again_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path) as (_, follower):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await follower.queues.Publish(publication(), metadata=DIRECT)

            assert refusal_of(caught.value)[1] == "NOT_LEADER"
            assert ("grpc-retry-pushback-ms", "0") in tuple(caught.value.trailing_metadata() or ())

    run(story())
