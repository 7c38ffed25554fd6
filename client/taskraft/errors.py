"""What can go wrong, as one tree.

Every error has the broker's `reason` (such as QUEUE_FULL), its gRPC `code` and its `metadata`. There is one
class per reason; a reason that this version does not know is a plain `TaskraftError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskraft._values import Receipt
    from taskraft.v1 import queue_pb2

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "taskraft"


class TaskraftError(Exception):
    """taskraft could not do what was asked."""

    default_reason: ClassVar[str] = "UNKNOWN"
    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])
        self.message = str(self.args[0])
        self.reason = reason or self.default_reason
        self.code = code or self.default_code
        self.metadata = dict(metadata or {})
        self.receipts: tuple[Receipt, ...] = ()
        """What `publish_many` had stored all the same when another part of it failed."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


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


class DeadlineExceeded(TaskraftError):
    """There was no answer in time; it may or may not have been done."""

    default_reason = "DEADLINE_EXCEEDED"
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


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


class ClientClosed(TaskraftError):
    """The client was closed."""

    default_reason = "CLIENT_CLOSED"
    default_code = grpc.StatusCode.CANCELLED


def _tree(kind: type[TaskraftError]) -> list[type[TaskraftError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


_BY_REASON = {kind.default_reason: kind for kind in _tree(TaskraftError)} | {"STOPPED": InternalError}
_BY_CODE = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,  # a node that stops cancels what it was doing
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.INTERNAL: InternalError,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def make(code: grpc.StatusCode, reason: str, message: str, metadata: Mapping[str, str]) -> TaskraftError:
    """The error of the class that belongs to `reason`, or else to `code`."""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, TaskraftError)
    return kind(message, reason=reason or code.name, code=code, metadata=metadata)


def from_failure(failure: queue_pb2.Failure) -> TaskraftError:
    """The error that a stream's answer carries."""
    code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    return make(code, failure.reason, failure.message, failure.metadata)


def from_call(error: grpc.aio.AioRpcError) -> TaskraftError:
    """The error of a call that failed, with what google.rpc.ErrorInfo adds to its status."""
    code, message = error.code(), error.details() or ""
    info = _error_info(error.trailing_metadata())
    if info is None:
        return make(code, "", message, {})
    return make(code, info.reason, message, info.metadata)


def _error_info(trailers: grpc.aio.Metadata | None) -> error_details_pb2.ErrorInfo | None:
    for key, value in trailers or ():
        if key != DETAILS_KEY:
            continue
        try:
            details = status_pb2.Status.FromString(value).details
        except DecodeError:
            return None
        for detail in details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    return None


def copy(error: TaskraftError) -> TaskraftError:
    """The same error as a new object: each of many callers raises its own, with its own traceback."""
    return type(error)(error.message, reason=error.reason, code=error.code, metadata=error.metadata)
