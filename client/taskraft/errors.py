"""What can go wrong, as one tree.

Every error has the broker's `reason` (such as QUEUE_FULL), its gRPC `code` and its `metadata`. There is one
class per reason; a reason that this version does not know is a plain `TaskraftError`.
"""

from __future__ import annotations

import grpc

from taskraft._error import DeadlineExceeded, TaskraftError
from taskraft._task_errors import (
    DeadlineInfeasible,
    DependencyFailed,
    ResultTimeout,
    ScheduleExists,
    ScheduleNotFound,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    TaskRevoked,
    TaskTimedOut,
    WorkerLost,
    WorkerNotFound,
    WorkflowExists,
    WorkflowNotFound,
)

__all__ = [
    "CatchUpTimeout",
    "ChangeInProgress",
    "ClientClosed",
    "CommitUnknown",
    "Cycle",
    "DeadLetterLoop",
    "DeadlineExceeded",
    "DeadlineInfeasible",
    "DependencyFailed",
    "DiskLow",
    "EtagMismatch",
    "GroupNotFound",
    "InternalError",
    "InvalidArgument",
    "InvalidCredit",
    "LeaseLost",
    "LockHeld",
    "LockLineFull",
    "LockLost",
    "LockMismatch",
    "LockNotHeld",
    "MemberExists",
    "MemberNotFound",
    "NoLeader",
    "NotDecodable",
    "NotEncodable",
    "NotLeader",
    "OutOfRange",
    "Overloaded",
    "PayloadTooLarge",
    "QueueExists",
    "QueueFull",
    "QueueInUse",
    "QueueNotFound",
    "ResourceExhausted",
    "ResultTimeout",
    "ScheduleExists",
    "ScheduleNotFound",
    "SequenceGap",
    "ShuttingDown",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskNotFound",
    "TaskRevoked",
    "TaskTimedOut",
    "TaskraftError",
    "TooManyGroups",
    "TransferFailed",
    "Unavailable",
    "UnknownDependency",
    "Unroutable",
    "WorkerLost",
    "WorkerNotFound",
    "WorkflowExists",
    "WorkflowNotFound",
    "WrongQueueKind",
]


class Unavailable(TaskraftError):
    """No node could be reached."""

    default_reason = "UNAVAILABLE"
    default_code = grpc.StatusCode.UNAVAILABLE


class NotLeader(Unavailable):
    """The node that was asked does not lead."""

    default_reason = "NOT_LEADER"

    @property
    def leader_endpoint(self) -> str:
        """host:port of the leader's gRPC port; empty if the node knew none."""
        return self.metadata.get("leader_endpoint", "")


class NoLeader(Unavailable):
    """The cluster has no leader at the moment: an election is on, or the majority is missing."""

    default_reason = "NO_LEADER"


class ShuttingDown(Unavailable):
    """The node is stopping."""

    default_reason = "SHUTTING_DOWN"


class CommitUnknown(TaskraftError):
    """Nobody can tell whether this was done: the leader was lost after it had been asked."""

    default_reason = "COMMIT_UNKNOWN"


class ResourceExhausted(TaskraftError):
    """There is no room for this at the moment."""

    default_reason = "RESOURCE_EXHAUSTED"
    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class QueueFull(ResourceExhausted):
    """The queue's limits leave no room for this."""

    default_reason = "QUEUE_FULL"


class DiskLow(ResourceExhausted):
    """The broker's disk is nearly full; it takes no messages until there is space."""

    default_reason = "DISK_LOW"


class Overloaded(ResourceExhausted):
    """The broker has too much to do at the moment."""

    default_reason = "OVERLOADED"


class LeaseLost(TaskraftError):
    """The message is not leased to this consumer any more; it was or will be delivered again."""

    default_reason = "LEASE_LOST"
    default_code = grpc.StatusCode.ABORTED


class EtagMismatch(TaskraftError):
    """The queue was changed since it was read."""

    default_reason = "ETAG_MISMATCH"
    default_code = grpc.StatusCode.ABORTED


class QueueNotFound(TaskraftError):
    """There is no such queue."""

    default_reason = "QUEUE_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class QueueExists(TaskraftError):
    """There is a queue of that name with other settings."""

    default_reason = "QUEUE_EXISTS"
    default_code = grpc.StatusCode.ALREADY_EXISTS


