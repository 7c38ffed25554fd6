"""The front door: a client of a cluster and its queues."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from taskraft import _limits, _wire, errors
from taskraft._calls import call
from taskraft._consumer import Consumer
from taskraft._pool import Pool
from taskraft._publisher import Publisher
from taskraft._pull import Pulled, duration
from taskraft._retry import Backoff, is_transient
from taskraft._values import (
    ClusterInfo,
    OutgoingMessage,
    Overflow,
    QueueInfo,
    Receipt,
    cluster_info,
    queue_info,
)
from taskraft.v1 import cluster_pb2, queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from google.protobuf.message import Message

_T = TypeVar("_T")

_OVERFLOW: dict[Overflow, queue_pb2.OverflowPolicy] = {
    "reject": queue_pb2.OVERFLOW_POLICY_REJECT,
    "drop_oldest": queue_pb2.OVERFLOW_POLICY_DROP_OLDEST,
}


class Client:
    """A connection to a cluster, by the addresses of some or all of its nodes.

    `addresses` is "host:port,host:port" or a sequence of such. All methods find the leader themselves, follow it when
    it changes, and repeat what failed on the way, without doing it twice, for up to `timeout` seconds in all; then
    they raise a `TaskraftError`. `direct=False` is for nodes that are only reachable through a load balancer or a
    forwarded port: the node that is reached passes requests on to the leader.

    Use it with `async with`, or call `close` at the end; it belongs to the event loop in which it is first used.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *,
        timeout: float = _limits.TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        direct: bool = True,
        buffer_bytes: int = _limits.BUFFER_BYTES,
    ) -> None:
        parts = addresses.split(",") if isinstance(addresses, str) else addresses
        self.addresses = tuple(address.strip() for address in parts if address.strip())
        if not self.addresses:
            raise errors.InvalidArgument("no address of a node was given", metadata={"field": "addresses"})
        self.timeout = timeout
        self.buffer_bytes = buffer_bytes
        self._credentials = credentials
        self._direct = direct
        self._pool: Pool | None = None
        self._publishers: dict[str, Publisher] = {}
        self._consumers: set[Consumer] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Publish what is still buffered, settle what was acknowledged, then disconnect; takes up to 5 s."""
        publishers, self._publishers = list(self._publishers.values()), {}
        await asyncio.gather(
            *(consumer.close() for consumer in self._consumers),
            *(publisher.close(_limits.CLOSE_S) for publisher in publishers),
        )
        self._consumers.clear()
        await self._connected().close()

    def queue(self, name: str) -> Queue:
        """The queue of that name, to publish to and to consume from; asks nobody whether it exists."""
        return Queue(self, name.removeprefix("queues/"))

    async def create_queue(
        self,
        name: str,
        *,
        ack_deadline: float = 0.0,
        max_messages: int = 0,
        max_bytes: int = 0,
        max_message_bytes: int = 0,
        overflow: Overflow = "reject",
        exist_ok: bool = False,
    ) -> QueueInfo:
        """Create a queue, or return the one that exists with the same settings; QueueExists if they differ.

        `ack_deadline` is in seconds; 0 stands for the broker's default or for no limit. With `exist_ok` a queue with
        other settings is returned as it is.
        """
        settings = {
            "ack_deadline": ack_deadline,
            "max_messages": max_messages,
            "max_bytes": max_bytes,
            "max_message_bytes": max_message_bytes,
            "overflow": overflow,
        }
        request = queue_pb2.CreateQueueRequest(
            queue_id=name, queue=_settings(name, settings)[0], request_id=_request_id()
        )
        try:
            response = await self._call(
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
        response = await self._call("QueueService/GetQueue", request, queue_pb2.GetQueueResponse.FromString)
        return queue_info(response.queue)

    async def list_queues(self) -> AsyncIterator[QueueInfo]:
        """All queues by name, fetched page by page."""
        request = queue_pb2.ListQueuesRequest(page_size=1_000)
        while True:
            response = await self._call(
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
    ) -> QueueInfo:
        """Change the settings that are given. EtagMismatch if `etag` is given and is not the current one."""
        settings = {
            "ack_deadline": ack_deadline,
            "max_messages": max_messages,
            "max_bytes": max_bytes,
            "max_message_bytes": max_message_bytes,
            "overflow": overflow,
            "paused": paused,
        }
        queue, paths = _settings(name, {key: value for key, value in settings.items() if value is not None})
        queue.etag = etag
        request = queue_pb2.UpdateQueueRequest(
            queue=queue, update_mask=FieldMask(paths=paths), request_id=_request_id()
        )
        response = await self._call(
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
        await self._call("QueueService/DeleteQueue", request, queue_pb2.DeleteQueueResponse.FromString)

    async def purge_queue(self, name: str) -> int:
        """Remove all messages of a queue; returns how many there were."""
        request = queue_pb2.PurgeQueueRequest(name=_name(name), request_id=_request_id())
        response = await self._call(
            "QueueService/PurgeQueue", request, queue_pb2.PurgeQueueResponse.FromString
        )
        return response.purged_messages

    async def cluster(self) -> ClusterInfo:
        """The cluster as its leader sees it, or, without one, as the node in the highest term does."""
        async with asyncio.timeout(self.timeout):
            clusters = await self._connected().survey(min(self.timeout, _limits.SILENCE_S))
        return cluster_info(max(clusters, key=lambda one: (one.term, one.node_id == one.leader_id)))

    async def watch_cluster(self) -> AsyncIterator[ClusterInfo]:
        """The cluster now and whenever its leader, term or members change; asks another node if one is lost."""
        pool, backoff, at = self._connected(), Backoff(), 0
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
                failure = errors.from_call(error)
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
        response = await self._call(
            "ClusterService/AddMember",
            request,
            cluster_pb2.AddMemberResponse.FromString,
            timeout_s=self.timeout + catch_up_timeout,
        )
        return cluster_info(response.cluster)

    async def remove_member(self, member_id: str) -> ClusterInfo:
        """Remove a node; if it leads, it hands leadership over first."""
        request = cluster_pb2.RemoveMemberRequest(member_id=member_id, request_id=_request_id())
        response = await self._call(
            "ClusterService/RemoveMember", request, cluster_pb2.RemoveMemberResponse.FromString
        )
        return cluster_info(response.cluster)

    async def transfer_leadership(self, target_id: str = "") -> str:
        """Hand leadership to a node, or to the most caught-up one; returns the new leader's id."""
        request = cluster_pb2.TransferLeadershipRequest(target_id=target_id)
        response = await self._call(
            "ClusterService/TransferLeadership", request, cluster_pb2.TransferLeadershipResponse.FromString
        )
        return response.leader_id

    async def _call(
        self, method: str, request: Message, answer: Callable[[bytes], _T], *, timeout_s: float | None = None
    ) -> _T:
        return await call(self._connected(), method, request, answer, timeout_s=timeout_s or self.timeout)

    def _connected(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self.addresses, self._credentials, direct=self._direct)
        return self._pool

    def _publisher(self, name: str) -> Publisher:
        publisher = self._publishers.get(name)
        if publisher is None:
            pool = self._connected()
            if pool.closed:
                raise errors.ClientClosed
            publisher = self._publishers[name] = Publisher(pool, name, buffer_bytes=self.buffer_bytes)
        return publisher

    def _consumer(self, name: str, settings: Mapping[str, Any]) -> Consumer:
        consumer = Consumer(self._connected(), name, timeout=self.timeout, **settings)
        self._consumers.add(consumer)
        return consumer


