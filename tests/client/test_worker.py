from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskraft import Abort, Retry, current_task
from taskraft.v1 import task_pb2, worker_pb2
from tests.client.waiting import until
from tests.client.work_stage import Stage, all_ended, perform


def test_blocking_functions_run_in_threads_and_return_their_results() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def add(a: int, b: int) -> dict[str, Any]:
            return {"sum": a + b, "main": threading.current_thread() is threading.main_thread()}

        rows = [stage.submit(add, n, 1) for n in range(50)]
        async with stage.worker(threads=2):
            await all_ended(*rows)

        assert [stage.result(row) for row in rows] == [{"sum": n + 1, "main": False} for n in range(50)]
        assert stage.broker.session.hello.types == [add.name]
        assert stage.broker.session.received == {row.assignment.lease_id for row in rows}

    perform(story)


def test_coroutine_functions_run_at_once_in_one_loop() -> None:
    async def story(stage: Stage) -> None:
        here: list[int] = []
        everybody = asyncio.Event()

        @stage.app.task(queue="q")
        async def meet(me: int) -> int:
            here.append(threading.get_ident())
            if len(here) == 20:
                everybody.set()
            await everybody.wait()
            return me

        rows = [stage.submit(meet, n) for n in range(20)]
        async with stage.worker():
            await all_ended(*rows)

        assert [stage.result(row) for row in rows] == list(range(20))
        assert len(set(here)) == 1

    perform(story)


def test_a_task_sees_its_attempt() -> None:
    async def story(stage: Stage) -> None:
        seen = []

        @stage.app.task(queue="q")
        def look() -> None:
            seen.append(current_task())
            current_task().progress(0.5, "half")

        row = stage.submit(look)
        row.task.headers["trace"] = "abc"
        async with stage.worker():
            await row.ended.wait()

        [context] = seen
        assert (context.task_id, context.queue, context.type) == ("t0", "q", look.name)
        assert (context.attempt, context.lease_id) == (1, row.assignment.lease_id)
        assert context.headers == {"trace": "abc"}
        with pytest.raises(RuntimeError, match="outside of a task"):
            current_task()

    perform(story)


def test_progress_and_saved_checkpoints_reach_the_broker_while_the_task_runs() -> None:
    async def story(stage: Stage) -> None:
        go_on = threading.Event()

        @stage.app.task(queue="q")
        def work() -> None:
            for step in range(100):
                current_task().progress(step / 100, f"step {step}")
            current_task().save({"at": 99})
            go_on.wait()

        row = stage.submit(work)
        async with stage.worker():
            await until(lambda: bool(row.progress) and row.progress[-1].message == "step 99")
            assert len(row.progress) < 20, "reports that come quickly go together"
            assert stage.app.payloads.decode_checkpoint(row.checkpoint) == {"at": 99}
            go_on.set()
            await row.ended.wait()

    perform(story)


def test_an_exception_is_a_failure_with_its_class_message_and_traceback() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q", no_retry_on=(KeyError,))
        def fail(how: str) -> None:
            if how == "value":
                raise ValueError("x" * 5_000)
            if how == "deep":
                fail.function("deep")
            raise KeyError(how)

        value, key, deep = (stage.submit(fail, how) for how in ("value", "key", "deep"))
        async with stage.worker():
            await all_ended(value, key, deep)

        assert (value.error.reason, len(value.error.message)) == ("ValueError", 1_024)
        assert value.error.detail.startswith("Traceback")
        assert "taskraft/worker/" not in value.error.detail
        assert not value.outcomes[0].failure.permanent
        assert key.outcomes[0].failure.permanent
        assert deep.error.reason == "RecursionError"
        assert len(deep.error.detail) <= 8_192

    perform(story)


def test_a_task_says_itself_whether_it_is_to_be_tried_again() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def retry() -> None:
            try:
                raise OSError("no route")
            except OSError as error:
                raise Retry(delay=2.5) from error

        @stage.app.task(queue="q")
        async def abort() -> None:
            raise Abort("never")

        retried, aborted = stage.submit(retry), stage.submit(abort)
        async with stage.worker():
            await all_ended(retried, aborted)

        failure = retried.outcomes[0].failure
        assert (failure.permanent, failure.delay.ToMilliseconds()) == (False, 2_500)
        assert (failure.error.reason, failure.error.message) == ("OSError", "no route")
        failure = aborted.outcomes[0].failure
        assert (failure.permanent, failure.error.reason, failure.error.message) == (True, "Abort", "never")

    perform(story)