class QueueInUse(TaskraftError):
    """The queue is the dead-letter queue of another, which `metadata` names."""

    default_reason = "QUEUE_IN_USE"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Unroutable(TaskraftError):
    """No queue is bound to the topic: the messages were not stored."""

    default_reason = "UNROUTABLE"
    default_code = grpc.StatusCode.NOT_FOUND


class GroupNotFound(TaskraftError):
    """The stream has no such consumer group."""

    default_reason = "GROUP_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class TooManyGroups(TaskraftError):
    """The stream has as many consumer groups as it may have: delete one that is not needed."""

    default_reason = "TOO_MANY_GROUPS"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class OutOfRange(TaskraftError):
    """The position is beyond the end of the queue."""

    default_reason = "OUT_OF_RANGE"
    default_code = grpc.StatusCode.OUT_OF_RANGE


class SequenceGap(TaskraftError):
    """A producer's batch is missing before this one."""

    default_reason = "SEQUENCE_GAP"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class InvalidArgument(TaskraftError):
    """A value is not allowed; `metadata` names the field and the limit."""

    default_reason = "INVALID_FIELD"
    default_code = grpc.StatusCode.INVALID_ARGUMENT


class PayloadTooLarge(InvalidArgument):
    """The message is larger than the queue takes."""

    default_reason = "PAYLOAD_TOO_LARGE"


class DeadLetterLoop(InvalidArgument):
    """The dead letters of the queue would come back to it."""

    default_reason = "DEAD_LETTER_LOOP"


class InvalidCredit(InvalidArgument):
    """The credit is out of its range."""

    default_reason = "INVALID_CREDIT"


class InternalError(TaskraftError):
    """The broker made a mistake; its log says which."""

    default_reason = "INTERNAL"
    default_code = grpc.StatusCode.INTERNAL


class MemberExists(TaskraftError):
    """The cluster has that member already."""

    default_reason = "MEMBER_EXISTS"
    default_code = grpc.StatusCode.ALREADY_EXISTS


class MemberNotFound(TaskraftError):
    """The cluster has no such member."""

    default_reason = "MEMBER_NOT_FOUND"
    default_code = grpc.StatusCode.NOT_FOUND


class ChangeInProgress(TaskraftError):
    """Another change of the members is not finished yet."""

    default_reason = "CHANGE_IN_PROGRESS"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class CatchUpTimeout(TaskraftError):
    """The new member did not catch up in time."""

    default_reason = "CATCH_UP_TIMEOUT"
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class TransferFailed(TaskraftError):
    """The leadership did not move."""

    default_reason = "TRANSFER_FAILED"
    default_code = grpc.StatusCode.ABORTED


class LockHeld(TaskraftError):
    """The lock was not granted in time: others hold it or wait for it; `metadata` says who holds it."""

    default_reason = "LOCK_HELD"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class LockNotHeld(TaskraftError):
    """That token does not hold the lock."""

    default_reason = "LOCK_NOT_HELD"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class LockLost(TaskraftError):
    """The lock was lost while it was held: it was not kept alive in time, or was taken away."""

    default_reason = "LOCK_LOST"
    default_code = grpc.StatusCode.ABORTED


class LockMismatch(TaskraftError):
    """The lock is in use as another kind, or as a semaphore with another number of permits."""

    default_reason = "LOCK_MISMATCH"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class LockLineFull(ResourceExhausted):
    """Too many wait for the lock already."""

    default_reason = "LOCK_LINE_FULL"


class WrongQueueKind(TaskraftError):
    """The queue holds messages where tasks are meant, or tasks where messages are."""

    default_reason = "WRONG_QUEUE_KIND"
    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Cycle(InvalidArgument):
    """The tasks depend on each other in a circle; the message names it."""

    default_reason = "CYCLE"


class UnknownDependency(InvalidArgument):
    """The task depends on one that does not exist."""

    default_reason = "UNKNOWN_DEPENDENCY"


class NotEncodable(TaskraftError, TypeError):
    """A value cannot be written as JSON or msgpack; `metadata` names the argument and the part of it."""

    default_reason = "NOT_ENCODABLE"
    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotDecodable(TaskraftError, ValueError):
    """Bytes are not what their content type says."""

    default_reason = "NOT_DECODABLE"
    default_code = grpc.StatusCode.INVALID_ARGUMENT


class ClientClosed(TaskraftError):
    """The client was closed."""

    default_reason = "CLIENT_CLOSED"
    default_code = grpc.StatusCode.CANCELLED
