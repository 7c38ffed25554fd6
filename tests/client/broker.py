"""A broker in memory: real gRPC servers over loopback that keep the promises of the .proto files.

All nodes share one `Store`, which plays the replicated log. Leases belong to the leader and are lost with it; what was
leased stays reserved for its consumer for `GRACE_S` then. A frozen node takes connections and answers nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from taskraft.v1 import cluster_pb2, cluster_pb2_grpc, queue_pb2, queue_pb2_grpc, task_pb2_grpc
from tests.client.session import Session
from tests.client.store import QueueState, Refused, Store, sequences_of
from tests.client.task_node import TaskNode
from tests.client.task_store import TaskStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

GRACE_S = 0.3
CODES = {code.value[0]: code for code in grpc.StatusCode}


def status_of(failure: queue_pb2.Failure) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    info = error_details_pb2.ErrorInfo(reason=failure.reason, domain="taskraft", metadata=failure.metadata)
    detail = AnyMessage()
    detail.Pack(info)
    status = status_pb2.Status(code=failure.code, message=failure.message, details=[detail])
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    return CODES[failure.code], failure.message, trailers


class Broker:
    """A cluster of nodes. `answers` closed: what is published is stored and not answered."""

    def __init__(self) -> None:
        self.store = Store()
        self.tasks = TaskStore(self.store)
        self.waits: list[int] = []  # how many names each WaitTask stream asked for
        self.watches = 0  # WatchTasks streams so far
        self.nodes: dict[str, Node] = {}
        self.leader_id = ""
        self.term = 1
        self.answers = asyncio.Event()
        self.answers.set()
        self.frames: list[tuple[str, int, int]] = []  # (producer, number, messages) as they came
        self.acks = 0
        self.redrives: list[queue_pb2.RedriveRequest] = []
        self.refusals: deque[Refused | None] = deque()

    @property
    def addresses(self) -> str:
        return ",".join(node.address for node in self.nodes.values())

    async def start(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.nodes[node_id] = Node(self, node_id)
            await self.nodes[node_id].start()
        self.leader_id = node_ids[0]

    async def lead(self, node_id: str) -> None:
        """Another leader; the streams of the old one end, its leases wait to be claimed."""
        old, self.leader_id, self.term = self.leader_id, node_id, self.term + 1
        for state in self.store.queues.values():
            state.leased = dict.fromkeys(state.leased, "")
            asyncio.get_running_loop().call_later(GRACE_S, state.release, "")
        if old in self.nodes:
            self.nodes[old].deposed.set()
            self.nodes[old].deposed = asyncio.Event()

    async def close(self) -> None:
        self.answers.set()
        for node in self.nodes.values():
            node.thawed.set()
            await node.kill()


class Node(TaskNode, queue_pb2_grpc.QueueServiceServicer, cluster_pb2_grpc.ClusterServiceServicer):
    def __init__(self, broker: Broker, node_id: str) -> None:
        self.broker = broker
        self.node_id = node_id
        self.address = "127.0.0.1:0"
        self.deposed = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.sessions = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5000)]
        )
        queue_pb2_grpc.add_QueueServiceServicer_to_server(self, self._server)
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(self, self._server)
        task_pb2_grpc.add_TaskServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def kill(self) -> None:
        """Drop all connections and listen no more; `start` brings the node back."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def _enter(self, context: Any) -> None:
        await self.thawed.wait()
        if not self._serves(context):
            await self.abort(context, self.not_leader())

    def _serves(self, context: Any) -> bool:
        """True if this node leads, or if the client leaves it to the nodes to find the leader."""
        direct = ("taskraft-direct", "1") in context.invocation_metadata()
        return not direct or self.broker.leader_id == self.node_id

    def not_leader(self) -> Refused:
        leader = self.broker.nodes.get(self.broker.leader_id)
        if leader is None:
            return Refused(grpc.StatusCode.UNAVAILABLE, "NO_LEADER")
        return Refused(
            grpc.StatusCode.UNAVAILABLE,
            "NOT_LEADER",
            leader_id=leader.node_id,
            leader_endpoint=leader.address,
            term=str(self.broker.term),
        )

    async def abort(self, context: Any, refused: Refused) -> NoReturn:
        await context.abort(*status_of(refused.failure))
        raise AssertionError

    async def _do(self, context: Any, do: Callable[[], Any], request_id: str = "") -> Any:
        """One mutation or read on the leader, at most once for a request_id, then its answer."""
        await self._enter(context)
        try:
            if self.broker.refusals and (refusal := self.broker.refusals.popleft()):
                raise refusal
            result = self.broker.store.once(request_id, do)
        except Refused as refused:
            await self.abort(context, refused)
        await self.broker.answers.wait()
        return result

    async def CreateQueue(self, request: Any, context: Any) -> Any:
        def create() -> queue_pb2.CreateQueueResponse:
            queues, name = self.broker.store.queues, f"queues/{request.queue_id}"
            queue = queue_pb2.Queue()
            queue.CopyFrom(request.queue)
            queue.name = name
            queue.max_message_bytes = queue.max_message_bytes or 1 << 20
            queue.ack_deadline.seconds = queue.ack_deadline.seconds or 30
            if name in queues and queues[name].queue != queue:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "QUEUE_EXISTS")
            queues.setdefault(name, QueueState(queue))
            return queue_pb2.CreateQueueResponse(queue=queue)

        return await self._do(context, create, request.request_id)

    async def GetQueue(self, request: Any, context: Any) -> Any:
        def get() -> queue_pb2.GetQueueResponse:
            state = self.broker.store.queue(request.name)
            response = queue_pb2.GetQueueResponse(queue=state.queue)
            response.queue.stats.messages = len(state.messages)
            response.queue.stats.leased_messages = len(state.leased)
            response.queue.stats.published_messages = state.next_sequence - 1
            return response

        return await self._do(context, get)

    async def ListQueues(self, request: Any, context: Any) -> Any:
        def page() -> queue_pb2.ListQueuesResponse:
            names = sorted(name for name in self.broker.store.queues if name > request.page_token)
            response = queue_pb2.ListQueuesResponse(next_page_token=names[1] if len(names) > 2 else "")
            response.queues.extend(self.broker.store.queues[name].queue for name in names[:2])
            return response

        return await self._do(context, page)

    async def UpdateQueue(self, request: Any, context: Any) -> Any:
        def update() -> queue_pb2.UpdateQueueResponse:
            state = self.broker.store.queue(request.queue.name)
            if request.queue.etag and request.queue.etag != state.queue.etag:
                raise Refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
            request.update_mask.MergeMessage(request.queue, state.queue, True, True)
            state.queue.etag += "1"
            state.wake()
            return queue_pb2.UpdateQueueResponse(queue=state.queue)

        return await self._do(context, update, request.request_id)

    async def DeleteQueue(self, request: Any, context: Any) -> Any:
        def delete() -> queue_pb2.DeleteQueueResponse:
            state = self.broker.store.queue(request.name)
            del self.broker.store.queues[request.name]
            state.wake()
            return queue_pb2.DeleteQueueResponse()

        return await self._do(context, delete, request.request_id)

    async def PurgeQueue(self, request: Any, context: Any) -> Any:
        def purge() -> queue_pb2.PurgeQueueResponse:
            state = self.broker.store.queue(request.name)
            purged = len(state.messages)
            state.messages.clear()
            return queue_pb2.PurgeQueueResponse(purged_messages=purged)

        return await self._do(context, purge, request.request_id)

    async def Publish(self, request: Any, context: Any) -> Any:
        def publish() -> queue_pb2.PublishResponse:
            first, count = self.broker.store.queue(request.queue).publish(request.messages)
            return queue_pb2.PublishResponse(first_sequence=first, count=count)

        return await self._do(context, publish, request.request_id)

    async def PublishStream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._enter(context)
        broker, deposed = self.broker, self.deposed
        async for request in requests:
            await self.thawed.wait()
            broker.frames.append((request.producer_id, request.producer_sequence, len(request.messages)))
            try:
                if not self._serves(context):
                    raise self.not_leader()
                if broker.refusals and (refusal := broker.refusals.popleft()):
                    raise refusal
                response = broker.store.publish(request)
            except Refused as refused:
                response = queue_pb2.PublishStreamResponse(
                    producer_sequence=request.producer_sequence, failure=refused.failure
                )
            await broker.answers.wait()
            if deposed.is_set():
                await self.abort(context, self.not_leader())
            yield response

    async def Pull(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        lease_id = f"pull-{id(request)}"
        try:
            state = self.broker.store.queue(request.queue)
        except Refused as refused:
            await self.abort(context, refused)
        deliveries = state.lease(lease_id, request.max_messages)
        if not deliveries and request.wait.ToNanoseconds():
            changed = asyncio.create_task(state.changed.wait())
            await asyncio.wait([changed], timeout=request.wait.ToNanoseconds() / 1e9)
            changed.cancel()
            deliveries = state.lease(lease_id, request.max_messages)
        return queue_pb2.PullResponse(lease_id=lease_id if deliveries else "", deliveries=deliveries)

    async def Acknowledge(self, request: Any, context: Any) -> Any:
        def acknowledge() -> queue_pb2.AcknowledgeResponse:
            state = self.broker.store.queue(request.queue)
            _, lost = state.settle(request.lease_id, request.ranges, gone=True)
            if lost:
                raise Refused(grpc.StatusCode.ABORTED, "LEASE_LOST")
            return queue_pb2.AcknowledgeResponse()

        return await self._do(context, acknowledge, request.request_id)

    async def ModifyAckDeadline(self, request: Any, context: Any) -> Any:
        def modify() -> queue_pb2.ModifyAckDeadlineResponse:
            state = self.broker.store.queue(request.queue)
            if any(
                state.leased.get(sequence) != request.lease_id for sequence in sequences_of(request.ranges)
            ):
                raise Refused(grpc.StatusCode.ABORTED, "LEASE_LOST")
            if not request.ack_deadline.ToNanoseconds():
                state.give_back(sequences_of(request.ranges))
            return queue_pb2.ModifyAckDeadlineResponse()

        return await self._do(context, modify)

    async def Reject(self, request: Any, context: Any) -> Any:
        def reject() -> queue_pb2.RejectResponse:
            state = self.broker.store.queue(request.queue)
            dead = request.dead_letter
            if state.settle(request.lease_id, request.ranges, gone=False, dead_letter=dead)[1]:
                raise Refused(grpc.StatusCode.ABORTED, "LEASE_LOST")
            return queue_pb2.RejectResponse()

        return await self._do(context, reject)

    async def Commit(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "transactions are tested with a node")

    async def Consume(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]
        await self._enter(context)
        start = (await anext(requests)).start
        try:
            state = self.broker.store.queue(start.queue)
        except Refused as refused:
            await self.abort(context, refused)
        self.sessions += 1
        session = Session(self, state, context, f"{self.node_id}-{self.sessions}")
        await session.run(start, requests, self.deposed)

    async def Seek(self, request: Any, context: Any) -> Any:
        """Streams are tried with a real node."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no streams here")

    async def DeleteGroup(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no streams here")

    async def Peek(self, request: Any, context: Any) -> Any:
        def peek() -> queue_pb2.PeekResponse:
            return self.broker.store.queue(request.queue).peek(request)

        return await self._do(context, peek)

    async def Redrive(self, request: Any, context: Any) -> Any:
        def redrive() -> queue_pb2.RedriveResponse:
            self.broker.redrives.append(request)
            return self.broker.store.redrive(request)

        return await self._do(context, redrive, request.request_id)

    async def GetCluster(self, request: Any, context: Any) -> Any:
        await self.thawed.wait()
        return cluster_pb2.GetClusterResponse(cluster=self._cluster())

    async def WatchCluster(self, request: Any, context: Any) -> AsyncIterator[Any]:
        deposed = self.deposed
        yield cluster_pb2.WatchClusterResponse(cluster=self._cluster())
        await deposed.wait()
        yield cluster_pb2.WatchClusterResponse(cluster=self._cluster())

    async def AddMember(self, request: Any, context: Any) -> Any:
        def add() -> cluster_pb2.AddMemberResponse:
            if request.member_id in self.broker.nodes:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "MEMBER_EXISTS")
            self.broker.nodes[request.member_id] = Node(self.broker, request.member_id)
            return cluster_pb2.AddMemberResponse(cluster=self._cluster())

        return await self._do(context, add, request.request_id)

    async def RemoveMember(self, request: Any, context: Any) -> Any:
        def remove() -> cluster_pb2.RemoveMemberResponse:
            if request.member_id not in self.broker.nodes:
                raise Refused(grpc.StatusCode.NOT_FOUND, "MEMBER_NOT_FOUND")
            del self.broker.nodes[request.member_id]
            return cluster_pb2.RemoveMemberResponse(cluster=self._cluster())

        return await self._do(context, remove, request.request_id)

    async def TransferLeadership(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        await self.broker.lead(request.target_id)
        return cluster_pb2.TransferLeadershipResponse(leader_id=request.target_id)

    def _cluster(self) -> cluster_pb2.Cluster:
        broker = self.broker
        members = [
            cluster_pb2.Member(
                id=node.node_id,
                grpc_address=node.address,
                role=cluster_pb2.MEMBER_ROLE_LEADER
                if node.node_id == broker.leader_id
                else cluster_pb2.MEMBER_ROLE_FOLLOWER,
            )
            for node in broker.nodes.values()
        ]
        return cluster_pb2.Cluster(
            name="test", node_id=self.node_id, leader_id=broker.leader_id, term=broker.term, members=members
        )
