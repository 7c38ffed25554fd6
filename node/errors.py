"""What the API answers when it cannot do what was asked: one class per reason, its docstring is the message.

Each error has a gRPC status, a reason (google.rpc.ErrorInfo of domain `taskraft`) and metadata that repeats
every variable part of the message. `translate` turns the errors of the log into these, `trailers` turns these
into what travels: the only places where that happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from raft import errors as raft_errors
from taskraft.v1 import queue_pb2

DOMAIN = "taskraft"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

STATUS_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Trailers = tuple[tuple[str, str | bytes], ...]


class ApiError(Exception):
    """The node could not do what was asked."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    retry_after_ms: ClassVar[int | None] = None
    """When a retry may help, or None if only a change of the request does."""

    def __init__(self, message: str = "", **metadata: object) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n")[0]
        self.metadata = {name: str(value) for name, value in metadata.items()}
        super().__init__(self.message)

    @property
    def code(self) -> grpc.StatusCode:
        return self.status

    @property
    def name(self) -> str:
        return self.reason


class Internal(ApiError):
    """The node failed; its log says why."""


class NotLeader(ApiError):
    """This node does not lead, and nothing was done."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "NOT_LEADER"
    retry_after_ms = 0


class NoLeader(ApiError):
    """The cluster has no leader at the moment; nothing was done."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "NO_LEADER"
    retry_after_ms = 100


class ShuttingDown(ApiError):
    """This node stops; nothing was done."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "SHUTTING_DOWN"
    retry_after_ms = 0


class CommitUnknown(ApiError):
    """The leader was lost while this was being committed; it may or may not be done. Retry with the same request_id."""

    status = grpc.StatusCode.UNKNOWN
    reason = "COMMIT_UNKNOWN"


class DiskLow(ApiError):
    """The node's disk is nearly full; nothing is stored until there is space."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "DISK_LOW"
    retry_after_ms = 5_000


class Overloaded(ApiError):
    """Too many bytes are on their way to a commit already."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    retry_after_ms = 100


class QueueNotFound(ApiError):
    """There is no such queue."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "QUEUE_NOT_FOUND"


class GroupNotFound(ApiError):
    """There is no such consumer group."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "GROUP_NOT_FOUND"


class OutOfRange(ApiError):
    """The queue has no such message yet."""

    status = grpc.StatusCode.OUT_OF_RANGE
    reason = "OUT_OF_RANGE"


class TaskNotFound(ApiError):
    """There is no such task, or it has been forgotten."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "TASK_NOT_FOUND"


class WorkflowNotFound(ApiError):
    """There is no such workflow, or it has been forgotten."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "WORKFLOW_NOT_FOUND"


class ScheduleNotFound(ApiError):
    """There is no such schedule."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "SCHEDULE_NOT_FOUND"


class WorkerNotFound(ApiError):
    """No worker of that id is known to the leader."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "WORKER_NOT_FOUND"


class WorkerReplaced(ApiError):
    """Another stream of this worker has taken this one's place."""

    status = grpc.StatusCode.ABORTED
    reason = "WORKER_REPLACED"


class WrongQueueKind(ApiError):
    """The queue holds tasks where messages are meant, or the other way round."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "WRONG_QUEUE_KIND"


class UnknownDependency(ApiError):
    """A task depends on one that does not exist."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "UNKNOWN_DEPENDENCY"


class Cycle(ApiError):
    """Tasks depend on each other in a circle."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "CYCLE"


class DeadlineInfeasible(ApiError):
    """A task is not expected to meet its deadline, and its queue refuses such tasks."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "DEADLINE_INFEASIBLE"


class SlowReader(ApiError):
    """More has changed than is kept for a stream that is not read; open it again with what is current."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "SLOW_READER"
    retry_after_ms = 0


class LeaseLost(ApiError):
    """Some of these messages are not leased by that lease any more; they were or will be delivered again."""

    status = grpc.StatusCode.ABORTED
    reason = "LEASE_LOST"


class InvalidField(ApiError):
    """A field of the request is out of its limits."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, field: str, limit: str, **metadata: object) -> None:
        super().__init__(f"{field} must be {limit}", field=field, limit=limit, **metadata)

    def within(self, prefix: str) -> Self:
        """The same of a field that is part of something larger, `tasks[3].` for instance."""
        rest = {name: value for name, value in self.metadata.items() if name not in ("field", "limit")}
        return type(self)(prefix + self.metadata["field"], self.metadata["limit"], **rest)


