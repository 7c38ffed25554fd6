"""What a worker tells in its log."""

from __future__ import annotations

import logging

import pytest

from taskraft import Retry
from taskraft.cli.worker import Lines, LogLevel, log_to_stderr
from tests.client.work_stage import Stage, all_ended, perform


def test_a_failed_task_is_a_line_and_the_last_attempt_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q", name="boom")
        def boom(number: int) -> None:
            raise ValueError(f"bad {number}")

        @stage.app.task(queue="q", name="later", max_attempts=3)
        def later() -> None:
            raise Retry(delay=5)

        first, last, soon = stage.submit(boom, 3), stage.submit(boom, 4), stage.submit(later)
        for row in (first, last, soon):
            row.task.max_attempts = 3
        async with stage.worker():
            await all_ended(first, last, soon)

    with caplog.at_level(logging.WARNING, logger="taskraft.worker"):
        perform(story)

    lines = [Lines().format(record).partition("task failed ")[2] for record in caplog.records]
    whole = [line for line in lines if "bad 4" in line][-1]
    assert "type=boom id=t0 attempt=1 of 3 error=ValueError: bad 3" in lines
    assert whole.startswith(
        "type=boom id=t1 attempt=3 of 3 error=ValueError: bad 4, not tried again\nTraceback"
    )
    assert 'raise ValueError(f"bad {number}")' in whole
    assert any("type=later" in line and line.endswith(", again in 5 s") for line in lines)


def test_starts_and_ends_of_tasks_are_told_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q", name="fine")
        def fine() -> None: ...

        @stage.app.task(queue="q", name="meet")
        async def meet() -> None: ...

        rows = [stage.submit(fine), stage.submit(meet)]
        async with stage.worker():
            await all_ended(*rows)

    with caplog.at_level(logging.DEBUG, logger="taskraft.worker"):
        perform(story)

    for name in ("fine", "meet"):
        said = [line for line in caplog.messages if f"type={name} " in line]
        assert [line.partition(" type")[0] for line in said] == ["task started", "task succeeded"]


def test_libraries_do_not_speak_at_debug() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log_to_stderr(LogLevel.DEBUG)
        assert root.level == logging.DEBUG
        assert not logging.getLogger("grpc._cython").isEnabledFor(logging.INFO)
        assert not logging.getLogger("asyncio").isEnabledFor(logging.INFO)
    finally:
        root.handlers[:], root.level = before
        for library in ("grpc", "asyncio"):
            logging.getLogger(library).setLevel(logging.NOTSET)
