from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from taskraft import App, Result, current_task
from taskraft.v1 import worker_pb2
from taskraft.worker.executors import Coroutines
from taskraft.worker.job import Job
from tests.client.waiting import until
from tests.client.work_stage import Stage, perform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

CANCELLED = worker_pb2.REVOKE_REASON_CANCELLED
PREEMPTED = worker_pb2.REVOKE_REASON_PREEMPTED
SLICE_END = worker_pb2.REVOKE_REASON_SLICE_END
TIMEOUT = worker_pb2.REVOKE_REASON_TIMEOUT


def test_a_generator_goes_on_from_its_last_checkpoint_after_its_slice() -> None:
    async def story(stage: Stage) -> None:
        gate, steps, closed = threading.Semaphore(0), [], []

        @stage.app.task(queue="q")
        def count(until: int) -> Generator[dict[str, int], None, str]:
            at = current_task().checkpoint or {"at": 0}
            try:
                while at["at"] < until:
                    steps.append(at["at"])
                    at["at"] += 1
                    yield at
                    gate.acquire()
            except GeneratorExit:
                closed.append(at["at"])
                raise
            return "counted"

        row = stage.submit(count, 4)
        async with stage.worker():
            gate.release()
            await until(lambda: len(steps) == 2)
            await stage.broker.session.revoke(row, SLICE_END)
            gate.release()
            await until(lambda: "slice_end" in row.events)
            for _ in range(5):
                gate.release()
            await row.ended.wait()

        assert steps == [0, 1, 2, 3]
        assert stage.result(row) == "counted"
        assert (row.events, row.attempt) == (["leased", "slice_end", "leased", "succeeded"], 1)
        assert closed == [3], "closed at the yield after the one at which it was when it was asked"

    perform(story)


def test_an_async_generator_goes_on_from_its_last_checkpoint_when_it_was_preempted() -> None:
    async def story(stage: Stage) -> None:
        steps: list[int] = []

        @stage.app.task(queue="q")
        async def count() -> AsyncGenerator[int | Result[str], None]:
            for at in range(current_task().checkpoint or 0, 3):
                while not steps and not current_task().should_yield:
                    await asyncio.sleep(0.005)
                steps.append(at)
                yield at + 1
            yield Result("counted")

        row = stage.submit(count)
        async with stage.worker():
            await until(lambda: row.assignment.lease_id in stage.broker.session.received)
            await stage.broker.session.revoke(row, PREEMPTED)
            await row.ended.wait()

        assert row.events == ["leased", "preempted", "leased", "succeeded"]
        assert steps == [0, 1, 2]
        assert stage.result(row) == "counted"

    perform(story)


def test_a_yield_of_nothing_keeps_the_checkpoint() -> None:
    async def story(stage: Stage) -> None:
        at_second = threading.Event()
        go_on = threading.Event()

        @stage.app.task(queue="q")
        def steps() -> Iterator[str | None]:
            if current_task().checkpoint == "first":
                return
            yield "first"
            at_second.set()
            go_on.wait()
            yield None
            raise AssertionError

        row = stage.submit(steps)
        async with stage.worker():
            await until(at_second.is_set)
            await stage.broker.session.revoke(row, SLICE_END)
            before = len(stage.broker.session.heartbeats)
            await until(lambda: len(stage.broker.session.heartbeats) > before + 1)
            go_on.set()
            await row.ended.wait()

        assert row.events == ["leased", "slice_end", "leased", "succeeded"]

    perform(story)


@pytest.mark.parametrize(
    ("value", "reason"), [(object(), "CHECKPOINT_NOT_ENCODABLE"), ("x" * (1 << 20), "CHECKPOINT_TOO_LARGE")]
)
def test_a_checkpoint_that_cannot_be_kept_fails_the_task_for_good(value: object, reason: str) -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def bad() -> Iterator[object]:
            yield value

        row = stage.submit(bad)
        async with stage.worker():
            await row.ended.wait()

        assert (row.error.reason, row.outcomes[0].failure.permanent) == (reason, True)

    perform(story)


