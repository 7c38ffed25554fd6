from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import After, errors
from taskraft._tasks import Tasks

if TYPE_CHECKING:
    from taskraft import App
    from taskraft._task import TaskFunction
    from tests.client.stage import Stage

    Number = TaskFunction[[int], int, int]
    Numbers = TaskFunction[[list[int]], int, int]


@pytest.fixture
def square(app: App) -> Number:
    @app.task(queue="a")
    def square(n: int) -> int:
        return n * n

    return square


@pytest.fixture
def total(app: App) -> Numbers:
    @app.task(queue="b")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return total


def test_a_workflow_is_one_commit(stage: Stage, app: App, square: Number, total: Numbers) -> None:
    with app.workflow("nightly", labels={"team": "x"}) as w:
        parts = w.map(square, range(1_000))
        whole = w.add(total, parts.outputs)
        last = w.add(square.options(after=[After(whole, "ended")], priority=3), 4)

    assert stage.broker.tasks.submits == [1_002]
    assert (w.handle.counts().queued, w.handle.counts().blocked) == (1_000, 2)
    assert w.handle.status().labels == {"team": "x"}
    stage.work(app)
    assert w.handle.wait(10).state == "succeeded"
    assert whole.result(10) == sum(n * n for n in range(1_000))
    assert (last.id, last.result(10), last.outcome) == ("nightly:1001", 16, "created")
    assert last.info().workflow == "nightly"


def test_a_workflow_again_is_the_one_that_is_there_if_that_is_fine(
    stage: Stage, app: App, square: Number
) -> None:
    for _ in range(2):
        with app.workflow("nightly", exist_ok=True) as w:
            handle = w.add(square, 3)
        stage.work(app)

        assert handle.result(10) == 9

    assert handle.outcome == "already_scheduled"
    assert len(stage.broker.tasks.tasks) == 1


def test_a_name_that_a_workflow_has_is_refused(stage: Stage, app: App, square: Number) -> None:
    with app.workflow("nightly") as first:
        first.add(square, 3)

    second = app.workflow("nightly")
    second.add(square, 4)
    with pytest.raises(errors.WorkflowExists, match=r"workflow nightly exists; .* exist_ok=True") as caught:
        second.submit()

    assert (caught.value.reason, caught.value.code.name) == ("WORKFLOW_EXISTS", "ALREADY_EXISTS")
    assert len(stage.broker.tasks.tasks) == 1


def test_a_workflow_whose_answer_was_lost_is_submitted_again_without_an_error(
    stage: Stage, app: App, square: Number, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: Any, **__: Any) -> Any:
        await submit(*_, **__)
        raise errors.CommitUnknown

    w = app.workflow("nightly")
    handle = w.add(square, 3)
    submit = Tasks.submit_workflow
    with monkeypatch.context() as patch:
        patch.setattr(Tasks, "submit_workflow", lose)
        with pytest.raises(errors.CommitUnknown):
            w.submit()

    w.submit()

    assert handle.outcome == "created"
    assert stage.broker.tasks.submits == [1]


def test_a_block_that_raises_stores_nothing(stage: Stage, app: App, square: Number) -> None:
    with pytest.raises(ZeroDivisionError), app.workflow() as w:
        w.add(square, 1)
        _ = 1 / 0

    assert not stage.broker.tasks.tasks
    with pytest.raises(errors.WorkflowNotFound):
        w.handle.status()


def test_a_cycle_is_named_and_nothing_is_stored(stage: Stage, app: App, square: Number) -> None:
    with pytest.raises(errors.Cycle) as caught, app.workflow("w") as w:
        w.add(square.options(after=["w:1"]), 1)
        w.add(square.options(after=["w:0"]), 1)

    assert "w:0" in caught.value.metadata["cycle"]
    assert not stage.broker.tasks.tasks


def test_an_empty_workflow_and_one_that_is_submitted_take_no_more(app: App, square: Number) -> None:
    with pytest.raises(ValueError, match="has no tasks"), app.workflow("w"):
        pass

    with app.workflow() as w:
        w.add(square, 1)
    w.submit()

    assert len(w.id) == 32
    with pytest.raises(RuntimeError, match="submitted already"):
        w.add(square, 2)


def test_a_workflow_is_cancelled_and_retried(stage: Stage, app: App, square: Number) -> None:
    with app.workflow("w") as w:
        w.map(square, [1, 2, 3])

    assert w.handle.cancel("enough") == 3
    handle = app.workflow_handle("workflows/w")
    assert handle.status().ended
    assert handle.retry() == 3
    assert handle.counts().queued == 3


def test_a_workflow_in_coroutines(stage: Stage, app: App, square: Number, total: Numbers) -> None:
    async def story() -> list[Any]:
        async with app.workflow() as w:
            whole = w.add(total, w.map(square, [1, 2]).outputs)
        out = [(await w.handle.astatus()).state, (await w.handle.acounts()).total]
        await asyncio.to_thread(stage.work, app)
        return [
            *out,
            (await w.handle.await_end(10)).state,
            await whole,
            await w.handle.acancel(),
            await w.handle.aretry(),
        ]

    assert asyncio.run(story()) == ["running", 3, "succeeded", 5, 0, 0]
