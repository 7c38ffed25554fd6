"""The unary methods of QueueService, on the leader: bytes in, bytes out, ApiError or an error of the log raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from node import commands, limits, wire
from node.api import queue_input, validate
from node.api.pages import Page, page_token, read_page_token
from node.broker import Broker
from node.clock import Clock
from node.dispatch.dispatcher import Dispatcher
from node.dispatch.ledger import Range
from node.dispatch.queue import QueueDispatch
from node.dispatch.takers import PullCall
from node.errors import ApiError, DiskLow, InvalidField, LeaseLost, QueueNotFound, WrongQueueKind
from node.replication import Replicated
from node.state.group_tables import GroupRow
from node.state.results import Acked, Purged, QueueResult, Success
from node.state.rows import QueueRow, timestamp
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2

LOST_RANGES_NAMED = 50  # in an error's metadata, which travels in HTTP/2 headers


class Rows(Protocol):
    """The part of the state machine that answers reads."""

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name."""
        ...

    def queues(self, after_name: str = "", limit: int = -1) -> list[QueueRow]:
        """Queues by name, after one."""
        ...

    def oldest_ms(self, queue_id: int) -> int | None:
        """When the oldest message of a queue came into it."""
        ...

    def group(self, queue_id: int, name: str) -> GroupRow | None:
        """A consumer group of a stream."""
        ...

    def groups(self, queue_id: int) -> list[queue_pb2.ConsumerGroup]:
        """The consumer groups of a stream, by name."""
        ...


