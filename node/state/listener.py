"""Who wants to know what an entry changed."""

from collections.abc import Sequence
from typing import Protocol

from node.state.lock_rows import ClaimRow
from node.state.task_rows import Leased, ReadyTask, Settled, TaskRow
from taskraft.v1 import queue_pb2


class Listener(Protocol):
    """Told what a batch did once it has been applied, in the order of its commands, before `apply` returns.

    Ranges are (first, last), both included. It must not call the machine's mutating methods. Of one command it is told
    first what was settled and leased, then what is not ready any more, then what is; nothing of these while the machine is
    `silent`.
    """

    def published(self, queue_id: int, first_sequence: int, count: int, priority: int) -> None:
        """Messages of one priority came into a queue, some of which may be gone already; once for each chunk row."""

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        """These messages of any priority are gone: acknowledged, moved, purged or dropped; some may have been gone before."""

    def buried(self, queue_id: int, reason: queue_pb2.DeadLetterReason, count: int) -> None:
        """So many messages of a queue became dead letters, or went for that reason if it has no dead-letter queue."""

    def group_acked(self, queue_id: int, group: str, ranges: Sequence[tuple[int, int]]) -> None:
        """A consumer group of a stream has done these messages; some of them may have been done before."""

    def group_changed(self, queue_id: int, group: str) -> None:
        """A consumer group was created, or moved: what it held is not its own any more."""

    def group_deleted(self, queue_id: int, group: str) -> None:
        """A consumer group is gone. Nothing is said of the groups of a queue that is deleted."""

    def queue_due(self, queue_id: int) -> None:
        """Time brings something to a queue earlier than was known."""

    def queue_changed(self, queue_id: int) -> None:
        """A queue was created, its settings changed, or its tasks are all in their new order."""

    def queue_deleted(self, queue_id: int) -> None:
        """A queue is gone with all its messages and tasks; their leases are void, and nothing else is said of them."""

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        """These tasks are QUEUED now."""

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        """These (key, number) are not QUEUED in this place any more, for another reason than that they were leased."""

    def tasks_purged(self, queue_id: int) -> None:
        """All tasks of a queue that waited are gone; lanes that there were get no more of them."""

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        """These tasks are not QUEUED any more, they are at a worker."""

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        """These leases have ended: by an outcome, a loss or a cancellation."""

    def tasks_changed(self, rows: Sequence[TaskRow]) -> None:
        """The states or the progress of these tasks have changed. Once a batch, each task once, as it is in the end."""

    def workflow_changed(self, workflow_id: int) -> None:
        """The state or the counts of a workflow have changed."""

    def schedule_changed(self, name: str) -> None:
        """A schedule was created, changed, fired or deleted."""

    def lane_gone(self, queue_id: int, lane_id: int) -> None:
        """An empty lane is gone."""

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        """A claim to a lock is new, in another state, or ENDED."""

    def reset(self) -> None:
        """The whole state was replaced by a snapshot: what was told before is void."""


class Silence:
    """A listener that does not care: the base of those that care for some things."""

    def published(self, queue_id: int, first_sequence: int, count: int, priority: int) -> None:
        pass

    def removed(self, queue_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        pass

    def buried(self, queue_id: int, reason: queue_pb2.DeadLetterReason, count: int) -> None:
        pass

    def group_acked(self, queue_id: int, group: str, ranges: Sequence[tuple[int, int]]) -> None:
        pass

    def group_changed(self, queue_id: int, group: str) -> None:
        pass

    def group_deleted(self, queue_id: int, group: str) -> None:
        pass

    def queue_due(self, queue_id: int) -> None:
        pass

    def queue_changed(self, queue_id: int) -> None:
        pass

    def queue_deleted(self, queue_id: int) -> None:
        pass

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        pass

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        pass

    def tasks_purged(self, queue_id: int) -> None:
        pass

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        pass

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        pass

    def tasks_changed(self, rows: Sequence[TaskRow]) -> None:
        pass

    def workflow_changed(self, workflow_id: int) -> None:
        pass

    def schedule_changed(self, name: str) -> None:
        pass

    def lane_gone(self, queue_id: int, lane_id: int) -> None:
        pass

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        pass

    def reset(self) -> None:
        pass
