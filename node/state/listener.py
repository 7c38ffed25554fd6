"""Who wants to know what an entry changed."""

from collections.abc import Sequence
from typing import Protocol


class Listener(Protocol):
    """Told what a batch did once it has been applied, in the order of its commands, before `apply` returns.

    Ranges are (first, last), both included. It must not call the machine's mutating methods.
    """

    def published(self, queue_id: int, first_sequence: int, count: int) -> None:
        """Messages were stored."""

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        """These messages are gone: acknowledged, purged or dropped; some of them may have been gone before."""

    def queue_changed(self, queue_id: int) -> None:
        """A queue was created or its settings changed."""

    def queue_deleted(self, queue_id: int) -> None:
        """A queue is gone with all its messages."""

    def reset(self) -> None:
        """The whole state was replaced by a snapshot: what was told before is void."""


class Silence:
    """A listener that does not care."""

    def published(self, queue_id: int, first_sequence: int, count: int) -> None:
        pass

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        pass

    def queue_changed(self, queue_id: int) -> None:
        pass

    def queue_deleted(self, queue_id: int) -> None:
        pass

    def reset(self) -> None:
        pass
