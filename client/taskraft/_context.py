"""What a running task sees of itself: its attempt, its checkpoint, whether it should stop.

The worker puts what makes a `TaskContext` into the context variable `running` before it calls a task's function;
`current_task()` returns it there, in the function's thread or coroutine, and wherever the function passes its
contextvars. It is made when it is asked for: many a task never looks at it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from taskraft import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_T = TypeVar("_T")

Revoked = Literal["cancelled", "preempted", "slice_end", "lease_lost", "timeout", "drained"]

_STOP: frozenset[Revoked] = frozenset({"cancelled", "lease_lost", "timeout"})


class Worker(Protocol):
    """What the worker does for one running task. All of it may be called from any thread, and returns at once."""

    def report(self, fraction: float, message: str) -> None:
        """Send how far the task is; the last report of several that come quickly may be the only one sent."""
        ...

    def save(self, checkpoint: Any) -> None:
        """Send what another attempt is to go on from, should this one be lost."""
        ...

    def encode_result(self, value: Any) -> tuple[bytes, str]:
        """A result as it is stored, and its content type. NotEncodable, PayloadTooLarge."""
        ...

    @property
    def revoked(self) -> Revoked | None:
        """Why the broker wants the lease back; None while it does not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """One attempt of a task, as the task itself sees it; `current_task()` returns it.

    `lease_id` names this attempt and grows with every lease given in the cluster: hand it to outside systems as a
    fencing token, so that they can refuse what an attempt says that was given up meanwhile. `attempt` is 1 the first
    time. `checkpoint` is what the last slice or attempt left, None without one. Times are in UTC.
    """

    task_id: str
    type: str
    queue: str
    attempt: int
    lease_id: int
    max_attempts: int = 0
    worker: Worker = field(repr=False)
    checkpoint: Any = None
    deadline: datetime | None = None
    workflow: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the task is, 0 to 1, with up to 256 characters for people; returns at once."""
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        self.worker.report(fraction, message)

    def save(self, checkpoint: Any) -> None:
        """Keep `checkpoint` for another attempt, should this one be lost; returns at once.

        It is written as results are, and has at most 1 MiB. A generator task yields its checkpoints instead.
        """
        self.worker.save(checkpoint)

    @property
    def revoked(self) -> Revoked | None:
        """Why the broker wants this task to stop or to yield; None while it does not."""
        return self.worker.revoked

    @property
    def cancelled(self) -> bool:
        """True if nobody wants this attempt's outcome any more: stop, nothing that is done now will count."""
        return self.worker.revoked in _STOP

    @property
    def should_yield(self) -> bool:
        """True if the task is to leave its place: at the end of its slice, preempted, or because its worker drains."""
        revoked = self.worker.revoked
        return revoked is not None and revoked not in _STOP

    def raise_if_cancelled(self) -> None:
        """Raise TaskRevoked if the task is cancelled: the short way out of a long loop."""
        if self.cancelled:
            raise errors.TaskRevoked(f"the task was revoked: {self.worker.revoked}")


running: ContextVar[Callable[[], TaskContext]] = ContextVar("taskraft_running")


def current_task() -> TaskContext:
    """The task that runs here. RuntimeError outside of one."""
    try:
        context = running.get()
    except LookupError:
        raise RuntimeError("current_task() was called outside of a task that a worker runs") from None
    return context()


class Retry(Exception):
    """Raised by a task: this attempt failed, try again after `delay` seconds (None: after the task's backoff).

    It counts as an attempt. `raise Retry(delay=5) from error` keeps the cause in the task's error.
    """

    def __init__(
        self, message: str = "the task asked for another attempt", *, delay: float | None = None
    ) -> None:
        super().__init__(message)
        self.delay = delay


class Abort(Exception):
    """Raised by a task: it failed for good, no further attempt."""


@dataclass(frozen=True, slots=True)
class Result(Generic[_T]):
    """What an async generator task yields last: its result. All that it yields before are checkpoints.

    A generator task returns its result; an async generator cannot return one.
    """

    value: _T