def test_the_checkpoint_of_a_failed_attempt_is_there_for_the_next_one() -> None:
    async def story(stage: Stage) -> None:
        seen = []

        @stage.app.task(queue="q")
        def steps() -> Iterator[str]:
            seen.append(current_task().checkpoint)
            if len(seen) == 1:
                yield "first"
                raise OSError

        row = stage.submit(steps, max_attempts=2)
        async with stage.worker():
            await row.ended.wait()

        assert seen == [None, "first"]

    perform(story)


@pytest.mark.parametrize("reason", [CANCELLED, TIMEOUT, PREEMPTED])
def test_a_coroutine_is_cancelled(reason: worker_pb2.RevokeReason) -> None:
    async def story(stage: Stage) -> None:
        cleaned, began = [], []

        @stage.app.task(queue="q")
        async def forever() -> None:
            began.append(1)
            if len(began) > 1:
                return
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(current_task().revoked)

        row = stage.submit(forever)
        async with stage.worker():
            await until(lambda: bool(began))
            await stage.broker.session.revoke(row, reason)
            await row.ended.wait()

        assert cleaned == [worker_pb2.RevokeReason.Name(reason).removeprefix("REVOKE_REASON_").lower()]
        assert row.events == ["leased", cleaned[0], "leased", "succeeded"]

    perform(story)


def test_a_coroutine_is_not_cancelled_at_the_end_of_its_slice_but_reported() -> None:
    async def story(stage: Stage) -> None:
        go_on = threading.Event()

        @stage.app.task(queue="q")
        async def deaf() -> str:
            while not go_on.is_set():
                await asyncio.sleep(0.01)
            return "done"

        row = stage.submit(deaf)
        async with stage.worker():
            await until(lambda: bool(stage.broker.session.received))
            await stage.broker.session.revoke(row, SLICE_END)
            lease_id = row.assignment.lease_id
            await until(lambda: lease_id in stage.broker.session.heartbeats[-1].overdue_lease_ids)
            go_on.set()
            await row.ended.wait()
            before = len(stage.broker.session.heartbeats)
            await until(lambda: len(stage.broker.session.heartbeats) > before + 1)
            assert not stage.broker.session.heartbeats[-1].overdue_lease_ids

        assert stage.result(row) == "done"

    perform(story)


def test_a_thread_is_told_that_its_task_was_cancelled_and_keeps_its_place_until_it_ends() -> None:
    async def story(stage: Stage) -> None:
        began, saw = threading.Event(), []

        @stage.app.task(queue="q")
        def stubborn(name: str) -> str:
            began.set()
            while name == "first" and not current_task().cancelled:
                threading.Event().wait(0.005)
            saw.append((name, current_task().cancelled))
            return name

        row, after = stage.submit(stubborn, "first"), stage.submit(stubborn, "second")
        async with stage.worker(threads=1):
            await until(began.is_set)
            lease_id = row.lease_id
            row.lease_id = 0
            del stage.broker.leases[lease_id]  # cancelled: its outcome is refused
            await stage.broker.session.revoke(row, CANCELLED)
            await after.ended.wait()
            await until(lambda: bool(row.refused))

        assert saw == [("first", True), ("second", False)]
        assert row.outcomes == []

    perform(story)


def test_a_task_may_leave_when_it_is_cancelled() -> None:
    async def story(stage: Stage) -> None:
        began = threading.Event()

        @stage.app.task(queue="q")
        def polite() -> None:
            if began.is_set():
                return
            began.set()
            while True:
                current_task().raise_if_cancelled()
                threading.Event().wait(0.005)

        row = stage.submit(polite)
        async with stage.worker():
            await until(began.is_set)
            await stage.broker.session.revoke(row, TIMEOUT)
            await row.ended.wait()

        assert row.events == ["leased", "timeout", "leased", "succeeded"]

    perform(story)


def test_a_coroutine_that_is_revoked_before_its_first_step_gives_its_place_back() -> None:
    async def story() -> None:
        app, ended = App("127.0.0.1:1", queue="q"), threading.Event()

        @app.task
        async def quick() -> None: ...

        executor = Coroutines(1, lambda job, outcome: ended.set())
        job = Job(worker_pb2.Assignment(lease_id=1), quick, app.payloads, "async", lambda _: None)
        executor.put([job])
        job.revoked = "cancelled"
        executor.stop(
            job
        )  # both are done in the first turn of the loop, in which the task does not begin yet
        executor.start()
        await until(ended.is_set)
        await executor.close()

    asyncio.run(story())
