from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any

import pytest

from taskraft import TaskContext, current_task, errors
from taskraft._context import Revoked, running


class Desk:
    """Takes what a task says, as a worker would."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, str]] = []
        self.checkpoints: list[Any] = []
        self.revoked: Revoked | None = None

    def report(self, fraction: float, message: str) -> None:
        self.reports.append((fraction, message))

    def save(self, checkpoint: Any) -> None:
        self.checkpoints.append(checkpoint)

    def encode_result(self, value: Any) -> tuple[bytes, str]:
        return repr(value).encode(), "text/plain"


def context(desk: Desk) -> TaskContext:
    return TaskContext(
        task_id="a", type="t", queue="q", attempt=2, lease_id=7, worker=desk, checkpoint={"at": 3}
    )


def test_a_task_sees_its_context_in_its_thread_and_where_it_passes_it_on() -> None:
    seen: list[int] = []

    def run() -> None:
        running.set(lambda: context(Desk()))
        seen.append(current_task().lease_id)

    copy_context().run(run)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert seen == [7, 7]
    with pytest.raises(RuntimeError, match="outside of a task"):
        current_task()


def test_what_a_task_says_reaches_its_worker() -> None:
    desk = Desk()
    task = context(desk)

    task.progress(0.5, "half")
    task.save({"at": 4})

    assert (desk.reports, desk.checkpoints, task.checkpoint) == ([(0.5, "half")], [{"at": 4}], {"at": 3})
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            task.progress(fraction)


@pytest.mark.parametrize(
    ("revoked", "cancelled", "should_yield"),
    [
        (None, False, False),
        ("cancelled", True, False),
        ("lease_lost", True, False),
        ("timeout", True, False),
        ("slice_end", False, True),
        ("preempted", False, True),
        ("drained", False, True),
    ],
)
def test_a_task_knows_whether_to_stop_or_to_yield(
    revoked: Revoked | None, cancelled: bool, should_yield: bool
) -> None:
    desk = Desk()
    task = context(desk)
    desk.revoked = revoked

    assert (task.cancelled, task.should_yield, task.revoked) == (cancelled, should_yield, revoked)
    if cancelled:
        with pytest.raises(errors.TaskRevoked):
            task.raise_if_cancelled()
    else:
        task.raise_if_cancelled()
