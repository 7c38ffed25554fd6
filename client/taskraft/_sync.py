"""Written by _generate_sync.py: change the asyncio classes and run `python -m taskraft._generate_sync`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self

from taskraft import _limits
from taskraft._bridge import Bridge
from taskraft._client import Client

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import grpc

    from taskraft._consumer import Consumer
    from taskraft._message import Batch, Message
    from taskraft._pull import Pulled
    from taskraft._queue import Queue
    from taskraft._values import (
        ClusterInfo,
        OutgoingMessage,
        Overflow,
        QueueInfo,
        Receipt,
        SequenceRange,
    )


class SyncClient:
    """A connection to a cluster, by the addresses of some or all of its nodes.

    `addresses` is "host:port,host:port" or a sequence of such. All methods find the leader themselves, follow it when
    it changes, and repeat what failed on the way, without doing it twice, for up to `timeout` seconds in all; then
    they raise a `TaskraftError`. `direct=False` is for nodes that are only reachable through a load balancer or a
    forwarded port: the node that is reached passes requests on to the leader.

    Use it with `with`, or call `close` at the end; any thread may use it.
    """

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._inner.addresses

    @property
    def timeout(self) -> float:
        return self._inner.timeout

    def __init__(
        self,
        addresses: str | Iterable[str],
        *,
        timeout: float = _limits.TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        direct: bool = True,
        buffer_bytes: int = _limits.BUFFER_BYTES,
    ) -> None:
        self._inner = Client(
            addresses, timeout=timeout, credentials=credentials, direct=direct, buffer_bytes=buffer_bytes
        )
        self._bridge = Bridge()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Publish what is still buffered, settle what was acknowledged, then disconnect; takes up to 5 s."""
        if not self._bridge.stopped:
            try:
                self._bridge.run(self._inner.close())
            finally:
                self._bridge.stop()

    def queue(self, name: str) -> SyncQueue:
        """The queue of that name, to publish to and to consume from; asks nobody whether it exists."""
        return SyncQueue(self._bridge, self._inner.queue(name))

    def create_queue(
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
        return self._bridge.run(
            self._inner.create_queue(
                name,
                ack_deadline=ack_deadline,
                max_messages=max_messages,
                max_bytes=max_bytes,
                max_message_bytes=max_message_bytes,
                overflow=overflow,
                exist_ok=exist_ok,
            )
        )

    def get_queue(self, name: str) -> QueueInfo:
        """The queue with its statistics; QueueNotFound."""
        return self._bridge.run(self._inner.get_queue(name))

    def list_queues(self) -> Iterator[QueueInfo]:
        """All queues by name, fetched page by page."""
        yield from self._bridge.iterate(self._inner.list_queues())

    def update_queue(
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
        return self._bridge.run(
            self._inner.update_queue(
                name,
                etag=etag,
                ack_deadline=ack_deadline,
                max_messages=max_messages,
                max_bytes=max_bytes,
                max_message_bytes=max_message_bytes,
                overflow=overflow,
                paused=paused,
            )
        )

    def pause_queue(self, name: str) -> QueueInfo:
        """Deliver nothing of the queue until it is resumed; publishes go on."""
        return self._bridge.run(self._inner.pause_queue(name))

    def resume_queue(self, name: str) -> QueueInfo:
        """Deliver the queue's messages again."""
        return self._bridge.run(self._inner.resume_queue(name))

    def delete_queue(self, name: str, *, etag: str = "") -> None:
        """Delete a queue with all its messages."""
        self._bridge.run(self._inner.delete_queue(name, etag=etag))

    def purge_queue(self, name: str) -> int:
        """Remove all messages of a queue; returns how many there were."""
        return self._bridge.run(self._inner.purge_queue(name))

    def cluster(self) -> ClusterInfo:
        """The cluster as its leader sees it, or, without one, as the node in the highest term does."""
        return self._bridge.run(self._inner.cluster())

    def watch_cluster(self) -> Iterator[ClusterInfo]:
        """The cluster now and whenever its leader, term or members change; asks another node if one is lost."""
        yield from self._bridge.iterate(self._inner.watch_cluster())

    def add_member(self, member_id: str, raft_address: str, *, catch_up_timeout: float = 60.0) -> ClusterInfo:
        """Add a node: it catches up first (`catch_up_timeout` seconds), then votes. Returns when it does."""
        return self._bridge.run(
            self._inner.add_member(member_id, raft_address, catch_up_timeout=catch_up_timeout)
        )

    def remove_member(self, member_id: str) -> ClusterInfo:
        """Remove a node; if it leads, it hands leadership over first."""
        return self._bridge.run(self._inner.remove_member(member_id))

    def transfer_leadership(self, target_id: str = "") -> str:
        """Hand leadership to a node, or to the most caught-up one; returns the new leader's id."""
        return self._bridge.run(self._inner.transfer_leadership(target_id))


class SyncQueue:
    """A queue of a cluster, by name. It holds no connection of its own."""

    def __init__(self, bridge: Bridge, inner: Queue) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def __repr__(self) -> str:
        return repr(self._inner)

    def publish(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Receipt:
        """Store one message; returns when a majority of the nodes has it on disk.

        Messages of concurrent calls travel together. Whatever fails on the way, the message is stored once; only after
        DeadlineExceeded or CommitUnknown nobody knows. If the buffer is full, the call waits for room in it.
        """
        return self._bridge.run(self._inner.publish(body, headers, timeout=timeout))

    def publish_many(
        self, messages: Sequence[bytes | OutgoingMessage], *, timeout: float | None = None
    ) -> list[Receipt]:
        """Store messages, in order: the fast way for thousands. Returns a receipt for each part stored together.

        A part has up to 1 MiB and 10,000 messages and is stored wholly or not at all. If one fails, the error's
        `receipts` are those of the parts that were stored.
        """
        return self._bridge.run(self._inner.publish_many(messages, timeout=timeout))

    def consume(
        self,
        *,
        prefetch: int = _limits.PREFETCH_MESSAGES,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
        consumer_id: str = "",
    ) -> SyncConsumer:
        """A consumer: `with queue.consume() as consumer: for message in consumer: ...`."""
        return SyncConsumer(
            self._bridge,
            self._bridge.call(
                lambda: self._inner.consume(
                    prefetch=prefetch, prefetch_bytes=prefetch_bytes, consumer_id=consumer_id
                )
            ),
        )

    def pull(self, *, max_messages: int = 100, wait: float = 0.0) -> SyncPulled:
        """Lease up to `max_messages` messages, waiting up to `wait` seconds (at most 60) for the first one."""
        return SyncPulled(
            self._bridge, self._bridge.run(self._inner.pull(max_messages=max_messages, wait=wait))
        )


class SyncConsumer:
    """Receives the messages of one queue, each leased to this consumer until it is settled or lost.

    `prefetch` bounds the messages that are delivered and not acknowledged, `prefetch_bytes` the bytes that wait here
    for the application. Use it with `with`, or iterate over it directly.

    Order: messages come in the order of the queue, except those that come again. Duplicates: a message comes again
    after a nack, after its lease was lost, or if the leader changed before its acknowledgement was stored; while the
    consumer is connected a lease does not end. After a broken connection the consumer claims what it held, and only
    what somebody else has got meanwhile is lost: it is dropped here if the application has not seen it yet.
    """

    def __init__(self, bridge: Bridge, inner: Consumer) -> None:
        self._bridge = bridge
        self._inner = inner
        self._fetched: deque[Message] = deque()

    @property
    def queue(self) -> str:
        return self._inner.queue

    @property
    def consumer_id(self) -> str:
        return self._inner.consumer_id

    @property
    def closed(self) -> bool:
        """True after `close`, or when consuming has become impossible."""
        return self._inner.closed

    def __enter__(self) -> Self:
        """Connect; raises what makes consuming impossible, such as QueueNotFound."""
        self._bridge.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SyncMessage]:
        """All messages until the consumer is closed. Several threads may iterate; each message goes to one of them.

        Without `with` the consumer is closed when the iteration ends.
        """
        for one in self._bridge.messages(self._inner, self._fetched):
            yield SyncMessage(self._bridge, one)

    def batches(self) -> Iterator[SyncBatch]:
        """The same, batch by batch: the fastest way to consume."""
        for one in self._bridge.iterate(self._inner.batches()):
            yield SyncBatch(self._bridge, one)

    def settle(self) -> tuple[SequenceRange, ...]:
        """Wait until all acknowledgements so far are settled, across leaders if need be.

        Returns those that were not confirmed since the last call: their messages may be delivered again. Nothing
        returned means that all are stored on a majority of the nodes.
        """
        return self._bridge.run(self._inner.settle())

    def close(self) -> None:
        """Store the acknowledgements so far, give all other messages back, and disconnect; takes up to 5 s."""
        if not self._bridge.stopped:
            self._bridge.run(self._inner.close())


class SyncBatch:
    """Messages with successive sequences that were published and delivered together."""

    def __init__(self, bridge: Bridge, inner: Batch) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def first_sequence(self) -> int:
        return self._inner.first_sequence

    @property
    def attempt(self) -> int:
        return self._inner.attempt

    def __len__(self) -> int:
        return len(self._inner)

    @property
    def last_sequence(self) -> int:
        return self._inner.last_sequence

    @property
    def publish_time(self) -> datetime:
        return self._inner.publish_time

    @property
    def messages(self) -> list[SyncMessage]:
        """The messages, in order. A caller that needs no more than the bodies is faster with `bodies`."""
        return [SyncMessage(self._bridge, one) for one in self._inner.messages]

    def bodies(self) -> list[bytes]:
        return self._inner.bodies()

    def ack(self, *, confirm: bool = False) -> None:
        """All messages of the batch are done; as `Message.ack`."""
        if confirm or not self._bridge.note_ack(
            self._inner, self._inner.first_sequence, self._inner.last_sequence
        ):
            self._bridge.run(self._inner.ack(confirm=confirm))

    def nack(self, delay: float = 0.0) -> None:
        """Deliver all messages of the batch again, after `delay` seconds."""
        self._bridge.run(self._inner.nack(delay))

    def __repr__(self) -> str:
        return repr(self._inner)


class SyncMessage:
    """A message that is leased to this consumer until it is acknowledged, given back or lost."""

    def __init__(self, bridge: Bridge, inner: Message) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def sequence(self) -> int:
        return self._inner.sequence

    @property
    def body(self) -> bytes:
        return self._inner.body

    @property
    def headers(self) -> Mapping[str, str]:
        return self._inner.headers

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included, as far as is known."""
        return self._inner.attempt

    @property
    def publish_time(self) -> datetime:
        return self._inner.publish_time

    def ack(self, *, confirm: bool = False) -> None:
        """The message is done.

        Returns at once; acknowledgements travel together. With `confirm` it returns when this one is stored on a
        majority of the nodes, or raises LeaseLost or CommitUnknown if the message may be delivered again.
        """
        if confirm or not self._bridge.note_ack(self._inner, self._inner.sequence, self._inner.sequence):
            self._bridge.run(self._inner.ack(confirm=confirm))

    def nack(self, delay: float = 0.0) -> None:
        """Deliver the message again, after `delay` seconds."""
        self._bridge.run(self._inner.nack(delay))

    def __repr__(self) -> str:
        return repr(self._inner)


class SyncPulled:
    """What one `pull` delivered, leased together until acknowledged, given back, or the queue's ack deadline.

    Each method is one call to the broker. LeaseLost: some of the messages are not leased to this pull any more; the
    others were settled all the same.
    """

    def __init__(self, bridge: Bridge, inner: Pulled) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def lease_id(self) -> str:
        return self._inner.lease_id

    @property
    def batches(self) -> list[SyncBatch]:
        return [SyncBatch(self._bridge, one) for one in self._inner.batches]

    @property
    def messages(self) -> list[SyncMessage]:
        """The messages, oldest first; empty if there was none in time."""
        return [SyncMessage(self._bridge, one) for one in self._inner.messages]

    def bodies(self) -> list[bytes]:
        return self._inner.bodies()

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[SyncMessage]:
        for one in self._inner:
            yield SyncMessage(self._bridge, one)

    def ack(self) -> None:
        """All messages are done: returns when that is stored on a majority of the nodes."""
        self._bridge.run(self._inner.ack())

    def nack(self, delay: float = 0.0) -> None:
        """Deliver all messages again, after `delay` seconds."""
        self._bridge.run(self._inner.nack(delay))

    def extend(self, seconds: float) -> None:
        """The lease of all messages ends in `seconds` from now."""
        self._bridge.run(self._inner.extend(seconds))
