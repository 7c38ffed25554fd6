"""What an attempt has come to, as the broker is told: results, failures, yields."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

from taskraft import errors
from taskraft._context import Abort, Retry, Revoked
from taskraft.v1 import task_pb2, worker_pb2
from taskraft.worker.job import REASON_NUMBERS

if TYPE_CHECKING:
    from types import TracebackType

    from taskraft.worker.job import Job

REASON_CHARACTERS_MAX = 128
MESSAGE_CHARACTERS_MAX = 1_024
DETAIL_CHARACTERS_MAX = 8_192

_HERE = str(Path(__file__).parent)


def succeeded(job: Job, value: Any) -> worker_pb2.Outcome:
    """The outcome of a function that returned `value`; a failure if that cannot be written or is too large."""
    try:
        data, content_type = job.encode_result(value)
    except errors.PayloadTooLarge as error:
        return failed(job.lease_id, "RESULT_TOO_LARGE", error.message, permanent=True)
    except errors.NotEncodable as error:
        return failed(job.lease_id, "RESULT_NOT_ENCODABLE", error.message, permanent=True)
    outcome = worker_pb2.Outcome(lease_id=job.lease_id)
    result = outcome.result  # filled in place: half the time of one that is built and copied
    result.data = data
    result.content_type = content_type
    return outcome


def failed(
    lease_id: int,
    reason: str,
    message: str,
    *,
    detail: str = "",
    permanent: bool = False,
    delay_s: float | None = None,
) -> worker_pb2.Outcome:
    """A failure with everything cut to what the broker takes; of a long `detail` the end is kept."""
    failure = worker_pb2.TaskFailure(
        error=task_pb2.TaskError(
            reason=reason[:REASON_CHARACTERS_MAX],
            message=message[:MESSAGE_CHARACTERS_MAX],
            detail=detail[-DETAIL_CHARACTERS_MAX:],
        ),
        permanent=permanent,
    )
    if delay_s is not None:
        pause = Duration()
        pause.FromNanoseconds(max(0, int(delay_s * 1e9)))
        failure.delay.CopyFrom(pause)
    return worker_pb2.Outcome(lease_id=lease_id, failure=failure)


def yielded(lease_id: int, reason: Revoked, checkpoint: bytes = b"") -> worker_pb2.Outcome:
    """The task stopped before its end. No checkpoint: the one that there is stays."""
    stop = worker_pb2.TaskYield(checkpoint=checkpoint, reason=REASON_NUMBERS[reason])
    return worker_pb2.Outcome(lease_id=lease_id, **{"yield": stop})  # type: ignore[arg-type]  # a keyword of Python


def raised(job: Job, error: BaseException) -> worker_pb2.Outcome:
    """The outcome of a function that raised `error`: its class is the reason."""
    if isinstance(error, errors.TaskRevoked) and job.revoked is not None:
        return yielded(job.lease_id, job.revoked, job.checkpoint)
    cause, permanent, delay_s = error, job.task.is_permanent(error), None
    if isinstance(error, Retry):
        permanent, delay_s = False, error.delay
    elif isinstance(error, Abort):
        permanent = True
    if isinstance(error, Retry | Abort) and error.__cause__ is not None:
        cause = error.__cause__
    return failed(
        job.lease_id,
        type(cause).__name__,
        _text(cause),
        detail=_detail(error),
        permanent=permanent,
        delay_s=delay_s,
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  of the task
        return f"{type(error).__name__} that cannot be written"


def _detail(error: BaseException) -> str:
    """The traceback from the task's own first line on."""
    trace = own_part(error.__traceback__)
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:  # noqa: BLE001  of the task
        return "".join(traceback.format_tb(trace))


def own_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of the worker above the task; None if it never reached the task."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    return trace


def misfit(error: TypeError) -> bool:
    """True if `error` says that the arguments do not fit the function, not that something in it went wrong."""
    return own_part(error.__traceback__) is None
