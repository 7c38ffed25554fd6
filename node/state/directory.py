"""What has to be known of the settings of all queues at once: who is bound to a topic, who needs a dead-letter queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from node.state.topics import Patterns
from taskraft.v1 import queue_pb2

Headers = tuple[tuple[str, str], ...]


class Directory:
    """Kept in memory, derived from the settings of queues; whoever changes these says so."""

    def __init__(self, queues: Iterable[tuple[int, queue_pb2.Queue]]) -> None:
        self._patterns: Patterns[tuple[int, Headers]] = Patterns()
        self._users: defaultdict[str, set[str]] = defaultdict(set)  # by the name of the dead-letter queue
        self.aged: set[int] = set()
        """Queues with a max_age, by id."""
        for queue_id, config in queues:
            self.add(queue_id, config)

    def add(self, queue_id: int, config: queue_pb2.Queue) -> None:
        """There is a queue with these settings."""
        for binding in _bindings(queue_id, config):
            self._patterns.add(*binding)
        if config.dead_letter_queue:
            self._users[config.dead_letter_queue].add(config.name)
        if config.HasField("max_age"):
            self.aged.add(queue_id)

    def remove(self, queue_id: int, config: queue_pb2.Queue) -> None:
        """There is none with these settings any more."""
        for binding in _bindings(queue_id, config):
            self._patterns.remove(*binding)
        if config.dead_letter_queue:
            self._users[config.dead_letter_queue].discard(config.name)
        self.aged.discard(queue_id)

    def users(self, name: str) -> list[str]:
        """The queues whose dead-letter queue is that one, by name."""
        return sorted(self._users.get(name, ()))

    def routes(self, topic: str) -> dict[int, list[Headers]]:
        """The queues that are bound to a topic, by id, and for each binding the headers that a message must have."""
        found: dict[int, list[Headers]] = {}
        for queue_id, headers in sorted(self._patterns.match(topic)):
            found.setdefault(queue_id, []).append(headers)
        return found


def _bindings(queue_id: int, config: queue_pb2.Queue) -> set[tuple[str, tuple[int, Headers]]]:
    return {
        (binding.pattern, (queue_id, tuple(sorted(binding.headers.items())))) for binding in config.bindings
    }
