from __future__ import annotations

import pytest

from taskraft.errors import InvalidArgument, QueueNotFound
from taskraft.worker import Worker
from tests.client.work_stage import Stage, perform


def test_a_worker_without_its_queue_says_so() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        worker = Worker(stage.app, queues=["other"])

        with pytest.raises(QueueNotFound, match="the app has no tasks in queue other; it has q"):
            await worker.start()
        with pytest.raises(QueueNotFound):
            await worker.wait()

    perform(story)


def test_a_worker_creates_the_queues_of_its_tasks_that_are_missing() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="new")
        def one() -> None: ...

        row = stage.submit(one)
        async with stage.worker():
            await row.ended.wait()

        assert stage.broker.queues == {"queues/q", "queues/new"}

    perform(story)


def test_settings_that_cannot_be_are_refused() -> None:
    async def story(stage: Stage) -> None:
        with pytest.raises(InvalidArgument, match="no tasks"):
            Worker(stage.app)

        @stage.app.task(queue="q")
        def one() -> None: ...

        with pytest.raises(InvalidArgument, match="needs threads"):
            Worker(stage.app, threads=0)
        with pytest.raises(InvalidArgument, match="threads must be"):
            Worker(stage.app, threads=-1)
        with pytest.raises(InvalidArgument, match="prefetch must be"):
            Worker(stage.app, prefetch=-1)

    perform(story)


def test_a_worker_takes_from_the_queues_of_its_tasks_unless_told_otherwise() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="b")
        def one() -> None: ...

        @stage.app.task(queue="a")
        async def two() -> None: ...

        assert Worker(stage.app).queues == ("a", "b")
        assert Worker(stage.app, queues=["queues/c"]).queues == ("c",)

    perform(story)


def test_a_worker_runs_once() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker() as worker:
            with pytest.raises(RuntimeError, match="once"):
                await worker.start()

    perform(story)
