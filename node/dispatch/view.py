"""What a queue's dispatch works on: a queue as it is, or as a consumer group of a stream sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from node.dispatch.shelf import Chunks
from node.state.group_tables import GroupRow
from node.state.rows import ChunkRow


class GroupState(Chunks, Protocol):
    """The part of the state machine that delivery to groups reads."""

    def group_chunks(self, group_id: int, from_sequence: int, limit: int) -> Sequence[ChunkRow]:
        """Chunks that end at `from_sequence` or later with messages that a group has not done, as it sees them."""
        ...

    def group_attempts(self, group_id: int, first: int, last: int) -> Mapping[int, int]:
        """Deliveries of the messages of a range to a group, of those that were delivered more than once."""
        ...


class GroupView:
    """A stream's chunks as one of its groups sees them: what the group has done is gone."""

    def __init__(self, state: GroupState, group: GroupRow) -> None:
        self._state, self._group_id = state, group.id

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> Sequence[ChunkRow]:
        return self._state.group_chunks(self._group_id, from_sequence, limit)

    def priorities(self, queue_id: int) -> Mapping[int, int]:
        """A stream has no priorities."""
        return {}

    def attempts(self, queue_id: int, first: int, last: int) -> Mapping[int, int]:
        return self._state.group_attempts(self._group_id, first, last)

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        return self._state.chunk(log_index, ordinal)