def test_what_can_never_work_is_not_tried_again() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one(a: int) -> Any:
            return {1: object(), 2: "x" * (1 << 20), 3: 0}[a]

        rows = [
            stage.broker.submit(one.name, b"{not json"),
            stage.broker.submit(one.name, b"\xff", "image/png"),
            stage.submit(one, 1, 2, 3),
            stage.submit(one),
            stage.submit(one, 1),
            stage.submit(one, 2),
            stage.submit(one, 3, checkpoint=b"text/plain\nnonsense"),
        ]
        async with stage.worker():
            await all_ended(*rows)

        assert [row.error.reason for row in rows] == [
            *["BAD_PAYLOAD"] * 4,
            "RESULT_NOT_ENCODABLE",
            "RESULT_TOO_LARGE",
            "BAD_CHECKPOINT",
        ]
        assert all(row.outcomes[0].failure.permanent for row in rows)
        assert "a" in rows[3].error.message

    perform(story)


def test_a_type_error_inside_a_task_is_its_own() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def clumsy() -> int:
            return len(5)  # type: ignore[arg-type]

        row = stage.submit(clumsy)
        async with stage.worker():
            await row.ended.wait()

        assert row.error.reason == "TypeError"
        assert not row.outcomes[0].failure.permanent

    perform(story)


def test_a_task_of_a_type_that_the_worker_does_not_know_may_be_tried_elsewhere() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def known() -> None: ...

        row = stage.broker.submit("unknown")
        async with stage.worker():
            await row.ended.wait()

        assert (row.error.reason, row.outcomes[0].failure.permanent) == ("UNKNOWN_TYPE", False)

    perform(story)


def parent(row: Any, **fields: Any) -> worker_pb2.ParentResult:
    result = None if fields.get("omitted") else row.outcomes[-1].result
    return worker_pb2.ParentResult(
        task=row.task.name, state=task_pb2.TASK_STATE_SUCCEEDED, result=result, **fields
    )


def test_results_of_parents_stand_for_handles_and_omitted_ones_are_fetched() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def make(n: int) -> list[int]:
            return [n] * n

        @stage.app.task(queue="q")
        def merge(parts: list[list[int]]) -> int:
            return sum(map(sum, parts))

        async with stage.worker():
            made = [stage.submit(make, n) for n in range(5)]
            await all_ended(*made)
            payload = b'{"args":[[%b]],"reference":"$task"}' % b",".join(
                b'{"$task":"t%d"}' % n for n in range(5)
            )
            parents = [parent(row, omitted=n > 2) for n, row in enumerate(made)]
            merged = stage.broker.submit(merge.name, payload, parents=parents)
            await merged.ended.wait()

        assert stage.result(merged) == 1 + 4 + 9 + 16
        assert sorted(stage.broker.asked_for) == ["tasks/t3", "tasks/t4"]

    perform(story)


def test_a_parent_that_cannot_be_fetched_fails_the_attempt() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        gone = worker_pb2.ParentResult(task="tasks/gone", state=task_pb2.TASK_STATE_SUCCEEDED, omitted=True)
        row = stage.submit(one, parents=[gone])
        async with stage.worker():
            await row.ended.wait()

        assert (row.error.reason, row.outcomes[0].failure.permanent) == ("PARENT_RESULT_MISSING", False)

    perform(story)


def test_code_that_blocks_the_loop_of_the_tasks_delays_no_heartbeat() -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        async def rude() -> None:
            release.wait()

        row = stage.submit(rude)
        async with stage.worker():
            await until(lambda: row.assignment.lease_id in stage.broker.session.received)
            before = len(stage.broker.session.heartbeats)
            await until(lambda: len(stage.broker.session.heartbeats) > before + 4)
            assert stage.broker.session.heartbeats[-1].load == 0.01, "one of 100 places"
            release.set()
            await row.ended.wait()

    perform(story)


def test_long_tasks_wait_at_the_broker_and_short_ones_come_ahead() -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        def short() -> None: ...

        @stage.app.task(queue="q")
        def long() -> None:
            release.wait()

        waiting = [stage.submit(long) for _ in range(20)]
        async with stage.worker(threads=2):
            await until(lambda: stage.broker.session.largest == 2)
            before = len(stage.broker.session.heartbeats)
            await until(lambda: len(stage.broker.session.heartbeats) > before + 2)
            assert stage.broker.session.largest == 2
            release.set()
            await all_ended(*waiting)
            await all_ended(*(stage.submit(short) for _ in range(3_000)))
            assert stage.broker.session.largest > 100

    perform(story)


def test_tasks_that_turn_out_to_be_long_are_handed_back() -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        def one(long: bool) -> None:
            if long:
                release.wait()

        async with stage.worker(threads=2):
            await all_ended(*(stage.submit(one, False) for _ in range(2_000)))
            rows = [stage.submit(one, True) for _ in range(300)]
            await until(lambda: sum("drained" in row.events for row in rows) > 250)
            release.set()
            await all_ended(*rows)

        assert [row.attempt for row in rows] == [1] * 300

    perform(story)