class Queue:
    """A queue of a cluster, by name. It holds no connection of its own."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    async def publish(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Receipt:
        """Store one message; returns when a majority of the nodes has it on disk.

        Messages of concurrent calls travel together. Whatever fails on the way, the message is stored once; only after
        DeadlineExceeded or CommitUnknown nobody knows. If the buffer is full, the call waits for room in it.
        """
        wire = _wire.message(body, headers)
        publisher = self._client._publisher(self.name)  # noqa: SLF001
        deadline_s = asyncio.get_running_loop().time() + (timeout or self._client.timeout)
        if not publisher.has_room:
            await publisher.room(deadline_s)
        return await publisher.put(wire, 1, deadline_s)

    async def publish_many(
        self, messages: Sequence[bytes | OutgoingMessage], *, timeout: float | None = None
    ) -> list[Receipt]:
        """Store messages, in order: the fast way for thousands. Returns a receipt for each part stored together.

        A part has up to 1 MiB and 10,000 messages and is stored wholly or not at all. If one fails, the error's
        `receipts` are those of the parts that were stored.
        """
        publisher = self._client._publisher(self.name)  # noqa: SLF001
        deadline_s = asyncio.get_running_loop().time() + (timeout or self._client.timeout)
        stored: list[asyncio.Future[Receipt]] = []
        try:
            for wire, count in _wire.pieces(messages):
                if not publisher.has_room:
                    await publisher.room(deadline_s)
                stored.append(publisher.put(wire, count, deadline_s))
            return await asyncio.gather(*stored)
        except errors.TaskraftError as error:
            results = await asyncio.gather(*stored, return_exceptions=True)
            error.receipts = tuple(result for result in results if isinstance(result, Receipt))
            raise
        except asyncio.CancelledError:
            for future in stored:
                future.cancel()
            raise

    def consume(
        self,
        *,
        prefetch: int = _limits.PREFETCH_MESSAGES,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
        consumer_id: str = "",
    ) -> Consumer:
        """A consumer: `async with queue.consume() as consumer: async for message in consumer: ...`."""
        settings = {"prefetch": prefetch, "prefetch_bytes": prefetch_bytes, "consumer_id": consumer_id}
        return self._client._consumer(self.name, settings)  # noqa: SLF001

    async def pull(self, *, max_messages: int = 100, wait: float = 0.0) -> Pulled:
        """Lease up to `max_messages` messages, waiting up to `wait` seconds (at most 60) for the first one."""
        request = queue_pb2.PullRequest(
            queue=f"queues/{self.name}", max_messages=max_messages, wait=duration(wait)
        )
        client = self._client
        response = await client._call(  # noqa: SLF001
            "QueueService/Pull", request, queue_pb2.PullResponse.FromString, timeout_s=client.timeout + wait
        )
        return Pulled(client._connected(), self.name, response, client.timeout)  # noqa: SLF001

    async def info(self) -> QueueInfo:
        """The queue's settings and statistics."""
        return await self._client.get_queue(self.name)

    async def purge(self) -> int:
        """Remove all messages; returns how many there were."""
        return await self._client.purge_queue(self.name)

    async def delete(self) -> None:
        """Delete the queue with all its messages."""
        await self._client.delete_queue(self.name)

    async def pause(self) -> QueueInfo:
        """Deliver nothing until `resume`; publishes go on."""
        return await self._client.pause_queue(self.name)

    async def resume(self) -> QueueInfo:
        """Deliver messages again."""
        return await self._client.resume_queue(self.name)


def _request_id() -> str:
    return uuid.uuid4().hex


def _name(name: str) -> str:
    return f"queues/{name.removeprefix('queues/')}"


def _settings(name: str, settings: Mapping[str, Any]) -> tuple[queue_pb2.Queue, list[str]]:
    """A Queue with these settings, and the names of its fields that were set."""
    queue, paths = queue_pb2.Queue(name=_name(name)), []
    for key, value in settings.items():
        if key == "ack_deadline":
            if value:
                queue.ack_deadline.CopyFrom(duration(value))
            paths.append(key)
        elif key == "overflow":
            if value not in _OVERFLOW:
                raise errors.InvalidArgument(
                    f"overflow is one of {', '.join(_OVERFLOW)}", metadata={"field": "overflow_policy"}
                )
            queue.overflow_policy = _OVERFLOW[cast("Overflow", value)]
            paths.append("overflow_policy")
        else:
            setattr(queue, key, value)
            paths.append(key)
    return queue, paths