class InvalidCredit(InvalidField):
    """Credit is out of its limits."""

    reason = "INVALID_CREDIT"


class PayloadTooLarge(InvalidField):
    """A message, or all of one publish together, is too large."""

    reason = "PAYLOAD_TOO_LARGE"


class Malformed(ApiError):
    """The request is not what the method takes: its bytes do not decode."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "MALFORMED_REQUEST"


class MemberExists(ApiError):
    """The cluster has a member of that id."""

    status = grpc.StatusCode.ALREADY_EXISTS
    reason = "MEMBER_EXISTS"


class MemberNotFound(ApiError):
    """The cluster has no member of that id."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "MEMBER_NOT_FOUND"


class ChangeInProgress(ApiError):
    """Another change of the members is not committed yet."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CHANGE_IN_PROGRESS"


class CatchUpTimeout(ApiError):
    """The new member did not catch up in time; it stays without a vote until it has."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "CATCH_UP_TIMEOUT"


class TransferFailed(ApiError):
    """Leadership was not handed over."""

    status = grpc.StatusCode.ABORTED
    reason = "TRANSFER_FAILED"


class Refusal(ApiError):
    """The state machine refused a command: it says status, reason and metadata itself."""

    def __init__(self, code: int, reason: str, message: str, metadata: Mapping[str, str]) -> None:
        super().__init__(message, **metadata)
        self._code = STATUS_BY_NUMBER[code]
        self._reason = reason
        self._retryable = self._code is grpc.StatusCode.RESOURCE_EXHAUSTED

    @property
    def code(self) -> grpc.StatusCode:
        return self._code

    @property
    def name(self) -> str:
        return self._reason

    @property
    def retry_ms(self) -> int | None:
        return REFUSAL_RETRY_MS if self._retryable else None


REFUSAL_RETRY_MS = 1_000  # a full queue is not empty a moment later

TRANSLATIONS: dict[type[Exception], type[ApiError]] = {
    raft_errors.NotLeader: NotLeader,
    raft_errors.Overwritten: NotLeader,
    raft_errors.CommitUnknown: CommitUnknown,
    raft_errors.NoQuorum: NoLeader,
    raft_errors.Stopped: ShuttingDown,
    raft_errors.MemberExists: MemberExists,
    raft_errors.MemberNotFound: MemberNotFound,
    raft_errors.ChangeInProgress: ChangeInProgress,
    raft_errors.CatchUpTimeout: CatchUpTimeout,
    raft_errors.TransferFailed: TransferFailed,
}


def translate(error: BaseException) -> ApiError | None:
    """The answer for an error of the log; None if `error` is a bug, which is logged and answered as Internal."""
    if isinstance(error, ApiError):
        return error
    for kind in type(error).__mro__:
        if kind in TRANSLATIONS:
            return TRANSLATIONS[kind](str(error))
    return None


def retry_ms(error: ApiError) -> int | None:
    return error.retry_ms if isinstance(error, Refusal) else error.retry_after_ms


def details(error: ApiError) -> list[Message]:
    """ErrorInfo, and RetryInfo or BadRequest where they say something."""
    found: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.name, domain=DOMAIN, metadata=error.metadata)
    ]
    wait_ms = retry_ms(error)
    if wait_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(wait_ms)
        found.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.metadata["field"], description=error.message
        )
        found.append(error_details_pb2.BadRequest(field_violations=[violation]))
    return found


def trailers(error: ApiError) -> Trailers:
    """The trailing metadata that says `error` in full: google.rpc.Status, and gRFC A6's pushback."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details(error):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    found: Trailers = ((DETAILS_KEY, status.SerializeToString()),)
    return (*found, (PUSHBACK_KEY, "0")) if isinstance(error, NotLeader) else found


def failure(error: ApiError) -> queue_pb2.Failure:
    """The same within a stream that goes on."""
    return queue_pb2.Failure(
        code=error.code.value[0], reason=error.name, message=error.message, metadata=error.metadata
    )
