"""Streams in plain Python: every message by itself, every group with a set of what it has done."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class ModelMessage:
    """A message that is kept."""

    body: bytes
    key: str
    time_ms: int


@dataclass(slots=True)
class ModelGroup:
    """Everything before `begin` was skipped; `done` are those that were acknowledged."""

    begin: int
    done: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class ModelStream:
    """A stream with its groups. `max_messages` 0 is no limit."""

    max_messages: int = 0
    compaction: bool = False
    messages: dict[int, ModelMessage] = field(default_factory=dict)
    groups: dict[str, ModelGroup] = field(default_factory=dict)
    next_sequence: int = 1

    def publish(self, messages: list[tuple[str, bytes]], time_ms: int) -> None:
        while self.messages and self.max_messages and len(self.messages) + len(messages) > self.max_messages:
            del self.messages[min(self.messages)]
        for key, body in messages:
            if self.compaction and key:
                same = [each for each, message in self.messages.items() if message.key == key]
                for sequence in same:
                    del self.messages[sequence]
            self.messages[self.next_sequence] = ModelMessage(body, key, time_ms)
            self.next_sequence += 1

    def seek(self, name: str, place: str, value: int, *, create_only: bool) -> bool:
        """Move or create a group; False if the position is out of range."""
        if name in self.groups and create_only:
            return True
        later = sorted(self.messages)
        match place:
            case "sequence" if value > self.next_sequence:
                return False
            case "sequence":
                later = [sequence for sequence in later if sequence >= value]
            case "time":
                later = [sequence for sequence in later if self.messages[sequence].time_ms >= value]
            case "end":
                later = []
        self.groups[name] = ModelGroup(later[0] if later else self.next_sequence)
        return True

    def ack(self, name: str, sequences: set[int]) -> None:
        group = self.groups[name]
        group.done |= {each for each in sequences if group.begin <= each < self.next_sequence}

    def purge(self) -> None:
        self.messages.clear()

    def pending(self, name: str) -> list[int]:
        """What a group is still to get."""
        group = self.groups[name]
        return [each for each in sorted(self.messages) if each >= group.begin and each not in group.done]

    def position(self, name: str) -> int:
        return min(self.pending(name), default=self.next_sequence)

    def waiting(self, name: str) -> int:
        """How many messages of a group are pending, as the statistics count them: what compaction took counts, too."""
        position = self.position(name)
        beyond = sum(1 for each in self.groups[name].done if each >= position)
        return min(self.next_sequence - position - beyond, len(self.messages))
