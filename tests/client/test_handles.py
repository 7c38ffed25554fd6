from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import _limits, errors, gather
from taskraft._task import TaskFunction
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from taskraft import App
    from tests.client.broker import Broker
    from tests.client.stage import Stage


@pytest.fixture
def work(app: App) -> TaskFunction[[int], int, int]:
    @app.task(queue="t")
    def work(n: int) -> int:
        return n + 1

    return work


Work = TaskFunction[[int], int, int]


@pytest.mark.parametrize(
    ("state", "reason", "error"),
    [
        ("FAILED", "ValueError", errors.TaskFailed),
        ("DEAD_LETTERED", "OSError", errors.TaskFailed),
        ("DEAD_LETTERED", "LEASE_EXPIRED", errors.WorkerLost),
        ("DEAD_LETTERED", "TIMEOUT", errors.TaskTimedOut),
        ("FAILED", "DEPENDENCY_FAILED", errors.DependencyFailed),
        ("CANCELLED", "", errors.TaskCancelled),
        ("EXPIRED", "", errors.TaskExpired),
    ],
)
def test_a_task_without_a_result_raises_what_its_worker_raised(
    stage: Stage, work: Work, state: str, reason: str, error: type[errors.TaskFailed]
) -> None:
    handle = work.submit(1)
    number = task_pb2.TaskState.Value(f"TASK_STATE_{state}")
    stage.do(lambda broker: broker.tasks.fail(handle.id, reason, "bad width", state=number))  # type: ignore[arg-type]

    with pytest.raises(errors.TaskFailed) as caught:
        handle.result(10)

    assert type(caught.value) is error
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.reason == (reason or error.default_reason)
    assert (caught.value.message, caught.value.detail) == ("bad width", "Traceback: here")
    assert caught.value.task_id == handle.id
    assert "Traceback: here" in str(caught.value)
    assert f"task {handle.id}" in str(caught.value)
    assert handle.wait().state == state.lower()


def test_a_result_is_asked_for_once(stage: Stage, work: Work) -> None:
    handle = work.submit(1)
    stage.do(lambda broker: broker.tasks.succeed(handle.id, b'{"a":[]}'))

    results: list[Any] = [handle.result(10), handle.result(10)]

    first, second = results
    assert first == second == {"a": []}
    assert first is not second
    assert stage.broker.waits == [1]


def _succeed(task_id: str, broker: Broker) -> None:
    broker.tasks.succeed(task_id, b"7")


def test_results_of_a_map_that_are_asked_for_one_by_one_are_waited_for_together(
    stage: Stage, work: Work
) -> None:
    handles = work.map(range(50))
    for handle in reversed(handles):
        stage.do(partial(_succeed, handle.id))

    assert [handle.result(10) for handle in handles] == [7] * 50
    assert stage.broker.waits == [50]


def test_a_result_that_does_not_come_in_time_is_a_timeout_and_can_come_later(
    stage: Stage, work: Work
) -> None:
    handle = work.submit(1)

    with pytest.raises(TimeoutError) as caught:
        handle.result(0.05)
    more = work.map([1, 2])
    with pytest.raises(errors.ResultTimeout) as both:
        more.results(0.05)

    why = "is queued: no worker takes tasks from q; `taskraft worker MODULE:APP` starts one"
    assert str(caught.value) == f"RESULT_TIMEOUT: task {handle.id} has not ended in 0.05 s: it {why}"
    assert both.value.message == f"2 tasks have not ended in 0.05 s: task {more[0].id} {why}"
    assert isinstance(caught.value, errors.ResultTimeout)
    assert not handle.done()
    stage.do(lambda broker: broker.tasks.succeed(handle.id, b"7"))
    assert handle.done()
    assert handle.result(10) == 7


def test_results_are_waited_for_across_a_change_of_leader(stage: Stage, work: Work) -> None:
    handles = work.map(range(100))
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(handles.results(15)))
    thread.start()
    stage.until(lambda broker: broker.waits == [100])

    for at, handle in enumerate(handles):
        if at == 50:
            stage.lead("n2")
        stage.do(lambda broker, handle=handle: broker.tasks.succeed(handle.id, b"1"))  # type: ignore[misc]
    thread.join(15)

    assert found == [[1] * 100]


