"""What the node asks of the streams and their consumer groups."""

from node.state import groups
from node.state.group_tables import GroupRow
from node.state.results import Refused
from node.state.rows import ChunkRow
from node.state.tables import Tables
from taskraft.v1 import queue_pb2


class GroupQueries:
    """The machine's part that reads consumer groups, between batches."""

    _tables: Tables

    def group(self, queue_id: int, name: str) -> GroupRow | None:
        """A consumer group of a stream."""
        return self._tables.groups.get(queue_id, name)

    def groups(self, queue_id: int) -> list[queue_pb2.ConsumerGroup]:
        """All consumer groups of a stream by name, with what the state knows of them."""
        row = self._tables.queue_by_id(queue_id)
        if row is None:
            return []
        return [groups.shown(self._tables, row, group) for group in self._tables.groups.of(queue_id)]

    def group_chunks(self, group_id: int, from_sequence: int, limit: int) -> list[ChunkRow]:
        """The chunks with messages that a group has not done and that end at `from_sequence` or later, as it sees them."""
        group = self._tables.groups.by_id(group_id)
        row = None if group is None else self._tables.queue_by_id(group.queue_id)
        if group is None or row is None:
            return []
        return groups.rows_pending(self._tables, row, group, from_sequence, limit)

    def group_attempts(self, group_id: int, first: int, last: int) -> dict[int, int]:
        """The recorded attempts of messages in the range that were delivered to a group more than once."""
        spans = self._tables.groups.attempts(group_id, first, last)
        return {sequence: attempt for low, high, attempt in spans for sequence in range(low, high + 1)}

    def sequence_at(self, queue_id: int, position: queue_pb2.Position) -> int | Refused:
        """The sequence that a position in a stream means now; OUT_OF_RANGE is the only refusal."""
        row = self._tables.queue_by_id(queue_id)
        return 1 if row is None else groups.sequence_at(self._tables, row, position)
