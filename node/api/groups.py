"""Consumer groups and positions of streams, on the leader."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Protocol

from node.api import validate
from node.api.queues import Queues, is_stream
from node.dispatch.readers import Readers
from node.errors import Refusal, WrongQueueKind
from node.replication import Replicated
from node.state.group_tables import GroupRow
from node.state.results import GroupResult, Refused
from node.state.rows import QueueRow
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


class GroupRows(Protocol):
    """The part of the state machine that knows groups and positions."""

    def group(self, queue_id: int, name: str) -> GroupRow | None:
        """A consumer group of a stream."""
        ...

    def sequence_at(self, queue_id: int, position: queue_pb2.Position) -> int | Refused:
        """The sequence that a position means now."""
        ...


class Groups:
    """QueueService's methods about consumer groups by name, and what Pull and Consume need of groups."""

    def __init__(self, *, rows: GroupRows, queues: Queues, replica: Replicated) -> None:
        self._rows, self._queues, self._replica = rows, queues, replica

    async def Seek(self, data: bytes) -> bytes:
        request = queue_pb2.SeekRequest.FromString(data)
        row = await self._stream(validate.queue_name(request.queue, "queue"))
        group, position = validate.group(request.group), validate.position(request.position)
        command = command_pb2.SeekGroup(queue=row.name, queue_uid=row.uid, group=group, position=position)
        known = self._queues.dispatcher.known_group(row.id, group)
        with known.moving() if known else nullcontext():
            result = await self._queues.commit(
                command_pb2.Command(request_id=validate.request_id(request.request_id), seek_group=command)
            )
        assert isinstance(result, GroupResult)
        return queue_pb2.SeekResponse(
            group=self._queues.with_consumers(row, result.group)
        ).SerializeToString()

    async def DeleteGroup(self, data: bytes) -> bytes:
        request = queue_pb2.DeleteGroupRequest.FromString(data)
        row = await self._stream(validate.queue_name(request.queue, "queue"))
        command = command_pb2.DeleteGroup(queue=row.name, group=validate.group(request.group))
        await self._queues.commit(
            command_pb2.Command(request_id=validate.request_id(request.request_id), delete_group=command)
        )
        return queue_pb2.DeleteGroupResponse().SerializeToString()

    async def readers(self, name: str, position: queue_pb2.Position) -> tuple[Readers, int]:
        """Those who read a stream, and the sequence that `position` means. Raises OUT_OF_RANGE and what `row` raises."""
        await self._replica.read_barrier()
        row = await self._stream(name)
        at = self._rows.sequence_at(row.id, position)
        if isinstance(at, Refused):
            raise Refusal(at.code, at.reason, at.message, at.metadata)
        return self._queues.dispatcher.readers(name), at

    async def _stream(self, name: str) -> QueueRow:
        row = await self._queues.row(name)
        if not is_stream(row):
            raise WrongQueueKind(f"{name} is not a stream", queue=name)
        return row
