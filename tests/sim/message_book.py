"""What the log says of messages: where each of them came, when, and how it went.

Filled by the state machine that applies an entry first, command by command, when the effects of a command are there and
those of the next one are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from node.state.results import Refused, Result
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from node.state.machine import Machine

Range = tuple[int, int]


@dataclass(slots=True)
class Copy:
    """A message in a queue or stream. Times are those of the entries, milliseconds."""

    queue_id: int
    queue: str
    sequence: int
    message: queue_pb2.Message
    priority: int
    index: int
    at_ms: int
    letter: queue_pb2.DeadLetter | None
    redriven: bool
    """It came back from a dead-letter queue."""
    end: int = 0
    """The entry in which it went; 0 while it is there."""
    end_ms: int = 0
    by: "Deed | None" = None
    """What took it away."""

    @property
    def body(self) -> bytes:
        return self.message.body


@dataclass(slots=True)
class Deed:
    """A command that was done, and what it did to messages."""

    index: int
    place: int
    time_ms: int
    command: internal.Command
    result: Result
    came: list[Copy] = field(default_factory=list)
    gone: list[tuple[int, Range]] = field(default_factory=list)
    """(queue id, range)."""
    acked: list[tuple[int, str, Range]] = field(default_factory=list)
    """(queue id, group, range) of streams."""
    moved: list[tuple[int, str, int]] = field(default_factory=list)
    """(queue id, group, position) of groups that were made or moved."""
    queues: list[tuple[int, queue_pb2.Queue | None]] = field(default_factory=list)
    """Queues that were made, changed or deleted (None)."""

    @property
    def kind(self) -> str:
        return self.command.WhichOneof("kind") or ""

    def parts(self) -> list[internal.Command]:
        """The commands of a transaction, or the one that it is."""
        return list(self.command.transaction.commands) if self.kind == "transaction" else [self.command]


@dataclass(slots=True)
class Book:
    """Everything that was done, and the messages by queue and sequence."""

    index: int = 1
    deeds: list[Deed] = field(default_factory=list)
    copies: dict[int, dict[int, Copy]] = field(default_factory=dict)
    configs: dict[int, queue_pb2.Queue] = field(default_factory=dict)
    """The settings of each queue that there ever was, as they were last; by id."""
    ids: dict[str, int] = field(default_factory=dict)
    """Of the queues that there are."""
    done: dict[tuple[int, str], set[int]] = field(default_factory=dict)
    """What consumer groups, by queue id and name, have acknowledged."""
    _pending: dict[int, Deed] = field(default_factory=dict)
    _of: int = 0

    # What state machines say ------------------------------------------------------------------------------------------

    def begin(self, index: int, place: int, time_ms: int) -> None:
        """A command is going to be done, perhaps for the second time."""
        if self._of != index:
            self._of = index
            self._pending.clear()
        self._pending.pop(place, None)

    def did(
        self,
        machine: "Machine",
        index: int,
        place: int,
        command: internal.Command,
        result: Result,
        events: Sequence[Any],
    ) -> None:
        """A command was done, and these are its events."""
        deed = Deed(index, place, machine.time_ms, command, result)
        self._pending[place] = deed
        if isinstance(result, Refused):
            return
        for what, *rest in events:
            match what:
                case "published":
                    deed.came += _came(machine, deed, *rest)
                case "removed":
                    deed.gone += [(rest[0], span) for span in rest[1]]
                case "group_acked":
                    deed.acked += [(rest[0], rest[1], span) for span in rest[2]]
                case "group_changed":
                    group = machine.group(rest[0], rest[1])
                    assert group is not None
                    deed.moved.append((rest[0], rest[1], group.position))
                case "queue_changed":
                    row = machine.queue_by_id(rest[0])
                    assert row is not None
                    deed.queues.append((rest[0], row.config))
                case "queue_deleted":
                    deed.queues.append((rest[0], None))

    def applied(self, index: int, count: int) -> None:
        """An entry of so many commands was applied."""
        if index <= self.index:
            return
        self.index = index
        if self._of == index:
            assert len(self._pending) <= count
            for place in sorted(self._pending):
                self._enter(self._pending[place])
        self._pending.clear()

    def _enter(self, deed: Deed) -> None:
        self.deeds.append(deed)
        for queue_id, config in deed.queues:
            if config is None:
                self._end(deed, queue_id, (1, 1 << 60))
                self.ids.pop(self.configs[queue_id].name, None)
            else:
                self.configs[queue_id] = config
                self.ids[config.name] = queue_id
        for copy in deed.came:
            self.copies.setdefault(copy.queue_id, {})[copy.sequence] = copy
        for queue_id, span in deed.gone:
            self._end(deed, queue_id, span)
        for queue_id, group, (first, last) in deed.acked:
            self.done.setdefault((queue_id, group), set()).update(range(first, last + 1))

    def _end(self, deed: Deed, queue_id: int, span: Range) -> None:
        copies = self.copies.get(queue_id, {})
        few = span[1] - span[0] < len(copies)
        sequences = range(span[0], span[1] + 1) if few else [s for s in copies if span[0] <= s <= span[1]]
        for sequence in sequences:
            copy = copies.get(sequence)
            if copy is not None and not copy.end:
                copy.end, copy.end_ms, copy.by = deed.index, deed.time_ms, deed

    # What is asked ----------------------------------------------------------------------------------------------------

    def live(self, queue_id: int) -> list[Copy]:
        """The messages of a queue that are there."""
        return [copy for copy in self.copies.get(queue_id, {}).values() if not copy.end]


def _came(machine: "Machine", deed: Deed, queue_id: int, first: int, count: int, priority: int) -> list[Copy]:
    """The messages that a command has brought, without those that are gone already."""
    row = machine.queue_by_id(queue_id)
    assert row is not None
    last, found = first + count - 1, []
    options = {"priority": priority} if priority else {}
    for chunk in machine.chunks(queue_id, first, count, **options):
        if chunk.first_sequence > last:
            break
        messages = internal.Chunk.FromString(machine.chunk(chunk.log_index, chunk.ordinal)).messages
        for place in range(chunk.count):
            sequence = chunk.first_sequence + place
            if first <= sequence <= last and not chunk.acked >> place & 1:
                letter = None
                if chunk.dead_letter:
                    letter = queue_pb2.DeadLetter.FromString(chunk.dead_letter)
                    letter.source_sequence += place
                message = messages[chunk.offset + place]
                redriven = deed.kind == "move_messages" and letter is None
                where = (queue_id, row.name, sequence)
                found.append(Copy(*where, message, priority, deed.index, chunk.time_ms, letter, redriven))
    return found
