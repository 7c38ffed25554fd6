"""What gRPC says went wrong, as the error of its class."""

from __future__ import annotations

import copy as copying
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from taskraft import errors
from taskraft.errors import TaskraftError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskraft.v1 import queue_pb2

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "taskraft"


def _tree(kind: type[TaskraftError]) -> list[type[TaskraftError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


_BY_REASON = {kind.default_reason: kind for kind in _tree(TaskraftError)} | {"STOPPED": errors.InternalError}
_BY_CODE = {
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,  # a node that stops cancels what it was doing
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.INTERNAL: errors.InternalError,
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
    twin = copying.copy(error)
    return twin.with_traceback(None)
