"""One attempt at a task, as the worker holds it: from its assignment to its outcome.

A job is used by the thread that runs it and by the session's loop. What each writes: the function's thread writes the
checkpoint and the progress, the loop writes `revoked`; single assignments, which Python makes visible at once.
"""

from __future__ import annotations

import time
from datetime import UTC
from typing import TYPE_CHECKING, Any

from taskraft import _limits, errors
from taskraft._context import Revoked, TaskContext
from taskraft.v1 import worker_pb2
from taskraft.worker import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskraft._payload import Payloads
    from taskraft._task import TaskFunction

MESSAGE_CHARACTERS_MAX = 256

REASONS: dict[worker_pb2.RevokeReason, Revoked] = {
    worker_pb2.REVOKE_REASON_CANCELLED: "cancelled",
    worker_pb2.REVOKE_REASON_PREEMPTED: "preempted",
    worker_pb2.REVOKE_REASON_SLICE_END: "slice_end",
    worker_pb2.REVOKE_REASON_LEASE_LOST: "lease_lost",
    worker_pb2.REVOKE_REASON_TIMEOUT: "timeout",
    worker_pb2.REVOKE_REASON_DRAINED: "drained",
}
REASON_NUMBERS = {name: number for number, name in REASONS.items()}


class Job:
    """What is known of one attempt. It is the `_context.Worker` of its task.

    `note` is called, in the task's thread, when there is progress or a checkpoint to send and none waited before.
    """

    __slots__ = (
        "assignment",
        "began_s",
        "checkpoint",
        "context_made",
        "fraction",
        "kind",
        "lease_id",
        "lost",
        "message",
        "note",
        "noted",
        "payloads",
        "ran_s",
        "revoked",
        "revoked_s",
        "task",
    )

    def __init__(
        self,
        assignment: worker_pb2.Assignment,
        task: TaskFunction[..., Any, Any],
        payloads: Payloads,
        kind: str,
        note: Callable[[Job], None],
    ) -> None:
        self.assignment = assignment
        self.lease_id = assignment.lease_id
        self.task = task
        self.payloads = payloads
        self.kind = kind  # of slot that it takes
        self.note = note
        self.noted = False  # `note` was called, and what it is about not taken yet
        self.began_s = 0.0  # by time.monotonic; 0 while it waits
        self.ran_s = 0.0
        self.revoked: Revoked | None = None
        self.revoked_s = 0.0
        self.lost = False  # its lease is gone: nobody is to be told what it comes to
        self.checkpoint = b""  # encoded; what this attempt left so far
        self.fraction = 0.0
        self.message = ""
        self.context_made: TaskContext | None = None

    def begin(self) -> None:
        """It runs from now on."""
        self.began_s = time.monotonic()
        lines.began(self)

    def report(self, fraction: float, message: str) -> None:
        self.fraction, self.message = fraction, message[:MESSAGE_CHARACTERS_MAX]
        self._changed()

    def save(self, checkpoint: Any) -> None:
        data = self.payloads.encode_checkpoint(checkpoint, task=self.task.name)
        if len(data) > _limits.PAYLOAD_BYTES_MAX:  # how it is written counts, too
            raise errors.PayloadTooLarge(f"the checkpoint of {self.task.name} takes {len(data)} bytes")
        self.checkpoint = data
        self._changed()

    def encode_result(self, value: Any) -> tuple[bytes, str]:
        return self.payloads.encode_result(value, task=self.task.name)

    def _changed(self) -> None:
        if not self.noted:
            self.noted = True
            self.note(self)

    def progress(self) -> worker_pb2.LeaseProgress:
        """What the broker is to know now."""
        self.noted = False  # first: what changes from here on is noted again
        return worker_pb2.LeaseProgress(
            lease_id=self.lease_id, fraction=self.fraction, message=self.message, checkpoint=self.checkpoint
        )

    def context(self) -> TaskContext:
        """What `current_task()` returns in this attempt. NotDecodable if its checkpoint cannot be read."""
        if self.context_made is None:
            self.context_made = self._make_context()
        return self.context_made

    def _make_context(self) -> TaskContext:
        assignment, task = self.assignment, self.assignment.task
        checkpoint = assignment.checkpoint
        return TaskContext(
            task_id=task.name.removeprefix("tasks/"),
            type=task.type,
            queue=task.queue.removeprefix("queues/"),
            attempt=assignment.attempt,
            lease_id=self.lease_id,
            max_attempts=task.max_attempts,
            worker=self,
            checkpoint=self.payloads.decode_checkpoint(checkpoint) if checkpoint else None,
            deadline=task.deadline.ToDatetime(tzinfo=UTC) if task.HasField("deadline") else None,
            workflow=task.workflow.removeprefix("workflows/"),
            labels=dict(task.labels),
            headers=dict(task.headers),
        )