class Queues:
    """QueueService's unary methods by name, and what its streams share with them."""

    def __init__(
        self,
        *,
        rows: Rows,
        broker: Broker,
        dispatcher: Dispatcher,
        replica: Replicated,
        clock: Clock,
        message_bytes_max: int,
        disk_low: Callable[[], bool],
        describe: Callable[[QueueRow, queue_pb2.QueueStats], None],
    ) -> None:
        """`describe` completes the statistics of a queue of kind TASK."""
        self.broker, self.dispatcher = broker, dispatcher
        self._rows, self._replica = rows, replica
        self.clock = clock
        self._message_bytes_max = message_bytes_max
        self._disk_low, self._describe = disk_low, describe

    # Settings -----------------------------------------------------------------------------------------------------

    async def CreateQueue(self, data: bytes) -> bytes:
        request = queue_pb2.CreateQueueRequest.FromString(data)
        kind = queue_input.kind(request.queue)
        names = queue_input.settings_of(kind)
        queue = queue_input.settings(request.queue, names, kind, self._message_bytes_max)
        queue.kind = kind
        queue.name = validate.PREFIX + validate.queue_id(request.queue_id)
        queue_input.consistent(queue)
        self.check_disk()
        command = command_pb2.Command(
            request_id=validate.request_id(request.request_id),
            create_queue=command_pb2.CreateQueue(queue=queue),
        )
        result = await self.commit(command)
        assert isinstance(result, QueueResult)
        return queue_pb2.CreateQueueResponse(queue=result.queue).SerializeToString()

    async def UpdateQueue(self, data: bytes) -> bytes:
        request = queue_pb2.UpdateQueueRequest.FromString(data)
        row = await self.row(validate.queue_name(request.queue.name, "queue.name"))
        kind = row.config.kind
        names = queue_input.update_mask(request.update_mask.paths, request.queue, kind)
        queue = queue_input.settings(request.queue, names, kind, self._message_bytes_max)
        queue.name, queue.etag = row.name, request.queue.etag
        queue_input.consistent(queue_input.changed(row.config, queue, names))
        command = command_pb2.Command(
            request_id=validate.request_id(request.request_id),
            update_queue=command_pb2.UpdateQueue(queue=queue, fields=names),
        )
        result = await self.commit(command)
        assert isinstance(result, QueueResult)
        return queue_pb2.UpdateQueueResponse(queue=result.queue).SerializeToString()

    async def DeleteQueue(self, data: bytes) -> bytes:
        request = queue_pb2.DeleteQueueRequest.FromString(data)
        command = command_pb2.Command(
            request_id=validate.request_id(request.request_id),
            delete_queue=command_pb2.DeleteQueue(name=validate.queue_name(request.name), etag=request.etag),
        )
        await self.commit(command)
        return queue_pb2.DeleteQueueResponse().SerializeToString()

    async def PurgeQueue(self, data: bytes) -> bytes:
        request = queue_pb2.PurgeQueueRequest.FromString(data)
        command = command_pb2.Command(
            request_id=validate.request_id(request.request_id),
            purge_queue=command_pb2.PurgeQueue(name=validate.queue_name(request.name)),
        )
        result = await self.commit(command)
        assert isinstance(result, Purged)
        return queue_pb2.PurgeQueueResponse(purged_messages=result.count).SerializeToString()

    async def GetQueue(self, data: bytes) -> bytes:
        request = queue_pb2.GetQueueRequest.FromString(data)
        name = validate.queue_name(request.name)
        await self._replica.read_barrier()
        row = self._rows.queue(name)
        if row is None:
            raise QueueNotFound(f"there is no queue {name}", queue=name)
        queue = self._shown(row)
        if is_stream(row):
            groups = [self.with_consumers(row, group) for group in self._rows.groups(row.id)]
            queue.stats.groups.extend(groups)
        return queue_pb2.GetQueueResponse(queue=queue).SerializeToString()

    async def ListQueues(self, data: bytes) -> bytes:
        request = queue_pb2.ListQueuesRequest.FromString(data)
        size = validate.page_size(request.page_size)
        after = read_page_token(request.page_token)
        await self._replica.read_barrier()
        rows = self._rows.queues(after, size + 1)
        page = Page(self._shown(row) for row in rows[:size])
        response = queue_pb2.ListQueuesResponse(queues=page.items)
        if page.count < len(rows):
            response.next_page_token = page_token(rows[page.count - 1].name)
        return response.SerializeToString()

    def _shown(self, row: QueueRow) -> queue_pb2.Queue:
        queue = row.to_proto()
        if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
            self._describe(row, queue.stats)
            return queue
        queue.stats.leased_messages = self.dispatcher.leased(row.id)
        queue.stats.consumers = self.dispatcher.consumers(row.id)
        if rates := self.dispatcher.rates(row.id):
            queue.stats.message_rates.CopyFrom(rates)
        oldest_ms = self._rows.oldest_ms(row.id)
        if oldest_ms is not None:
            queue.stats.oldest_publish_time.CopyFrom(timestamp(oldest_ms))
        return queue

    def with_consumers(self, row: QueueRow, group: queue_pb2.ConsumerGroup) -> queue_pb2.ConsumerGroup:
        """The group with what this leader knows of its consumers."""
        if known := self.dispatcher.known_group(row.id, group.name):
            group.leased_messages = known.ledger.leased_total
            group.consumers = len(known.consumers)
        return group

    # Messages -----------------------------------------------------------------------------------------------------

    async def Pull(self, data: bytes) -> bytes:
        request = queue_pb2.PullRequest.FromString(data)
        name = validate.queue_name(request.queue, "queue")
        if not 1 <= request.max_messages <= limits.PULL_MESSAGES_MAX:
            raise InvalidField("max_messages", f"1 to {limits.PULL_MESSAGES_MAX}")
        wait_ms = validate.duration_ms(request.wait, "wait", 0, limits.PULL_WAIT_MS_MAX)
        queue = await self.joined(name, request.group, queue_pb2.Position())
        lease_id = f"{self.dispatcher.new_name()}.{queue.row.uid}"
        pull = PullCall(lease_id, request.max_messages, ack_deadline_ms(queue.row))
        queue.pull(pull)
        keep = False
        try:
            if not await served(queue, pull, wait_ms):
                return b""
            keep = True
            return wire.pull_response(lease_id, [parcel.parts for parcel in pull.parcels])
        finally:
            queue.withdraw(pull, keep=keep)

    async def Acknowledge(self, data: bytes) -> bytes:
        request = queue_pb2.AcknowledgeRequest.FromString(data)
        ranges, request_id = validate.ranges(request.ranges), validate.request_id(request.request_id)
        queue = await self.dispatched(validate.queue_name(request.queue, "queue"), request.group)
        holder = self._holder(queue, request.lease_id, ranges)
        if queue.is_moving:
            raise lease_lost(ranges)
        settled, lost = queue.ledger.settle(holder, ranges)
        removed = 0
        if settled or request_id:
            done = [(span.first, span.last) for span in settled]
            try:
                submitted = self.broker.submit(
                    commands.acknowledge(queue.row, done, request_id, group=queue.group)
                )
            except ApiError as error:
                queue.finish(settled, error)
                raise

            def answered(future: asyncio.Future[Success]) -> None:
                queue.finish(settled, future.exception())
                lost.extend(queue.take_back(settled))

            submitted.add_done_callback(answered)
            result = await asyncio.shield(
                submitted
            )  # what is on its way is settled also if nobody waits for it
            assert isinstance(result, Acked)
            removed = result.count
        if lost and removed < sum(last - first + 1 for first, last in ranges):
            raise lease_lost(lost)
        return queue_pb2.AcknowledgeResponse().SerializeToString()

    async def ModifyAckDeadline(self, data: bytes) -> bytes:
        request = queue_pb2.ModifyAckDeadlineRequest.FromString(data)
        ranges = validate.ranges(request.ranges)
        lease_ms = validate.duration_ms(request.ack_deadline, "ack_deadline", 0, limits.ACK_DEADLINE_MS_MAX)
        queue = await self.dispatched(validate.queue_name(request.queue, "queue"), request.group)
        holder = self._holder(queue, request.lease_id, ranges)
        lost = queue.extend(holder, ranges, lease_ms) if lease_ms else queue.reject(holder, ranges, 0)
        if lost:
            raise lease_lost(lost)
        return queue_pb2.ModifyAckDeadlineResponse().SerializeToString()

    async def Reject(self, data: bytes) -> bytes:
        request = queue_pb2.RejectRequest.FromString(data)
        ranges = validate.ranges(request.ranges)
        delay_ms = validate.duration_ms(request.delay, "delay", 0, limits.REJECT_DELAY_MS_MAX)
        if request.dead_letter and delay_ms:
            raise InvalidField("delay", "none for what becomes a dead letter")
        queue = await self.dispatched(validate.queue_name(request.queue, "queue"), request.group)
        holder = self._holder(queue, request.lease_id, ranges)
        if request.dead_letter:
            lost = await _bury(queue, holder, ranges)
        else:
            lost = queue.reject(holder, ranges, delay_ms)
        if lost:
            raise lease_lost(lost)
        return queue_pb2.RejectResponse().SerializeToString()

    def _holder(self, queue: QueueDispatch, lease_id: str, ranges: Sequence[Range]) -> str:
        """The holder that a lease id names. What a lease of an earlier leader had is its again if nobody else's."""
        term, _, rest = lease_id.partition(".")
        uid = rest.partition(".")[2]
        if not term.isdecimal() or uid != queue.row.uid:
            raise lease_lost(ranges)
        assert self.dispatcher.term is not None
        if int(term) < self.dispatcher.term:
            queue.adopt(lease_id, ranges, ack_deadline_ms(queue.row))
        return lease_id

    # Shared -------------------------------------------------------------------------------------------------------

    async def dispatched(self, name: str, group: str = "") -> QueueDispatch:
        """The queue, or the consumer group of a stream, as it is delivered here.

        Raises QueueNotFound, GroupNotFound, WrongQueueKind, InvalidField, NotLeader, ShuttingDown.
        """
        await self.row_of_group(name, group)
        return self.dispatcher.group(name, group) if group else self.dispatcher.queue(name)

    async def joined(self, name: str, group: str, position: queue_pb2.Position) -> QueueDispatch:
        """The same; a group that does not exist is made at `position`. Raises OUT_OF_RANGE, TOO_MANY_GROUPS, too."""
        row = await self.row(name)
        if is_stream(row) and self._rows.group(row.id, validate.group(group)) is None:
            create = command_pb2.SeekGroup(
                queue=name, queue_uid=row.uid, group=group, position=position, create_only=True
            )
            await self.commit(command_pb2.Command(seek_group=create))
        return await self.dispatched(name, group)

    async def row_of_group(self, name: str, group: str) -> QueueRow:
        """The queue; if it is a stream, a group must be named. Raises QueueNotFound, WrongQueueKind, InvalidField."""
        row = await self.row(name)
        holds_messages(row)
        if is_stream(row):
            validate.group(group)
        elif group:
            raise WrongQueueKind(f"{name} is not a stream: it has no consumer groups", queue=name)
        return row

    async def row(self, name: str) -> QueueRow:
        """The queue; that there is none is believed only from a leader that is one."""
        row = self._rows.queue(name)
        if row is None:
            await self._replica.read_barrier()
            row = self._rows.queue(name)
        if row is None:
            raise QueueNotFound(f"there is no queue {name}", queue=name)
        return row

    async def read_barrier(self) -> None:
        """What is read after this is not older than what was acknowledged before. Raises NotLeader and the like."""
        await self._replica.read_barrier()

    async def commit(self, command: command_pb2.Command) -> Success:
        """What came of a command, once it is committed."""
        return await self.broker.submit(commands.plain(command))

    def check_disk(self) -> None:
        """Raises DiskLow. What frees space is not asked to wait for space."""
        if self._disk_low():
            raise DiskLow


