"""Written by _generate_sync.py: change the asyncio classes and run `python -m taskraft._generate_sync`."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self, Unpack

from taskraft import _limits, errors
from taskraft._bridge import Bridge
from taskraft._client import Client

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import grpc

    from taskraft._consumer import Consumer
    from taskraft._election import Election, Term
    from taskraft._lock_values import LockHolder, LockInfo
    from taskraft._locks import Lock, Locks
    from taskraft._message import Batch, Message
    from taskraft._new_task import NewTask
    from taskraft._operations import Result
    from taskraft._positions import Position
    from taskraft._pull import Pulled
    from taskraft._queue import Queue
    from taskraft._queue_values import Binding, DeadLetter, DeadLetterReason, GroupInfo, PeekedMessage
    from taskraft._reader import Reader
    from taskraft._schedules import ScheduleInfo, Schedules, ScheduleSettings
    from taskraft._scheduling import QueueKind, Scheduling
    from taskraft._task import TaskFunction
    from taskraft._task_values import Explanation, Submission, TaskInfo, TaskState, WorkflowInfo
    from taskraft._tasks import TaskFilter, TaskOrder, Tasks
    from taskraft._topic import Topic
    from taskraft._transaction import HeldLock, P, Transaction
    from taskraft._values import (
        ClusterInfo,
        OutgoingMessage,
        Overflow,
        QueueInfo,
        Receipt,
        SequenceRange,
    )
    from taskraft._workers import WorkerInfo, Workers
    from taskraft._workflows import Workflows


class SyncClient:
    """A connection to a cluster, by the addresses of some or all of its nodes.

    `addresses` is "host:port,host:port" or a sequence of such; without it, what TASKRAFT_ADDRESS says, or else the three
    nodes that `taskraft up` starts (127.0.0.1:7001 to 7003). All methods find the leader themselves, follow it when
    it changes, and repeat what failed on the way, without doing it twice, for up to `timeout` seconds in all; then
    they raise a `TaskraftError`. `direct=False` is for nodes that are only reachable through a load balancer or a
    forwarded port: the node that is reached passes requests on to the leader.

    `tasks`, `workflows`, `schedules`, `workers` and `locks` are the doors to those. Use it with `with`, or call `close`
    at the end; any thread may use it.
    """

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._inner.addresses

    @property
    def timeout(self) -> float:
        return self._inner.timeout

    @property
    def tasks(self) -> SyncTasks:
        return SyncTasks(self._bridge, self._inner.tasks)

    @property
    def workflows(self) -> SyncWorkflows:
        return SyncWorkflows(self._bridge, self._inner.workflows)

    @property
    def schedules(self) -> SyncSchedules:
        return SyncSchedules(self._bridge, self._inner.schedules)

    @property
    def workers(self) -> SyncWorkers:
        return SyncWorkers(self._bridge, self._inner.workers)

    @property
    def locks(self) -> SyncLocks:
        return SyncLocks(self._bridge, self._inner.locks)

    def __init__(
        self,
        addresses: str | Iterable[str] | None = None,
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

    @classmethod
    def of(cls, inner: Client, bridge: Bridge) -> Self:
        """The same client without `await`; `inner` is used in the bridge's loop only."""
        self = cls.__new__(cls)
        self._inner = inner
        self._bridge = bridge
        return self

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
    ) -> SyncLock:
        """A lock, held within `with`: exclusively, with others that are `shared`, or as one of `permits`.

        It is lost when the cluster has not heard of this client for `ttl` seconds (1 to 3,600). `wait` is how long to
        wait for it, in seconds: None is as long as it takes, 0 not at all, and then LockHeld is raised. If this client is
        lost while it holds the lock, nobody else gets it before another `lock_delay` seconds (at most 60) have passed.
        `holder_id` (this machine and process, unless given) and `labels` are what others see of it. When it is lost the
        block's task is cancelled and LockLost is raised. A thread is not cancelled, nor a task with `cancel=False`: they
        look at `lost`, and LockLost is raised at the end of the block.
        """
        return SyncLock(
            self._bridge,
            self._inner.lock(
                name,
                ttl=ttl,
                shared=shared,
                permits=permits,
                wait=wait,
                lock_delay=lock_delay,
                holder_id=holder_id,
                labels=labels,
                cancel=cancel,
            ),
        )

    def election(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        lock_delay: float = 0.0,
        holder_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> SyncElection:
        """Lead when it is this client's turn: who holds the lock of that name leads. Settings as in `lock`."""
        return SyncElection(
            self._bridge,
            self._inner.election(name, ttl=ttl, lock_delay=lock_delay, holder_id=holder_id, labels=labels),
        )

    def transaction(self, *, timeout: float | None = None) -> SyncTransaction:
        """Do several things in one commit, all or none: `with client.transaction() as tx: ...`."""
        return SyncTransaction(self._bridge, self._inner.transaction(timeout=timeout))

    def topic(self, name: str) -> SyncTopic:
        """The topic of that name, such as `orders.eu.created`, to publish to."""
        return SyncTopic(self._bridge, self._inner.topic(name))

    def create_queue(
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
        return self._bridge.run(
            self._inner.create_queue(
                name,
                kind=kind,
                ack_deadline=ack_deadline,
                max_messages=max_messages,
                max_bytes=max_bytes,
                max_message_bytes=max_message_bytes,
                overflow=overflow,
                dead_letter_queue=dead_letter_queue,
                max_age=max_age,
                bindings=bindings,
                max_in_flight_per_key=max_in_flight_per_key,
                hold_key=hold_key,
                compaction=compaction,
                exist_ok=exist_ok,
                **scheduling,
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
                dead_letter_queue=dead_letter_queue,
                max_age=max_age,
                bindings=bindings,
                max_in_flight_per_key=max_in_flight_per_key,
                hold_key=hold_key,
                compaction=compaction,
                **scheduling,
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
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Store one message; returns when a majority of the nodes has it on disk.

        `key`, `priority`, `ttl`, `delay` and `deliver_at` are those of `OutgoingMessage`. Messages of concurrent calls
        travel together. Whatever fails on the way, the message is stored once; only after DeadlineExceeded or
        CommitUnknown nobody knows. If the buffer is full, the call waits for room in it.
        """
        return self._bridge.run(
            self._inner.publish(
                body,
                headers,
                key=key,
                priority=priority,
                ttl=ttl,
                delay=delay,
                deliver_at=deliver_at,
                timeout=timeout,
            )
        )

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
        group: str = "",
        position: Position = "beginning",
        prefetch: int = _limits.PREFETCH_MESSAGES,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
        consumer_id: str = "",
    ) -> SyncConsumer:
        """A consumer: `with queue.consume() as consumer: for message in consumer: ...`.

        A stream is consumed in a consumer group, whose members share its messages. A group that does not exist yet is made
        at `position`: "beginning", "end", a sequence or a time; one that exists goes on where it was.
        """
        return SyncConsumer(
            self._bridge,
            self._bridge.call(
                lambda: self._inner.consume(
                    group=group,
                    position=position,
                    prefetch=prefetch,
                    prefetch_bytes=prefetch_bytes,
                    consumer_id=consumer_id,
                )
            ),
        )

    def read(
        self,
        *,
        position: Position = "beginning",
        follow: bool = True,
        prefetch_bytes: int = _limits.PREFETCH_BYTES,
    ) -> SyncReader:
        """A reader of a stream: `for message in queue.read(position="end"): ...`.

        It gets all messages from `position` on, leases none and disturbs nobody. Without `follow` it ends where the
        stream does at that moment.
        """
        return SyncReader(
            self._bridge,
            self._bridge.call(
                lambda: self._inner.read(position=position, follow=follow, prefetch_bytes=prefetch_bytes)
            ),
        )

    def seek(self, group: str, position: Position) -> GroupInfo:
        """Let a consumer group of a stream go on somewhere else; it is created if there is none.

        What its consumers have they lose, and what was acknowledged beyond the position comes again. A sequence that is
        gone already means the oldest message; OutOfRange for one beyond the newest plus one.
        """
        return self._bridge.run(self._inner.seek(group, position))

    def delete_group(self, group: str) -> None:
        """Delete a consumer group of a stream; its consumers end. GroupNotFound."""
        self._bridge.run(self._inner.delete_group(group))

    def pull(self, *, max_messages: int = 100, wait: float = 0.0, group: str = "") -> SyncPulled:
        """Lease up to `max_messages` messages, waiting up to `wait` seconds (at most 60) for the first one.

        A stream is pulled in a consumer group, which begins at the beginning if there is none.
        """
        return SyncPulled(
            self._bridge,
            self._bridge.run(self._inner.pull(max_messages=max_messages, wait=wait, group=group)),
        )

    def peek(
        self,
        position: Position = "beginning",
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Iterator[PeekedMessage]:
        """Look at messages in their order, from `position` on: all of them, or up to `limit`. None is leased.

        With `key` or `headers` only those of that key, and with all of these headers. Delivered ones are shown too, delayed
        ones are not. OutOfRange if the position is beyond the end.
        """
        yield from self._bridge.iterate(self._inner.peek(position, key=key, headers=headers, limit=limit))

    def redrive(
        self,
        target: str | None = None,
        *,
        reason: DeadLetterReason | None = None,
        source: str = "",
        key: str = "",
        headers: Mapping[str, str] | None = None,
        limit: int | None = None,
        rate: float | None = None,
    ) -> int:
        """Move the dead letters of this queue to the queue `target`, or each to where it comes from; returns how many.

        Only those of that `reason`, that come from the queue `source`, of that key and with all of these headers; up to
        `limit`, and up to `rate` a second. What is delivered and unacknowledged stays, and so does what becomes a dead
        letter while this goes on.
        """
        return self._bridge.run(
            self._inner.redrive(
                target, reason=reason, source=source, key=key, headers=headers, limit=limit, rate=rate
            )
        )


class SyncTopic:
    """A topic, such as `orders.eu.created`: its messages go to all queues with a binding that matches, in one commit."""

    def __init__(self, bridge: Bridge, inner: Topic) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def __repr__(self) -> str:
        return repr(self._inner)

    def publish(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> Receipt:
        """Store one message in all queues that are bound to the topic, or in none; as `Queue.publish`.

        Unroutable if no queue gets it, unless `allow_unroutable`. The receipt says how many `queues` it went to. Where
        queues are bound with headers, both are said of the messages of concurrent calls that travel together.
        """
        return self._bridge.run(
            self._inner.publish(
                body,
                headers,
                key=key,
                priority=priority,
                ttl=ttl,
                delay=delay,
                deliver_at=deliver_at,
                allow_unroutable=allow_unroutable,
                timeout=timeout,
            )
        )

    def publish_many(
        self,
        messages: Sequence[bytes | OutgoingMessage],
        *,
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> list[Receipt]:
        """The same of many messages, in order; as `Queue.publish_many`."""
        return self._bridge.run(
            self._inner.publish_many(messages, allow_unroutable=allow_unroutable, timeout=timeout)
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
    def group(self) -> str:
        return self._inner.group

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


class SyncReader:
    """Reads the messages of a stream, oldest first, beside whoever consumes them. Made by `Queue.read`.

    Use it with `with`, or iterate over it directly: over messages, or over `batches()`, which is faster. It goes on
    at the next leader where it was, and at the oldest message that is kept if it is behind that. What waits here for the
    application has `prefetch_bytes` at most.
    """

    def __init__(self, bridge: Bridge, inner: Reader) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def queue(self) -> str:
        return self._inner.queue

    @property
    def position(self) -> int:
        """The sequence after the last message that was handed out; 0 before the first one."""
        return self._inner.position

    @property
    def closed(self) -> bool:
        """True after `close`, or when reading has become impossible."""
        return self._inner.closed

    def __enter__(self) -> Self:
        """Connect; raises what makes reading impossible, such as QueueNotFound or OutOfRange."""
        self._bridge.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SyncMessage]:
        """All messages: until the reader is closed, or, without `follow`, until the end of the stream.

        Without `with` the reader is closed when the iteration ends.
        """
        for batch in self.batches():
            yield from batch.messages

    def batches(self) -> Iterator[SyncBatch]:
        """The same messages as they travelled, many at a time."""
        for one in self._bridge.iterate(self._inner.batches()):
            yield SyncBatch(self._bridge, one)

    def close(self) -> None:
        """Disconnect."""
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
    def dead_letter(self) -> DeadLetter | None:
        """Where the messages come from, and why, if they are dead letters."""
        return self._inner.dead_letter

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

    def reject(self) -> None:
        """Deliver none of the messages again; as `Message.reject`."""
        self._bridge.run(self._inner.reject())

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
    def key(self) -> str:
        """What it is about; empty if it does not say."""
        return self._inner.key

    @property
    def priority(self) -> int:
        """0 to 9."""
        return self._inner.priority

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where it comes from, and why, if it is a dead letter."""
        return self._inner.dead_letter

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

    def reject(self) -> None:
        """Deliver the message never again: it goes to the dead-letter queue, or is gone if there is none."""
        self._bridge.run(self._inner.reject())

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

    def reject(self) -> None:
        """Deliver none of the messages again: they go to the dead-letter queue, or are gone if there is none."""
        self._bridge.run(self._inner.reject())

    def extend(self, seconds: float) -> None:
        """The lease of all messages ends in `seconds` from now."""
        self._bridge.run(self._inner.extend(seconds))


class SyncTransaction:
    """What is called in its block is done when the block ends, in one commit: all of it, or nothing.

        with client.transaction() as tx:
            tx.publish("invoices", invoice)
            tx.ack(order)

    Nothing is sent before that, and if the block raises nothing is done at all. If its end raises, nothing was done
    either, but after CommitUnknown or DeadlineExceeded nobody knows; the error's metadata says in `operation` which
    call was refused, 0 for the first. LeaseLost: a message, or the task, is done already or leased to somebody else. Messages that were not
    settled are held as before: give them back with `nack`, or try again.

    `results` are those of the calls in their order, once the block has ended: a Receipt of what was published, a
    Submission of a task, None of the rest. All together have at most 10,000 messages, 10,000 tasks and 3 MiB.
    """

    def __init__(self, bridge: Bridge, inner: Transaction) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def results(self) -> tuple[Result, ...]:
        return self._inner.results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bridge.run(self._inner.__aexit__(kind, error, trace))

    def publish(
        self,
        queue: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        allow_unroutable: bool = False,
    ) -> None:
        """Store a message in a queue, or in all that are bound to `topics/{topic}`; as `Queue.publish`."""
        return self._inner.publish(
            queue,
            body,
            headers,
            key=key,
            priority=priority,
            ttl=ttl,
            delay=delay,
            deliver_at=deliver_at,
            allow_unroutable=allow_unroutable,
        )

    def publish_many(
        self, queue: str, messages: Sequence[bytes | OutgoingMessage], *, allow_unroutable: bool = False
    ) -> None:
        """Store messages in a queue or topic, in order."""
        return self._inner.publish_many(queue, messages, allow_unroutable=allow_unroutable)

    def ack(self, messages: SyncMessage | SyncBatch | SyncPulled) -> None:
        """These messages are done, if they are still leased to their consumer."""
        return self._inner.ack(messages._inner)

    def reject(self, messages: SyncMessage | SyncBatch | SyncPulled) -> None:
        """These messages go to the dead-letter queue of their queue, or are gone if it has none."""
        return self._inner.reject(messages._inner)

    def submit(self, task: NewTask | TaskFunction[P, Any, Any], *args: P.args, **kwargs: P.kwargs) -> str:
        """Store a task, or a call of a task function: `tx.submit(resize, "a.jpg", width=640)`. Returns its id."""
        return self._inner.submit(task, *args, **kwargs)

    def complete(self, result: Any = None) -> None:
        """The task that runs here has come to `result`, if it is still leased to this worker; what its function returns
        or raises afterwards does not count. RuntimeError outside of a task.
        """
        return self._inner.complete(result)

    def check_queue(self, queue: QueueInfo) -> None:
        """Do nothing of all this unless the settings of the queue are still these: EtagMismatch."""
        return self._inner.check_queue(queue)

    def check_lock(self, lock: HeldLock) -> None:
        """Do nothing of all this unless the lock is still held by that token: LockNotHeld."""
        return self._inner.check_lock(lock)


class SyncTasks:
    """The tasks of a cluster, as `client.tasks`. Ids are taken with or without `tasks/` before them.

    Every method raises TaskraftError; TaskNotFound for an id that does not exist or was forgotten.
    """

    def __init__(self, bridge: Bridge, inner: Tasks) -> None:
        self._bridge = bridge
        self._inner = inner

    def submit(self, task: NewTask, *, timeout: float | None = None) -> Submission:
        """Store one task; returns when a majority of the nodes has it on disk.

        Tasks of concurrent calls travel together. Whatever fails on the way, the task is stored once. UnknownDependency,
        WrongQueueKind, QueueNotFound, QueueFull, DeadlineInfeasible, or InvalidArgument naming the field.
        """
        return self._bridge.run(self._inner.submit(task, timeout=timeout))

    def submit_many(
        self,
        tasks: Iterable[NewTask],
        *,
        workflow: str = "",
        workflow_labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> tuple[Submission, ...]:
        """Store tasks, in order. With `workflow` they become it, all or none, up to 10,000 and 3 MiB; Cycle.

        Without, they are stored in parts of up to 2,000 tasks and about 1 MiB, each wholly or not at all; a task may
        depend on one before it. If a part fails, the error's `submitted` are the ids of those that were stored.
        """
        return self._bridge.run(
            self._inner.submit_many(
                tasks, workflow=workflow, workflow_labels=workflow_labels, timeout=timeout
            )
        )

    def check(self, tasks: Iterable[NewTask], *, workflow: str = "") -> None:
        """Check everything that a submit of these tasks together would check, and store nothing."""
        self._bridge.run(self._inner.check(tasks, workflow=workflow))

    def get(self, task_id: str, *, full: bool = False) -> TaskInfo:
        """The task; `full`: with payload, result, checkpoint, events and dependencies."""
        return self._bridge.run(self._inner.get(task_id, full=full))

    def list(
        self, *, order: TaskOrder = "newest", full: bool = False, **which: Unpack[TaskFilter]
    ) -> Iterator[TaskInfo]:
        """Tasks, newest first, fetched page by page.

        With `order="schedule"`, which needs `queue`: those that are queued in it, in the order in which its policy
        would start them if every worker could run everything.
        """
        yield from self._bridge.iterate(self._inner.list(order=order, full=full, **which))

    def watch(
        self, *, include_current: bool = False, full: bool = False, **which: Unpack[TaskFilter]
    ) -> Iterator[TaskInfo]:
        """Tasks as their states change, from now on, without end; `include_current`: first those that match now.

        A task that changes twice quickly may come once. After a change of leader all that match come again, so that
        nothing is missed. Unavailable if no leader was found for as long as the client's timeout.
        """
        yield from self._bridge.iterate(
            self._inner.watch(include_current=include_current, full=full, **which)
        )

    def wait(self, task_ids: Iterable[str], *, timeout: float | None = None) -> Iterator[TaskInfo]:
        """Each of these tasks once, with its result, as they end. ResultTimeout after `timeout` seconds in all.

        All waiting of a client shares a few streams, however many tasks it is for. TaskNotFound ends it.
        """
        yield from self._bridge.iterate(self._inner.wait(task_ids, timeout=timeout))

    def cancel(self, *task_ids: str, workflow: str = "", queue: str = "", reason: str = "") -> int:
        """Cancel tasks that have not ended: these, those of a workflow, or all that wait in a queue; returns how many.

        Waiting ones never start, running ones are revoked at their worker. `reason` is for their history.
        """
        return self._bridge.run(self._inner.cancel(*task_ids, workflow=workflow, queue=queue, reason=reason))

    def retry(self, *task_ids: str, workflow: str = "", queue: str = "", all_tasks: bool = False) -> int:
        """Give tasks that ended without success new attempts; returns how many.

        These, those of a workflow from its failures on (`all_tasks`: also what succeeded), or a queue's dead letters.
        """
        return self._bridge.run(
            self._inner.retry(*task_ids, workflow=workflow, queue=queue, all_tasks=all_tasks)
        )

    def explain(self, task_id: str) -> Explanation:
        """Why the task does not run, and when it is expected to start and to finish."""
        return self._bridge.run(self._inner.explain(task_id))


class SyncWorkflows:
    """The workflows of a cluster, as `client.workflows`. Ids are taken with or without `workflows/` before them.

    Every method raises TaskraftError; WorkflowNotFound for an id that does not exist or was forgotten.
    """

    def __init__(self, bridge: Bridge, inner: Workflows) -> None:
        self._bridge = bridge
        self._inner = inner

    def get(self, workflow_id: str) -> WorkflowInfo:
        """The workflow with the counts of its tasks."""
        return self._bridge.run(self._inner.get(workflow_id))

    def list(self, *, states: Iterable[TaskState] = ()) -> Iterator[WorkflowInfo]:
        """Workflows, newest first, fetched page by page; of these states: running, succeeded, failed, cancelled."""
        yield from self._bridge.iterate(self._inner.list(states=states))

    def wait(self, workflow_id: str, *, timeout: float | None = None) -> WorkflowInfo:
        """The workflow when all its tasks have ended, however. ResultTimeout after `timeout` seconds."""
        return self._bridge.run(self._inner.wait(workflow_id, timeout=timeout))

    def cancel(self, workflow_id: str, *, reason: str = "") -> int:
        """Cancel all its tasks that have not ended; returns how many."""
        return self._bridge.run(self._inner.cancel(workflow_id, reason=reason))

    def retry(self, workflow_id: str, *, all_tasks: bool = False) -> int:
        """Run it again from its failures on, or all of it; returns how many tasks get new attempts."""
        return self._bridge.run(self._inner.retry(workflow_id, all_tasks=all_tasks))


class SyncSchedules:
    """The schedules of a cluster, as `client.schedules`. Names are 1 to 100 of letters, digits, `.`, `_`, `-`.

    Every method raises TaskraftError; ScheduleNotFound for a name that does not exist.
    """

    def __init__(self, bridge: Bridge, inner: Schedules) -> None:
        self._bridge = bridge
        self._inner = inner

    def create(
        self, name: str, task: NewTask, *, replace: bool = False, **settings: Unpack[ScheduleSettings]
    ) -> ScheduleInfo:
        """Submit `task` at the times that `cron` or `every` say; its id and dependencies are ignored.

        A schedule of that name with the same settings is returned as it is. One with others is ScheduleExists, or with
        `replace` gets these: what is not given here goes back to its default. InvalidArgument if the times make no
        sense or never come.
        """
        return self._bridge.run(self._inner.create(name, task, replace=replace, **settings))

    def get(self, name: str) -> ScheduleInfo:
        """The schedule with its next ticks."""
        return self._bridge.run(self._inner.get(name))

    def list(self) -> Iterator[ScheduleInfo]:
        """All schedules by name, fetched page by page."""
        yield from self._bridge.iterate(self._inner.list())

    def update(
        self, name: str, *, task: NewTask | None = None, etag: str = "", **settings: Unpack[ScheduleSettings]
    ) -> ScheduleInfo:
        """Change what is given. EtagMismatch if `etag` is given and is not the current one."""
        return self._bridge.run(self._inner.update(name, task=task, etag=etag, **settings))

    def pause(self, name: str) -> ScheduleInfo:
        """Fire nothing until it is resumed."""
        return self._bridge.run(self._inner.pause(name))

    def resume(self, name: str) -> ScheduleInfo:
        """Fire its ticks again; for those that passed meanwhile see `missed`."""
        return self._bridge.run(self._inner.resume(name))

    def delete(self, name: str) -> None:
        """Delete a schedule; tasks that it has submitted stay."""
        self._bridge.run(self._inner.delete(name))

    def trigger(self, name: str) -> str:
        """Submit the schedule's task now, beside its ticks; returns the task's id."""
        return self._bridge.run(self._inner.trigger(name))


class SyncWorkers:
    """The workers of a cluster, as `client.workers`. Every method raises TaskraftError."""

    def __init__(self, bridge: Bridge, inner: Workers) -> None:
        self._bridge = bridge
        self._inner = inner

    def list(self) -> Iterator[WorkerInfo]:
        """The workers that are connected, or were and hold leases, by id."""
        yield from self._bridge.iterate(self._inner.list())

    def drain(self, worker_id: str) -> None:
        """Ask a worker to finish what it runs, hand the rest back and take nothing more. WorkerNotFound."""
        self._bridge.run(self._inner.drain(worker_id))


class SyncLocks:
    """The locks of a cluster, for whoever wants to know who holds what. To hold one: `client.lock(name)`."""

    def __init__(self, bridge: Bridge, inner: Locks) -> None:
        self._bridge = bridge
        self._inner = inner

    def get(self, name: str) -> LockInfo:
        """The lock with its holders and those who wait; one that nobody uses has neither."""
        return self._bridge.run(self._inner.get(name))

    def list(self) -> Iterator[LockInfo]:
        """All locks in use by name, fetched page by page."""
        yield from self._bridge.iterate(self._inner.list())

    def release(self, name: str, token: int) -> None:
        """Take a lock away from whoever holds it by that token; LockNotHeld. The holder is told, and finds it lost."""
        self._bridge.run(self._inner.release(name, token))


class SyncLock:
    """A lock, held within `with`: exclusively, or with others if it is `shared` or has `permits`.

        with client.lock("import", ttl=10) as lock:
            store.write(data, token=lock.token)

    It is kept alive meanwhile. If that fails for so long that someone else could have it, the block is cancelled before
    that moment and LockLost is raised. A thread is not cancelled, nor a task with `cancel=False`: they look at `lost`, and
    LockLost is raised at the end. A process that was paused can do none of this in time: only what checks `token`, which
    grows from grant to grant, is safe from one that wakes up and goes on. An object is held by one task at a time.
    """

    def __init__(self, bridge: Bridge, inner: Lock) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def token(self) -> int:
        """The fencing token of the grant; RuntimeError if it was not acquired."""
        return self._inner.token

    @property
    def held(self) -> bool:
        """True while it is certain that nobody else has it, or could have it if it is exclusive."""
        return self._inner.held

    @property
    def lost(self) -> threading.Event:
        """Set when it was lost."""
        return self._inner.lost_in_threads

    def remaining(self) -> float:
        """Seconds for which it is certain, if nothing is heard of the cluster any more; 0 if it is not held."""
        return self._inner.remaining()

    def acquire(self) -> Self:
        """Acquire it, waiting as long as `wait` says. LockHeld if it is not granted in that time.

        Without `with` the task that waits is not cancelled when it is lost: look at `lost`, and `release` it.
        """
        self._bridge.run(self._inner.acquire())
        return self

    def release(self) -> None:
        """Give it back; LockLost if it was lost before. If the cluster cannot be reached, it ends with its TTL."""
        self._bridge.run(self._inner.release())

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bridge.run(self._inner.leave(failed=kind is not None))


class SyncTerm:
    """A time of leading, from election to loss. Its block is cancelled when it is lost, and ends quietly then."""

    def __init__(self, bridge: Bridge, inner: Term) -> None:
        self._bridge = bridge
        self._inner = inner

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every term before."""
        return self._inner.token

    @property
    def held(self) -> bool:
        """True while it is certain that nobody else leads."""
        return self._inner.held

    @property
    def lost(self) -> threading.Event:
        """Set when this term was lost."""
        return self._inner.lost_in_threads

    def remaining(self) -> float:
        """Seconds for which it is certain, if nothing is heard of the cluster any more; 0 if it is over."""
        return self._inner.remaining()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._bridge.run(self._inner.leave(failed=kind is not None))
        return isinstance(error, errors.LockLost)


class SyncElection:
    """Leads when it is its turn, again and again; who leads holds the lock of that name.

        for term in client.election("reports"):
            with term:
                lead(term.token)

    The block is cancelled when its term is over, and the loop waits for the next one; `break` ends it. A thread is not
    cancelled: it looks at `term.lost`. With `with client.election("reports") as lock` there is one term, and losing
    it raises LockLost.
    """

    def __init__(self, bridge: Bridge, inner: Election) -> None:
        self._bridge = bridge
        self._inner = inner

    def leader(self) -> LockHolder | None:
        """Who leads; None if nobody does."""
        return self._bridge.run(self._inner.leader())

    def __iter__(self) -> Iterator[SyncTerm]:
        """Terms, each when it begins; one that was not entered is over when the next one is asked for."""
        for one in self._bridge.iterate(self._inner.__aiter__()):
            yield SyncTerm(self._bridge, one)

    def __enter__(self) -> SyncLock:
        return SyncLock(self._bridge, self._bridge.run(self._inner.begin()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bridge.run(self._inner.end(failed=kind is not None))
