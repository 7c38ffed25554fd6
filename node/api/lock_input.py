"""What a request about locks may say. Accepted values have all defaults filled in."""

from __future__ import annotations

from node import limits
from node.api import validate
from node.errors import InvalidField
from node.locks.keepalive import Grant
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import lock_pb2


def acquisition(request: lock_pb2.AcquireLockRequest) -> tuple[command_pb2.AcquireLock, int]:
    """What is put into the log for a request, and how long it may wait, in milliseconds. Raises InvalidField."""
    wait_ms = validate.duration_ms(request.wait, "wait", 0, limits.LOCK_WAIT_MS_MAX)
    mode = _mode(request.mode)
    command = command_pb2.AcquireLock(
        name=validate.lock_name(request.name),
        mode=mode,
        permits=_permits(mode, request.permits),
        ttl_ms=_ttl_ms(request),
        lock_delay_ms=validate.duration_ms(request.lock_delay, "lock_delay", 0, limits.LOCK_DELAY_MS_MAX),
        holder_id=validate.text(request.holder_id, "holder_id", limits.LOCK_HOLDER_ID_CHARS_MAX),
        at_once=not wait_ms,
    )
    validate.labels(request.labels, "labels")
    command.labels.update(request.labels)
    return command, wait_ms


def release(request: lock_pb2.ReleaseLockRequest) -> command_pb2.ReleaseLock:
    """What is put into the log for a request. Raises InvalidField."""
    return command_pb2.ReleaseLock(
        name=validate.lock_name(request.name), token=_token(request.token, "token")
    )


def grants(request: lock_pb2.KeepAliveLockRequest) -> list[Grant]:
    """What is to be kept alive. Raises InvalidField."""
    if not request.sequence:
        raise InvalidField("sequence", "above 0")
    if not 1 <= len(request.locks) <= limits.LOCKS_KEPT_MAX:
        raise InvalidField("locks", f"1 to {limits.LOCKS_KEPT_MAX} locks")
    return [
        (
            validate.lock_name(each.name, f"locks[{place}].name"),
            _token(each.token, f"locks[{place}].token"),
        )
        for place, each in enumerate(request.locks)
    ]


def _mode(mode: lock_pb2.LockMode) -> lock_pb2.LockMode:
    if mode not in lock_pb2.LockMode.values():
        raise InvalidField("mode", "EXCLUSIVE, SHARED or SEMAPHORE")
    return mode or lock_pb2.LOCK_MODE_EXCLUSIVE


def _permits(mode: lock_pb2.LockMode, permits: int) -> int:
    if mode != lock_pb2.LOCK_MODE_SEMAPHORE:
        if permits:
            raise InvalidField("permits", "0 unless mode is SEMAPHORE")
    elif not 1 <= permits <= limits.LOCK_PERMITS_MAX:
        raise InvalidField("permits", f"1 to {limits.LOCK_PERMITS_MAX}")
    return permits


def _ttl_ms(request: lock_pb2.AcquireLockRequest) -> int:
    if not request.HasField("ttl"):
        return limits.LOCK_TTL_MS_DEFAULT
    return validate.duration_ms(request.ttl, "ttl", limits.LOCK_TTL_MS_MIN, limits.LOCK_TTL_MS_MAX)


def _token(token: int, field: str) -> int:
    if not 1 <= token <= limits.SEQUENCE_MAX:
        raise InvalidField(field, "the token of a grant")
    return token
