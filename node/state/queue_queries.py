"""What the node asks of queues and their messages, between batches."""

from node.state import chunks, parts, queue_times
from node.state.bodies import Bodies
from node.state.rows import ChunkRow, QueueRow
from node.state.tables import Tables


class QueueQueries:
    """The part of the machine that reads queues and messages. Rows are as of the last applied entry."""

    _tables: Tables
    _bodies: Bodies

    def queue(self, name: str) -> QueueRow | None:
        """The queue of the full name `queues/{queue}`."""
        return self._tables.queue(name)

    def queue_by_id(self, queue_id: int) -> QueueRow | None:
        """The queue of that id."""
        return self._tables.queue_by_id(queue_id)

    def queues(self, after_name: str = "", limit: int = -1) -> list[QueueRow]:
        """Queues in the order of their full names, those after `after_name`; a negative limit is none."""
        return self._tables.queues(after_name, limit)

    def chunks(self, queue_id: int, from_sequence: int, limit: int, priority: int = 0) -> list[ChunkRow]:
        """The chunks of one priority with live messages that end at `from_sequence` or later, in order.

        Empty if there is no such queue, or it never had messages of that priority.
        """
        row = self.queue_by_id(queue_id)
        line = row.line(priority) if row else None
        if row is None or line is None:
            return []
        execute = self._tables.store.execute
        return chunks.select(execute, line.backlog, from_sequence, row.next_sequence, limit)

    def oldest_ms(self, queue_id: int) -> int | None:
        """When the oldest message of a queue, of whatever priority, came into it."""
        row = self.queue_by_id(queue_id)
        execute = self._tables.store.execute
        times = [parts.oldest_ms(execute, backlog) for backlog in row.backlogs()] if row else []
        return min((time_ms for time_ms in times if time_ms is not None), default=None)

    def priorities(self, queue_id: int) -> dict[int, int]:
        """The priorities above 0 that a queue ever had messages of, and up to where those were delivered at least once."""
        row = self.queue_by_id(queue_id)
        return {priority: line.watermark for priority, line in row.extra.lines.items()} if row else {}

    def attempts(self, queue_id: int, first: int, last: int) -> dict[int, int]:
        """The recorded attempts of redelivered messages in the range; what is absent was delivered at most once."""
        row = self.queue_by_id(queue_id)
        found: dict[int, int] = {}
        for backlog in row.backlogs() if row else ():
            assert row is not None
            execute = self._tables.store.execute
            found |= chunks.attempts(execute, backlog, first, min(last, row.next_sequence))
        return found

    def first_since(self, queue_id: int, time_ms: int) -> int:
        """The first sequence that came into the queue at `time_ms` or later; the next one if there is none."""
        row = self.queue_by_id(queue_id)
        if row is None:
            return 1
        execute, newest = self._tables.store.execute, row.next_sequence - 1
        return min(chunks.first_since(execute, backlog, time_ms, newest) for backlog in row.backlogs())

    def chunk(self, log_index: int, ordinal: int) -> bytes:
        """The encoded Chunk that messages came with, gone ones and those of other rows included."""
        return self._bodies.chunk(log_index, ordinal)

    def routes(self, topic: str) -> list[QueueRow]:
        """The queues with a pattern that matches the topic, given without `topics/`, whatever their headers."""
        found = map(self.queue_by_id, self._tables.directory.routes(topic))
        return [row for row in found if row is not None]

    def next_queue_due_ms(self, by_ms: int) -> int | None:
        """When AdvanceQueues has something to do, wall clock; None: nothing is ahead.

        Exact if that is not above `by_ms`, otherwise it may be later than this.
        """
        return queue_times.next_due_ms(self._tables, by_ms)

    def queues_due(self, by_ms: int) -> list[QueueRow]:
        """The queues that AdvanceQueues may have something to do for at that time: all that it has, and perhaps others."""
        found = map(self.queue_by_id, self._tables.agenda.due(by_ms))
        return [row for row in found if row is not None]