def test_handles_come_as_their_tasks_end(stage: Stage, work: Work) -> None:
    handles = work.map(range(3))
    stage.do(lambda broker: broker.tasks.succeed(handles[2].id, b"1"))
    ending = handles.as_completed(10)

    first = next(ending)
    stage.do(lambda broker: broker.tasks.fail(handles[0].id, "ValueError"))
    second = next(ending)

    assert (first, second) == (handles[2], handles[0])
    with pytest.raises(errors.TaskFailed):
        second.result()


def test_gathered_handles_are_waited_for_together(stage: Stage, app: App, work: Work) -> None:
    one = work.submit(1)
    together = gather([one, work.submit(2), one])
    stage.work(app)

    assert together.results(10) == [2, 3, 2]
    assert [handle.id for handle in together.as_completed()] == [handle.id for handle in together]
    assert asyncio.run(together.aresults()) == [2, 3, 2]
    assert gather([]).results() == []


def test_a_handle_tells_and_changes_its_task(stage: Stage, work: Work) -> None:
    handle = work.submit(1)
    task = stage.broker.tasks.tasks[f"tasks/{handle.id}"]
    stage.do(lambda broker: task.progress.MergeFrom(task_pb2.TaskProgress(fraction=0.5, message="half")))

    progress = handle.progress()
    assert progress is not None
    assert (progress.fraction, progress.message) == (0.5, "half")
    assert handle.explain().obstacles[0].reason == "NO_WORKER"
    assert handle.info(full=True).type == "work"
    assert handle.cancel("not needed") is True
    assert handle.cancel() is False
    with pytest.raises(errors.TaskCancelled):
        handle.result(10)
    assert handle.retry() is True
    assert handle.retry() is False
    with pytest.raises(errors.ResultTimeout):
        handle.result(0.02)
    assert handle.state() == "queued"
    assert work.map([1, 2]).cancel() == 2


def test_every_question_has_a_twin_for_coroutines(stage: Stage, work: Work) -> None:
    async def story() -> list[Any]:
        handle = await work.asubmit(1)
        many = await work.amap([1, 2])
        out: list[Any] = [
            await handle.astate(),
            await handle.adone(),
            await handle.aprogress(),
            (await handle.ainfo()).state,
            (await handle.aexplain()).tasks_ahead,
            await handle.acancel(),
            (await handle.await_end(10)).state,
            await handle.aretry(),
            await many.acancel(),
        ]
        with pytest.raises(errors.ResultTimeout):
            await handle.aresult(0.02)
        return out

    assert asyncio.run(story()) == ["queued", False, None, "queued", 3, True, "cancelled", True, 2]


def test_a_result_that_is_late_because_of_the_cluster_says_so(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_limits, "EXPLAIN_S", 0.5)
    handle = work.submit(1)
    stage.kill()

    with pytest.raises(errors.ResultTimeout, match=r"has not ended in 0\.05 s: no node answered \(127"):
        handle.result(0.05)


def test_a_handle_can_be_made_from_an_id(stage: Stage, app: App, work: Work) -> None:
    handle = work.submit(1)
    stage.work(app)

    again = app.handle(f"tasks/{handle.id}")

    assert again == handle
    assert len({again, handle}) == 1
    assert again.result(10) == 2
    with pytest.raises(errors.TaskNotFound):
        app.handle("nobody").result(10)


def test_who_gives_up_waiting_leaves_the_others_alone(stage: Stage, app: App, work: Work) -> None:
    handle = work.submit(1)

    async def story() -> int:
        impatient = asyncio.create_task(handle.aresult())
        patient = asyncio.create_task(handle.aresult(10))
        await asyncio.sleep(0.05)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        await asyncio.to_thread(stage.work, app)
        return await patient

    assert asyncio.run(story()) == 2


def test_who_waits_while_the_app_closes_is_told(stage: Stage, app: App, work: Work) -> None:
    handle = work.submit(1)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            handle.result(10)
        except errors.TaskraftError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    stage.until(lambda broker: broker.waits == [1])
    app.close()
    thread.join(10)

    assert [type(error) for error in caught] == [errors.ClientClosed]
