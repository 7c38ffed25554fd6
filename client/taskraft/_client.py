"""The front door: a client of a cluster and its queues."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING, Self, Unpack

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from taskraft import _failures, _limits, errors
from taskraft._addresses import as_addresses
from taskraft._connection import Connection
from taskraft._election import Election
from taskraft._locks import Lock, Locks
from taskraft._queue import Queue
from taskraft._retry import Backoff, is_transient
from taskraft._schedules import Schedules
from taskraft._scheduling import QueueKind, Scheduling, queue_settings
from taskraft._tasks import Tasks
from taskraft._times import duration
from taskraft._topic import Topic
from taskraft._transaction import Transaction
from taskraft._values import (
    ClusterInfo,
    Overflow,
    QueueInfo,
    cluster_info,
    queue_info,
)
from taskraft._workers import Workers
from taskraft._workflows import Workflows
from taskraft.v1 import cluster_pb2, queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from types import TracebackType

    from taskraft._queue_values import Binding


class Client:
    """A connection to a cluster, by the addresses of some or all of its nodes.

    `addresses` is "host:port,host:port" or a sequence of such; without it, what TASKRAFT_ADDRESS says, or else the three
    nodes that `taskraft up` starts (127.0.0.1:7001 to 7003). All methods find the leader themselves, follow it when
    it changes, and repeat what failed on the way, without doing it twice, for up to `timeout` seconds in all; then
    they raise a `TaskraftError`. `direct=False` is for nodes that are only reachable through a load balancer or a
    forwarded port: the node that is reached passes requests on to the leader.

    `tasks`, `workflows`, `schedules`, `workers` and `locks` are the doors to those. Use it with `async with`, or call `close`
    at the end; it belongs to the event loop in which it is first used.
    """

    addresses: tuple[str, ...]
    timeout: float
    tasks: Tasks
    workflows: Workflows
    schedules: Schedules
    workers: Workers
    locks: Locks

    def __init__(
        self,
        addresses: str | Iterable[str] | None = None,
        *,
        timeout: float = _limits.TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        direct: bool = True,
        buffer_bytes: int = _limits.BUFFER_BYTES,
    ) -> None:
        self.addresses = as_addresses(addresses)
        self.timeout = timeout
        self._connection = Connection(
            self.addresses,
            timeout_s=timeout,
            credentials=credentials,
            direct=direct,
            buffer_bytes=buffer_bytes,
        )
        self.tasks = Tasks(self._connection)
        self.workflows = Workflows(self._connection)
        self.schedules = Schedules(self._connection)
        self.workers = Workers(self._connection)
        self.locks = Locks(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Publish what is still buffered, settle what was acknowledged, then disconnect; takes up to 5 s."""
        await self._connection.close()

    def queue(self, name: str) -> Queue:
        """The queue of that name, to publish to and to consume from; asks nobody whether it exists."""
        return Queue(self._connection, name.removeprefix("queues/"))

    def lock(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        shared: bool = False,
        permits: int = 0,
        wait: float | None = None,
        lock_delay: float = 0.0,
        holder_id: str = "",
        labels: Mapping[str, str] | None = None,
        cancel: bool = True,
    ) -> Lock:
        """A lock, held within `async with`: exclusively, with others that are `shared`, or as one of `permits`.

        It is lost when the cluster has not heard of this client for `ttl` seconds (1 to 3,600). `wait` is how long to
        wait for it, in seconds: None is as long as it takes, 0 not at all, and then LockHeld is raised. If this client is
        lost while it holds the lock, nobody else gets it before another `lock_delay` seconds (at most 60) have passed.
        `holder_id` (this machine and process, unless given) and `labels` are what others see of it. When it is lost the
        block's task is cancelled and LockLost is raised. A thread is not cancelled, nor a task with `cancel=False`: they
        look at `lost`, and LockLost is raised at the end of the block.
        """
        return Lock(
            self._connection,
            name,
            ttl=ttl,
            shared=shared,
            permits=permits,
            wait=wait,
            lock_delay=lock_delay,
            holder_id=holder_id,
            labels=labels,
            cancel=cancel,
        )

    def election(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        lock_delay: float = 0.0,
        holder_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Election:
        """Lead when it is this client's turn: who holds the lock of that name leads. Settings as in `lock`."""
        new_lock = partial(
            self.lock, name, ttl=ttl, lock_delay=lock_delay, holder_id=holder_id, labels=labels
        )
        return Election(self.locks, name, new_lock)

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """Do several things in one commit, all or none: `async with client.transaction() as tx: ...`."""
        return Transaction(self._connection, timeout=timeout)

    def topic(self, name: str) -> Topic:
        """The topic of that name, such as `orders.eu.created`, to publish to."""
        return Topic(self._connection, name.removeprefix("topics/"))

    async def create_queue(
        self,
        name: str,
        *,
        kind: QueueKind = "message",
        ack_deadline: float = 0.0,
        max_messages: int = 0,
        max_bytes: int = 0,
        max_message_bytes: int = 0,
        overflow: Overflow | None = None,
        dead_letter_queue: str = "",
        max_age: float = 0.0,
        bindings: Iterable[str | tuple[str, Mapping[str, str]] | Binding] = (),
        max_in_flight_per_key: int = 0,
        hold_key: bool = False,
        compaction: bool = False,
        exist_ok: bool = False,
        **scheduling: Unpack[Scheduling],
    ) -> QueueInfo:
        """Create a queue, or return the one that exists with the same settings; QueueExists if they differ.

        Lengths of time are in seconds; 0 stands for the broker's default or for no limit. With `exist_ok` a queue with
        other settings is returned as it is.

        A queue of messages: what was delivered `max_attempts` times, rejected, or is older than `max_age` goes to
        `dead_letter_queue`, which must exist. It gets the messages of the topics in `bindings`: patterns such as
        `orders.*.created` or `orders.>`, or (pattern, headers). With `max_in_flight_per_key=1` the messages of a key are
        delivered one after the other; with `hold_key` one that was given back with a delay holds those behind it.

        A queue of kind "stream" keeps its messages, up to its limits; with `compaction` a message replaces the earlier
        ones of its key. One of kind "task" takes the settings of `Scheduling` instead, such as
        `policy="priority", max_running=10`.
        """
        settings = {
            "kind": kind,
            "ack_deadline": ack_deadline,
            "max_messages": max_messages,
            "max_bytes": max_bytes,
            "max_message_bytes": max_message_bytes,
            "overflow": overflow,
            "dead_letter_queue": dead_letter_queue,
            "max_age": max_age,
            "bindings": list(bindings),
            "max_in_flight_per_key": max_in_flight_per_key,
            "hold_key": hold_key,
            "compaction": compaction,
        }
        given = {key: value for key, value in settings.items() if value}
        queue, _ = queue_settings(_name(name), {**given, **scheduling}, kind)
        request = queue_pb2.CreateQueueRequest(queue_id=name, queue=queue, request_id=_request_id())
        try:
            response = await self._connection.call(
                "QueueService/CreateQueue", request, queue_pb2.CreateQueueResponse.FromString
            )
        except errors.QueueExists:
            if not exist_ok:
                raise
            return await self.get_queue(name)
        return queue_info(response.queue)

    async def get_queue(self, name: str) -> QueueInfo:
        """The queue with its statistics; QueueNotFound."""
        request = queue_pb2.GetQueueRequest(name=_name(name))
        response = await self._connection.call(
            "QueueService/GetQueue", request, queue_pb2.GetQueueResponse.FromString
        )
        return queue_info(response.queue)

    async def list_queues(self) -> AsyncIterator[QueueInfo]:
        """All queues by name, fetched page by page."""
        request = queue_pb2.ListQueuesRequest(page_size=1_000)
        while True:
            response = await self._connection.call(
                "QueueService/ListQueues", request, queue_pb2.ListQueuesResponse.FromString
            )
            for queue in response.queues:
                yield queue_info(queue)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def update_queue(
        self,
        name: str,
        *,
        etag: str = "",
        ack_deadline: float | None = None,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        max_message_bytes: int | None = None,
        overflow: Overflow | None = None,
        paused: bool | None = None,
        dead_letter_queue: str | None = None,
        max_age: float | None = None,
        bindings: Iterable[str | tuple[str, Mapping[str, str]] | Binding] | None = None,
        max_in_flight_per_key: int | None = None,
        hold_key: bool | None = None,
        compaction: bool | None = None,
        **scheduling: Unpack[Scheduling],
    ) -> QueueInfo:
        """Change the settings that are given. EtagMismatch if `etag` is given and is not the current one.

        0, an empty text or an empty list takes a setting away; `bindings` are all that there are then. For a queue of
        tasks the settings of `Scheduling` can be changed too, each alone; waiting tasks are then put in their new order.
        """
        settings = {
            "ack_deadline": ack_deadline,
            "max_messages": max_messages,
            "max_bytes": max_bytes,
            "max_message_bytes": max_message_bytes,
            "overflow": overflow,
            "paused": paused,
            "dead_letter_queue": dead_letter_queue,
            "max_age": max_age,
            "bindings": None if bindings is None else list(bindings),
            "max_in_flight_per_key": max_in_flight_per_key,
            "hold_key": hold_key,
            "compaction": compaction,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        kind: QueueKind = "task"
        if "max_attempts" in scheduling:  # which means one thing for tasks and another for messages
            kind = (await self.get_queue(name)).kind
        queue, paths = queue_settings(_name(name), {**given, **scheduling}, kind)
        queue.etag = etag
        request = queue_pb2.UpdateQueueRequest(
            queue=queue, update_mask=FieldMask(paths=paths), request_id=_request_id()
        )
        response = await self._connection.call(
            "QueueService/UpdateQueue", request, queue_pb2.UpdateQueueResponse.FromString
        )
        return queue_info(response.queue)

    async def pause_queue(self, name: str) -> QueueInfo:
        """Deliver nothing of the queue until it is resumed; publishes go on."""
        return await self.update_queue(name, paused=True)

    async def resume_queue(self, name: str) -> QueueInfo:
        """Deliver the queue's messages again."""
        return await self.update_queue(name, paused=False)

    async def delete_queue(self, name: str, *, etag: str = "") -> None:
        """Delete a queue with all its messages."""
        request = queue_pb2.DeleteQueueRequest(name=_name(name), etag=etag, request_id=_request_id())
        await self._connection.call(
            "QueueService/DeleteQueue", request, queue_pb2.DeleteQueueResponse.FromString
        )

    async def purge_queue(self, name: str) -> int:
        """Remove all messages of a queue; returns how many there were."""
        request = queue_pb2.PurgeQueueRequest(name=_name(name), request_id=_request_id())
        response = await self._connection.call(
            "QueueService/PurgeQueue", request, queue_pb2.PurgeQueueResponse.FromString
        )
        return response.purged_messages

    async def cluster(self) -> ClusterInfo:
        """The cluster as its leader sees it, or, without one, as the node in the highest term does."""
        async with asyncio.timeout(self.timeout):
            clusters = await self._connection.pool.survey(min(self.timeout, _limits.SILENCE_S))
        return cluster_info(max(clusters, key=lambda one: (one.term, one.node_id == one.leader_id)))

    async def watch_cluster(self) -> AsyncIterator[ClusterInfo]:
        """The cluster now and whenever its leader, term or members change; asks another node if one is lost."""
        pool, backoff, at = self._connection.pool, Backoff(), 0
        while True:
            address = pool.addresses[at % len(pool.addresses)]
            watch: grpc.aio.UnaryStreamMultiCallable[bytes, cluster_pb2.WatchClusterResponse]
            watch = pool.channel(address).unary_stream(
                "/taskraft.v1.ClusterService/WatchCluster",
                response_deserializer=cluster_pb2.WatchClusterResponse.FromString,
            )
            try:
                async for response in watch(b"", metadata=pool.metadata):
                    yield cluster_info(response.cluster)
                    backoff.reset()
            except grpc.aio.AioRpcError as error:
                failure = _failures.from_call(error)
                if not is_transient(failure):
                    raise failure from None
            at += 1
            await asyncio.sleep(backoff.next_s())

    async def add_member(
        self, member_id: str, raft_address: str, *, catch_up_timeout: float = 60.0
    ) -> ClusterInfo:
        """Add a node: it catches up first (`catch_up_timeout` seconds), then votes. Returns when it does."""
        request = cluster_pb2.AddMemberRequest(
            member_id=member_id,
            raft_address=raft_address,
            catch_up_timeout=duration(catch_up_timeout),
            request_id=_request_id(),
        )
        response = await self._connection.call(
            "ClusterService/AddMember",
            request,
            cluster_pb2.AddMemberResponse.FromString,
            timeout_s=self.timeout + catch_up_timeout,
        )
        return cluster_info(response.cluster)

    async def remove_member(self, member_id: str) -> ClusterInfo:
        """Remove a node; if it leads, it hands leadership over first."""
        request = cluster_pb2.RemoveMemberRequest(member_id=member_id, request_id=_request_id())
        response = await self._connection.call(
            "ClusterService/RemoveMember", request, cluster_pb2.RemoveMemberResponse.FromString
        )
        return cluster_info(response.cluster)

    async def transfer_leadership(self, target_id: str = "") -> str:
        """Hand leadership to a node, or to the most caught-up one; returns the new leader's id."""
        request = cluster_pb2.TransferLeadershipRequest(target_id=target_id)
        response = await self._connection.call(
            "ClusterService/TransferLeadership", request, cluster_pb2.TransferLeadershipResponse.FromString
        )
        return response.leader_id


def _request_id() -> str:
    return uuid.uuid4().hex


def _name(name: str) -> str:
    return f"queues/{name.removeprefix('queues/')}"
