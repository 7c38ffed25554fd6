"""What a worker logs of its tasks: that they began and ended, at debug; that they failed, at warning."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskraft.v1 import worker_pb2
    from taskraft.worker.job import Job

_log = logging.getLogger("taskraft.worker")


def began(job: Job) -> None:
    """Say at debug that a job runs from now on; any thread."""
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("task started %s", _named(job))


def ended(job: Job, outcome: worker_pb2.Outcome, attempts: Mapping[str, int]) -> None:
    """Say what a job came to: a failure at warning, with its traceback unless a further attempt is certain.

    `attempts` are those that tasks get which do not say themselves, by queue, where that is known.
    """
    if outcome.HasField("failure"):
        _failed(
            job,
            outcome.failure,
            job.assignment.task.max_attempts or attempts.get(job.assignment.task.queue, 0),
        )
    elif _log.isEnabledFor(logging.DEBUG):
        what = "succeeded" if outcome.HasField("result") else "stopped early"
        _log.debug("task %s %s after_s=%.3f", what, _named(job), job.ran_s)


def _failed(job: Job, failure: worker_pb2.TaskFailure, attempts: int) -> None:
    if not _log.isEnabledFor(logging.WARNING):
        return
    error, attempt = failure.error, job.assignment.attempt
    last = failure.permanent or 0 < attempts <= attempt
    again = ""
    if last:
        again = ", not tried again"
    elif failure.HasField("delay"):
        again = f", again in {failure.delay.ToNanoseconds() / 1e9:g} s"
    text = "task failed %s error=%s: %s%s"
    said = (_named(job, attempts), error.reason, error.message, again)
    record = _log.makeRecord(_log.name, logging.WARNING, __file__, 0, text, said, None, "ended")
    if error.detail and (last or not attempts):
        record.exc_text = error.detail.rstrip()  # as text: the exception itself may be in another process
    _log.handle(record)


def _named(job: Job, attempts: int = 0) -> str:
    task, attempt = job.assignment.task, job.assignment.attempt
    of = f" of {attempts}" if attempts else ""
    return f"type={task.type} id={task.name.removeprefix('tasks/')} attempt={attempt}{of}"