async def _bury(queue: QueueDispatch, holder: str, ranges: Sequence[Range]) -> list[Range]:
    """Make dead letters of what `holder` has, and wait until that is committed; returns what it does not have."""
    if queue.is_moving:
        return list(ranges)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    lost = queue.bury(holder, ranges, answer)
    await done
    return lost


async def served(queue: QueueDispatch, pull: PullCall, wait_ms: int) -> bool:
    """Wait for a pull's parcels; False if there were none in time."""
    if not wait_ms:
        queue.pump()
    elif not pull.done.is_set():
        with suppress(
            TimeoutError
        ):  # it may have been served all the same, in the same turn of the event loop
            async with asyncio.timeout(wait_ms / 1000):
                await pull.done.wait()
    if pull.error:
        raise pull.error
    return bool(pull.parcels)


def ack_deadline_ms(row: QueueRow) -> int:
    return row.config.ack_deadline.seconds * 1000 + row.config.ack_deadline.nanos // 1_000_000


def lease_lost(lost: Sequence[Range]) -> LeaseLost:
    named = ",".join(f"{first}-{last}" for first, last in lost[:LOST_RANGES_NAMED])
    return LeaseLost(ranges=named, unnamed_ranges=max(0, len(lost) - LOST_RANGES_NAMED))


def is_stream(row: QueueRow) -> bool:
    return row.config.kind == queue_pb2.QUEUE_KIND_STREAM


def holds_messages(row: QueueRow) -> None:
    """Raises WrongQueueKind."""
    if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
        raise WrongQueueKind(f"{row.name} holds tasks, not messages", queue=row.name)
